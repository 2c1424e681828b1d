//! The nf_tables messages that the gate needs: tables, sets, chains, rules, elements.
//!
//! Written to the kernel directly. `nft` would do for the set-up, but then a host without the
//! program had no gate, its version would decide which rules can be said (1.0.6 cannot match an ND
//! target), and one of two languages would need the other's tests.
//!
//! Numbers are from `linux/netfilter/nf_tables.h`; each stands once, beside its use.

use std::net::IpAddr;

use crate::netlink::wire::{Attributes, Messages};
use crate::netlink::{ACK, APPEND, CREATE, REQUEST};

/// `NFNL_SUBSYS_NFTABLES` in the upper half of a message's type.
pub(super) const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
pub(super) const NEW_TABLE: u16 = SUBSYSTEM;
pub(super) const GET_TABLE: u16 = SUBSYSTEM | 1;
pub(super) const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
pub(super) const NEW_ELEMENT: u16 = SUBSYSTEM | 12;
pub(super) const GET_ELEMENT: u16 = SUBSYSTEM | 13;
pub(super) const DEL_ELEMENT: u16 = SUBSYSTEM | 14;
/// As `DEL_ELEMENT`, but what is not there is no error (Linux 6.3 and newer).
pub(super) const DESTROY_ELEMENT: u16 = SUBSYSTEM | 30;
pub(super) const GET_GENERATION: u16 = SUBSYSTEM | 16;

/// The attribute that names the table, the same in every kind of message.
pub(super) const TABLE: u16 = 1;
/// Flags of a table, and the port of its owner.
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_OWNER: u16 = 7;
/// `NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST`: only our socket may change the table, and when the
/// socket is gone the table stays, for the next start to adopt.
pub(super) const GUARDED: u32 = 2 | 4;

/// The families of tables, by their protocol numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Family {
    /// v4 and v6.
    Inet = 1,
    /// ARP that the kernel handles.
    Arp = 3,
    /// Everything that leaves an interface, frames of programs included.
    Netdev = 5,
}

impl Family {
    /// The header of a message for this family.
    pub(super) fn head(self) -> [u8; 4] {
        [self as u8, 0, 0, 0]
    }
}

/// The four sets of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    /// v4 addresses that this host could carry.
    Managed4,
    /// v6 addresses that this host could carry.
    Managed6,
    /// v4 addresses with a live lease, each with its time-out.
    Leased4,
    /// v6 addresses with a live lease, each with its time-out.
    Leased6,
}

impl Set {
    pub(super) const ALL: [Self; 4] =
        [Self::Managed4, Self::Managed6, Self::Leased4, Self::Leased6];

    /// Where `ip` is when it is managed.
    pub(super) fn managed(ip: IpAddr) -> Self {
        if ip.is_ipv4() {
            Self::Managed4
        } else {
            Self::Managed6
        }
    }

    /// Where `ip` is while its lease lives.
    pub(super) fn leased(ip: IpAddr) -> Self {
        if ip.is_ipv4() {
            Self::Leased4
        } else {
            Self::Leased6
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Managed4 => "managed4",
            Self::Managed6 => "managed6",
            Self::Leased4 => "leased4",
            Self::Leased6 => "leased6",
        }
    }

    fn has_timeouts(self) -> bool {
        matches!(self, Self::Leased4 | Self::Leased6)
    }

    fn is_v4(self) -> bool {
        matches!(self, Self::Managed4 | Self::Leased4)
    }
}

/// Where a chain hooks in.
pub(super) struct Hook<'a> {
    pub(super) number: u32,
    pub(super) priority: i32,
    /// The interface, for `netdev`.
    pub(super) device: Option<&'a str>,
}

/// Writes the messages of one transaction for one table name.
pub(super) struct Transaction<'a> {
    pub(super) messages: Messages,
    table: &'a str,
}

impl<'a> Transaction<'a> {
    pub(super) fn begin(mut messages: Messages, table: &'a str) -> Self {
        messages.push(BATCH_BEGIN, REQUEST, &batch_head(), |_| {});
        Self { messages, table }
    }

    /// Ends it: the last message asks for the answer to all.
    pub(super) fn end(mut self) -> Messages {
        self.messages.flag_last(ACK);
        self.messages
            .push(BATCH_END, REQUEST, &batch_head(), |_| {});
        self.messages
    }

    fn push(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> u32 {
        let table = self.table;
        self.messages
            .push(kind, REQUEST | flags, &family.head(), |a| {
                a.text(TABLE, table);
                fill(a);
            })
    }

    pub(super) fn table(&mut self, family: Family, flags: u32) {
        self.push(NEW_TABLE, CREATE, family, |a| a.be32(TABLE_FLAGS, flags));
    }

    pub(super) fn delete_table(&mut self, family: Family) {
        self.push(DEL_TABLE, 0, family, |_| {});
    }

    pub(super) fn set(&mut self, family: Family, set: Set, id: u32) {
        // The numbers by which `nft` knows the types of keys: ipv4_addr, ipv6_addr.
        let (key_type, key_len) = if set.is_v4() { (7, 4) } else { (8, 16) };
        // NFT_SET_TIMEOUT.
        let flags = if set.has_timeouts() { 0x10 } else { 0 };
        self.push(NEW_SET, CREATE, family, |a| {
            a.text(2, set.name());
            a.be32(3, flags);
            a.be32(4, key_type);
            a.be32(5, key_len);
            a.be32(10, id);
        });
    }

    /// A chain that lets pass what no rule drops, emptied of the rules that it had.
    pub(super) fn chain(&mut self, family: Family, name: &str, hook: &Hook<'_>) {
        self.push(NEW_CHAIN, CREATE, family, |a| {
            a.text(3, name);
            a.nest(4, |a| {
                a.be32(1, hook.number);
                a.be32(2, hook.priority.cast_unsigned());
                if let Some(device) = hook.device {
                    a.text(3, device);
                }
            });
            // NF_ACCEPT.
            a.be32(5, 1);
            a.text(7, "filter");
        });
        self.push(DEL_RULE, 0, family, |a| a.text(2, name));
    }

    pub(super) fn rule(
        &mut self,
        family: Family,
        chain: &str,
        terms: impl FnOnce(&mut Terms<'_, '_>),
    ) {
        self.push(NEW_RULE, CREATE | APPEND, family, |a| {
            a.text(2, chain);
            a.nest(4, |a| terms(&mut Terms(a)));
        });
    }

    /// Puts `ip` into a set, if given with a time-out in milliseconds and a note. `flags` may say
    /// `EXCL`: refused when it is there.
    pub(super) fn add(
        &mut self,
        family: Family,
        set: Set,
        ip: IpAddr,
        lease: Option<(u64, &str)>,
        flags: u16,
    ) -> u32 {
        self.push(NEW_ELEMENT, CREATE | flags, family, |a| {
            a.text(2, set.name());
            a.nest(3, |a| {
                a.nest(1, |a| {
                    key(a, ip);
                    if let Some((timeout_ms, note)) = lease {
                        a.be64(4, timeout_ms);
                        a.bytes(ELEMENT_NOTE, &comment(note));
                    }
                });
            });
        })
    }

    pub(super) fn delete(&mut self, family: Family, set: Set, ip: IpAddr) -> u32 {
        self.delete_as(DEL_ELEMENT, family, set, ip)
    }

    /// Deletes with the message `kind`: `DEL_ELEMENT` or `DESTROY_ELEMENT`.
    pub(super) fn delete_as(&mut self, kind: u16, family: Family, set: Set, ip: IpAddr) -> u32 {
        self.push(kind, 0, family, |a| {
            a.text(2, set.name());
            a.nest(3, |a| a.nest(1, |a| key(a, ip)));
        })
    }
}

/// Milliseconds that an element has left (`NFTA_SET_ELEM_EXPIRATION`).
pub(super) const ELEMENT_LEFT: u16 = 5;
/// User data of an element (`NFTA_SET_ELEM_USERDATA`).
pub(super) const ELEMENT_NOTE: u16 = 6;

/// A note in the form in which `nft list` shows a comment: type 0, length, text with NUL.
fn comment(note: &str) -> Vec<u8> {
    let length = u8::try_from(note.len() + 1).unwrap_or(u8::MAX);
    let mut bytes = vec![0, length];
    bytes.extend_from_slice(note.as_bytes());
    bytes.push(0);
    bytes
}

fn key(a: &mut Attributes<'_>, ip: IpAddr) {
    a.nest(1, |a| match ip {
        IpAddr::V4(v4) => a.bytes(1, &v4.octets()),
        IpAddr::V6(v6) => a.bytes(1, &v6.octets()),
    });
}

fn batch_head() -> [u8; 4] {
    // The subsystem, big-endian, where other messages have a resource id.
    [0, 0, 0, 10]
}

/// Which header of a packet a rule reads.
#[derive(Clone, Copy)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// Writes the terms of a rule: all of them must hold, from first to last.
pub(super) struct Terms<'a, 'b>(&'a mut Attributes<'b>);

/// The one register that the rules use: 16 bytes, so that a v6 address fits.
const REGISTER: u32 = 1;

impl Terms<'_, '_> {
    fn term(&mut self, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.0.nest(1, |a| {
            a.text(1, name);
            a.nest(2, fill);
        });
    }

    /// A property of the packet equals `value`.
    pub(super) fn meta(&mut self, key: u32, value: &[u8]) {
        self.term("meta", |a| {
            a.be32(1, REGISTER);
            a.be32(2, key);
        });
        self.equals(value);
    }

    /// The bytes at `offset` of a header equal `value`.
    pub(super) fn bytes(&mut self, header: Header, offset: u32, value: &[u8]) {
        self.load(header, offset, u32::try_from(value.len()).unwrap_or(0));
        self.equals(value);
    }

    /// The address at `offset` is in `managed` and not in `leased`: drop.
    pub(super) fn drop_unless_leased(&mut self, header: Header, offset: u32, v4: bool) {
        let (length, managed, leased) = if v4 {
            (4, Set::Managed4, Set::Leased4)
        } else {
            (16, Set::Managed6, Set::Leased6)
        };
        self.load(header, offset, length);
        self.lookup(managed, false);
        self.lookup(leased, true);
        self.term("immediate", |a| {
            // NFT_REG_VERDICT, NFTA_DATA_VERDICT, NFTA_VERDICT_CODE = NF_DROP.
            a.be32(1, 0);
            a.nest(2, |a| a.nest(2, |a| a.be32(1, 0)));
        });
    }

    fn load(&mut self, header: Header, offset: u32, length: u32) {
        self.term("payload", |a| {
            a.be32(1, REGISTER);
            a.be32(2, header as u32);
            a.be32(3, offset);
            a.be32(4, length);
        });
    }

    fn lookup(&mut self, set: Set, absent: bool) {
        self.term("lookup", |a| {
            a.text(1, set.name());
            a.be32(2, REGISTER);
            a.be32(5, u32::from(absent));
        });
    }

    fn equals(&mut self, value: &[u8]) {
        self.term("cmp", |a| {
            a.be32(1, REGISTER);
            a.be32(2, 0);
            a.nest(3, |a| a.bytes(1, value));
        });
    }
}
