//! The published zone of a group, and what may stand in it.
//!
//! The leader adds addresses with a command; an address whose host no longer truly serves it is
//! taken out inside `apply`, in the entry that made it untrue (docs/adr/0006). What the zone then says,
//! time to live included, follows from the state alone, so all hosts give the same bytes for a serial.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{Address, AddressState, AllDown, Group, GroupName, Host, HostId, Member, State};

/// A zone version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// SOA serial; grows by one with each change of what the zone says, wrapping as RFC 1982 wants.
    pub serial: u32,
    /// The preferred addresses that may be named, by service and by load; truly served, each.
    pub published: BTreeSet<IpAddr>,
    /// The addresses that the zone names: `published`, or the floor of `all_down = "last_known"`.
    pub named: BTreeSet<IpAddr>,
    /// Time to live of every record, in seconds: the policy's, or the shorter one while there is a fault.
    pub ttl_s: u32,
    /// The hosts named as name servers.
    pub nameservers: Vec<HostId>,
}

impl Zone {
    /// A zone without content.
    #[must_use]
    pub fn new(serial: u32, ttl_s: u32) -> Self {
        Self {
            serial,
            published: BTreeSet::new(),
            named: BTreeSet::new(),
            ttl_s,
            nameservers: Vec::new(),
        }
    }

    /// Moves to the next serial; 0 is skipped, since some secondaries take it for "none".
    pub(crate) fn bump(&mut self) {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
    }
}

/// Why a member's preferred address may not be published, load aside (failover.md, the zone, rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The group is being deleted.
    Deleting,
    /// Its host votes and answers DNS, and never holds an address.
    Observer,
    /// Its host is down.
    HostDown,
    /// An operator quiesced its host in this group.
    Quiesced,
    /// Its host's tests of this group fail.
    Unhealthy,
    /// It ran out as an orphan; its host brings it back when it comes up again.
    Expired,
    /// Nobody serves it.
    Unserved,
    /// A host is taking it, but does not answer for it yet.
    Acquiring {
        /// Who takes it.
        host: HostId,
    },
    /// Another than its preferred host serves it.
    Elsewhere {
        /// Who serves it.
        host: HostId,
    },
    /// Its holder was told to let go of it.
    Releasing {
        /// Who holds it.
        host: HostId,
    },
}

/// What keeps `host`'s preferred address `ip` out of its group's zone; none when it is truly served:
/// online at its preferred host, which is not down, healthy and not quiesced. Load is not asked.
#[must_use]
pub fn absence(state: &State, group: &Group, host: HostId, ip: IpAddr) -> Option<Absence> {
    let observer = |known: &Host| known.observer;
    let Some(member) = group.members.get(&host) else {
        return Some(Absence::Expired);
    };
    let known = state.hosts.get(&host);
    if group.deleting {
        return Some(Absence::Deleting);
    }
    if known.is_some_and(observer) {
        return Some(Absence::Observer);
    }
    if known.is_none_or(Host::is_down) {
        return Some(Absence::HostDown);
    }
    if member.quiesced {
        return Some(Absence::Quiesced);
    }
    if !member.healthy {
        return Some(Absence::Unhealthy);
    }
    let home = |address: &&Address| address.preferred == Some(host);
    match state.addresses.get(&ip).filter(home).map(|a| a.state) {
        None => Some(Absence::Expired),
        Some(AddressState::Unserved) => Some(Absence::Unserved),
        Some(AddressState::Acquiring { host }) => Some(Absence::Acquiring { host }),
        Some(AddressState::Releasing { host }) => Some(Absence::Releasing { host }),
        Some(AddressState::Online { host: at }) if at != host => {
            Some(Absence::Elsewhere { host: at })
        }
        Some(AddressState::Online { .. }) => None,
    }
}

/// The addresses of a group that may be published: those without an [`absence`].
#[must_use]
pub fn truly_served(state: &State, group: &GroupName) -> BTreeSet<IpAddr> {
    let group = state.groups.get(group);
    group.map(|group| served(state, group)).unwrap_or_default()
}

/// What a zone has to say in this state; the serial moves when it is not what it says (docs/adr/0026).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Saying {
    pub(crate) published: BTreeSet<IpAddr>,
    pub(crate) named: BTreeSet<IpAddr>,
    pub(crate) ttl_s: u32,
}

impl Saying {
    pub(crate) fn of(state: &State, group: &Group) -> Self {
        let (zone, policy) = (&group.zone, &group.policy);
        let served = served(state, group);
        let mut published = zone.published.clone();
        published.retain(|ip| served.contains(ip));
        let named = match policy.all_down {
            AllDown::LastKnown if published.is_empty() => {
                let floor = zone.named.iter().filter(|ip| is_due(state, group, **ip));
                floor.copied().collect()
            }
            _ => published.clone(),
        };
        let short = policy.fault_ttl_s.min(policy.ttl_s);
        // What is served again and not published yet neither begins a fault nor ends one: the version
        // that names it does.
        let awaited = zone.ttl_s == short && awaits(group, &served, &published);
        let ttl_s = match misses(state, group, &served) || awaited {
            true => short,
            false => policy.ttl_s,
        };
        Self {
            published,
            named,
            ttl_s,
        }
    }
}

/// Whether an address is missing that should be served: its preferred host does not serve it, and
/// neither an operator took it out nor did it run out. What is out by load is not missing.
#[must_use]
pub fn is_at_fault(state: &State, group: &Group) -> bool {
    misses(state, group, &served(state, group))
}

fn misses(state: &State, group: &Group, served: &BTreeSet<IpAddr>) -> bool {
    let missing = |(id, _, ip): (HostId, &Member, IpAddr)| {
        !served.contains(&ip) && should_serve(state, group, id, ip)
    };
    brought(group).any(missing)
}

/// Whether an address is served that the leader has yet to publish.
fn awaits(group: &Group, served: &BTreeSet<IpAddr>, published: &BTreeSet<IpAddr>) -> bool {
    let open = |(_, member, ip): (HostId, &Member, IpAddr)| {
        !member.shed && served.contains(&ip) && !published.contains(&ip)
    };
    brought(group).any(open)
}

/// Whether a member of the group should serve `ip`, as far as operators are concerned.
fn is_due(state: &State, group: &Group, ip: IpAddr) -> bool {
    brought(group).any(|(id, _, own)| own == ip && should_serve(state, group, id, ip))
}

fn served(state: &State, group: &Group) -> BTreeSet<IpAddr> {
    let here = |(id, _, ip): &(HostId, &Member, IpAddr)| absence(state, group, *id, *ip).is_none();
    brought(group).filter(here).map(|(.., ip)| ip).collect()
}

fn should_serve(state: &State, group: &Group, id: HostId, ip: IpAddr) -> bool {
    let observer = |host: &Host| host.observer;
    let quiesced = |member: &Member| member.quiesced;
    let home = state.addresses.get(&ip).and_then(|a| a.preferred);
    !group.deleting
        && home == Some(id)
        && !state.hosts.get(&id).is_none_or(observer)
        && !group.members.get(&id).is_none_or(quiesced)
}

/// Each preferred address that a member of the group brings, with its host.
fn brought(group: &Group) -> impl Iterator<Item = (HostId, &Member, IpAddr)> {
    group.members.iter().flat_map(|(id, member)| {
        let own = member.preferred.iter();
        own.map(move |preferred| (*id, member, preferred.ip))
    })
}
