//! The leader's plan: a pure function of (replicated state, view of the hosts, now).
//!
//! Its output is one batch of commands for one entry. Each is tried on a copy of the state first, so
//! that later steps see earlier ones, and none is proposed that would be refused. When the array is at
//! its equilibrium the plan is empty.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;

use statemachine::{
    Address, AddressCommand, AddressState, Command, Entry, GroupName, HostId, LogTime, Reason,
    Rebalance, State, apply,
};

use crate::placement::{Candidate, Verdict, hindrance, place};
use crate::{View, facts, zone};

/// Most commands of one plan; the rest follows in the next, at once.
const MAX_STEPS: usize = 256;
/// A host that was told to take an address and says nothing is told to let go after this long, in ms.
const ACQUIRE_BOUND_MS: u64 = 30_000;
/// How far replicated time may lag while an orphan timer runs, in ms: what a restart of all hosts
/// at once may lose of it.
const TICK_WITH_ORPHANS_MS: u64 = 10_000;
/// How far replicated time may lag otherwise, in ms.
const TICK_MS: u64 = 60_000;

/// One step of a plan.
pub type Step = Command;

/// A plan, and the state that it leads to.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// What to propose, in order.
    pub steps: Vec<Step>,
    /// The state after it.
    pub after: Cow<'a, State>,
    now: LogTime,
}

/// Draws a plan. `first` are steps decided elsewhere (a fence that ended), taken in before all others;
/// `sampled` names the groups whose load decides on the zone this time.
#[must_use]
pub fn plan<'a>(
    state: &'a State,
    view: &View,
    now: LogTime,
    dice: u64,
    first: Vec<Command>,
    sampled: &BTreeSet<GroupName>,
) -> Plan<'a> {
    let mut plan = Plan {
        steps: Vec::new(),
        after: Cow::Borrowed(state),
        now,
    };
    plan.push_all(first);
    let up: Vec<Command> = plan
        .after
        .hosts
        .values()
        .filter_map(|host| facts::host_up(host, view))
        .collect();
    plan.push_all(up);
    let health = facts::health(&plan.after, view);
    plan.push_all(health);
    let networks = facts::networks(&plan.after, view);
    plan.push_all(networks);
    plan.for_each_address(|after, ip, address| facts::of_address(after, view, ip, address));
    plan.for_each_address(|after, ip, address| facts::contests(after, view, ip, address));
    plan.for_each_address(|after, ip, address| release(after, view, now, ip, address));
    plan.for_each_address(|after, ip, address| assign(after, view, now, ip, address, dice));
    let names: Vec<GroupName> = plan.after.groups.keys().cloned().collect();
    for name in names {
        let command = zone::publish(&plan.after, view, &name, sampled.contains(&name));
        plan.push_all(command);
    }
    plan.tick();
    plan
}

impl Plan<'_> {
    fn push_all(&mut self, commands: impl IntoIterator<Item = Command>) {
        for command in commands {
            self.push(command);
        }
    }

    /// Takes a step in if the state accepts it.
    fn push(&mut self, command: Command) {
        if self.steps.len() >= MAX_STEPS {
            return;
        }
        let after = self.after.to_mut();
        let entry = Entry {
            at: self.now,
            wall: after.wall,
            origin: None,
            commands: vec![command.clone()],
        };
        // The next entry's index: whatever it will be, it is above what every host has applied.
        let index = if self.steps.is_empty() {
            after.index + 1
        } else {
            after.index
        };
        if apply(after, index, &entry)
            .outcomes
            .iter()
            .all(Result::is_ok)
        {
            self.steps.push(command);
        }
    }

    fn for_each_address(&mut self, decide: impl Fn(&State, IpAddr, &Address) -> Option<Command>) {
        let ips: Vec<IpAddr> = self.after.addresses.keys().copied().collect();
        for ip in ips {
            let command = self
                .after
                .addresses
                .get(&ip)
                .and_then(|address| decide(&self.after, ip, address));
            self.push_all(command);
        }
    }

    fn tick(&mut self) {
        let orphans = self
            .after
            .addresses
            .values()
            .any(|address| address.orphaned_at.is_some());
        let bound = if orphans {
            TICK_WITH_ORPHANS_MS
        } else {
            TICK_MS
        };
        if self.steps.is_empty() && self.now.since(self.after.at) >= bound {
            self.push(Command::Tick);
        }
    }
}

/// Whether the address must leave where it is, and why.
fn release(
    state: &State,
    view: &View,
    now: LogTime,
    ip: IpAddr,
    address: &Address,
) -> Option<Command> {
    let held_under = address.epoch;
    let deadline = state.orphan_deadline(ip);
    if !address.expired && deadline.is_some_and(|deadline| deadline <= now) {
        return Some(Command::Address(AddressCommand::Expire {
            address: ip,
            held_under,
        }));
    }
    let (AddressState::Acquiring { host } | AddressState::Online { host }) = address.state else {
        return None;
    };
    let reason = reason_to_release(state, view, now, ip, address, host)?;
    Some(Command::Address(AddressCommand::Release {
        address: ip,
        held_under,
        reason,
    }))
}

fn reason_to_release(
    state: &State,
    view: &View,
    now: LogTime,
    ip: IpAddr,
    address: &Address,
    holder: HostId,
) -> Option<Reason> {
    let group = state.groups.get(&address.group)?;
    let observer = state.hosts.get(&holder).is_some_and(|host| host.observer);
    let Some(member) = group.members.get(&holder).filter(|_| !observer) else {
        return Some(Reason::MemberLeft);
    };
    if !member.healthy {
        return Some(Reason::TestFailed);
    }
    let stuck = matches!(address.state, AddressState::Acquiring { .. })
        && now.since(address.since) > ACQUIRE_BOUND_MS;
    if stuck {
        return Some(Reason::AcquireFailed);
    }
    // From here on only what leaves the address served: another must be able to take it.
    let able = |id: HostId| {
        let member = group.members.get(&id);
        id != holder
            && member
                .is_some_and(|member| hindrance(state, view, now, address, id, member).is_none())
    };
    if member.draining && group.members.keys().any(|id| able(*id)) {
        return Some(Reason::Drained);
    }
    if let Some(pin) = address.pin {
        return (pin != holder && able(pin)).then_some(Reason::Operator);
    }
    let home = address.preferred.filter(|home| able(*home))?;
    let wanted = group.policy.rebalance == Rebalance::Prefer
        && place(state, view, now, ip, 0).chosen?.0 == home;
    wanted.then_some(Reason::PreferredReturned)
}

/// Who should take an unserved address.
fn assign(
    state: &State,
    view: &View,
    now: LogTime,
    ip: IpAddr,
    address: &Address,
    dice: u64,
) -> Option<Command> {
    if address.state != AddressState::Unserved || address.expired {
        return None;
    }
    let held_under = address.epoch;
    let placed = place(state, view, now, ip, dice);
    // A host that has just come up gets its lease with the next heartbeat: its own address waits for
    // it, and nobody is told yet that none can serve.
    let soon = |candidate: &&Candidate| {
        let host = state.hosts.get(&candidate.host);
        candidate.verdict == Verdict::Leaseless
            && host.is_some_and(|host| !view.lacks_lease(host.id, host.incarnation))
    };
    let home = address.pin.or(address.preferred);
    let mut awaited = placed.candidates.iter().filter(soon);
    if awaited
        .clone()
        .any(|candidate| Some(candidate.host) == home)
    {
        return None;
    }
    match placed.chosen {
        Some((to, reason)) => Some(Command::Address(AddressCommand::Assign {
            address: ip,
            to,
            held_under,
            reason,
        })),
        None if address.stranded || awaited.next().is_some() => None,
        None => Some(Command::Address(AddressCommand::Strand {
            address: ip,
            held_under,
        })),
    }
}
