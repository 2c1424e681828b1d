//! This host's lease: until when it may serve (lease.md, step 3).
//!
//! Counted from the *send* time of heartbeats that a quorum acknowledged, never from when the
//! acknowledgement arrived: the voter's promise begins later, so the host gives up earlier. Each lasts
//! as long as that heartbeat asked for, whatever the timing has become since: no voter promised more.
//!
//! Limits: remembers the send times of the last [`REMEMBERED`] heartbeats; an acknowledgement of an
//! older one is ignored, which only shortens the lease.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use statemachine::{HostId, Mutation, mutated};

use crate::Instant;

/// Heartbeats whose acknowledgement still counts: 64 at 20 ms are 1.3 s, more than any L of `fast`.
const REMEMBERED: usize = 64;

/// Voters of a set whose times are sorted on the stack: more than any array has by default.
const FEW: usize = 9;

/// The lease of one incarnation of this host.
#[derive(Clone, Debug, Default)]
pub struct Lease {
    /// Number and end of the lease that each asks for.
    sent: VecDeque<(u64, Instant)>,
    acked: BTreeMap<HostId, Instant>,
}

impl Lease {
    /// Forgets everything: another incarnation begins.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Notes that heartbeat `seq` leaves now and asks for a lease of `usable_ms` from now on. Called before
    /// the first datagram of it is sent.
    pub fn sent(&mut self, seq: u64, now: Instant, usable_ms: u64) {
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, now.plus_ms(usable_ms)));
    }

    /// The hole of `DeadlineFromReceipt`: what is acknowledged now counts from now.
    #[cfg(feature = "mutations")]
    pub(crate) fn resent(&mut self, seq: u64, now: Instant, usable_ms: u64) {
        let open = statemachine::mutated(statemachine::Mutation::DeadlineFromReceipt);
        for sent in self.sent.iter_mut().filter(|sent| open && sent.0 == seq) {
            sent.1 = now.plus_ms(usable_ms);
        }
    }

    /// Notes a voter's acknowledgement of heartbeat `seq`. One that names a configuration which this host
    /// does not cover (`RaftStatus::covers`) does not count: the voters that it adds must be asked first.
    /// The lease that stands runs on; it is only not renewed until then.
    pub fn acked(&mut self, voter: HostId, seq: u64) {
        let Some((_, until)) = self.sent.iter().find(|(sent, _)| *sent == seq) else {
            return;
        };
        let newest = self.acked.entry(voter).or_default();
        *newest = (*newest).max(*until);
    }

    /// When the lease ends: the latest end that a quorum of each voter set acknowledged.
    #[must_use]
    pub fn deadline(&self, voters: &[BTreeSet<HostId>]) -> Option<Instant> {
        let asked = if mutated(Mutation::LeaseFromOneConfiguration) {
            1
        } else {
            voters.len()
        };
        let ends = voters.iter().take(asked).map(|set| self.deadline_in(set));
        ends.min().flatten()
    }

    fn deadline_in(&self, set: &BTreeSet<HostId>) -> Option<Instant> {
        // Asked several times in each step: small sets are sorted without memory of their own.
        let mut few = [Instant::default(); FEW];
        let mut many = Vec::new();
        let times = match few.get_mut(..set.len()) {
            Some(few) => few,
            None => {
                many.resize(set.len(), Instant::default());
                &mut many
            }
        };
        let acked = set.iter().filter_map(|voter| self.acked.get(voter));
        let mut count = 0;
        for (place, at) in times.iter_mut().zip(acked) {
            *place = *at;
            count += 1;
        }
        let times = times.get_mut(..count)?;
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.get(set.len() / 2).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> BTreeSet<HostId> {
        ids.iter().copied().map(HostId).collect()
    }

    /// Goal: the lease counts from the majority-th newest send. Method: three voters, uneven acks, no length.
    #[test]
    fn a_lease_counts_from_the_send_that_a_majority_acknowledged() {
        let mut lease = Lease::default();
        for (seq, at) in [(1, 100), (2, 200), (3, 300)] {
            lease.sent(seq, Instant(at), 0);
        }
        let set = [voters(&[1, 2, 3])];
        assert_eq!(lease.deadline(&set), None);
        lease.acked(HostId(1), 3);
        assert_eq!(lease.deadline(&set), None);
        lease.acked(HostId(2), 1);
        assert_eq!(lease.deadline(&set), Some(Instant(100)));
        lease.acked(HostId(3), 2);
        assert_eq!(lease.deadline(&set), Some(Instant(200)));
    }

    /// Goal: while the configuration is joint, both majorities count. Method: the later set lags.
    #[test]
    fn in_a_joint_configuration_the_slower_set_decides() {
        let mut lease = Lease::default();
        lease.sent(1, Instant(100), 0);
        lease.sent(2, Instant(200), 0);
        for (voter, seq) in [(1, 2), (2, 2), (4, 1), (5, 1)] {
            lease.acked(HostId(voter), seq);
        }
        let both = [voters(&[1, 2, 3]), voters(&[3, 4, 5])];
        assert_eq!(lease.deadline(&both), Some(Instant(100)));
        assert_eq!(lease.deadline(&both[..1]), Some(Instant(200)));
    }

    /// Goal: a lease lasts as long as the acknowledged heartbeat asked for. Method: a long one, then short
    /// ones, then one that asks for more and is not acknowledged.
    #[test]
    fn a_lease_lasts_as_long_as_its_heartbeat_asked_for() {
        let mut lease = Lease::default();
        let set = [voters(&[1])];
        lease.sent(1, Instant(0), 400);
        lease.acked(HostId(1), 1);
        assert_eq!(lease.deadline(&set), Some(Instant(400_000)));
        lease.sent(2, Instant(100_000), 70);
        lease.acked(HostId(1), 2);
        assert_eq!(
            lease.deadline(&set),
            Some(Instant(400_000)),
            "that promise stands"
        );
        lease.sent(3, Instant(390_000), 70);
        lease.acked(HostId(1), 3);
        assert_eq!(lease.deadline(&set), Some(Instant(460_000)));
        lease.sent(4, Instant(400_000), 4_000);
        assert_eq!(lease.deadline(&set), Some(Instant(460_000)));
    }
}
