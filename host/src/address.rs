//! Addresses on interfaces, by rtnetlink.
//!
//! Three messages of a hundred bytes, encoded here: the crate `rtnetlink` would bring an async
//! runtime and ten crates into the process that holds the capabilities.
//!
//! An address carries a life in whole seconds, so that the kernel removes it in the end even if
//! nobody else does; that is hygiene, the promise is the gate's. v6 goes on without the kernel's
//! duplicate detection (it costs a second of service; the lease and our own probe stand in), and
//! deprecated, so that the host never picks it as the source of its own connections.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rustix::io::Errno;

use crate::announce::Mac;
use crate::netlink::wire::{Messages, attribute, messages, ne32, text};
use crate::netlink::{ACK, CREATE, DUMP, REPLACE, REQUEST, Socket};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DEL_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const SET_LINK: u16 = 19;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// Attributes of a route: where to, through which interface, by which router, of either family.
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
/// `RTN_UNICAST`: neither local nor a refusal.
const UNICAST: u8 = 1;
/// Where an interface keeps its settings for v4, and the one that keeps the other addresses of a
/// subnet when the first goes.
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const PROMOTE_SECONDARIES: u16 = 20;
/// Attributes of an address.
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_CACHEINFO: u16 = 6;
const IFA_FLAGS: u16 = 8;
/// No duplicate address detection.
const IFA_F_NODAD: u32 = 0x02;
/// Attributes of an interface.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
/// Flags of an interface: up, and with carrier.
const IFF_UP: u32 = 0x1;
const IFF_LOWER_UP: u32 = 0x1_0000;
/// Families.
const V4: u8 = 2;
const V6: u8 = 10;
/// Longest label of a v4 address, as the kernel counts it.
const MAX_LABEL: usize = 15;
/// A life without end.
const FOR_EVER: u32 = u32::MAX;

/// What this host knows of one of its interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it.
    pub index: u32,
    /// Its Ethernet address, where it has one.
    pub mac: Option<Mac>,
    /// Switched on, and the link is there.
    pub carrier: bool,
}

/// From how far an address is meant to be reached; the kernel picks no source of a shorter reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// From anywhere.
    Global = 0,
    /// v4: never picked as a source for what goes beyond the link, though it answers anybody.
    Link = 253,
}

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OnInterface {
    /// The address.
    pub ip: IpAddr,
    /// Length of its prefix, in bits.
    pub prefix_len: u8,
    /// The interface's number.
    pub index: u32,
    /// Seconds until the kernel removes it; none when it stays.
    pub valid_s: Option<u32>,
}

/// Reads and changes the addresses of this network namespace.
#[derive(Debug)]
pub struct Addresses {
    socket: Socket,
}

impl Addresses {
    /// Opens what it needs.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open(None, 0)?,
        })
    }

    /// The interface of that name, if there is one.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn interface(&self, name: &str) -> io::Result<Option<Interface>> {
        let list = self.links()?;
        Ok(messages(&list)
            .filter(|message| message.kind == NEW_LINK)
            .find_map(|message| interface(message.body, name)))
    }

    /// The Ethernet addresses of this host, of all interfaces.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn macs(&self) -> io::Result<BTreeSet<Mac>> {
        let list = self.links()?;
        let mac = |body: &[u8]| attribute(body.get(16..)?, IFLA_ADDRESS)?.try_into().ok();
        let links = messages(&list).filter(|message| message.kind == NEW_LINK);
        Ok(links.filter_map(|message| mac(message.body)).collect())
    }

    fn links(&self) -> io::Result<Vec<u8>> {
        self.socket.dump(|m| {
            m.push(GET_LINK, REQUEST | DUMP, &[0; 16], |_| {});
        })
    }

    /// All addresses, of all interfaces. One family after the other: asked for all at once the kernel
    /// waits for its lock of the network's configuration (RTNL), which others may hold for seconds; for
    /// one family it does not since 6.10.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn list(&self) -> io::Result<Vec<OnInterface>> {
        let mut all = Vec::new();
        for family in [V4, V6] {
            let list = self.socket.dump(|m| {
                m.push(
                    GET_ADDRESS,
                    REQUEST | DUMP,
                    &[family, 0, 0, 0, 0, 0, 0, 0],
                    |_| {},
                );
            })?;
            let there = messages(&list).filter(|message| message.kind == NEW_ADDRESS);
            all.extend(there.filter_map(|message| on_interface(message.body)));
        }
        Ok(all)
    }

    /// Puts an address on an interface, or sets the life of one that is there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add(&self, address: OnInterface, scope: Scope, label: Option<&str>) -> io::Result<()> {
        let mut request = self.socket.messages();
        let flags = REQUEST | ACK | CREATE | REPLACE;
        write(&mut request, NEW_ADDRESS, flags, address, (scope, label));
        self.socket.demand(&request)
    }

    /// The number of the interface on whose link the host would look for `ip`; none when there is
    /// no route to it, or a router on the way, or it is the host's own.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn on_link(&self, ip: IpAddr) -> io::Result<Option<u32>> {
        let mut request = self.socket.messages();
        let (family, bits) = if ip.is_ipv4() { (V4, 32) } else { (V6, 128) };
        let head = [family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        request.push(GET_ROUTE, REQUEST | ACK, &head, |a| match ip {
            IpAddr::V4(ip) => a.bytes(RTA_DST, &ip.octets()),
            IpAddr::V6(ip) => a.bytes(RTA_DST, &ip.octets()),
        });
        let mut answer = None;
        let refusals = self.socket.ask_for(&request, |message| {
            if message.kind == NEW_ROUTE {
                answer = on_link(message.body);
            }
        })?;
        let none = [
            Errno::NETUNREACH,
            Errno::HOSTUNREACH,
            Errno::ACCESS,
            Errno::INVAL,
        ];
        match refusals.first() {
            Some(refusal) if !none.contains(&refusal.error) => Err(refusal.error.into()),
            Some(_) => Ok(None),
            None => Ok(answer),
        }
    }

    /// Tells the kernel to keep the v4 addresses of a subnet when the first of them goes.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn promote_secondaries(&self, index: u32) -> io::Result<()> {
        let mut request = self.socket.messages();
        let mut head = [0; 16];
        head[4..8].copy_from_slice(&index.to_ne_bytes());
        request.push(SET_LINK, REQUEST | ACK, &head, |a| {
            a.nest(IFLA_AF_SPEC, |a| {
                a.nest(u16::from(V4), |a| {
                    a.nest(IFLA_INET_CONF, |a| {
                        a.bytes(PROMOTE_SECONDARIES, &1_u32.to_ne_bytes());
                    });
                });
            });
        });
        self.socket.demand(&request)
    }

    /// Takes an address off an interface. One that is not there is no error.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, address: OnInterface) -> io::Result<()> {
        let mut request = self.socket.messages();
        let unnamed = (Scope::Global, None);
        write(&mut request, DEL_ADDRESS, REQUEST | ACK, address, unnamed);
        match self.socket.ask(&request)?.first() {
            Some(refusal)
                if refusal.error != Errno::ADDRNOTAVAIL && refusal.error != Errno::NODEV =>
            {
                Err(refusal.error.into())
            }
            _ => Ok(()),
        }
    }
}

/// The label by which people see in `ip address` whose a v4 address is, if it fits.
#[must_use]
pub fn label(interface: &str) -> Option<String> {
    let label = format!("{interface}:rais");
    (label.len() <= MAX_LABEL).then_some(label)
}

fn write(
    request: &mut Messages,
    kind: u16,
    flags: u16,
    address: OnInterface,
    (scope, label): (Scope, Option<&str>),
) {
    let OnInterface {
        ip,
        prefix_len,
        index,
        valid_s,
    } = address;
    let mut head = [
        if ip.is_ipv4() { V4 } else { V6 },
        prefix_len,
        0,
        if ip.is_ipv4() { scope as u8 } else { 0 },
        0,
        0,
        0,
        0,
    ];
    head[4..].copy_from_slice(&index.to_ne_bytes());
    request.push(kind, flags, &head, |a| {
        match ip {
            IpAddr::V4(ip) => {
                a.bytes(IFA_LOCAL, &ip.octets());
                a.bytes(IFA_ADDRESS, &ip.octets());
            }
            IpAddr::V6(ip) => a.bytes(IFA_ADDRESS, &ip.octets()),
        }
        if kind != NEW_ADDRESS {
            return;
        }
        if let (Some(label), IpAddr::V4(_)) = (label, ip) {
            a.text(IFA_LABEL, label);
        }
        let valid = valid_s.unwrap_or(FOR_EVER);
        let preferred = if ip.is_ipv4() { valid } else { 0 };
        let life = [preferred.to_ne_bytes(), valid.to_ne_bytes(), [0; 4], [0; 4]];
        a.bytes(IFA_CACHEINFO, life.as_flattened());
        if ip.is_ipv6() {
            a.bytes(IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes());
        }
    });
}

fn interface(body: &[u8], name: &str) -> Option<Interface> {
    let attrs = body.get(16..)?;
    (attribute(attrs, IFLA_IFNAME).map(text)? == name).then_some(())?;
    let flags = ne32(body, 8)?;
    Some(Interface {
        index: ne32(body, 4)?,
        mac: attribute(attrs, IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()),
        carrier: flags & IFF_UP != 0 && flags & IFF_LOWER_UP != 0,
    })
}

fn on_link(body: &[u8]) -> Option<u32> {
    let attrs = body.get(12..)?;
    let direct = attribute(attrs, RTA_GATEWAY).is_none() && attribute(attrs, RTA_VIA).is_none();
    (*body.get(7)? == UNICAST && direct).then_some(())?;
    ne32(attribute(attrs, RTA_OIF)?, 0)
}

fn on_interface(body: &[u8]) -> Option<OnInterface> {
    let (family, prefix_len, attrs) = (*body.first()?, *body.get(1)?, body.get(8..)?);
    // IFA_LOCAL is the address where the two differ (point to point); v6 often has only the other.
    let bytes = attribute(attrs, IFA_LOCAL).or_else(|| attribute(attrs, IFA_ADDRESS))?;
    let ip = match family {
        V4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        V6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    let valid = attribute(attrs, IFA_CACHEINFO).and_then(|life| ne32(life, 4));
    let valid_s = valid.filter(|seconds| *seconds != FOR_EVER);
    Some(OnInterface {
        ip,
        prefix_len,
        index: ne32(body, 4)?,
        valid_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Goal: no answer of a kernel, older or newer, can bring the driver down.
        /// Method: arbitrary bytes as the bodies of all messages that are read here.
        #[test]
        fn arbitrary_answers_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120),
        ) {
            let _ = (interface(&bytes, "eth0"), on_interface(&bytes), on_link(&bytes));
        }
    }
}
