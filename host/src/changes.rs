//! Hears that something about an interface changed: its link, or a machine on it.
//!
//! Only a wake-up. What is so is asked of the kernel anew (`Addresses`, `Neighbours`), so it does no harm
//! that an event says little, comes twice, or is lost with many others: that counts as a change.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use rustix::io::Errno;

use crate::netlink::Socket;
use crate::netlink::wire::{messages, ne32};

/// Where events of both kinds name their interface.
const INDEX_AT: usize = 4;
/// Largest datagram of events.
const DATAGRAM: usize = 64 * 1024;

/// What is listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The interface itself: carrier, up or down, gone.
    Link,
    /// Machines on its link: who answers, who does not.
    Neighbours,
}

impl Topic {
    /// `RTNLGRP_LINK` and `RTNLGRP_NEIGH` as bits.
    const fn group(self) -> u32 {
        match self {
            Self::Link => 1,
            Self::Neighbours => 1 << 2,
        }
    }
}

/// Listens to one interface.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    index: u32,
}

impl Changes {
    /// Listens from now on to the interface with number `index`.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open(topic: Topic, index: u32) -> io::Result<Self> {
        let socket = Socket::open(None, topic.group())?;
        Ok(Self { socket, index })
    }

    /// Whether anything was told of the interface since the last look; returns at once.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn look(&self) -> io::Result<bool> {
        let mut changed = false;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(Some(datagram)) => changed |= self.concerns(datagram),
                Ok(None) => return Ok(changed),
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOBUFS) => changed = true,
                Err(error) => return Err(error),
            }
        }
    }

    fn concerns(&self, datagram: &[u8]) -> bool {
        messages(datagram).any(|message| ne32(message.body, INDEX_AT) == Some(self.index))
    }
}

impl AsRawFd for Changes {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}
