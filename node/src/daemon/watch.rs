//! Tells the control thread what its host's own log says, from the append path itself.
//!
//! Only entries that take something from a host and voter configurations matter to what a voter promises
//! (lease.md, step 2), so only those become letters, and "durable" only while one of the first waits for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use control::{EntryId, Event, LogMark};
use statemachine::{Command, Entry, HostCommand, HostId};

use super::mailbox::{Letter, Mailbox};
use crate::raft::{LogId, LogWatch};

/// Watches the log for the control thread.
pub struct Watch {
    mailbox: Mailbox,
    undurable: Mutex<BTreeSet<u64>>,
}

impl Watch {
    /// A watch that posts to `mailbox`.
    pub fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox,
            undurable: Mutex::default(),
        }
    }

    fn post(&self, mark: LogMark) {
        self.mailbox.post(Letter::Event(Event::Log(mark)));
    }
}

/// The entry as control knows it.
pub fn entry_id(id: LogId) -> EntryId {
    let by = id.committed_leader_id();
    EntryId {
        term: by.term,
        leader: HostId(by.node_id),
        index: id.index(),
    }
}

fn taken_from(command: &Command) -> Option<HostId> {
    match command {
        Command::Host(
            HostCommand::Fence { host, .. }
            | HostCommand::Down { host, .. }
            | HostCommand::Forget { host },
        ) => Some(*host),
        _ => None,
    }
}

impl LogWatch for Watch {
    fn appended(&self, id: LogId, entry: &Entry) {
        let taken_from: Vec<HostId> = entry.commands.iter().filter_map(taken_from).collect();
        if taken_from.is_empty() {
            return;
        }
        self.undurable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.index());
        let entry = entry_id(id);
        self.post(LogMark::Appended { entry, taken_from });
    }

    fn members_appended(&self, id: LogId, _: &[BTreeSet<u64>]) {
        let entry = entry_id(id);
        self.post(LogMark::Reconfigured { entry });
    }

    fn truncated_after(&self, index: Option<u64>) {
        let after = index.unwrap_or(0);
        self.undurable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .split_off(&(after + 1));
        self.post(LogMark::Truncated { after });
    }

    fn durable(&self, index: u64) {
        let mut undurable = self
            .undurable
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if undurable.first().is_some_and(|first| *first <= index) {
            *undurable = undurable.split_off(&(index + 1));
            drop(undurable);
            self.post(LogMark::Durable { index });
        }
    }
}
