//! Restores after each command what must always hold, whatever the command did: members follow the
//! hosts' configurations, addresses follow the members, orphan timers follow the addresses, and no
//! zone names an address that its preferred host does not serve (docs/adr/0006).
//!
//! One place for it, so that no command can forget a part.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::apply::Context;
use crate::zone::Saying;
use crate::{Address, Effect, GroupName, Happening, HostId, Member, State};

/// How long after its back-off a host's failures in a row are remembered, in ms.
const REMEMBER_FAILURES_MS: u64 = 60_000;

pub(crate) fn settle(state: &mut State, cx: &mut Context<'_>) {
    settle_members(state);
    settle_addresses(state);
    settle_groups(state);
    settle_zones(state, cx);
}

fn settle_members(state: &mut State) {
    let State { hosts, groups, .. } = state;
    for (name, group) in groups {
        let spec_of = |id: &HostId| {
            hosts
                .get(id)
                .and_then(|h| h.members.iter().find(|m| m.group == *name))
        };
        group.members.retain(|id, _| spec_of(id).is_some());
        for host in hosts.values() {
            let Some(spec) = host.members.iter().find(|m| m.group == *name) else {
                continue;
            };
            let member = group
                .members
                .entry(host.id)
                .or_insert_with(|| Member::new(Vec::new()));
            if member.preferred != spec.preferred {
                member.preferred.clone_from(&spec.preferred);
            }
        }
    }
}

fn settle_addresses(state: &mut State) {
    let at = state.at;
    let homes = homes(state);
    for (ip, (group, home, prefix_len)) in &homes {
        let address = state
            .addresses
            .entry(*ip)
            .or_insert_with(|| Address::new(group.clone(), *prefix_len, *home, at));
        address.prefix_len = *prefix_len;
    }
    let State {
        hosts,
        groups,
        addresses,
        ..
    } = state;
    for (ip, address) in addresses {
        address.preferred = homes.get(ip).map(|(_, home, _)| *home);
        let serves = |id: HostId| {
            let member = groups.get(&address.group).and_then(|g| g.members.get(&id));
            hosts.get(&id).is_some_and(|h| !h.is_down())
                && member.is_some_and(|m| m.healthy && !m.quiesced)
        };
        address.pin = address.pin.filter(|pin| serves(*pin));
        if address.at_home() {
            address.orphaned_at = None;
            address.pin = address.pin.filter(|pin| Some(*pin) != address.preferred);
        } else if address.orphaned_at.is_none() {
            address.orphaned_at = Some(at);
        }
        address.backoff.retain(|id, backoff| {
            backoff.until.plus(REMEMBER_FAILURES_MS) > at && hosts.contains_key(id)
        });
    }
}

/// Who brings which address: group, host, prefix length. Observers bring none, nor what ran out.
fn homes(state: &State) -> BTreeMap<IpAddr, (GroupName, HostId, u8)> {
    let mut homes = BTreeMap::new();
    for (name, group) in state.groups.iter().filter(|(_, group)| !group.deleting) {
        for (id, member) in &group.members {
            if state.hosts.get(id).is_none_or(|host| host.observer) {
                continue;
            }
            for preferred in &member.preferred {
                if !member.expired.contains(&preferred.ip) {
                    homes.insert(preferred.ip, (name.clone(), *id, preferred.prefix_len));
                }
            }
        }
    }
    homes
}

fn settle_groups(state: &mut State) {
    let State {
        groups,
        addresses,
        retired_serial,
        ..
    } = state;
    for group in groups.values().filter(|group| group.deleting) {
        *retired_serial = group.zone.serial.max(*retired_serial);
    }
    groups.retain(|name, group| !group.deleting || addresses.values().any(|a| a.group == *name));
}

fn settle_zones(state: &mut State, cx: &mut Context<'_>) {
    let nameservers = nameservers(state);
    let names: Vec<GroupName> = state.groups.keys().cloned().collect();
    for name in names {
        let Some(saying) = state.groups.get(&name).map(|g| Saying::of(state, g)) else {
            continue;
        };
        let Some(zone) = state.groups.get_mut(&name).map(|group| &mut group.zone) else {
            continue;
        };
        zone.published = saying.published;
        let says = (&zone.named, zone.ttl_s, &zone.nameservers);
        if says == (&saying.named, saying.ttl_s, &nameservers) {
            continue;
        }
        zone.named = saying.named;
        zone.ttl_s = saying.ttl_s;
        zone.nameservers.clone_from(&nameservers);
        zone.bump();
        let what = Happening::ZoneChanged {
            serial: zone.serial,
            published: zone.named.clone(),
            ttl_s: zone.ttl_s,
        };
        cx.tell(Effect::new(what).group(&name));
    }
}

/// Hosts that serve DNS and are not down; when all are, every host that serves DNS.
fn nameservers(state: &State) -> Vec<HostId> {
    let serving = || state.hosts.values().filter(|host| !host.dns.is_empty());
    let standing: Vec<HostId> = serving()
        .filter(|host| !host.is_down())
        .map(|host| host.id)
        .collect();
    if standing.is_empty() {
        serving().map(|host| host.id).collect()
    } else {
        standing
    }
}
