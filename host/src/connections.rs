//! Lists the established TCP connections of addresses, and ends those of one that goes.
//!
//! Else a server on this host waits for hours on clients that talk to the new holder, and its
//! packets wake up when the address comes back. SOCK_DESTROY, as CTDB and Android do; the reset
//! that the kernel would send is dropped by the closed gate, so that the client does not see it
//! and the new holder can take over the conversation.
//!
//! Limits: TCP only; where the kernel can't (CONFIG_INET_DIAG_DESTROY), it says so.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use crate::driver::Connection;
use crate::netlink::{ACK, DUMP, REQUEST, Socket};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const V4: u8 = 2;
const V6: u8 = 10;
const TCP: u8 = 6;
/// All states but TIME_WAIT (6), CLOSE (7) and LISTEN (10), a bit for each.
const STATES: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10 | 1);
/// Established only.
const ESTABLISHED: u32 = 1 << 1;
/// `INET_DIAG_REQ_BYTECODE`, and its operation "the source is".
const BYTECODE: u16 = 1;
const SOURCE_IS: u8 = 7;
/// The operation "go on elsewhere", and its length.
const JUMP: u8 = 1;
const JUMP_LEN: usize = 4;
/// Where the identity of a connection is in an answer, and its length.
const IDENTITY: std::ops::Range<usize> = 4..52;
/// Connections ended with one send.
const CHUNK: usize = 64;
/// Connections ended with one call, which takes a few ms.
pub const ENDED_AT_ONCE: usize = 512;
/// Connections that are listed of one address.
pub const MAX_OF_ADDRESS: usize = 1_000;
/// Connections that are looked at for one list: 10,000 take some 10 ms.
const MAX_SEEN: usize = 10_000;
/// Addresses in one filter: 4 KiB of a v6 program.
const FILTERED: usize = 128;

/// Lists and ends the connections of this network namespace.
#[derive(Debug)]
pub struct Connections {
    socket: Socket,
}

impl Connections {
    /// Opens what it needs.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(Some(SOCK_DIAG), 0)?;
        Ok(Self { socket })
    }

    /// The established TCP connections whose end on this host is one of `ips`, at most
    /// [`MAX_OF_ADDRESS`] of each. Walks all sockets of the host, in the network namespace of the
    /// calling thread.
    ///
    /// # Errors
    /// When the kernel can't list them.
    pub fn list(&self, ips: &[IpAddr]) -> io::Result<Vec<Connection>> {
        let (mut found, mut of_address) = (Vec::new(), BTreeMap::<IpAddr, usize>::new());
        let mut seen = 0;
        for chunk in ips.chunks(FILTERED) {
            for family in [V4, V6] {
                if family == V4 && !chunk.iter().any(IpAddr::is_ipv4) {
                    continue;
                }
                // One for each list: what is cut short stays behind in its socket.
                let socket = Socket::open(Some(SOCK_DIAG), 0)?;
                let mut query = socket.messages();
                let head = request(family, ESTABLISHED, &[0; 48]);
                query.push(BY_FAMILY, REQUEST | DUMP, &head, |a| {
                    a.bytes(BYTECODE, &source_is_any(chunk));
                });
                socket.walk(&query, |message| {
                    if seen == MAX_SEEN {
                        return ControlFlow::Break(());
                    }
                    seen += 1;
                    if let Some(connection) = connection(message.body) {
                        let count = of_address.entry(connection.local.ip()).or_default();
                        *count += 1;
                        if *count <= MAX_OF_ADDRESS {
                            found.push(connection);
                        }
                    }
                    ControlFlow::Continue(())
                })?;
            }
        }
        Ok(found)
    }

    /// Ends TCP connections whose end on this host is `ip`, at most [`ENDED_AT_ONCE`]: as many as
    /// that, and there may be more. Gives how many there were.
    ///
    /// # Errors
    /// When the kernel can't list or end them; `ENOTSUP` where it was built without.
    pub fn end_some(&self, ip: IpAddr) -> io::Result<usize> {
        let mut ended = 0;
        // A socket of v6 may carry a v4 conversation.
        let families: &[u8] = if ip.is_ipv4() { &[V4, V6] } else { &[V6] };
        for family in families {
            let most = ENDED_AT_ONCE - ended;
            let found = identities(*family, ip, most)?;
            for chunk in found.chunks(CHUNK) {
                let mut kill = self.socket.messages();
                for identity in chunk {
                    let which = request(*family, STATES, identity);
                    kill.push(DESTROY, REQUEST | ACK, &which, |_| {});
                }
                // One that ended by itself meanwhile is gone just the same.
                let gone = [Errno::NOENT, Errno::STALE];
                let refusals = self.socket.ask(&kill)?;
                if let Some(refusal) = refusals.iter().find(|r| !gone.contains(&r.error)) {
                    return Err(refusal.error.into());
                }
                ended += chunk.len();
            }
        }
        Ok(ended)
    }
}

/// What the kernel knows connections of `ip` by, `most` of them.
fn identities(family: u8, ip: IpAddr, most: usize) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    // One for each list: what is cut short stays behind in its socket.
    let socket = Socket::open(Some(SOCK_DIAG), 0)?;
    let mut query = socket.messages();
    let head = request(family, STATES, &[0; 48]);
    query.push(BY_FAMILY, REQUEST | DUMP, &head, |a| {
        a.bytes(BYTECODE, &source_is(ip));
    });
    socket.walk(&query, |message| {
        if found.len() == most {
            return ControlFlow::Break(());
        }
        found.extend(message.body.get(IDENTITY).map(<[u8]>::to_vec));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, states: u32, identity: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, TCP, 0, 0];
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(identity);
    bytes
}

/// The ends of a connection as `struct inet_diag_msg` says them.
fn connection(body: &[u8]) -> Option<Connection> {
    let family = *body.first()?;
    let identity = body.get(IDENTITY)?;
    let end = |port: usize, address: usize| -> Option<SocketAddr> {
        let port = u16::from_be_bytes(identity.get(port..port + 2)?.try_into().ok()?);
        let bytes: [u8; 16] = identity.get(address..address + 16)?.try_into().ok()?;
        let [a, b, c, d, ..] = bytes;
        let ip = match family {
            V4 => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            V6 => Ipv6Addr::from(bytes).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    };
    Some(Connection {
        local: end(0, 4)?,
        peer: end(2, 20)?,
    })
}

/// The filter program for any of several sources: each but the last that does not match goes over
/// the jump to the end to the next.
fn source_is_any(ips: &[IpAddr]) -> Vec<u8> {
    let mut program = Vec::new();
    for ip in ips.iter().rev() {
        let mut step = source_is(*ip);
        if !program.is_empty() {
            let after = step.len() + JUMP_LEN;
            let no = u16::try_from(after).unwrap_or(0).to_ne_bytes();
            if let Some(place) = step.get_mut(2..4) {
                place.copy_from_slice(&no);
            }
            let over = u16::try_from(JUMP_LEN + program.len()).unwrap_or(0);
            step.extend_from_slice(&[JUMP, 4]);
            step.extend_from_slice(&over.to_ne_bytes());
        }
        step.extend_from_slice(&program);
        program = step;
    }
    program
}

/// The filter program of one step: go on if the source is `ip`, else jump past the end.
fn source_is(ip: IpAddr) -> Vec<u8> {
    let (family, bits, address) = match ip {
        IpAddr::V4(v4) => (V4, 32, v4.octets().to_vec()),
        IpAddr::V6(v6) => (V6, 128, v6.octets().to_vec()),
    };
    let length = 12 + address.len();
    let step = u8::try_from(length).unwrap_or(0);
    let mut program = vec![SOURCE_IS, step];
    program.extend_from_slice(&u16::from(step + 4).to_ne_bytes());
    program.extend_from_slice(&[family, bits, 0, 0]);
    // Any port.
    program.extend_from_slice(&(-1_i32).to_ne_bytes());
    program.extend_from_slice(&address);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Goal: no answer of a kernel, older or newer, can bring the driver down.
        /// Method: arbitrary bytes in the place of a connection.
        #[test]
        fn arbitrary_connections_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100),
        ) {
            let _ = connection(&bytes);
        }
    }

    /// Goal: both ends of an answer are read, of v4 in a v6 socket too.
    /// Method: an answer written by hand.
    #[test]
    fn both_ends_are_read() {
        let mut body = vec![V6, 1, 0, 0, 0, 80, 0x10, 0];
        for ip in ["::ffff:10.9.0.100", "::ffff:10.9.0.9"] {
            body.extend_from_slice(&ip.parse::<Ipv6Addr>().unwrap().octets());
        }
        body.resize(52, 0);
        let found = connection(&body).unwrap();
        assert_eq!(found.local, "10.9.0.100:80".parse().unwrap());
        assert_eq!(found.peer, "10.9.0.9:4096".parse().unwrap());
    }
}
