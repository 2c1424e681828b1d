//! The published zone of a group, and what may stand in it.
//!
//! The leader adds addresses with a command; an address whose host no longer truly serves it is
//! taken out inside `apply`, in the entry that made it untrue (docs/adr/0006).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{HostId, State};

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

/// The addresses of a group that may be published: each is served online by its preferred host,
/// which is not down, healthy and not quiesced (failover.md, the zone, rule 1). Load is not asked.
#[must_use]
pub fn truly_served(state: &State, group: &crate::GroupName) -> BTreeSet<IpAddr> {
    let Some(found) = state.groups.get(group).filter(|g| !g.deleting) else {
        return BTreeSet::new();
    };
    let mut served = BTreeSet::new();
    for (id, member) in &found.members {
        let standing = state
            .hosts
            .get(id)
            .is_some_and(|h| !h.is_down() && !h.observer);
        if !standing || !member.healthy || member.quiesced {
            continue;
        }
        for preferred in &member.preferred {
            let home = state.addresses.get(&preferred.ip);
            if home.is_some_and(|a| a.at_home() && a.preferred == Some(*id)) {
                served.insert(preferred.ip);
            }
        }
    }
    served
}
