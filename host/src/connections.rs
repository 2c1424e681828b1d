//! Ends the established TCP connections of an address that goes.
//!
//! Else a server on this host waits for hours on clients that talk to the new holder, and its
//! packets wake up when the address comes back. SOCK_DESTROY, as CTDB and Android do; the reset
//! that the kernel would send is dropped by the closed gate, so that the client does not see it
//! and the new holder can take over the conversation.
//!
//! Limits: TCP only; where the kernel can't (CONFIG_INET_DIAG_DESTROY), it says so.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::netlink::SOCK_DIAG;

use crate::netlink::wire::messages;
use crate::netlink::{ACK, DUMP, REQUEST, Socket};

const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
const V4: u8 = 2;
const V6: u8 = 10;
const TCP: u8 = 6;
/// All states but TIME_WAIT (6), CLOSE (7) and LISTEN (10), a bit for each.
const STATES: u32 = 0xfff & !(1 << 6 | 1 << 7 | 1 << 10 | 1);
/// `INET_DIAG_REQ_BYTECODE`, and its operation "the source is".
const BYTECODE: u16 = 1;
const SOURCE_IS: u8 = 7;
/// Where the identity of a connection is in an answer, and its length.
const IDENTITY: std::ops::Range<usize> = 4..52;
/// Connections ended with one send.
const CHUNK: usize = 64;

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

    /// Ends all TCP connections whose end on this host is `ip`. Gives how many there were.
    ///
    /// # Errors
    /// When the kernel can't list or end them; `ENOTSUP` where it was built without.
    pub fn end_all(&self, ip: IpAddr) -> io::Result<usize> {
        let socket = &self.socket;
        let mut ended = 0;
        // A socket of v6 may carry a v4 conversation.
        let families: &[u8] = if ip.is_ipv4() { &[V4, V6] } else { &[V6] };
        for family in families {
            let list = socket.dump(|m| {
                m.push(
                    BY_FAMILY,
                    REQUEST | DUMP,
                    &request(*family, &[0; 48]),
                    |a| {
                        a.bytes(BYTECODE, &source_is(ip));
                    },
                );
            })?;
            let found: Vec<&[u8]> = messages(&list)
                .filter(|message| message.kind == BY_FAMILY)
                .filter_map(|message| message.body.get(IDENTITY))
                .collect();
            for chunk in found.chunks(CHUNK) {
                let mut kill = socket.messages();
                for identity in chunk {
                    kill.push(DESTROY, REQUEST | ACK, &request(*family, identity), |_| {});
                }
                // One that ended by itself meanwhile is gone just the same.
                let gone = [Errno::NOENT, Errno::STALE];
                let refusals = socket.ask(&kill)?;
                if let Some(refusal) = refusals.iter().find(|r| !gone.contains(&r.error)) {
                    return Err(refusal.error.into());
                }
                ended += chunk.len();
            }
        }
        Ok(ended)
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, identity: &[u8]) -> Vec<u8> {
    let mut bytes = vec![family, TCP, 0, 0];
    bytes.extend_from_slice(&STATES.to_ne_bytes());
    bytes.extend_from_slice(identity);
    bytes
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
