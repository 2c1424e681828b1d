//! Tells the control thread what its host's own log says, from the append path itself.
//!
//! Only entries that take something from a host matter to a voter's promises (lease.md, step 2), so only
//! those become letters, and "durable" only while one of them waits for it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use control::{Event, LogMark};
use statemachine::{Command, Entry, HostCommand, HostId};

use super::mailbox::{Letter, Mailbox};
use crate::raft::LogWatch;

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
    fn appended(&self, index: u64, term: u64, entry: &Entry) {
        let taken_from: Vec<HostId> = entry.commands.iter().filter_map(taken_from).collect();
        if taken_from.is_empty() {
            return;
        }
        self.undurable
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(index);
        self.post(LogMark::Appended {
            index,
            term,
            taken_from,
        });
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
