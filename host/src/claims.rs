//! Hears who else claims an address that this host holds.
//!
//! One socket each for ARP and v6 on an interface that carries a held address, with a filter in the
//! kernel that knows the held addresses: what does not speak for one of them is dropped before it
//! is copied. So a quiet link costs one empty receive a tick, and so does a flood of other ARP.
//! Bound to one protocol, such a socket does not hear what the host itself sends.
//!
//! A probe (ARP from 0.0.0.0, NS from ::) claims nothing: the kernel answers it for us, and the
//! prober gives way (RFC 5227, 2.1.1; RFC 4862, 5.4.4).
//!
//! Limits: [`PER_TICK`] claims a tick and socket are read, the kernel drops what is over; behind a
//! VLAN tag or an extension header of v6 nothing is heard.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use socket2::SockFilter;

use crate::announce::{
    ADVERTISEMENT, ARP_SENDER, FRAME, ICMPV6, Mac, ND_TARGET_END, ND_TYPE, V6_NEXT, any_claim,
};
use crate::packet::{ARP, IPV6, Listener};

/// Time within which the claims of an address are told and answered once, in ms (RFC 5227, 1.1:
/// DEFEND_INTERVAL).
pub const DEFEND_MS: u64 = 10_000;
/// Claims that one socket hands over in a tick: 32 receives take some 20 µs.
pub const PER_TICK: usize = 32;
/// Room for claims that wait, in bytes: some 80 as the kernel counts.
const BUFFER: usize = 64 * 1024;
/// Frames that are thrown away when a socket gets a new filter: more than fit into its buffer.
const STALE: usize = 256;
/// Most addresses in a filter: two steps each, and 4,096 is the kernel's limit.
const MAX_FILTERED: usize = 2_000;

/// Steps of a filter: load four bytes or one of the frame, compare, and end with what to keep.
const LOAD_WORD: u16 = 0x20;
const LOAD_BYTE: u16 = 0x30;
const IF_EQUAL: u16 = 0x15;
const KEEP: u16 = 0x06;

/// A claim of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The address.
    pub ip: IpAddr,
    /// For whom.
    pub mac: Mac,
    /// The interface on which it was heard.
    pub index: u32,
}

/// The sockets of all interfaces.
#[derive(Debug, Default)]
pub struct Claims {
    ears: BTreeMap<String, Ears>,
    /// What the filters know: an address, its interface and that one's number.
    heeded: BTreeSet<(IpAddr, String, u32)>,
}

/// The sockets of one interface.
#[derive(Debug)]
struct Ears {
    arp: Listener,
    nd: Listener,
    /// The number of the interface that they hear; none yet.
    index: Option<u32>,
}

impl Ears {
    fn open() -> io::Result<Self> {
        Ok(Self {
            arp: Listener::deaf(BUFFER)?,
            nd: Listener::deaf(BUFFER)?,
            index: None,
        })
    }

    /// Hears claims of `ips` only, and forgets what it heard before.
    fn heed(&mut self, index: u32, ips: &BTreeSet<IpAddr>) -> io::Result<()> {
        let (arp, nd) = filters(ips);
        for (listener, filter, protocol) in [(&self.arp, arp, ARP), (&self.nd, nd, IPV6)] {
            listener.heed(&filter)?;
            if self.index != Some(index) {
                listener.tune(index, protocol)?;
            }
            let mut buffer = [0; FRAME];
            for _ in 0..STALE {
                if listener.take(&mut buffer)?.is_none() {
                    break;
                }
            }
        }
        self.index = Some(index);
        Ok(())
    }
}

impl Claims {
    /// Opens the sockets for interfaces that may carry addresses, in the network namespace of the
    /// calling thread. They hear nothing before [`Claims::heed`].
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn prepare(&mut self, interfaces: &BTreeSet<String>) -> io::Result<()> {
        self.ears.retain(|name, _| interfaces.contains(name));
        self.heeded.retain(|(_, name, _)| interfaces.contains(name));
        for name in interfaces {
            if !self.ears.contains_key(name) {
                self.ears.insert(name.clone(), Ears::open()?);
            }
        }
        Ok(())
    }

    /// Says whose claims count from now on: each address, and the name and number of its
    /// interface. Nothing to do, which is the rule, costs a comparison.
    ///
    /// # Errors
    /// What the system says; it is tried again with the next call.
    pub fn heed(&mut self, held: BTreeSet<(IpAddr, String, u32)>) -> io::Result<()> {
        if held == self.heeded {
            return Ok(());
        }
        for (name, ears) in &mut self.ears {
            let at = |list: &BTreeSet<(IpAddr, String, u32)>| -> (BTreeSet<IpAddr>, Option<u32>) {
                let mine = list.iter().filter(|(_, on, _)| on == name);
                let index = mine.clone().map(|(_, _, index)| *index).next_back();
                (mine.map(|(ip, _, _)| *ip).collect(), index)
            };
            let ((now, index), before) = (at(&held), at(&self.heeded));
            if let Some(index) = index
                .or(ears.index)
                .filter(|_| (&now, index) != (&before.0, before.1))
            {
                ears.heed(index, &now)?;
            }
        }
        self.heeded = held;
        Ok(())
    }

    /// What was claimed since the last call, each claim once. Returns at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn hear(&self) -> io::Result<BTreeSet<Claim>> {
        let mut claims = BTreeSet::new();
        if self.heeded.is_empty() {
            return Ok(claims);
        }
        let mut buffer = [0; FRAME];
        for ears in self.ears.values() {
            let Some(index) = ears.index else { continue };
            for listener in [&ears.arp, &ears.nd] {
                for _ in 0..PER_TICK {
                    let Some(frame) = listener.take(&mut buffer)? else {
                        break;
                    };
                    claims.extend(any_claim(frame).map(|(ip, mac)| Claim { ip, mac, index }));
                }
            }
        }
        Ok(claims)
    }
}

/// The filters for ARP and for v6 that let pass what may be a claim of one of `ips`. v6 addresses
/// are told by their last four bytes, the rest is left to the reader.
fn filters(ips: &BTreeSet<IpAddr>) -> (Vec<SockFilter>, Vec<SockFilter>) {
    let step = |code, k| SockFilter::new(code, 0, 0, k);
    // Go on if equal, else over the next step.
    let equal = |k| SockFilter::new(IF_EQUAL, 0, 1, k);
    let keep = || step(KEEP, u32::try_from(FRAME).unwrap_or(0));
    let drop = || step(KEEP, 0);
    let mut arp = vec![step(LOAD_WORD, ARP_SENDER)];
    let mut nd = Vec::new();
    let nd_type = u32::try_from(ND_TYPE).unwrap_or(0);
    for (at, value) in [(V6_NEXT, ICMPV6), (nd_type, ADVERTISEMENT)] {
        nd.push(step(LOAD_BYTE, at));
        // Over the drop if equal.
        nd.push(SockFilter::new(IF_EQUAL, 1, 0, u32::from(value)));
        nd.push(drop());
    }
    nd.push(step(LOAD_WORD, ND_TARGET_END));
    for ip in ips.iter().take(MAX_FILTERED) {
        match ip {
            IpAddr::V4(ip) => arp.extend([equal(u32::from(*ip)), keep()]),
            IpAddr::V6(ip) => {
                let [.., a, b, c, d] = ip.octets();
                nd.extend([equal(u32::from_be_bytes([a, b, c, d])), keep()]);
            }
        }
    }
    arp.push(drop());
    nd.push(drop());
    (arp, nd)
}
