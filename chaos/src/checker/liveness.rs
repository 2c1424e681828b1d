//! Invariants 14 and 15: some time after the faults no fence is pending, every host is up, and every
//! address with an eligible host is served, by its preferred host if that can.
//!
//! Asks the shipped `place` who could, and the kernels who does.

use std::net::IpAddr;

use control::place;
use statemachine::{Address, AddressState, HostId, Rebalance, truly_served};

use crate::World;

/// What is still to be done, one line each.
pub(crate) fn overdue(world: &World) -> Vec<String> {
    let Some(leader) = world.leader() else {
        return vec!["nobody leads".into()];
    };
    let Some(core) = world.core(leader) else {
        return vec!["the leader is dead".into()];
    };
    let state = core.state();
    let mut told = Vec::new();
    for host in state.hosts.values() {
        if world.is_alive(host.id) && !world.is_paused(host.id) && !host.is_up() {
            told.push(format!("h{} is {:?}", host.id, host.state));
        }
    }
    for (ip, address) in &state.addresses {
        told.extend(wrong(world, leader, *ip, address));
    }
    for (name, group) in &state.groups {
        let served = truly_served(state, name);
        let shed = |ip: &&IpAddr| {
            let home = state.addresses.get(*ip).and_then(|a| a.preferred);
            !home.is_some_and(|home| group.members.get(&home).is_some_and(|m| m.shed))
        };
        for ip in served.difference(&group.zone.published).filter(shed) {
            told.push(format!("{ip} is served at home and not in the zone"));
        }
    }
    told
}

fn wrong(world: &World, leader: HostId, ip: IpAddr, address: &Address) -> Option<String> {
    let core = world.core(leader)?;
    let state = core.state();
    let now = core.log_time(world.local_now(leader));
    let able: Vec<HostId> = place(state, core.view(), now, ip, 0)
        .candidates
        .into_iter()
        .filter(|candidate| candidate.verdict.is_able())
        .map(|candidate| candidate.host)
        .collect();
    let serving = world.serving(ip);
    let holder = match address.state {
        AddressState::Online { host } => Some(host),
        _ => None,
    };
    if holder.map_or(0, |_| 1) != serving.len() || serving.first().copied() != holder {
        return Some(format!(
            "{ip} is {:?} in the log, served by {serving:?}",
            address.state
        ));
    }
    let Some(holder) = holder else {
        return (!able.is_empty()).then(|| format!("{ip} is not served, {able:?} could"));
    };
    let group = state.groups.get(&address.group)?;
    let wanted = match (address.pin, group.policy.rebalance) {
        (Some(pin), _) => Some(pin),
        (None, Rebalance::Prefer) => address.preferred,
        (None, Rebalance::Sticky) => None,
    };
    let better = wanted.filter(|wanted| able.contains(wanted) && *wanted != holder)?;
    Some(format!("{ip} is served by h{holder}, h{better} should"))
}
