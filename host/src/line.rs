//! The socket between the node and a helper process: whole packets, never waited for, closed by the death of either end.
//!
//! What does not fit the socket's buffer waits here. A peer that leaves more than [`BACKLOG`] packets
//! unread is as good as dead, and treated so: an order that got lost would be worse.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

/// Longest packet, in bytes; below the least send buffer of a socket.
pub const MAX_PACKET: usize = 64 * 1024;
/// Packets that may wait.
const BACKLOG: usize = 4_096;

/// One end.
#[derive(Debug)]
pub struct Line {
    socket: OwnedFd,
    waiting: VecDeque<Vec<u8>>,
    buffer: Vec<u8>,
}

/// The other end is gone, or does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other end of the line has ended or does not read")]
pub struct Cut;

/// Both ends, closed in programs that are started but for whom one is handed.
///
/// # Errors
/// When the system gives no sockets.
pub fn pair() -> io::Result<(Line, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Line::new(ours), theirs))
}

impl Line {
    /// The end that was handed to this process.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
            buffer: vec![0; MAX_PACKET],
        }
    }

    /// Sends a packet, after those that wait.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn send(&mut self, packet: Vec<u8>) -> Result<(), Cut> {
        if self.waiting.len() >= BACKLOG {
            return Err(Cut);
        }
        self.waiting.push_back(packet);
        self.flush()
    }

    /// Sends what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn flush(&mut self) -> Result<(), Cut> {
        while let Some(packet) = self.waiting.front() {
            match send(&self.socket, packet, SendFlags::NOSIGNAL) {
                Ok(_) => {
                    self.waiting.pop_front();
                }
                Err(Errno::INTR) => {}
                // Full: the rest goes when the other end has read.
                Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(()),
                Err(_) => return Err(Cut),
            }
        }
        Ok(())
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The next packet; none when there is none now.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn receive(&mut self) -> Result<Option<&[u8]>, Cut> {
        loop {
            match recv(&self.socket, &mut self.buffer[..], RecvFlags::empty()) {
                // No packet is empty: this is the end.
                Ok((0, _)) => return Err(Cut),
                Ok((length, _)) => return Ok(self.buffer.get(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(_) => return Err(Cut),
            }
        }
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Line {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Goal: packets arrive whole and in order, more than the socket holds too; an end is told.
    #[test]
    fn packets_arrive_whole_in_order_and_the_end_is_told() {
        let (mut ours, theirs) = pair().unwrap();
        let mut theirs = Line::new(theirs);
        for number in 0..2_000u16 {
            let mut packet = number.to_be_bytes().to_vec();
            packet.resize(300, 7);
            ours.send(packet).unwrap();
        }
        assert!(ours.is_waiting());
        let mut seen = 0u16;
        while seen < 2_000 {
            while let Some(packet) = theirs.receive().unwrap() {
                assert_eq!(packet[..2], seen.to_be_bytes());
                assert_eq!(packet.len(), 300);
                seen += 1;
            }
            ours.flush().unwrap();
        }
        drop(ours);
        assert_eq!(theirs.receive(), Err(Cut));
    }

    /// Goal: a peer that never reads is given up, not waited for.
    #[test]
    fn a_peer_that_never_reads_is_cut() {
        let (mut ours, _theirs) = pair().unwrap();
        let sent = (0..100_000).find(|_| ours.send(vec![1; 64]).is_err());
        assert!(sent.is_some_and(|sent| sent >= BACKLOG));
    }
}
