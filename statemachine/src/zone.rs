//! The published zone of a group, and what may stand in it.
//!
//! The leader adds addresses with a command; an address whose host no longer truly serves it is
//! taken out inside `apply`, in the entry that made it untrue (docs/adr/0006).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{Address, AddressState, Group, Host, HostId, State};

/// A zone version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// SOA serial; grows by one with each change of what the zone says, wrapping as RFC 1982 wants.
    pub serial: u32,
    /// The preferred addresses that the zone names.
    pub published: BTreeSet<IpAddr>,
    /// The hosts named as name servers.
    pub nameservers: Vec<HostId>,
}

impl Zone {
    /// A zone without content.
    #[must_use]
    pub fn new(serial: u32) -> Self {
        Self {
            serial,
            published: BTreeSet::new(),
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
pub fn truly_served(state: &State, group: &crate::GroupName) -> BTreeSet<IpAddr> {
    let mut served = BTreeSet::new();
    for (group, id, ip) in preferred(state, group) {
        if absence(state, group, id, ip).is_none() {
            served.insert(ip);
        }
    }
    served
}

/// Each preferred address that a member of the group brings, with its host.
fn preferred<'s>(
    state: &'s State,
    group: &crate::GroupName,
) -> impl Iterator<Item = (&'s Group, HostId, IpAddr)> {
    let group = state.groups.get(group);
    let members = group.map(|group| group.members.iter().map(move |(id, m)| (group, *id, m)));
    let members = members.into_iter().flatten();
    members.flat_map(|(group, id, member)| {
        let own = member.preferred.iter();
        own.map(move |preferred| (group, id, preferred.ip))
    })
}
