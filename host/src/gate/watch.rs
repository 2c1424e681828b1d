//! Hears of changes to the tables of the gate that our own socket did not make.
//!
//! Every change of packet filters is told to those who listen, with the port of the socket that
//! asked for it. The kernel's own changes (an interface is gone, and its chain with it) come from
//! port 0 and count as foreign too. Elements that end are not told.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::netlink::NETFILTER;

use super::message::{SUBSYSTEM, TABLE};
use crate::netlink::Socket;
use crate::netlink::wire::{attribute, messages, text};

/// `NFNLGRP_NFTABLES` as a bit.
const GROUP: u32 = 1 << (7 - 1);
/// Largest datagram of events.
const DATAGRAM: usize = 64 * 1024;
/// Names of the objects that messages are about, by the number of the message.
const OBJECTS: [(u16, &str); 5] = [
    (0, "table"),
    (3, "chain"),
    (6, "rule"),
    (9, "set"),
    (12, "element"),
];

/// What another hand did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something in our tables was added, changed or removed.
    Foreign {
        /// The kind of the first object that was touched.
        object: &'static str,
    },
    /// Too many events at once: some were lost, so look at everything.
    Lost,
}

/// Listens for changes.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    table: String,
    own: u32,
}

impl Watch {
    pub(super) fn start(table: &str, own: u32) -> io::Result<Self> {
        let socket = Socket::open(Some(NETFILTER), GROUP)?;
        let table = table.to_owned();
        Ok(Self { socket, table, own })
    }

    /// What happened since the last look; returns at once.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn look(&self) -> io::Result<Option<Change>> {
        let mut seen = None;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Some(datagram)) => {
                    seen = seen.or_else(|| foreign(datagram, &self.table, self.own))
                }
                Ok(None) => return Ok(seen),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => {
                    seen = seen.or(Some(Change::Lost));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until there is something to look at, or `patience` ends. Our own changes wake too.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&self, patience: Duration) -> io::Result<()> {
        let patience = Timespec::try_from(patience).ok();
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut fds, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The first change to the tables named `table` in a datagram of events that the socket `own` did
/// not ask for.
fn foreign(datagram: &[u8], table: &str, own: u32) -> Option<Change> {
    messages(datagram).find_map(|message| {
        if message.kind & 0xff00 != SUBSYSTEM || message.port == own {
            return None;
        }
        let attrs = message.body.get(4..)?;
        let named = attribute(attrs, TABLE).map(text) == Some(table);
        let number = message.kind & 0xff;
        let object = OBJECTS.iter().rev().find(|(first, _)| number >= *first)?.1;
        // Numbers from 15 on: generations, traces, objects that we have none of.
        (named && number < 15).then_some(Change::Foreign { object })
    })
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::Messages;

    /// Goal: a change by another hand to our tables is seen, and no other.
    /// Method: events written by hand: our table and another, our port and another.
    #[test]
    fn foreign_change_to_our_tables_is_seen() {
        let event = |kind: u16, table: &str| {
            let mut event = Messages::new(0);
            event.push(SUBSYSTEM | kind, 0, &[1, 0, 0, 0], |a| a.text(TABLE, table));
            event.bytes().to_vec()
        };
        let seen = |kind, table| foreign(&event(kind, table), "rais-h1", 77);
        assert_eq!(
            seen(2, "rais-h1"),
            Some(Change::Foreign { object: "table" })
        );
        assert_eq!(
            seen(12, "rais-h1"),
            Some(Change::Foreign { object: "element" })
        );
        assert_eq!(seen(2, "rais-h2"), None);
        assert_eq!(seen(15, "rais-h1"), None);
        // What is written here comes from port 0.
        assert_eq!(foreign(&event(2, "rais-h1"), "rais-h1", 0), None);
    }

    proptest::proptest! {
        /// Goal: no event can bring the driver down.
        /// Method: arbitrary bytes as a datagram.
        #[test]
        fn arbitrary_events_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let _ = foreign(&bytes, "rais-h1", 0);
        }
    }
}
