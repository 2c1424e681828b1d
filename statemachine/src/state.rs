//! The whole replicated state, and small questions to it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{
    Address, ArrayId, Epoch, Group, GroupName, Host, HostId, LogTime, Rejected, Timing, TokenId,
};

/// What the array agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The array's identity; none before the founding entry.
    pub array: Option<ArrayId>,
    /// Index of the last applied entry.
    pub index: u64,
    /// Replicated time.
    pub at: LogTime,
    /// Wall clock of the last entry, in ms since 1970, as its proposer read it. Decides nothing.
    pub wall: u64,
    /// Timing in force.
    pub timing: Timing,
    /// The longest L of the timings that were in force since the last `Settle`, in ms, the current one
    /// not among them; 0 when none but the current one can be in force anywhere (docs/adr/0021).
    pub previous_lease_ms: u32,
    /// Index of the entry that changed the timing last.
    pub timing_index: u64,
    /// The newest voter configuration.
    pub membership: Membership,
    /// The last host that introduced itself as leader, and its term.
    pub leader: Option<(HostId, u64)>,
    /// What happened up to this index has been told to managers and webhooks (docs/adr/0037); 0 while
    /// no policy ever named one.
    pub told: u64,
    /// The newest epoch given to any address.
    pub epoch: Epoch,
    /// The newest serial of any zone that was deleted: a new one starts above it, since secondaries
    /// that still know the name would ignore a serial that went back.
    pub retired_serial: u32,
    /// Hosts by id.
    pub hosts: BTreeMap<HostId, Host>,
    /// Groups by name.
    pub groups: BTreeMap<GroupName, Group>,
    /// Addresses.
    pub addresses: BTreeMap<IpAddr, Address>,
    /// Open join tokens.
    pub tokens: BTreeMap<TokenId, Token>,
    /// Each client's last request and its outcome.
    pub sessions: BTreeMap<[u8; 16], Session>,
}

/// The voters: one set, or two while the configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Index of the entry that set it.
    pub index: u64,
    /// The voter sets; a quorum of each decides.
    pub voters: Vec<BTreeSet<HostId>>,
}

/// An open join token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// Not after this instant.
    pub expires: LogTime,
    /// Hosts that may still join with it.
    pub uses: u32,
}

/// A client's last request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its serial.
    pub serial: u64,
    /// When it was applied.
    pub at: LogTime,
    /// What became of it.
    pub outcomes: Vec<Result<(), Rejected>>,
}

impl Membership {
    /// True when `host` votes in any active configuration.
    #[must_use]
    pub fn is_voter(&self, host: HostId) -> bool {
        self.voters.iter().any(|set| set.contains(&host))
    }

    /// Every voter of every active configuration.
    #[must_use]
    pub fn all(&self) -> BTreeSet<HostId> {
        self.voters.iter().flatten().copied().collect()
    }

    /// True when `hosts` holds a majority of every active configuration.
    pub fn is_quorum(&self, hosts: &BTreeSet<HostId>) -> bool {
        !self.voters.is_empty()
            && self
                .voters
                .iter()
                .all(|set| 2 * set.intersection(hosts).count() > set.len())
    }
}

impl State {
    /// The host of that name.
    #[must_use]
    pub fn host_named(&self, name: &str) -> Option<&Host> {
        self.hosts.values().find(|host| host.name.0 == name)
    }

    /// The name of a host, or its number when it was forgotten.
    #[must_use]
    pub fn name_of(&self, id: HostId) -> alloc::string::String {
        match self.hosts.get(&id) {
            Some(host) => host.name.0.clone(),
            None => alloc::format!("host-{id}"),
        }
    }

    /// The addresses that a host holds, takes or lets go of.
    pub fn held_by(&self, host: HostId) -> impl Iterator<Item = (IpAddr, &Address)> {
        self.addresses
            .iter()
            .filter(move |(_, address)| address.state.host() == Some(host))
            .map(|(ip, address)| (*ip, address))
    }

    /// When an address runs out as an orphan, by its group's policy.
    #[must_use]
    pub fn orphan_deadline(&self, ip: IpAddr) -> Option<LogTime> {
        let address = self.addresses.get(&ip)?;
        let group = self.groups.get(&address.group)?;
        address.orphan_deadline(group.policy.orphan_ttl_ms)
    }

    /// The longest L that any host may count with, in ms, whichever timing it has applied.
    #[must_use]
    pub fn longest_lease_ms(&self) -> u32 {
        self.timing.lease_ms.max(self.previous_lease_ms)
    }

    /// False from a change of the timing until every host that is up has applied it and the leases of
    /// before have ended.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.previous_lease_ms == 0
    }

    /// After how much silence a host is suspected, in ms. While a host may still send heartbeats under a
    /// former timing, that is no less than the longest lease: `Timing::check` keeps two heartbeats and
    /// more within each.
    #[must_use]
    pub fn patience_ms(&self) -> u64 {
        u64::from(self.timing.suspect_ms.max(self.previous_lease_ms))
    }

    pub(crate) fn host(&self, id: HostId) -> Result<&Host, Rejected> {
        self.hosts.get(&id).ok_or(Rejected::UnknownHost(id))
    }

    pub(crate) fn host_mut(&mut self, id: HostId) -> Result<&mut Host, Rejected> {
        self.hosts.get_mut(&id).ok_or(Rejected::UnknownHost(id))
    }

    pub(crate) fn group_mut(&mut self, name: &GroupName) -> Result<&mut Group, Rejected> {
        self.groups
            .get_mut(name)
            .ok_or_else(|| Rejected::UnknownGroup(name.clone()))
    }

    pub(crate) fn address(&self, ip: IpAddr) -> Result<&Address, Rejected> {
        self.addresses.get(&ip).ok_or(Rejected::UnknownAddress(ip))
    }
}
