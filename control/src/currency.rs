//! Since when this host's copy of the state is known to be current: what its name server may vouch for.
//!
//! Measured in rounds. A round begins at some instant; once a quorum of voters was heard after it, and
//! this host has applied what they had applied, its copy was current at that instant. So neither one
//! direction of a link, nor a leader that has lost its own quorum, nor a long sleep passes for contact.
//!
//! A learner of a large array hears no heartbeats: acknowledgements of its own by a quorum count for it.
//! Limits: a hint for people and for DNS, never for a lease. A heartbeat counts from when it came, so what
//! the network holds it back for is not seen; an entry that nobody in that quorum has applied is not waited for.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{Boot, HostId};

use crate::{Instant, RaftStatus, View};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Currency {
    at: Option<Instant>,
    round: Option<Round>,
}

#[derive(Clone, Debug)]
struct Round {
    began: Instant,
    /// The newest heartbeat of each voter when the round began.
    heard: BTreeMap<HostId, (Boot, u64)>,
    lease: Option<Instant>,
    /// What this host must have applied; none before a quorum was heard.
    needs: Option<u64>,
}

/// What a look sees besides the view.
pub(crate) struct Glance<'a> {
    pub(crate) me: HostId,
    pub(crate) applied: u64,
    pub(crate) lease: Option<Instant>,
    pub(crate) raft: &'a RaftStatus,
    pub(crate) view: &'a View,
}

impl Currency {
    /// The newest instant at which the copy was current; none since the start.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Looks at what was heard. Cheap: once for each heartbeat of this host's own.
    pub(crate) fn look(&mut self, now: Instant, glance: &Glance<'_>) {
        let voters: BTreeSet<HostId> = glance.raft.voters.iter().flatten().copied().collect();
        let begin = || Round {
            began: now,
            heard: voters
                .iter()
                .map(|id| (*id, glance.view.newest(*id)))
                .collect(),
            lease: glance.lease,
            needs: None,
        };
        let Some(round) = &mut self.round else {
            self.round = Some(begin());
            return;
        };
        if round.needs.is_none() {
            round.needs = round.needed(&voters, glance);
        }
        if round.needs.is_some_and(|needs| glance.applied >= needs) {
            self.at = Some(round.began);
            self.round = Some(begin());
        }
    }
}

impl Round {
    /// What the quorum that was heard in this round has applied; none when none was heard.
    fn needed(&self, voters: &BTreeSet<HostId>, glance: &Glance<'_>) -> Option<u64> {
        let news = |id: &&HostId| {
            let before = self.heard.get(id).copied().unwrap_or_default();
            **id != glance.me && glance.view.newest(**id) > before
        };
        let heard: BTreeSet<HostId> = voters.iter().filter(news).copied().collect();
        let applied = |id: &HostId| glance.view.last(*id).map(|last| last.applied);
        let needs = heard.iter().filter_map(applied).max().unwrap_or(0);
        let mut reached = heard;
        reached.insert(glance.me);
        let acknowledged = glance.lease > self.lease;
        (acknowledged || glance.raft.is_quorum(&reached)).then_some(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heartbeat;
    use statemachine::{Host, HostState, State};

    fn host(id: u64) -> Host {
        Host::new(HostId(id), format!("h{id}").as_str(), HostState::Up)
    }

    /// Host 1 of an array of three voters.
    struct Scene {
        currency: Currency,
        view: View,
        state: State,
        raft: RaftStatus,
        lease: Option<Instant>,
        seq: u64,
    }

    impl Scene {
        fn new(voters: u64) -> Self {
            let mut state = State::default();
            for id in 1..=3 {
                state.hosts.insert(HostId(id), host(id));
            }
            Self {
                currency: Currency::default(),
                view: View::default(),
                state,
                raft: RaftStatus {
                    voters: vec![(1..=voters).map(HostId).collect()],
                    ..RaftStatus::default()
                },
                lease: None,
                seq: 0,
            }
        }

        /// At `ms`, heartbeats of `from` that say they have applied so much, then a look.
        fn look(&mut self, ms: u64, me: u64, from: &[(u64, u64)], applied: u64) -> Option<u64> {
            let now = Instant(ms * 1000);
            self.view.look(&self.state, now);
            self.seq += 1;
            for (id, applied) in from {
                let heartbeat = Heartbeat {
                    seq: self.seq,
                    applied: *applied,
                    ..Heartbeat::default()
                };
                self.view.observe(HostId(*id), heartbeat, now);
            }
            self.currency.look(
                now,
                &Glance {
                    me: HostId(me),
                    applied,
                    lease: self.lease,
                    raft: &self.raft,
                    view: &self.view,
                },
            );
            self.currency.at().map(|at| at.0 / 1000)
        }
    }

    /// Goal: a copy is current as of the last round in which a quorum was heard.
    /// Method: one other voter is enough; then silence; then it comes back.
    #[test]
    fn a_quorum_heard_since_makes_the_copy_current() {
        let mut scene = Scene::new(3);
        assert_eq!(scene.look(100, 1, &[(2, 7)], 7), None);
        assert_eq!(scene.look(200, 1, &[(2, 7)], 7), Some(100));
        assert_eq!(scene.look(300, 1, &[(3, 7)], 7), Some(200));
        for ms in (400..9_000).step_by(100) {
            assert_eq!(scene.look(ms, 1, &[], 7), Some(200));
        }
        assert_eq!(
            scene.look(9_000, 1, &[(3, 9)], 7),
            Some(200),
            "it is behind"
        );
        assert_eq!(
            scene.look(9_100, 1, &[(3, 99)], 9),
            Some(300),
            "what it needed then"
        );
        assert_eq!(scene.look(9_200, 1, &[(3, 99)], 99), Some(9_100));
    }

    /// Goal: what was heard before a long sleep does not pass for contact after it.
    /// Method: the view's time-outs start anew, as they do then.
    #[test]
    fn a_long_sleep_is_no_contact() {
        let mut scene = Scene::new(3);
        scene.look(100, 1, &[(2, 7), (3, 7)], 7);
        scene.look(200, 1, &[(2, 7), (3, 7)], 7);
        scene.view.restart(Instant(3_600_000_000));
        assert_eq!(scene.look(3_600_000, 1, &[], 7), Some(100));
    }

    /// Goal: an observer's own vote does not count, nor one voter of three; an acknowledged lease does.
    /// Method: host 1 votes with 2 and 3; host 3 looks, then as one that has no vote.
    #[test]
    fn only_a_quorum_counts_heard_or_acknowledging() {
        let mut scene = Scene::new(2);
        scene.look(100, 3, &[(1, 7)], 7);
        assert_eq!(scene.look(200, 3, &[(1, 7)], 7), None);
        assert_eq!(scene.look(300, 3, &[(2, 7)], 7), Some(100));
        let mut scene = Scene::new(2);
        scene.look(100, 3, &[], 7);
        scene.lease = Some(Instant(350_000));
        assert_eq!(scene.look(200, 3, &[], 7), Some(100));
        let mut alone = Scene::new(1);
        alone.look(100, 1, &[], 7);
        assert_eq!(alone.look(200, 1, &[], 7), Some(100));
    }
}
