//! A netlink socket: requests of ours to the kernel, and what it answers.
//!
//! The kernel handles a request inside the send, on our thread: when the send returns, the answers
//! are in the socket. So nothing here waits, and a request costs one send and a few receives.
//!
//! Limits: one request after the other; answers must fit the receive buffer (they are asked for
//! only with the last message of a batch, so there is one unless messages are refused).

pub(crate) mod wire;

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
    recv, send, socket_with, sockopt,
};
use wire::{Message, Messages, messages, ne32};

/// `NLM_F_REQUEST`.
pub(crate) const REQUEST: u16 = 1;
/// `NLM_F_ACK`.
pub(crate) const ACK: u16 = 4;
/// `NLM_F_DUMP`.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_REPLACE`.
pub(crate) const REPLACE: u16 = 0x100;
/// `NLM_F_EXCL`.
pub(crate) const EXCL: u16 = 0x200;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_APPEND`.
pub(crate) const APPEND: u16 = 0x800;

/// `NLMSG_ERROR`, which is an acknowledgement when its code is 0.
const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
const DONE: u16 = 3;
/// The kernel writes at most 32 KiB into one datagram of a dump.
const DATAGRAM: usize = 64 * 1024;
/// Room for answers and events: 4,096 events of 250 bytes.
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// Tries of a dump that the kernel says was inconsistent, or could not deliver.
const DUMP_TRIES: usize = 3;

/// A message that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its number.
    pub seq: u32,
    /// Why.
    pub error: Errno,
}

/// A socket to one part of the kernel.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    port: u32,
    next: Cell<u32>,
}

impl Socket {
    /// Opens one; no protocol is rtnetlink, whose number is 0. `groups` are the multicast groups to
    /// hear, one bit each.
    pub(crate) fn open(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let family = AddressFamily::NETLINK;
        let flags = SocketFlags::CLOEXEC;
        let fd = socket_with(family, SocketType::RAW, flags, protocol)?;
        // More than the system's limit only with CAP_NET_ADMIN, without which nothing here works.
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, RECEIVE_BUFFER);
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, RECEIVE_BUFFER);
        bind(&fd, &SocketAddrNetlink::new(0, groups))?;
        let port = SocketAddrNetlink::try_from(getsockname(&fd)?)?.pid();
        let next = Cell::new(1);
        Ok(Self { fd, port, next })
    }

    /// The name of this socket in messages that its requests cause.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// An empty list of messages for this socket.
    pub(crate) fn messages(&self) -> Messages {
        Messages::new(self.next.get())
    }

    /// Sends `request`, whose last message that can fail asks for an acknowledgement, and gives
    /// what was refused.
    pub(crate) fn ask(&self, request: &Messages) -> io::Result<Vec<Refusal>> {
        self.ask_for(request, |_| {})
    }

    /// As [`Socket::ask`], and shows what else the kernel answers.
    pub(crate) fn ask_for(
        &self,
        request: &Messages,
        mut visit: impl FnMut(Message<'_>),
    ) -> io::Result<Vec<Refusal>> {
        self.send(request)?;
        let (mut refusals, mut answered) = (Vec::new(), false);
        let mut buffer = vec![0; DATAGRAM];
        while let Some(datagram) = self.receive(&mut buffer)? {
            for message in messages(datagram) {
                let ours = (request.first()..request.next()).contains(&message.seq);
                if !ours {
                    continue;
                }
                if message.kind != ERROR {
                    visit(message);
                    continue;
                }
                answered = true;
                if let Some(error) = refused(message.body) {
                    let seq = message.seq;
                    refusals.push(Refusal { seq, error });
                }
            }
        }
        if answered {
            Ok(refusals)
        } else {
            Err(io::Error::other(
                "the kernel gave no answer to a netlink request",
            ))
        }
    }

    /// As [`Socket::ask`], where any refusal is an error.
    pub(crate) fn demand(&self, request: &Messages) -> io::Result<()> {
        match self.ask(request)?.first() {
            Some(refusal) => Err(refusal.error.into()),
            None => Ok(()),
        }
    }

    /// Asks for a list; `build` writes the one request. Gives the messages as they came.
    pub(crate) fn dump(&self, build: impl Fn(&mut Messages)) -> io::Result<Vec<u8>> {
        let mut last = io::Error::other("the kernel did not end a list");
        for _ in 0..DUMP_TRIES {
            let mut request = self.messages();
            build(&mut request);
            self.send(&request)?;
            match self.collect(request.first()) {
                Ok(list) => return Ok(list),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Sends a request for a list, and shows each message of it until `visit` has enough. The rest
    /// then stays in the socket, which is good for nothing more.
    pub(crate) fn walk(
        &self,
        request: &Messages,
        mut visit: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        self.send(request)?;
        let mut buffer = vec![0; DATAGRAM];
        while let Some(datagram) = self.receive(&mut buffer)? {
            for message in messages(datagram).filter(|m| m.seq == request.first()) {
                match message.kind {
                    DONE => return Ok(()),
                    ERROR => match refused(message.body) {
                        Some(error) => return Err(error.into()),
                        None => continue,
                    },
                    _ => {}
                }
                if visit(message).is_break() {
                    return Ok(());
                }
            }
        }
        Err(io::Error::other("the kernel did not end a list"))
    }

    fn collect(&self, seq: u32) -> io::Result<Vec<u8>> {
        let mut list = Vec::new();
        let mut buffer = vec![0; DATAGRAM];
        while let Some(datagram) = self.receive(&mut buffer)? {
            // Newer kernels put the end of a list behind its last entries.
            list.extend_from_slice(datagram);
            for message in messages(datagram).filter(|message| message.seq == seq) {
                match message.kind {
                    ERROR => {
                        if let Some(error) = refused(message.body) {
                            return Err(error.into());
                        }
                    }
                    DONE => return Ok(list),
                    _ => {}
                }
            }
        }
        Err(io::Error::other("the kernel did not end a list"))
    }

    /// The next datagram that is already there.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        loop {
            match recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => return Ok(buffer.get(..length)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send(&self, request: &Messages) -> io::Result<()> {
        // Never 0: unsolicited messages have that number.
        self.next.set(request.next().max(1));
        loop {
            match send(&self.fd, request.bytes(), SendFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The error in the body of an `NLMSG_ERROR`; none when it acknowledges.
fn refused(body: &[u8]) -> Option<Errno> {
    let code = ne32(body, 0)?.cast_signed();
    (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()))
}
