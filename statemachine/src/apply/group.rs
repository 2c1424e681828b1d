//! Groups and their members: policy, quiesce, health, zone.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::Context;
use super::address::cut;
use crate::{
    AddressState, Effect, Group, GroupCommand, GroupName, Happening, HostId, MAX_GROUPS, Member,
    Policy, Reason, Rejected, State, Zone, truly_served,
};

pub(super) fn apply(
    state: &mut State,
    command: &GroupCommand,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    match command {
        GroupCommand::Apply { policy, seen } => apply_policy(state, policy, *seen, cx),
        GroupCommand::Delete { group } => delete(state, group, cx),
        GroupCommand::Quiesce { host, group, drain } => {
            let (host, drain) = (*host, *drain);
            for name in memberships(state, host, group.as_ref())? {
                change_member(state, &name, host, |member| {
                    (member.quiesced, member.draining) = (true, drain);
                })?;
                cx.tell(
                    Effect::new(Happening::Quiesced { drain })
                        .group(&name)
                        .host(host),
                );
            }
            Ok(())
        }
        GroupCommand::Resume { host, group } => {
            for name in memberships(state, *host, group.as_ref())? {
                change_member(state, &name, *host, |member| {
                    (member.quiesced, member.draining) = (false, false);
                    member.expired.clear();
                })?;
                cx.tell(Effect::new(Happening::Resumed).group(&name).host(*host));
            }
            Ok(())
        }
        GroupCommand::Health {
            host,
            group,
            healthy,
        } => health(state, (*host, group), *healthy, "", cx),
        GroupCommand::TestFailed { host, group, error } => {
            health(state, (*host, group), false, error, cx)
        }
        GroupCommand::Publish {
            group,
            seen,
            published,
            shed,
        } => publish(state, group, *seen, published, shed),
    }
}

fn health(
    state: &mut State,
    (host, group): (HostId, &GroupName),
    healthy: bool,
    error: &str,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let mut changed = false;
    change_member(state, group, host, |member| {
        changed = member.healthy != healthy;
        member.healthy = healthy;
    })?;
    if changed {
        let what = match healthy {
            true => Happening::TestPassed,
            false => Happening::TestFailed { error: cut(error) },
        };
        cx.tell(Effect::new(what).group(group).host(host));
    }
    Ok(())
}

fn apply_policy(
    state: &mut State,
    policy: &Policy,
    seen: Option<u64>,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    policy.check()?;
    let current = state.groups.get(&policy.name).map(|group| group.generation);
    if current != seen {
        return Err(Rejected::Stale {
            planned: seen.unwrap_or(0),
            current: current.unwrap_or(0),
        });
    }
    let rival = state
        .groups
        .iter()
        .find(|(name, g)| g.policy.zone == policy.zone && **name != policy.name);
    if let Some((name, _)) = rival {
        return Err(Rejected::ZoneTaken {
            zone: policy.zone.clone(),
            group: name.clone(),
        });
    }
    let first_told = policy.tells() && !state.groups.values().any(|group| group.policy.tells());
    let (index, full) = (cx.index, state.groups.len() >= MAX_GROUPS);
    let first_serial = state.retired_serial.checked_add(1).unwrap_or(1);
    match state.groups.get_mut(&policy.name) {
        Some(group) if group.deleting => {
            return Err(Rejected::WrongState(
                "the group is being deleted; its hosts still let go of addresses".into(),
            ));
        }
        Some(group) => {
            if group.policy.zone != policy.zone {
                // Either name may be served again by another group, or was: no serial comes back.
                state.retired_serial = state.retired_serial.max(group.zone.serial);
                group.zone.serial = state.retired_serial;
                group.zone.bump();
            }
            group.policy = policy.clone();
            group.generation = index;
        }
        None if full => {
            return Err(Rejected::Full {
                what: "groups".into(),
                limit: MAX_GROUPS as u64,
            });
        }
        None => {
            let group = Group {
                policy: policy.clone(),
                generation: index,
                deleting: false,
                members: Default::default(),
                zone: Zone::new(first_serial, policy.ttl_s),
            };
            state.groups.insert(policy.name.clone(), group);
        }
    }
    if first_told {
        // Whoever is named first is not told what happened before.
        state.told = index;
    }
    cx.tell(Effect::new(Happening::GroupApplied).group(&policy.name));
    Ok(())
}

fn delete(state: &mut State, name: &GroupName, cx: &mut Context<'_>) -> Result<(), Rejected> {
    state.group_mut(name)?.deleting = true;
    let (at, index) = (state.at, state.index);
    state
        .addresses
        .retain(|_, a| a.group != *name || a.state != AddressState::Unserved);
    for address in state.addresses.values_mut().filter(|a| a.group == *name) {
        if let Some(host) = address.state.host() {
            address.state = AddressState::Releasing { host };
        }
        address.expired = true;
        address.reason = Reason::GroupDeleted;
        (address.since, address.index) = (at, index);
    }
    cx.tell(Effect::new(Happening::GroupDeleted).group(name));
    Ok(())
}

fn memberships(
    state: &State,
    host: HostId,
    group: Option<&GroupName>,
) -> Result<Vec<GroupName>, Rejected> {
    state.host(host)?;
    let found: Vec<GroupName> = state
        .groups
        .iter()
        .filter(|(name, g)| {
            g.members.contains_key(&host) && group.is_none_or(|wanted| wanted == *name)
        })
        .map(|(name, _)| name.clone())
        .collect();
    match group {
        Some(name) if !state.groups.contains_key(name) => Err(Rejected::UnknownGroup(name.clone())),
        Some(name) if found.is_empty() => Err(Rejected::NotMember {
            host,
            group: name.clone(),
        }),
        None if found.is_empty() => Err(Rejected::WrongState(
            "the host is a member of no group".into(),
        )),
        _ => Ok(found),
    }
}

fn change_member(
    state: &mut State,
    name: &GroupName,
    host: HostId,
    change: impl FnOnce(&mut Member),
) -> Result<(), Rejected> {
    let group = state.group_mut(name)?;
    let member = group.members.get_mut(&host);
    change(member.ok_or_else(|| Rejected::NotMember {
        host,
        group: name.clone(),
    })?);
    Ok(())
}

fn publish(
    state: &mut State,
    name: &GroupName,
    seen: u32,
    published: &[IpAddr],
    shed: &[HostId],
) -> Result<(), Rejected> {
    let allowed = truly_served(state, name);
    let wanted: BTreeSet<IpAddr> = published.iter().copied().collect();
    let group = state.group_mut(name)?;
    if group.zone.serial != seen {
        return Err(Rejected::Stale {
            planned: u64::from(seen),
            current: u64::from(group.zone.serial),
        });
    }
    if !wanted.is_subset(&allowed) {
        return Err(Rejected::WrongState(
            "an address to publish is not served by its preferred host".into(),
        ));
    }
    for (host, member) in &mut group.members {
        member.shed = shed.contains(host);
    }
    // `settle` moves the serial if the zone says something else now.
    group.zone.published = wanted;
    Ok(())
}
