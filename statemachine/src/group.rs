//! Service groups and their members.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{HostId, Policy, PreferredAddress, Zone};

/// A service group: policy, members, zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// What the operator wants.
    pub policy: Policy,
    /// Index of the entry that applied the policy: the compare-and-set token of `group apply`.
    pub generation: u64,
    /// Deleted by an operator; it goes when the last holder has let go.
    pub deleting: bool,
    /// The hosts whose configuration names this group.
    pub members: BTreeMap<HostId, Member>,
    /// The published zone.
    pub zone: Zone,
}

/// A host's standing in one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Addresses it serves whenever it can; none makes it a hot spare.
    pub preferred: Vec<PreferredAddress>,
    /// Preferred addresses that ran out as orphans; it brings them back when it comes up again.
    pub expired: BTreeSet<IpAddr>,
    /// Its tests pass.
    pub healthy: bool,
    /// An operator keeps it from acquiring.
    pub quiesced: bool,
    /// Quiesced, and gives away what it holds.
    pub draining: bool,
    /// Out of the zone by load: set above the high-water mark, cleared below the low one.
    pub shed: bool,
}

impl Member {
    /// A member as it joins: healthy until its tests say otherwise.
    #[must_use]
    pub fn new(preferred: Vec<PreferredAddress>) -> Self {
        Self {
            preferred,
            expired: BTreeSet::new(),
            healthy: true,
            quiesced: false,
            draining: false,
            shed: false,
        }
    }

    /// True for a member without a preferred address (seed, hot sparing).
    #[must_use]
    pub fn is_spare(&self) -> bool {
        self.preferred.is_empty()
    }

    /// True when `ip` is one of its preferred addresses.
    #[must_use]
    pub fn prefers(&self, ip: IpAddr) -> bool {
        self.preferred.iter().any(|p| p.ip == ip)
    }
}
