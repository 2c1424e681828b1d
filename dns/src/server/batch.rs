//! Many datagrams with one call: `recvmmsg` and `sendmmsg` over slots that are used again.
//!
//! Unsafe code, and the only such file of this crate (ADR-0022): rustix has no `recvmmsg`, and
//! nix's pair can neither answer from the address that each query came to nor reuse its buffers
//! for the answer. What is unsafe is the two calls and one `setsockopt`; addresses and control
//! messages are read as bytes.
//!
//! Invariants: each pointer given to the kernel is made from a slot right before the call, with
//! that slot's own length, and nobody reads it after the call; no more headers are announced
//! than were made. An answer leaves from the address that its query came to.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Datagrams of one call. More gain nothing measurable and make the first wait for the last.
pub const BATCH: usize = 64;

/// Longest datagram that is received whole: a query has at most 12 + 255 + 4 bytes and an OPT
/// record. An answer has at most 1232.
pub const DATAGRAM: usize = 4_096;

/// Bytes of a socket address, the longer one's (IPv6: 28) in whole words.
const NAME: usize = 32;

/// Bytes of control messages: one `in6_pktinfo` is 16 + 20, padded to 40.
const CONTROL: usize = 64;

/// Interrupted calls in a row after which the rest of a batch is given up.
const MAX_INTERRUPTS: usize = 8;

#[repr(C, align(8))]
struct Slot {
    name: [u8; NAME],
    control: [u8; CONTROL],
    buffer: [u8; DATAGRAM],
    name_len: usize,
    control_len: usize,
    length: usize,
}

/// The kernel's headers, written anew before each call.
struct Headers {
    messages: Vec<libc::mmsghdr>,
    pieces: Vec<libc::iovec>,
}

// SAFETY: the pointers inside are written before each call and never read between calls, by
// any thread, so it doesn't matter which thread holds them.
unsafe impl Send for Headers {}

/// Slots for [`BATCH`] datagrams, each answered in the buffer that it came in.
pub struct Batch {
    slots: Vec<Slot>,
    headers: Headers,
    received: usize,
    /// How many to ask for: headers that stay empty cost as much as full ones.
    wanted: usize,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

/// A datagram and its place for an answer.
#[derive(Debug)]
pub struct Datagram<'b> {
    /// Who sent it; `None`: no address that can be answered.
    pub source: Option<SocketAddr>,
    /// The datagram; its answer goes over it.
    pub buffer: &'b mut [u8; DATAGRAM],
    /// Bytes of the datagram. The caller sets the answer's, zero for none.
    pub length: &'b mut usize,
}

/// What became of the answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Handed to the kernel.
    pub sent: usize,
    /// Refused by the kernel, as when its buffer is full.
    pub failed: usize,
}

/// Whether [`Batch::receive`] waits for the first datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until there is one.
    ForOne,
    /// Not at all.
    No,
}

impl Default for Batch {
    fn default() -> Self {
        let slot = || Slot {
            name: [0; NAME],
            control: [0; CONTROL],
            buffer: [0; DATAGRAM],
            name_len: 0,
            control_len: 0,
            length: 0,
        };
        Batch {
            slots: std::iter::repeat_with(slot).take(BATCH).collect(),
            headers: Headers {
                messages: Vec::with_capacity(BATCH),
                pieces: Vec::with_capacity(BATCH),
            },
            received: 0,
            wanted: BATCH,
        }
    }
}

impl Batch {
    /// Receives what is there, up to [`BATCH`] datagrams; returns how many.
    ///
    /// # Errors
    /// As `recvmmsg`; `WouldBlock` when there is nothing and [`Wait::No`].
    pub fn receive(&mut self, socket: BorrowedFd<'_>, wait: Wait) -> io::Result<usize> {
        self.received = 0;
        self.headers.clear();
        for slot in self.slots.iter_mut().take(self.wanted) {
            slot.name_len = NAME;
            slot.control_len = CONTROL;
            slot.length = DATAGRAM;
            self.headers.add(slot);
        }
        let flags = match wait {
            Wait::ForOne => libc::MSG_WAITFORONE,
            Wait::No => libc::MSG_DONTWAIT,
        };
        let messages = self.headers.linked();
        // SAFETY: `messages` holds as many headers as are announced; their pointers are to
        // slots and pieces that live in `self`, which is borrowed until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                messages.len() as libc::c_uint,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (slot, message) in self
            .slots
            .iter_mut()
            .zip(&self.headers.messages)
            .take(received)
        {
            slot.name_len = message.msg_hdr.msg_namelen as usize;
            slot.control_len = message.msg_hdr.msg_controllen as _;
            slot.length = (message.msg_len as usize).min(DATAGRAM);
            forget_interface(&mut slot.control);
        }
        self.received = received;
        // Twice what came: a rising load is followed in a few calls.
        self.wanted = (received * 2).clamp(BATCH / 8, BATCH);
        Ok(received)
    }

    /// The datagrams of the last [`Batch::receive`].
    pub fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        self.slots
            .iter_mut()
            .take(self.received)
            .map(|slot| Datagram {
                source: address(&slot.name, slot.name_len),
                buffer: &mut slot.buffer,
                length: &mut slot.length,
            })
    }

    /// Sends each answer whose length is not zero to where its query came from.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> Sent {
        self.headers.clear();
        for slot in self.slots.iter_mut().take(self.received) {
            if slot.length > 0 {
                self.headers.add(slot);
            }
        }
        self.received = 0;
        let messages = self.headers.linked();
        let mut done = Sent::default();
        let mut interrupts = 0;
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            // SAFETY: as in `receive`; `rest` is a part of those headers.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            let skipped = match usize::try_from(sent) {
                Ok(sent) if sent > 0 => {
                    done.sent += sent;
                    sent
                }
                _ => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted if interrupts < MAX_INTERRUPTS => {
                        interrupts += 1;
                        0
                    }
                    io::ErrorKind::WouldBlock => {
                        done.failed += rest.len();
                        break;
                    }
                    // This one can't be sent; the next may be another client's.
                    _ => {
                        done.failed += 1;
                        1
                    }
                },
            };
            rest = rest.get_mut(skipped..).unwrap_or_default();
        }
        done
    }
}

impl Headers {
    fn clear(&mut self) {
        self.messages.clear();
        self.pieces.clear();
    }

    fn add(&mut self, slot: &mut Slot) {
        self.pieces.push(libc::iovec {
            iov_base: slot.buffer.as_mut_ptr().cast(),
            iov_len: slot.length.min(DATAGRAM),
        });
        // SAFETY: all-zero bytes are a valid `mmsghdr`: integers and null pointers.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_name = slot.name.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = slot.name_len.min(NAME) as libc::socklen_t;
        message.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
        message.msg_hdr.msg_controllen = slot.control_len.min(CONTROL) as _;
        message.msg_hdr.msg_iovlen = 1;
        self.messages.push(message);
    }

    /// The headers, each with its piece: only now, as the pieces moved while they grew.
    fn linked(&mut self) -> &mut [libc::mmsghdr] {
        for (message, piece) in self.messages.iter_mut().zip(&mut self.pieces) {
            message.msg_hdr.msg_iov = piece;
        }
        &mut self.messages
    }
}

/// The sender, from the kernel's form; port 0 can't be answered.
fn address(name: &[u8; NAME], length: usize) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    let ip: IpAddr = match i32::from(family) {
        libc::AF_INET if length >= 8 => Ipv4Addr::from(*name.get(4..)?.first_chunk::<4>()?).into(),
        libc::AF_INET6 if length >= 24 => {
            Ipv6Addr::from(*name.get(8..)?.first_chunk::<16>()?).into()
        }
        _ => return None,
    };
    (port != 0).then(|| SocketAddr::new(ip, port))
}

/// Keeps the local address of a packet-information message and clears its interface: the
/// answer leaves from that address by whatever route the host has.
fn forget_interface(control: &mut [u8; CONTROL]) {
    let at = size_of::<libc::size_t>();
    let word = |at: usize| {
        let bytes = control.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| i32::from_ne_bytes(*bytes))
    };
    let content = size_of::<libc::cmsghdr>();
    let interface = match (word(at), word(at + 4)) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => content,
        // A link-local source means nothing without its link.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if control.get(content) != Some(&0xFE) => {
            content + 16
        }
        _ => return,
    };
    if let Some(room) = control.get_mut(interface..interface + 4) {
        room.fill(0);
    }
}

/// Asks the kernel to say which address each datagram came to: for a socket on a wildcard.
///
/// # Errors
/// As `setsockopt`.
pub fn tell_local_address(socket: BorrowedFd<'_>, is_ipv6: bool) -> io::Result<()> {
    let (level, option) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to an integer that outlives the call, with that integer's size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Goal: each datagram is answered to its sender, in one call, with its own bytes; one that
    /// gets no answer and one that is too long disturb none.
    /// Method: three clients with five messages each, echoed in capitals but for one client.
    #[test]
    fn each_sender_gets_its_own_answers() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients: Vec<UdpSocket> = (0..3)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.connect(server.local_addr().unwrap()).unwrap();
                client
            })
            .collect();
        for (index, client) in clients.iter().enumerate() {
            for n in 0..5 {
                client.send(format!("c{index}n{n}").as_bytes()).unwrap();
            }
        }
        clients[2].send(&[b'x'; DATAGRAM + 100]).unwrap();
        let mut batch = Batch::default();
        assert_eq!(batch.receive(server.as_fd(), Wait::ForOne).unwrap(), 16);
        for datagram in batch.datagrams() {
            let from = datagram.source.unwrap();
            let silent = from == clients[1].local_addr().unwrap();
            assert!(*datagram.length <= DATAGRAM);
            datagram.buffer.make_ascii_uppercase();
            *datagram.length = if silent { 0 } else { *datagram.length };
        }
        assert_eq!(
            batch.send(server.as_fd()),
            Sent {
                sent: 11,
                failed: 0
            }
        );
        for (index, client) in clients.iter().enumerate() {
            client.set_nonblocking(true).unwrap();
            let mut buffer = [0; 2 * DATAGRAM];
            for n in 0..5 {
                let seen = client
                    .recv(&mut buffer)
                    .map(|length| buffer[..length].to_vec());
                match index {
                    1 => assert_eq!(seen.unwrap_err().kind(), io::ErrorKind::WouldBlock),
                    _ => assert_eq!(seen.unwrap(), format!("C{index}N{n}").into_bytes()),
                }
            }
        }
        let empty = batch.receive(server.as_fd(), Wait::No).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }

    /// Goal: bound to a wildcard, an answer comes from the address that was asked.
    /// Method: a connected client of 127.0.0.9, which hears nobody else; IPv6 likewise.
    #[test]
    fn answer_leaves_from_the_address_that_was_asked() {
        for (wildcard, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let Ok(server) = UdpSocket::bind(wildcard) else {
                continue;
            };
            tell_local_address(server.as_fd(), asked == "::1").unwrap();
            let port = server.local_addr().unwrap().port();
            let client = UdpSocket::bind((if asked == "::1" { "::1" } else { "127.0.0.1" }, 0));
            let Ok(client) = client else { continue };
            client.connect((asked, port)).unwrap();
            client.send(b"hello").unwrap();
            let mut batch = Batch::default();
            assert_eq!(batch.receive(server.as_fd(), Wait::ForOne).unwrap(), 1);
            assert_eq!(batch.send(server.as_fd()), Sent { sent: 1, failed: 0 });
            let mut buffer = [0; 16];
            assert_eq!(client.recv(&mut buffer).unwrap(), 5);
        }
    }
}
