//! Invariant 4: after a voter has answered for a fence it acknowledges that host no more, until the
//! fence is lifted or the host is up anew. Not even after a restart.

use std::collections::BTreeMap;

use statemachine::{HostId, State};

/// Which voter answered for which host's fence.
#[derive(Debug, Default)]
pub struct FencedAcks {
    answered: BTreeMap<(HostId, HostId), u64>,
}

impl FencedAcks {
    /// The voter answers for the fence of `host` at `index`.
    pub fn answered(&mut self, voter: HostId, host: HostId, index: u64) {
        self.answered.insert((voter, host), index);
    }

    /// Raft takes entries back that were never committed: what was said of them is void.
    pub fn truncated(&mut self, voter: HostId, after: u64) {
        self.answered
            .retain(|(v, _), index| *v != voter || *index <= after);
    }

    /// The voter, with this state, acknowledges a heartbeat of `host`: what is wrong with that.
    pub fn acknowledged(&mut self, voter: HostId, host: HostId, state: &State) -> Option<String> {
        let index = *self.answered.get(&(voter, host))?;
        let up = state.hosts.get(&host).is_some_and(|host| host.is_up());
        if state.index >= index && up {
            self.answered.remove(&(voter, host));
            return None;
        }
        Some(format!(
            "h{voter} acknowledges h{host} although it answered for its fence {index}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an acknowledgement after the answer is told, unless the fence was taken back.
    #[test]
    fn an_acknowledgement_after_the_answer_is_told() {
        let (voter, host) = (HostId(1), HostId(2));
        let mut acks = FencedAcks::default();
        assert_eq!(acks.acknowledged(voter, host, &State::default()), None);
        acks.answered(voter, host, 7);
        assert!(acks.acknowledged(voter, host, &State::default()).is_some());
        acks.truncated(voter, 6);
        assert_eq!(acks.acknowledged(voter, host, &State::default()), None);
    }
}
