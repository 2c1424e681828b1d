//! Status from what the log says and what this daemon sees: a pure projection.
//!
//! The log knows who may hold what; only a running daemon knows who was heard when, so that part
//! comes in as [`Live`]. Without it (an empty `Live`) the status is that of the log alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use statemachine::{GroupName, HostId, HostState, LogTime, State};

use super::event::reason_words;
use super::status::{
    AddressStatus, AddressWord, FailoverStatus, GroupStatus, HostRole, HostStatus, HostWord,
    MemberStatus, Reloaded, Status,
};

/// What a daemon sees beside the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// The answering host.
    pub me: HostId,
    /// Who leads, as Raft knows it now.
    pub leader: Option<HostId>,
    /// Raft's term.
    pub term: u64,
    /// Whether a majority of voters is in touch.
    pub quorum: bool,
    /// How long ago this host's copy of the log was known to be current, in ms.
    pub current_ms: Option<u64>,
    /// What became of its configuration when it was read again.
    pub reloaded: Option<Reloaded>,
    /// Groups whose zones get SERVFAIL here.
    pub withheld: BTreeSet<GroupName>,
    /// The array serves in last-resort mode.
    pub last_resort: bool,
    /// Replicated time now; the log's own stands still while nothing is committed.
    pub now: LogTime,
    /// What was heard of each host.
    pub hosts: BTreeMap<HostId, LiveHost>,
    /// The last failover of each address that had one.
    pub failovers: BTreeMap<IpAddr, FailoverStatus>,
}

/// What was heard of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveHost {
    /// How long ago, in ms.
    pub last_heard_ms: Option<u64>,
    /// How long its lease still runs, in ms.
    pub lease_ms: Option<u64>,
    /// What guards its addresses.
    pub gate: Option<String>,
    /// Which test fails in a group, and why.
    pub failing: BTreeMap<GroupName, String>,
    /// Its load in each group, in units of that group's scale.
    pub utilization: BTreeMap<GroupName, u32>,
}

/// The status that `rais status` shows.
pub fn project(state: &State, live: &Live) -> Status {
    let mut hosts: Vec<HostStatus> = state
        .hosts
        .keys()
        .filter_map(|id| host(state, live, *id))
        .collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    Status {
        array: state
            .array
            .map(|array| array.to_string())
            .unwrap_or_default(),
        leader: live.leader.map(|leader| state.name_of(leader)),
        term: live.term,
        quorum: live.quorum,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hosts,
        groups: state
            .groups
            .keys()
            .filter_map(|name| group(state, live, name))
            .collect(),
        answered_by: state.name_of(live.me),
        index: state.index,
        last_resort: live.last_resort,
        current_ms: live.current_ms,
        reloaded: live.reloaded.clone(),
    }
}

fn host(state: &State, live: &Live, id: HostId) -> Option<HostStatus> {
    let host = state.hosts.get(&id)?;
    let seen = live.hosts.get(&id);
    let word = match host.state {
        HostState::Up => HostWord::Up,
        HostState::Fencing { .. } => HostWord::Fencing,
        HostState::Down { .. } => HostWord::Down,
    };
    Some(HostStatus {
        name: host.name.0.clone(),
        id: id.0,
        role: if state.membership.is_voter(id) {
            HostRole::Voter
        } else {
            HostRole::Learner
        },
        up: word == HostWord::Up,
        observer: host.observer,
        control: host.control.clone(),
        last_heard_ms: seen.and_then(|seen| seen.last_heard_ms),
        lease_ms: seen.and_then(|seen| seen.lease_ms),
        state: word,
        gate: seen.and_then(|seen| seen.gate.clone()),
        unheard: (0..=u8::MAX)
            .zip(&host.control)
            .filter(|(network, _)| host.unheard.contains(network))
            .map(|(_, control)| *control)
            .collect(),
        dns: host.dns.clone(),
        incarnation: host.incarnation.0,
    })
}

fn group(state: &State, live: &Live, name: &GroupName) -> Option<GroupStatus> {
    let group = state.groups.get(name)?;
    let mut members: Vec<MemberStatus> = Vec::new();
    for (id, member) in &group.members {
        members.push(MemberStatus {
            host: state.name_of(*id),
            preferred: member.preferred.iter().map(|one| one.ip).collect(),
            spare: member.is_spare(),
            healthy: member.healthy,
            failing: live
                .hosts
                .get(id)
                .and_then(|seen| seen.failing.get(name).cloned()),
            quiesced: member.quiesced,
            utilization: live
                .hosts
                .get(id)
                .and_then(|seen| seen.utilization.get(name).copied()),
            draining: member.draining,
            shed: member.shed,
        });
    }
    members.sort_by(|a, b| a.host.cmp(&b.host));
    let own = state.addresses.iter().filter(|(_, one)| one.group == *name);
    Some(GroupStatus {
        name: name.0.clone(),
        zone: group.policy.zone.clone(),
        serial: group.zone.serial,
        published: group.zone.named.iter().copied().collect(),
        ttl_s: group.zone.ttl_s,
        withheld: live.withheld.contains(name),
        members,
        addresses: own
            .filter_map(|(ip, _)| address(state, live, *ip))
            .collect(),
    })
}

fn address(state: &State, live: &Live, ip: IpAddr) -> Option<AddressStatus> {
    let address = state.addresses.get(&ip)?;
    Some(AddressStatus {
        address: ip,
        state: AddressWord::of(&address.state),
        host: address.state.host().map(|host| state.name_of(host)),
        preferred_host: address.preferred.map(|host| state.name_of(host)),
        epoch: address.epoch.0,
        orphan_expires_s: state
            .orphan_deadline(ip)
            .map(|deadline| deadline.since(state.at.max(live.now)).div_ceil(1_000)),
        reason: reason_words(address.reason).to_owned(),
        failover: live.failovers.get(&ip).cloned(),
    })
}
