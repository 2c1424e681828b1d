//! A voter's promises: until when it has promised each host not to help in taking its addresses.
//!
//! A single actor keeps it, in memory only; a voter that restarted answers as if it had promised
//! everything just before (lease.md, steps 2 and 6). Marks of the log count as soon as they are
//! appended; a mark that gives something back counts only once applied, since it may be refused.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{Host, HostId, HostState, Mutation, State, mutated};

use crate::holes::Holes;
use crate::{EntryId, Heartbeat, Instant, LogMark};

/// Voter configurations that are remembered: one may be uncommitted, so one more would do.
const CONFIGURATIONS: usize = 4;

/// What one voter promised, and what its own log says that the state does not say yet.
#[derive(Clone, Debug)]
pub struct Promises {
    started: Instant,
    ends: BTreeMap<HostId, Instant>,
    marks: BTreeMap<u64, (EntryId, Vec<HostId>)>,
    /// The last voter configurations in the log, where it was seen appended.
    configured: BTreeMap<u64, EntryId>,
    /// Marked entries that are not on disk yet. An entry may be applied before it is.
    awaited: BTreeSet<u64>,
    applied: u64,
    holes: Holes,
}

impl Promises {
    /// A voter that starts now.
    #[must_use]
    pub fn new(started: Instant) -> Self {
        Self {
            started,
            ends: BTreeMap::new(),
            marks: BTreeMap::new(),
            configured: BTreeMap::new(),
            awaited: BTreeSet::new(),
            applied: 0,
            holes: Holes::default(),
        }
    }

    /// Follows the log: appended, truncated, durable.
    pub fn log(&mut self, mark: LogMark) {
        match mark {
            LogMark::Appended { entry, taken_from } => {
                let index = entry.index;
                self.marks.split_off(&index);
                self.awaited.split_off(&index);
                self.awaited.insert(index);
                // What the state says by now needs no mark, and none would take it away again.
                if index > self.applied {
                    self.marks.insert(index, (entry, taken_from));
                }
            }
            LogMark::Reconfigured { entry } => {
                self.configured.split_off(&entry.index);
                self.configured.insert(entry.index, entry);
                if self.configured.len() > CONFIGURATIONS {
                    self.configured.pop_first();
                }
            }
            LogMark::Truncated { after } => {
                self.configured.split_off(&(after + 1));
                self.marks.split_off(&(after + 1));
                self.awaited.split_off(&(after + 1));
            }
            LogMark::Durable { index } => self.awaited = self.awaited.split_off(&(index + 1)),
        }
    }

    /// Drops marks that the state says by now. A configuration that is not the one of the state and should
    /// have been applied stood in a log that a snapshot has replaced.
    pub fn applied(&mut self, state: &State) {
        let (index, newest) = (state.index, state.membership.index);
        self.applied = index;
        self.marks = self.marks.split_off(&(index + 1));
        self.configured.retain(|at, _| *at == newest || *at > index);
    }

    /// The last voter configuration in the log: what is acknowledged names it (lease.md, step 2). Raft's
    /// word of it, `membership`, may come later than its append; it counts where none was seen appended.
    #[must_use]
    pub fn newest_configuration(&self, membership: EntryId) -> EntryId {
        let last = self.configured.last_key_value();
        let last = last.filter(|_| !mutated(Mutation::VotersOfTheStatus));
        last.map_or(membership, |(_, entry)| *entry)
    }

    /// Whether the log takes something from `host` that the state does not say yet.
    #[must_use]
    pub fn takes_from(&self, host: HostId) -> bool {
        self.marks.values().any(|(_, hosts)| hosts.contains(&host))
    }

    /// Whether this heartbeat may be acknowledged; if so, the promise is set first.
    pub fn acknowledge(
        &mut self,
        state: &State,
        from: HostId,
        heartbeat: &Heartbeat,
        now: Instant,
    ) -> bool {
        let Some(host) = state.hosts.get(&from) else {
            return false;
        };
        if !self.may_acknowledge(state, host, heartbeat, now) {
            return false;
        }
        // A host that counts with a shorter L than ours is safe; with a longer one it is not.
        if heartbeat.lease_ms > longest_lease_ms(state) {
            return false;
        }
        // It says that it lives, and asks for nothing.
        if heartbeat.lease_ms == 0 {
            return true;
        }
        let end = now.plus_ms(u64::from(longest_lease_ms(state)));
        let end = self.holes.note(from, end);
        let promised = self.ends.entry(from).or_default();
        *promised = (*promised).max(end);
        true
    }

    /// Whether the host stands in this voter's log, and speaks as the one that stands there.
    fn may_acknowledge(
        &self,
        state: &State,
        host: &Host,
        heartbeat: &Heartbeat,
        now: Instant,
    ) -> bool {
        if mutated(Mutation::HoldOff) && now < self.end_of_former_start(state) {
            return false;
        }
        let fenced = if mutated(Mutation::FenceInMemory) {
            self.holes.was_asked(host.id) || host.is_down()
        } else {
            let marked = self.takes_from(host.id) && !mutated(Mutation::AppendedDoesNotCount);
            marked || !host.is_up()
        };
        // The incarnation tells as much as the index: without the check, neither is looked at.
        let applied =
            heartbeat.applied >= host.taken_at && host.incarnation == heartbeat.incarnation;
        !fenced && host.boot == heartbeat.boot && (applied || mutated(Mutation::NoAppliedCheck))
    }

    /// For mutations alone: a fence is heeded from when it is asked about, until its host is up anew.
    pub(crate) fn asked_about(&mut self, state: &State, host: HostId) {
        self.holes.ask(state, host);
    }

    /// Answers FenceStatus: how long promises to `host` still run, in microseconds; none while the
    /// fence's entry is not on this voter's disk. `lease_ms` is the longest L that the leader knows of: what
    /// a voter promised before it restarted, it may have promised under a timing that it does not know again
    /// yet.
    #[must_use]
    pub fn remaining_us(
        &self,
        state: &State,
        host: HostId,
        fence: EntryId,
        lease_ms: u32,
        now: Instant,
    ) -> Option<u64> {
        let index = fence.index;
        let marked = self.marks.get(&index);
        let appended =
            marked.is_some_and(|(entry, hosts)| *entry == fence && hosts.contains(&host));
        let standing = state.hosts.get(&host).map(|h| h.state);
        let applied = state.index >= index && standing == Some(HostState::Fencing { index });
        let awaited = self.awaited.contains(&index) && !mutated(Mutation::AnswerBeforeDurable);
        if awaited || !(appended || applied) {
            return None;
        }
        let end = self.end(state, host);
        if mutated(Mutation::HoldOff) || mutated(Mutation::NeverAcked) {
            return Some(end.us_since(now));
        }
        let of_a_former_start = self.started.plus_ms(u64::from(lease_ms));
        Some(end.max(of_a_former_start).us_since(now))
    }

    /// When the promises to `host` end, those of a former start of this voter included.
    #[must_use]
    pub fn end(&self, state: &State, host: HostId) -> Instant {
        let promised = self.ends.get(&host).copied().unwrap_or_default();
        if mutated(Mutation::HoldOff) || mutated(Mutation::NeverAcked) {
            return promised;
        }
        promised.max(self.end_of_former_start(state))
    }

    fn end_of_former_start(&self, state: &State) -> Instant {
        self.started.plus_ms(u64::from(longest_lease_ms(state)))
    }
}

/// The longest lease that any voter may have promised, under the timing in force or one before.
pub(crate) fn longest_lease_ms(state: &State) -> u32 {
    state.longest_lease_ms()
}

#[cfg(test)]
mod tests {
    use super::*;
    use statemachine::{Boot, Host, Incarnation};

    const FENCE: EntryId = EntryId {
        term: 3,
        leader: HostId(1),
        index: 7,
    };

    fn fenced(host: HostId, index: u64) -> State {
        let mut state = State {
            index,
            ..State::default()
        };
        let entry = Host {
            incarnation: Incarnation(1),
            boot: Boot(1),
            ..Host::new(host, "h2", HostState::Fencing { index })
        };
        state.hosts.insert(host, entry);
        state
    }

    fn at_index(index: u64) -> State {
        State {
            index,
            ..State::default()
        }
    }

    /// Goal: a voter answers for a fence only when the entry is on its disk, applied or not.
    /// Method: appended, applied, durable, in that order; after each, the question.
    #[test]
    fn an_applied_fence_that_is_not_on_disk_is_not_answered() {
        let (host, later) = (HostId(2), Instant(10_000_000));
        let state = fenced(host, 7);
        let mut promises = Promises::new(Instant(0));
        promises.log(LogMark::Appended {
            entry: FENCE,
            taken_from: vec![host],
        });
        assert_eq!(promises.remaining_us(&state, host, FENCE, 0, later), None);
        promises.applied(&at_index(7));
        assert_eq!(promises.remaining_us(&state, host, FENCE, 0, later), None);
        promises.log(LogMark::Durable { index: 7 });
        assert_eq!(
            promises.remaining_us(&state, host, FENCE, 0, later),
            Some(0)
        );
    }

    /// Goal: an acknowledgement names the configuration in the log from its append on, until it is cut off.
    /// Method: Raft's status lags behind, catches up, and lags behind a truncation.
    #[test]
    fn a_configuration_counts_from_its_append() {
        let at = |index| EntryId { index, ..FENCE };
        let mut promises = Promises::new(Instant(0));
        for index in [8, 9] {
            promises.log(LogMark::Reconfigured { entry: at(index) });
        }
        assert_eq!(promises.newest_configuration(at(5)), at(9));
        promises.log(LogMark::Truncated { after: 8 });
        assert_eq!(promises.newest_configuration(at(9)), at(8));
        promises.log(LogMark::Truncated { after: 7 });
        assert_eq!(promises.newest_configuration(at(5)), at(5));
    }

    /// Goal: the last configuration of the log is named, though an uncommitted one that it replaced has a
    /// later term; and none that a snapshot has replaced, or the voter would be silent for ever.
    /// Method: term 5 at 9, then term 4 at 8 (Raft's figure 8); then a state far beyond the log.
    #[test]
    fn what_stands_last_is_named_and_nothing_that_a_snapshot_replaced() {
        let written = |term, index| EntryId {
            term,
            index,
            ..FENCE
        };
        let mut promises = Promises::new(Instant(0));
        promises.log(LogMark::Reconfigured {
            entry: written(5, 9),
        });
        promises.log(LogMark::Truncated { after: 7 });
        promises.log(LogMark::Reconfigured {
            entry: written(4, 8),
        });
        assert_eq!(promises.newest_configuration(written(5, 9)), written(4, 8));
        let mut state = State {
            index: 8,
            ..State::default()
        };
        state.membership.index = 8;
        promises.applied(&state);
        assert_eq!(promises.newest_configuration(written(1, 2)), written(4, 8));
        (state.index, state.membership.index) = (70, 60);
        promises.applied(&state);
        assert_eq!(
            promises.newest_configuration(written(6, 60)),
            written(6, 60)
        );
    }

    /// Goal: a fence that another leader wrote at the same place, in the same term, is not answered for.
    #[test]
    fn a_fence_of_a_former_leader_of_the_term_is_another() {
        let (host, mut promises) = (HostId(2), Promises::new(Instant(0)));
        promises.log(LogMark::Appended {
            entry: FENCE,
            taken_from: vec![host],
        });
        promises.log(LogMark::Durable { index: 7 });
        let mut later = State::default();
        later
            .hosts
            .insert(host, fenced(host, 7).hosts[&host].clone());
        later.hosts.get_mut(&host).unwrap().state = HostState::Up;
        let successor = EntryId {
            leader: HostId(3),
            ..FENCE
        };
        let asked = |fence| promises.remaining_us(&later, host, fence, 0, Instant(10_000_000));
        assert_eq!(asked(successor), None);
        assert_eq!(asked(FENCE), Some(0));
    }

    /// Goal: a mark that comes after its entry was applied takes nothing away a second time.
    /// Method: applied first, as a busy control thread sees it.
    #[test]
    fn a_mark_of_an_applied_entry_is_no_mark() {
        let mut promises = Promises::new(Instant(0));
        promises.applied(&at_index(9));
        promises.log(LogMark::Appended {
            entry: FENCE,
            taken_from: vec![HostId(2)],
        });
        assert!(!promises.takes_from(HostId(2)));
    }

    /// Goal: a voter that restarted answers for what it may have promised under a timing that its state
    /// does not hold yet. Method: a voter of 300 ms is asked by a leader that knows of 4 s.
    #[test]
    fn a_restarted_voter_waits_for_the_longest_lease_that_the_leader_knows() {
        let (host, state) = (HostId(2), fenced(HostId(2), 7));
        let mut promises = Promises::new(Instant(1_000_000));
        promises.applied(&at_index(7));
        let now = Instant(1_500_000);
        assert_eq!(
            promises.remaining_us(&state, host, FENCE, 300, now),
            Some(0)
        );
        let left = promises.remaining_us(&state, host, FENCE, 4_000, now);
        assert_eq!(left, Some(3_500_000));
    }

    /// Goal: a heartbeat that counts with a longer lease than the voter knows is not acknowledged, one with
    /// any lease since the last settlement is, and the promise is the longest.
    #[test]
    fn a_voter_promises_the_longest_lease_and_acknowledges_none_longer() {
        let (host, mut state) = (HostId(2), fenced(HostId(2), 7));
        state.hosts.get_mut(&host).unwrap().state = HostState::Up;
        state.previous_lease_ms = 4_000;
        let mut promises = Promises::new(Instant(0));
        let now = Instant(90_000_000);
        let ask = |lease_ms| Heartbeat {
            incarnation: Incarnation(1),
            boot: Boot(1),
            applied: 7,
            lease_ms,
            ..Heartbeat::default()
        };
        assert!(!promises.acknowledge(&state, host, &ask(4_001), now));
        assert!(promises.acknowledge(&state, host, &ask(300), now));
        assert_eq!(promises.end(&state, host), now.plus_ms(4_000));
        state.previous_lease_ms = 0;
        assert!(!promises.acknowledge(&state, host, &ask(4_000), now));
        assert_eq!(
            promises.end(&state, host),
            now.plus_ms(4_000),
            "what was promised stands"
        );
    }
}
