//! Invariant 9: no fence acts within the longest L of a change of voters or of L, unless its host has
//! said itself that it holds nothing.

use std::collections::BTreeMap;

use statemachine::{HostId, State};

/// When each change was first applied by anybody, in microseconds of true time.
#[derive(Debug, Default)]
pub struct Settled {
    changed: BTreeMap<u64, u64>,
}

impl Settled {
    /// The state after an entry that somebody applied first.
    pub fn applied(&mut self, state: &State, now_us: u64) {
        if [state.membership.index, state.timing_index].contains(&state.index) {
            self.changed.insert(state.index, now_us);
        }
    }

    /// A leader of this state wants to declare `host` down: what is wrong with that.
    #[must_use]
    pub fn acts(&self, state: &State, host: HostId, now_us: u64) -> Option<String> {
        let newest = state.membership.index.max(state.timing_index);
        let since = *self.changed.get(&newest)?;
        let lease_us = 1000 * u64::from(state.timing.lease_ms.max(state.previous_lease_ms));
        // A slow clock's L is longer, a fast one's shorter, by 0.1 %.
        let least = lease_us - lease_us / 500;
        (now_us < since + least).then(|| {
            let passed = (now_us - since) / 1000;
            format!("h{host} is to be declared down {passed} ms after the change at {newest}")
        })
    }
}
