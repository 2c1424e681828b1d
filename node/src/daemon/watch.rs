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
    /// What the log holds, while it is opened: more than the mailbox, which nobody reads yet.
    held: Mutex<Option<Vec<LogMark>>>,
}

impl Watch {
    /// A watch that posts to `mailbox`.
    pub fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox,
            undurable: Mutex::default(),
            held: Mutex::new(Some(Vec::new())),
        }
    }

    /// The log is open: posts what it holds in one letter, and from now on each mark by itself.
    pub fn opened(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        self.mailbox
            .post(Letter::Log(held.take().unwrap_or_default()));
    }

    fn post(&self, mark: LogMark) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            Some(held) => held.push(mark),
            None => {
                drop(held);
                self.mailbox.post(Letter::Event(Event::Log(mark)));
            }
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::mailbox::{CAPACITY, mailbox};
    use super::*;
    use std::sync::Arc;

    /// Goal: a log that holds more than the mailbox takes can be opened, though nobody reads yet.
    /// Method: more configurations than letters, then one more after the opening.
    #[test]
    fn a_long_log_waits_in_one_letter_until_somebody_reads() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mailbox, inbox) = mailbox(waker);
        let watch = Watch::new(mailbox);
        let (term, node_id) = (1, 2);
        let by = openraft::impls::leader_id_adv::LeaderId { term, node_id };
        let id = |index| LogId::new(by, index);
        let many = CAPACITY as u64 + 1;
        (1..=many).for_each(|index| watch.members_appended(id(index), &[]));
        watch.opened();
        watch.members_appended(id(many + 1), &[]);
        let letters = inbox.take(CAPACITY);
        let [Letter::Log(marks), Letter::Event(Event::Log(last))] = letters.as_slice() else {
            panic!("{} letters", letters.len());
        };
        assert_eq!(marks.len() as u64, many);
        let entry = EntryId {
            term: 1,
            leader: HostId(2),
            index: many + 1,
        };
        assert_eq!(*last, LogMark::Reconfigured { entry });
    }
}
