//! Turns what hosts report into commands: who is up, whose tests fail, what is online, what was let go.
//!
//! A report counts for an address only when its host had applied the entry that made the address stand
//! as it stands: an older report speaks of an older order.

use std::net::IpAddr;

use statemachine::{
    Address, AddressCommand, AddressState, Command, GroupCommand, Host, HostCommand, HostId,
    Mutation, State, mutated,
};

use crate::{Heartbeat, HeldPhase, View};

/// A new incarnation for a host that is heard and holds nothing (lease.md, step 10).
pub(crate) fn host_up(host: &Host, view: &View) -> Option<Command> {
    let heartbeat = view.fresh(host.id)?;
    let began = if host.is_down() {
        heartbeat.boot >= host.boot
    } else {
        heartbeat.boot > host.boot
    };
    let fit = !matches!(host.state, statemachine::HostState::Fencing { .. })
        && began
        && (heartbeat.applied >= host.taken_at || mutated(Mutation::NoAppliedCheck))
        && heartbeat.report.is_empty_handed();
    let up = HostCommand::Up {
        host: host.id,
        seen: host.incarnation,
        boot: heartbeat.boot,
    };
    fit.then_some(Command::Host(up))
}

/// Claims by other machines, where the log says otherwise.
pub(crate) fn contests(
    state: &State,
    view: &View,
    ip: IpAddr,
    address: &Address,
) -> Option<Command> {
    let AddressState::Online { host } = address.state else {
        return None;
    };
    let holder = state.hosts.get(&host)?;
    let heartbeat = view.fresh(host);
    let report = heartbeat.filter(|heartbeat| speaks_of(heartbeat, holder, address))?;
    let by = report.report.of(ip)?.contested.clone();
    (by != address.contested).then_some(Command::Address(AddressCommand::Contest {
        address: ip,
        held_under: address.epoch,
        by,
    }))
}

/// Control networks on which hosts are heard or not, where the log says otherwise.
pub(crate) fn networks(state: &State, view: &View) -> Vec<Command> {
    let mut commands = Vec::new();
    for host in state.hosts.values().filter(|host| host.is_up()) {
        let Some(unheard) = view.unheard(host.id, host.control.len()) else {
            continue;
        };
        if unheard != host.unheard {
            let host = host.id;
            commands.push(Command::Host(HostCommand::Hear { host, unheard }));
        }
    }
    commands
}

/// Health that a member reports and the log does not say yet.
pub(crate) fn health(state: &State, view: &View) -> Vec<Command> {
    let mut commands = Vec::new();
    for (name, group) in &state.groups {
        for (id, member) in &group.members {
            let current = view.fresh(*id).and_then(|_| view.report(*id, name));
            if let Some(report) = current.filter(|report| report.healthy != member.healthy) {
                let (host, group, healthy) = (*id, name.clone(), report.healthy);
                commands.push(Command::Group(match &report.why {
                    Some(why) if !healthy => GroupCommand::TestFailed {
                        host,
                        group,
                        error: why.clone(),
                    },
                    _ => GroupCommand::Health {
                        host,
                        group,
                        healthy,
                    },
                }));
            }
        }
    }
    commands
}

/// What the holder's report says of an address that the log does not say yet.
pub(crate) fn of_address(
    state: &State,
    view: &View,
    ip: IpAddr,
    address: &Address,
) -> Option<Command> {
    let holder = address.state.host()?;
    let host = state.hosts.get(&holder)?;
    let heartbeat = view
        .fresh(holder)
        .filter(|heartbeat| speaks_of(heartbeat, host, address))?;
    let report = heartbeat.report.of(ip);
    let held_under = address.epoch;
    let own = report
        .filter(|report| report.epoch == held_under)
        .map(|report| &report.phase);
    let released = |error| {
        Some(AddressCommand::Released {
            address: ip,
            held_under,
            error,
        })
    };
    let command = match (address.state, own) {
        (
            AddressState::Acquiring { .. },
            Some(HeldPhase::Online {
                acquire_ms,
                announce_ms,
            }),
        ) => Some(AddressCommand::Online {
            address: ip,
            held_under,
            acquire_ms: *acquire_ms,
            announce_ms: *announce_ms,
        }),
        (AddressState::Acquiring { .. }, Some(HeldPhase::Failed { error })) => {
            Some(AddressCommand::AcquireFailed {
                address: ip,
                held_under,
                error: error.clone(),
            })
        }
        (AddressState::Online { .. }, Some(HeldPhase::Failed { error })) => {
            released(Some(error.clone()))
        }
        (AddressState::Releasing { .. }, Some(HeldPhase::Failed { error })) => {
            released(Some(error.clone()))
        }
        (AddressState::Releasing { .. }, None)
            if !report.is_some_and(|report| report.phase.is_held()) =>
        {
            released(None)
        }
        _ => None,
    };
    command.map(Command::Address)
}

fn speaks_of(heartbeat: &Heartbeat, host: &Host, address: &Address) -> bool {
    heartbeat.boot == host.boot
        && heartbeat.incarnation == host.incarnation
        && heartbeat.applied >= address.index
}

/// Hosts that should be fenced although they are heard: they were told to let go and do not.
pub(crate) fn stubborn(state: &State, now: statemachine::LogTime, bound_ms: u64) -> Vec<HostId> {
    let overdue = |address: &&Address| {
        matches!(address.state, AddressState::Releasing { .. })
            && now.since(address.since) > bound_ms
    };
    let mut hosts: Vec<HostId> = state
        .addresses
        .values()
        .filter(overdue)
        .filter_map(|a| a.state.host())
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}
