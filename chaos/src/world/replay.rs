//! Applies committed entries on one host, tells what they did, and checks the laws.

use std::sync::Arc;

use control::Event;
use statemachine::{Applied, Happening, HostId, State, apply, note_blank, note_membership};

use super::{Shared, World};
use crate::Law;
use crate::checker::down_after_lease::{self, Fallen};
use crate::checker::up_empty;
use crate::host;
use crate::record::{Payload, Record};
use crate::reference::misplaced;
use crate::tell::say_effect;

/// How often an applied state reaches the disk, of a thousand times.
const SAVE_PER_MILLE: u64 = 300;
/// Entries whose outcome is remembered for the hosts that apply them later.
const SHARED: usize = 48;

fn apply_record(state: &mut State, record: &Record) -> Applied {
    match &record.payload {
        Payload::Data(entry) => return apply(state, record.index, entry),
        Payload::Voters(sets) => note_membership(state, record.index, sets.clone()),
        Payload::Blank => note_blank(state, record.index),
    }
    Applied::default()
}

impl World {
    /// Applies what is committed and on this host's disk.
    pub(super) fn replay(&mut self, id: HostId) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.raft.applying = false;
        let end = host.raft.commit.min(host.raft.durable);
        let from = host.raft.applied;
        let boot = host.boot;
        let mut answered = Vec::new();
        for index in from + 1..=end {
            let Some(record) = self.host(id).and_then(|h| h.raft.record(index)).cloned() else {
                return;
            };
            self.apply_one(id, &record);
            match record.proposer {
                Some((host, start, number)) if (host, start) == (id, boot) => answered.push(number),
                _ => {}
            }
        }
        if from == end {
            return;
        }
        let (save, keep) = (self.rng.chance(SAVE_PER_MILLE), self.setup.keep);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let state = host.state.clone();
        if save {
            host.saved = state.clone();
            if let Some(keep) = keep {
                host.raft.forget(state.index.saturating_sub(keep));
            }
        }
        let lives = host.core.is_some();
        self.knowledge.look(&self.hosts, id, self.now);
        if lives {
            self.inbox.push_back((id, Event::Applied { state }));
            let answers = answered
                .into_iter()
                .map(|number| (id, Event::Proposed { id: number }));
            self.inbox.extend(answers);
        }
    }

    fn apply_one(&mut self, id: HostId, record: &Arc<Record>) {
        let now = self.now;
        let lean = self.setup.lean;
        let Some(host) = self.hosts.get_mut((id.0 - 1) as usize) else {
            return;
        };
        host.raft.applied = record.index;
        self.laws.applied(now, id, record.index, record.term);
        let same = |shared: &&Shared| {
            Arc::ptr_eq(&shared.record, record) && Arc::ptr_eq(&shared.before, &host.state)
        };
        if let Some(shared) = self.shared.iter().rev().find(same).filter(|_| lean) {
            host.state = shared.after.clone();
            return;
        }
        let before = host.state.clone();
        let applied = apply_record(Arc::make_mut(&mut host.state), record);
        let after = host.state.clone();
        if !lean {
            self.laws.agree(now, id, &after);
        }
        if record.index > self.told {
            self.told = record.index;
            self.laws.first_applied(now, &after, &applied);
            self.judge_standing(record, &after, &applied);
            self.judge_places(&after);
            self.tell_applied(id, record, &applied);
        }
        if lean {
            if self.shared.len() == SHARED {
                self.shared.pop_front();
            }
            let record = record.clone();
            let shared = Shared {
                record,
                before,
                after,
            };
            self.shared.push_back(shared);
        }
    }

    /// Invariants 5 and 10, at the first apply of an entry that declares a host down or up.
    fn judge_standing(&mut self, record: &Record, state: &State, applied: &Applied) {
        for effect in &applied.effects {
            let Some(host) = effect.host.and_then(|id| host::of(&self.hosts, id)) else {
                continue;
            };
            let (id, now) = (host.id, host.now(self.now));
            let served = host.kernel.served.keys();
            let open = served.copied().find(|ip| host.kernel.is_open(*ip, now));
            match effect.what {
                Happening::HostDown { .. } => {
                    let fence = record.fence_of(id);
                    let core = host.core.as_ref();
                    let unaware = core.filter(|core| Some(core.state().index) < fence);
                    // What its log takes from it is not renewed: law 3 looks at what it has then.
                    let granted = host
                        .start()
                        .filter(|start| start.is_up && unaware.is_some());
                    let granted = granted.map(|start| self.laws.reference.lease_end(start));
                    let unaware = unaware.is_some_and(|core| core.lease_deadline() > Some(now));
                    let fallen = Fallen { open, unaware };
                    let early = down_after_lease::too_early(id, fallen);
                    self.laws.broken(self.now, Law::DownAfterLease, early);
                    let early = granted > Some(self.now);
                    let early = early.then(|| format!("h{id} is declared down under a lease"));
                    self.laws.broken(self.now, Law::Reference, early);
                }
                Happening::HostUp if state.hosts.contains_key(&id) => {
                    let holds = up_empty::holds(id, open);
                    self.laws.broken(self.now, Law::UpEmpty, holds);
                }
                _ => {}
            }
        }
    }

    /// Whoever serves an address is its holder in this state, the newest.
    fn judge_places(&mut self, state: &State) {
        for host in &self.hosts {
            let now = host.now(self.now);
            for ip in host.kernel.served.keys() {
                if host.kernel.is_open(*ip, now) {
                    let misplaced = misplaced(state, host.id, *ip);
                    self.laws.broken(self.now, Law::Reference, misplaced);
                }
            }
        }
    }

    fn tell_applied(&mut self, id: HostId, record: &Record, applied: &Applied) {
        let Some(state) = self.host(id).map(|host| host.state.clone()) else {
            return;
        };
        for effect in &applied.effects {
            let line = say_effect(&state, effect);
            self.say(&line);
        }
        if let Payload::Voters(sets) = &record.payload {
            let names: Vec<String> = sets
                .iter()
                .map(|set| {
                    set.iter()
                        .map(|id| format!("h{id}"))
                        .collect::<Vec<_>>()
                        .join(" ")
                })
                .collect();
            self.say(&format!("voters {}", names.join(" -> ")));
        }
        for refused in applied.outcomes.iter().filter_map(|o| o.as_ref().err()) {
            self.say(&format!("refused: {refused}"));
        }
    }
}
