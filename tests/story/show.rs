//! What a story shows when it is asked to: hosts, addresses, zone, and why an address is where it is.

use std::net::IpAddr;

use chaos::{World, say_command, say_verdict};
use statemachine::{HostId, HostState, Member, State};

fn name(state: &State, id: Option<HostId>) -> String {
    id.map_or("nobody".into(), |id| state.name_of(id))
}

pub fn all(world: &World) -> String {
    let state = world.state();
    let mut told = String::new();
    for host in state.hosts.values() {
        let stand = match host.state {
            HostState::Up => "up",
            HostState::Fencing { .. } => "fencing",
            HostState::Down { .. } => "down",
        };
        let members = state
            .groups
            .values()
            .filter_map(|g| g.members.get(&host.id));
        let flags: String = members.map(flags).collect();
        let flags = if host.observer { "" } else { &flags };
        let lease = world.core(host.id).and_then(|core| core.lease_deadline());
        let lease = lease.is_some_and(|deadline| deadline > world.local_now(host.id));
        let (observer, leads) = (host.observer, world.leader() == Some(host.id));
        told += &format!("       {} {stand}", host.name);
        told += if leads { " leader" } else { "" };
        told += if observer { " observer" } else { "" };
        told += if lease { "" } else { " without lease" };
        told += &format!("{flags}\n");
    }
    for (ip, address) in &state.addresses {
        let holder = address.state.host();
        told += &format!("       {ip} {}", address.state.word());
        told += &holder.map_or(String::new(), |id| format!(" {}", state.name_of(id)));
        told += &format!(" epoch={} ({:?})", address.epoch, address.reason);
        if !address.at_home() {
            told += &format!(", home {}", name(&state, address.preferred));
        }
        if let Some(deadline) = state.orphan_deadline(*ip) {
            told += &format!(", orphan until {deadline}");
        }
        told += &pinned(&state, address.pin);
        let serving: Vec<String> = world.serving(*ip).iter().map(ToString::to_string).collect();
        if holder.map(|id| id.to_string()).as_slice() != serving.as_slice() {
            told += &match serving.as_slice() {
                [] => ", nobody answers".to_owned(),
                serving => format!(", answered by h{}", serving.join(" and h")),
            };
        }
        told.push('\n');
    }
    told + &zones(world)
}

fn flags(member: &Member) -> String {
    let flags = [
        (member.is_spare(), " spare"),
        (!member.healthy, " unhealthy"),
        (member.quiesced, " quiesced"),
        (member.draining, " draining"),
        (member.shed, " shed"),
    ];
    let set = flags.iter().filter(|(on, _)| *on);
    set.map(|(_, word)| *word).collect()
}

fn pinned(state: &State, pin: Option<HostId>) -> String {
    pin.map_or(String::new(), |pin| {
        format!(", moved to {}", state.name_of(pin))
    })
}

pub fn zones(world: &World) -> String {
    let state = world.state();
    let mut told = String::new();
    for group in state.groups.values() {
        let names: Vec<String> = group.zone.named.iter().map(ToString::to_string).collect();
        let servers: Vec<String> = group
            .zone
            .nameservers
            .iter()
            .map(|id| state.name_of(*id))
            .collect();
        let (zone, serial) = (&group.policy.zone, group.zone.serial);
        told += &format!(
            "       {zone} serial={serial} {{{}}} ttl={} ns {}\n",
            names.join(" "),
            group.zone.ttl_s,
            servers.join(" ")
        );
    }
    told
}

/// Each preferred address by the leader's judgement: in or out, by which rule, with the numbers.
pub fn judged(world: &World) -> String {
    let state = world.state();
    let mut told = String::new();
    for (name, group) in &state.groups {
        for entry in world.zone(name).unwrap_or_default().entries {
            let word = if entry.verdict.is_in() { "in " } else { "out" };
            let address = entry.address.map_or("-".into(), |ip| ip.to_string());
            let member = group.members.get(&entry.host);
            let shed = if member.is_some_and(|m| m.shed) {
                " shed"
            } else {
                ""
            };
            let numbers = entry.weighed.zip(entry.rank).map(|(weighed, rank)| {
                let (load, weight) = (weighed.utilization, weighed.weighted);
                format!(" load {load} weighs {weight} rank {rank}{shed}")
            });
            told += &format!(
                "         {word} {} {address} {:?}{}\n",
                state.name_of(entry.host),
                entry.verdict,
                numbers.unwrap_or_default()
            );
        }
    }
    told
}

pub fn why(world: &World, ip: IpAddr) -> String {
    let state = world.state();
    let Some(why) = world.why(ip) else {
        return format!("       {ip}: nobody can say\n");
    };
    let mut told = format!("       {ip} is where it is by rule {:?}\n", why.rule);
    for candidate in &why.candidates {
        let verdict = say_verdict(&candidate.verdict);
        told += &format!("         {}: {verdict}\n", state.name_of(candidate.host));
    }
    for next in &why.next {
        told += &format!("         next: {}\n", say_command(&state, next));
    }
    if let Some(ms) = why.orphan_expires_ms {
        told += &format!("         runs out as an orphan in {ms} ms\n");
    }
    told
}
