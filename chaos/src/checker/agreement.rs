//! Invariant 11: at an equal index, states are equal.

use std::collections::BTreeMap;

use statemachine::{HostId, State, codec};

/// The fingerprint of each index, as the first host to apply it had it.
#[derive(Debug, Default)]
pub struct Agreement {
    seen: BTreeMap<u64, (u32, HostId)>,
}

impl Agreement {
    /// What is wrong with what this host has at this index, if anything.
    pub fn check(&mut self, id: HostId, state: &State) -> Option<String> {
        let mine = codec::fingerprint(state);
        match self.seen.get(&state.index) {
            None => {
                self.seen.insert(state.index, (mine, id));
                None
            }
            Some((theirs, _)) if *theirs == mine => None,
            Some((_, other)) => {
                let index = state.index;
                Some(format!("h{id} and h{other} differ at index {index}"))
            }
        }
    }
}
