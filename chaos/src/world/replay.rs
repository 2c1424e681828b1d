//! Applies committed entries on one host, tells what they did, and checks the laws.

use std::sync::Arc;

use control::Event;
use statemachine::{Applied, HostId, apply, note_blank, note_membership};

use super::World;
use crate::record::{Payload, Record};
use crate::tell::say_effect;

/// How often an applied state reaches the disk, of a thousand times.
const SAVE_PER_MILLE: u64 = 300;

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
        let save = self.rng.chance(SAVE_PER_MILLE);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let state = host.state.clone();
        if save {
            host.saved = state.clone();
        }
        if host.core.is_some() {
            self.inbox.push_back((id, Event::Applied { state }));
            let answers = answered
                .into_iter()
                .map(|number| (id, Event::Proposed { id: number }));
            self.inbox.extend(answers);
        }
    }

    fn apply_one(&mut self, id: HostId, record: &Record) {
        let Some(host) = self.hosts.get_mut((id.0 - 1) as usize) else {
            return;
        };
        let state = Arc::make_mut(&mut host.state);
        let applied = match &record.payload {
            Payload::Data(entry) => apply(state, record.index, entry),
            Payload::Voters(sets) => {
                note_membership(state, record.index, sets.clone());
                Applied::default()
            }
            Payload::Blank => {
                note_blank(state, record.index);
                Applied::default()
            }
        };
        host.raft.applied = record.index;
        self.laws.applied(self.now, id, &host.state, &applied);
        if record.index > self.told {
            self.told = record.index;
            self.tell_applied(id, record, &applied);
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
