//! What happened, as this host applied it: kept in a bounded ring, told to whoever follows, and logged.
//!
//! Every host derives the same events from the same log, so `rais events` says the same everywhere.
//! After a restart the ring holds what the log still holds.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use statemachine::{Happening, HostId, State};
use tokio::sync::broadcast;

use super::phases::Failovers;
use crate::api::{EventRecord, FailoverStatus, LAST_RESORT, WallTime};
use crate::clock;
use crate::raft::Step;

/// Events kept; at some 200 bytes each, 1 MB.
const KEPT: usize = 4_096;
/// Events that a follower may be behind before it loses some.
const FOLLOWED: usize = 1_024;

/// The events of this host.
pub struct Journal {
    ring: Mutex<(VecDeque<EventRecord>, Failovers)>,
    followers: broadcast::Sender<EventRecord>,
}

impl Journal {
    /// An empty one.
    pub fn new() -> Self {
        let (followers, _) = broadcast::channel(FOLLOWED);
        Self {
            ring: Mutex::new((VecDeque::with_capacity(KEPT), Failovers::default())),
            followers,
        }
    }

    /// Takes in what a step of the state machine made happen.
    pub fn take_in(&self, step: &Step) {
        // Kept before it is told, all under one lock: a follower that reads the ring first misses none.
        let mut kept = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let (ring, failovers) = &mut *kept;
        for entry in &step.entries {
            for effect in &entry.applied.effects {
                let (index, wall) = (entry.applied.index, entry.wall);
                let phases = failovers.take_in((entry.at, wall), effect, &step.state);
                let record = EventRecord::of(effect, index, wall, &step.state, phases);
                keep(ring, record.clone());
                if !step.replay {
                    log(&effect.what, &record);
                    // Nobody follows: fine.
                    let _followed = self.followers.send(record);
                }
            }
            for refused in entry
                .applied
                .outcomes
                .iter()
                .filter_map(|outcome| outcome.as_ref().err())
            {
                tracing::debug!(index = entry.applied.index, %refused, "command refused");
            }
        }
        drop(kept);
        if !step.replay {
            watch_over(&step.state);
        }
    }

    /// Notes that this host serves without a quorum, or that this is over: of that the log knows nothing, so
    /// only this host tells of it.
    pub fn note_last_resort(&self, begins: bool, me: HostId, state: &State) {
        let [began, over] = LAST_RESORT;
        let (kind, reason) = match begins {
            true => (
                began,
                "no quorum: addresses are served outside the promise, two hosts may serve one",
            ),
            false => (over, "the log decides again"),
        };
        match begins {
            true => tracing::error!(kind, "{reason}"),
            false => tracing::warn!(kind, "{reason}"),
        }
        let (ring, _) = &mut *self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of the log, which may have gone on.
        let newest = ring.back().map_or(0, |event| event.index);
        let record = EventRecord {
            at: WallTime(clock::wall_ms()),
            index: state.index.max(newest),
            kind: kind.to_owned(),
            group: None,
            address: None,
            host: Some(state.name_of(me)),
            reason: Some(reason.to_owned()),
            phases: None,
        };
        keep(ring, record.clone());
        // Nobody follows: fine.
        let _followed = self.followers.send(record);
    }

    /// Events after log index `since`, the oldest first; without it, the newest `limit`.
    pub fn read(&self, since: Option<u64>, limit: usize) -> Vec<EventRecord> {
        let (ring, _) = &*self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        // In the order of the log, so what is new is found without a look at the rest.
        let from = match since {
            Some(since) => ring.partition_point(|event| event.index <= since),
            None => ring.len().saturating_sub(limit),
        };
        ring.range(from..).take(limit).cloned().collect()
    }

    /// The last failover of each address.
    pub fn failovers(&self) -> BTreeMap<IpAddr, FailoverStatus> {
        let (_, failovers) = &*self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        failovers.ended().clone()
    }

    /// Events from now on.
    pub fn follow(&self) -> broadcast::Receiver<EventRecord> {
        self.followers.subscribe()
    }
}

fn keep(ring: &mut VecDeque<EventRecord>, record: EventRecord) {
    if ring.len() == KEPT {
        ring.pop_front();
    }
    ring.push_back(record);
}

/// One line for each event, at the level of who must act (docs/errors-and-logs.md).
fn log(what: &Happening, record: &EventRecord) {
    let (kind, index) = (record.kind.as_str(), record.index);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (group, host, reason) = (
        text(&record.group),
        text(&record.host),
        text(&record.reason),
    );
    let address = record.address.map(|ip| ip.to_string()).unwrap_or_default();
    match what {
        Happening::CannotAssign => {
            tracing::error!(
                kind,
                index,
                group,
                address,
                "nobody can serve the address; `rais why {address}` says why"
            );
        }
        Happening::AcquireFail { .. }
        | Happening::ReleaseFail { .. }
        | Happening::TestFailed { .. }
        | Happening::HostDown { .. }
        | Happening::HostFencing { .. }
        | Happening::OrphanExpired => {
            tracing::warn!(kind, index, group, address, host, reason, "{kind}")
        }
        _ => tracing::info!(kind, index, group, address, host, reason, "{kind}"),
    }
}

/// The laws of the replicated state, on the living array: a broken one is an alarm, not a crash.
fn watch_over(state: &State) {
    for violation in statemachine::audit(state) {
        tracing::error!(
            law = violation.law,
            detail = violation.detail,
            index = state.index,
            "a law of the state is broken; please report this"
        );
    }
}
