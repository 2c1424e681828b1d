//! The node's helpers (warden, runner): how they are started, the socket to them, what is said on it.
//!
//! A helper is the same binary with another first argument, and gets one end of a socket of whole packets
//! as its standard input: no framing, never waited for, closed by the death of either end. Both ends are
//! the same build, so messages have no versions; what does not decode ends the conversation.
//!
//! What does not fit the socket's buffer waits here. A peer that leaves more than [`BACKLOG`] packets
//! unread is as good as dead, and treated so: an order that got lost would be worse.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair, sockopt,
};
use serde::{Serialize, de::DeserializeOwned};

/// This very program, also when its file was replaced.
pub const SELF: &str = "/proc/self/exe";

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

/// Starts `binary verb` as a helper, with a clean environment and the other end as its standard input.
///
/// # Errors
/// When the system gives no sockets, or no process.
pub fn start(binary: &str, verb: &str) -> io::Result<(Line, Child)> {
    let (line, theirs) = pair()?;
    let child = Command::new(binary)
        .arg0("rais")
        .arg(verb)
        .env_clear()
        .stdin(theirs)
        .stdout(Stdio::null())
        // Ctrl-C at a terminal is for the node; a helper ends when the node has.
        .process_group(0)
        .spawn()?;
    Ok((line, child))
}

/// Encodes a message; none when it is too long for a packet.
#[must_use]
pub fn encode<T: Serialize>(message: &T) -> Option<Vec<u8>> {
    let bytes = bincode::serde::encode_to_vec(message, config()).ok()?;
    (bytes.len() <= MAX_PACKET).then_some(bytes)
}

/// Decodes a message; none when it is not one.
#[must_use]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (message, read) = bincode::serde::decode_from_slice(bytes, config()).ok()?;
    (read == bytes.len()).then_some(message)
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_PACKET>()
}

/// Both ends, closed in programs that are started but for whom one is handed.
fn pair() -> io::Result<(Line, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    Ok((Line::new(ours), theirs))
}

impl Line {
    /// The end that was handed to this process as its standard input; none when that is no such socket.
    #[must_use]
    pub fn handed() -> Option<Self> {
        let stdin = io::stdin();
        let kind = sockopt::socket_type(stdin.as_fd()).ok()?;
        let socket = stdin.as_fd().try_clone_to_owned().ok()?;
        (kind == SocketType::SEQPACKET).then(|| Self::new(socket))
    }

    fn new(socket: OwnedFd) -> Self {
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

    /// Goal: a message comes back as it was; a longer or a cut one, and one that is too long, is none.
    #[test]
    fn a_message_is_read_whole_or_not_at_all() {
        let mut bytes = encode(&("web", 7_u32)).unwrap();
        assert_eq!(decode(&bytes), Some(("web".to_owned(), 7_u32)));
        assert_eq!(decode::<(String, u32)>(&bytes[..bytes.len() - 1]), None);
        bytes.push(0);
        assert_eq!(decode::<(String, u32)>(&bytes), None);
        assert_eq!(encode(&vec![1_u8; MAX_PACKET]), None);
    }

    /// Goal: the end of a helper is heard on its line. Method: a program that has no such file, and ends.
    #[test]
    fn a_helper_that_ends_is_heard() {
        let (mut line, mut child) = start("/bin/cat", "/nowhere").unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(line.receive(), Err(Cut));
        assert!(Line::handed().is_none());
    }

    /// Goal: a peer that never reads is given up, not waited for.
    #[test]
    fn a_peer_that_never_reads_is_cut() {
        let (mut ours, _theirs) = pair().unwrap();
        let sent = (0..100_000).find(|_| ours.send(vec![1; 64]).is_err());
        assert!(sent.is_some_and(|sent| sent >= BACKLOG));
    }
}
