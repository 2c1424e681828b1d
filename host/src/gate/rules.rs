//! The rules of the gate, table by table: what is dropped while an address has no live lease.
//!
//! In: what is *for* the address. Out: what is *from* it. The other two directions stay free on
//! purpose: a host must hear the address's holder and may be its client, and must hear the holder's
//! gratuitous ARP to forget the old MAC.
//!
//! Before conntrack (priority -310), so that no NAT rule of the host sees such a packet; and once
//! more behind all NAT (postrouting), for containers that answer through the address.
//! `netdev` egress sees what AF_PACKET sends: without it our own announcements would not be gated.
//!
//! Limits: a host of the array can't be the router between clients and an address it could carry.

use super::message::{Family, Header, Hook, Set, Transaction};

/// Before connection tracking (-200) and the raw tables (-300), after defragmentation (-400).
const EARLY: i32 = -310;
/// Behind source NAT (100) and everything usual.
const LATE: i32 = 310;

/// Keys of `meta`: the protocol of the frame, the family, the protocol of the transport.
const META_PROTOCOL: u32 = 1;
const META_FAMILY: u32 = 15;
const META_TRANSPORT: u32 = 16;

/// Values of `meta nfproto`.
const V4: u8 = 2;
const V6: u8 = 10;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Ethernet types in network order.
const ETHERNET_V4: [u8; 2] = [0x08, 0x00];
const ETHERNET_ARP: [u8; 2] = [0x08, 0x06];
const ETHERNET_V6: [u8; 2] = [0x86, 0xdd];

/// Where addresses stand in their headers.
const V4_SOURCE: u32 = 12;
const V4_DESTINATION: u32 = 16;
const V6_SOURCE: u32 = 8;
const V6_DESTINATION: u32 = 24;
const ND_TARGET: u32 = 8;
const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;

/// Writes the tables of addresses and of ARP. What is there already keeps its elements.
pub(super) fn lay(t: &mut Transaction<'_>, flags: u32) {
    t.table(Family::Inet, flags);
    sets(t, Family::Inet);
    for (name, number) in [("prerouting", 0), ("input", 1)] {
        t.chain(Family::Inet, name, &hook(number, EARLY));
        inet(
            t,
            name,
            V4_DESTINATION,
            V6_DESTINATION,
            NEIGHBOUR_SOLICITATION,
        );
    }
    for (name, number, priority) in [("output", 3, EARLY), ("postrouting", 4, LATE)] {
        t.chain(Family::Inet, name, &hook(number, priority));
        inet(t, name, V4_SOURCE, V6_SOURCE, NEIGHBOUR_ADVERTISEMENT);
    }
    t.table(Family::Arp, flags);
    sets(t, Family::Arp);
    for (name, number, offset) in [("input", 0, ARP_TARGET), ("output", 1, ARP_SENDER)] {
        t.chain(Family::Arp, name, &hook(number, EARLY));
        t.rule(Family::Arp, name, |r| {
            r.drop_unless_leased(Header::Network, offset, true)
        });
    }
}

/// Writes the table that gates what leaves through `devices`, whoever sends it.
pub(super) fn lay_egress<'d>(
    t: &mut Transaction<'_>,
    flags: u32,
    devices: impl Iterator<Item = &'d str>,
) {
    const FAMILY: Family = Family::Netdev;
    t.table(FAMILY, flags);
    sets(t, FAMILY);
    for device in devices {
        let chain = format!("egress-{device}");
        let at = Hook {
            number: 1,
            priority: 0,
            device: Some(device),
        };
        t.chain(FAMILY, &chain, &at);
        t.rule(FAMILY, &chain, |r| {
            r.meta(META_PROTOCOL, &ETHERNET_ARP);
            r.drop_unless_leased(Header::Network, ARP_SENDER, true);
        });
        t.rule(FAMILY, &chain, |r| {
            r.meta(META_PROTOCOL, &ETHERNET_V4);
            r.drop_unless_leased(Header::Network, V4_SOURCE, true);
        });
        t.rule(FAMILY, &chain, |r| {
            r.meta(META_PROTOCOL, &ETHERNET_V6);
            r.drop_unless_leased(Header::Network, V6_SOURCE, false);
        });
        t.rule(FAMILY, &chain, |r| {
            r.meta(META_PROTOCOL, &ETHERNET_V6);
            nd(r, NEIGHBOUR_ADVERTISEMENT);
        });
    }
}

fn sets(t: &mut Transaction<'_>, family: Family) {
    for (id, set) in (1..).zip(Set::ALL) {
        t.set(family, set, id);
    }
}

fn hook(number: u32, priority: i32) -> Hook<'static> {
    Hook {
        number,
        priority,
        device: None,
    }
}

fn inet(t: &mut Transaction<'_>, chain: &str, v4: u32, v6: u32, nd_type: u8) {
    t.rule(Family::Inet, chain, |r| {
        r.meta(META_FAMILY, &[V4]);
        r.drop_unless_leased(Header::Network, v4, true);
    });
    t.rule(Family::Inet, chain, |r| {
        r.meta(META_FAMILY, &[V6]);
        r.drop_unless_leased(Header::Network, v6, false);
    });
    t.rule(Family::Inet, chain, |r| {
        r.meta(META_FAMILY, &[V6]);
        nd(r, nd_type);
    });
}

fn nd(r: &mut super::message::Terms<'_, '_>, nd_type: u8) {
    r.meta(META_TRANSPORT, &[ICMPV6]);
    r.bytes(Header::Transport, 0, &[nd_type]);
    r.drop_unless_leased(Header::Transport, ND_TARGET, false);
}
