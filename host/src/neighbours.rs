//! What the kernel knows of a machine on a link: whether it answers ARP or ND.
//!
//! Only asked; who wants it looked for sends it any datagram.

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;

use crate::netlink::wire::ne16;
use crate::netlink::{ACK, REQUEST, Socket};

const NEW_NEIGHBOUR: u16 = 28;
const GET_NEIGHBOUR: u16 = 30;
/// Attribute: the neighbour's address.
const NDA_DST: u16 = 1;
/// States of an entry, a bit for each: answered, set by hand, needs no answer; and given up.
const REACHABLE: u16 = 0x02;
const FAILED: u16 = 0x20;
const STALE: u16 = 0x04;
const DELAY: u16 = 0x08;
const PROBE: u16 = 0x10;
const NO_ARP: u16 = 0x40;
const PERMANENT: u16 = 0x80;
/// Families.
const V4: u8 = 2;
const V6: u8 = 10;
/// Where the state is in an entry.
const STATE_AT: usize = 8;

/// How a machine on the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// It answered, a short while ago or as far as the kernel knows: an old answer is asked for again
    /// some seconds after it is used, and until then nothing speaks against it.
    Reachable,
    /// It was looked for, and did not answer.
    Failed,
    /// Nobody looked, or the answer is not there yet.
    Unknown,
}

/// Asks for entries of the kernel's list.
#[derive(Debug)]
pub struct Neighbours {
    socket: Socket,
}

impl Neighbours {
    /// Opens what it needs.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open(None, 0)?;
        Ok(Self { socket })
    }

    /// How `ip` stands on the interface with number `index`.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn of(&self, index: u32, ip: IpAddr) -> io::Result<Neighbour> {
        let mut head = [0; 12];
        head[0] = if ip.is_ipv4() { V4 } else { V6 };
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut request = self.socket.messages();
        request.push(GET_NEIGHBOUR, REQUEST | ACK, &head, |a| match ip {
            IpAddr::V4(ip) => a.bytes(NDA_DST, &ip.octets()),
            IpAddr::V6(ip) => a.bytes(NDA_DST, &ip.octets()),
        });
        let mut state = None;
        let refusals = self.socket.ask_for(&request, |message| {
            if message.kind == NEW_NEIGHBOUR {
                state = ne16(message.body, STATE_AT);
            }
        })?;
        match refusals.first() {
            // No entry: nobody looked.
            Some(refusal) if refusal.error == Errno::NOENT => Ok(Neighbour::Unknown),
            Some(refusal) => Err(refusal.error.into()),
            None => Ok(state.map_or(Neighbour::Unknown, standing)),
        }
    }
}

fn standing(state: u16) -> Neighbour {
    match state {
        state if state & (REACHABLE | STALE | DELAY | PROBE | NO_ARP | PERMANENT) != 0 => {
            Neighbour::Reachable
        }
        state if state & FAILED != 0 => Neighbour::Failed,
        _ => Neighbour::Unknown,
    }
}
