//! Hosts: join, configuration, fence, down, up, forget.

use alloc::{collections::BTreeSet, format, vec::Vec};
use core::net::{IpAddr, SocketAddr};

use super::{Context, array::distinct};
use crate::{
    AddressState, Boot, Effect, GroupName, Happening, Host, HostCommand, HostId, HostName,
    HostState, Incarnation, MAX_HOSTS, MAX_PREFERRED, MemberSpec, Mutation, Reason, Rejected,
    State, TokenId, mutated,
};

pub(super) fn apply(
    state: &mut State,
    command: &HostCommand,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    match command {
        HostCommand::Join {
            token,
            secret_hash,
            name,
            control,
        } => join(state, *token, secret_hash, name, control, cx),
        HostCommand::Configure {
            host,
            control,
            dns,
            observer,
            members,
        } => {
            let wanted = Host {
                control: control.clone(),
                dns: dns.clone(),
                observer: *observer,
                members: members.clone(),
                ..state.host(*host)?.clone()
            };
            configure(state, wanted, cx)
        }
        HostCommand::Fence {
            host,
            incarnation,
            silent_ms,
        } => fence(state, *host, *incarnation, *silent_ms, cx),
        HostCommand::Unfence { host, fence } => {
            check_fence(state.host(*host)?, *fence)?;
            state.host_mut(*host)?.state = HostState::Up;
            cx.tell(Effect::new(Happening::HostUnfenced).host(*host));
            Ok(())
        }
        HostCommand::Down {
            host,
            fence,
            membership,
            fence_ms,
        } => down(state, *host, *fence, *membership, *fence_ms, cx),
        HostCommand::Up { host, seen, boot } => up(state, *host, *seen, *boot, cx),
        HostCommand::Hear { host, unheard } => hear(state, *host, unheard, cx),
        HostCommand::Forget { host } => forget(state, *host, cx),
    }
}

pub(super) fn newcomer(id: HostId, name: &HostName, control: &[SocketAddr], index: u64) -> Host {
    // Down until it is heard.
    Host {
        control: control.to_vec(),
        taken_at: index,
        ..Host::new(id, name.clone(), HostState::Down { index })
    }
}

fn join(
    state: &mut State,
    token: TokenId,
    secret_hash: &[u8; 32],
    name: &HostName,
    control: &[SocketAddr],
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let known = state.tokens.get(&token).ok_or(Rejected::BadToken)?;
    if known.secret_hash != *secret_hash || known.expires < state.at || known.uses == 0 {
        return Err(Rejected::BadToken);
    }
    if !is_host_name(name) {
        return Err(Rejected::BadName(name.clone()));
    }
    if state.host_named(&name.0).is_some() {
        return Err(Rejected::NameTaken(name.clone()));
    }
    if state.hosts.len() >= MAX_HOSTS {
        return Err(Rejected::Full {
            what: "hosts".into(),
            limit: MAX_HOSTS as u64,
        });
    }
    let id = HostId(cx.index);
    check_control(state, id, control)?;
    if state.hosts.contains_key(&id) {
        return Err(Rejected::WrongState(
            "one host may join with one entry".into(),
        ));
    }
    if let Some(token) = state.tokens.get_mut(&token) {
        token.uses -= 1;
    }
    state.tokens.retain(|_, token| token.uses > 0);
    state
        .hosts
        .insert(id, newcomer(id, name, control, cx.index));
    cx.tell(Effect::new(Happening::HostJoined).host(id));
    Ok(())
}

/// An RFC 1123 label in lower case. `ns` stands for the name servers in every zone (docs/adr/0008).
pub(super) fn is_host_name(name: &HostName) -> bool {
    let label = name.0.as_bytes();
    let fits = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&label.len())
        && label.iter().all(fits)
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
        && label != b"ns"
}

fn configure(state: &mut State, wanted: Host, cx: &mut Context<'_>) -> Result<(), Rejected> {
    let preferred: Vec<IpAddr> = wanted
        .members
        .iter()
        .flat_map(|spec| spec.preferred.iter().map(|p| p.ip))
        .collect();
    if preferred.len() > MAX_PREFERRED {
        return Err(Rejected::Full {
            what: "preferred addresses of one host".into(),
            limit: MAX_PREFERRED as u64,
        });
    }
    if !distinct(wanted.members.iter().map(|spec| &spec.group)) || !distinct(preferred.iter()) {
        return Err(Rejected::WrongState(
            "a group or a preferred address is named twice".into(),
        ));
    }
    check_control(state, wanted.id, &wanted.control)?;
    for spec in &wanted.members {
        check_preferred(state, wanted.id, spec)?;
    }
    if state.hosts.get(&wanted.id) == Some(&wanted) {
        return Ok(());
    }
    let glue = |host: &Host| (host.dns.clone(), host.control.clone());
    if state.hosts.get(&wanted.id).map(glue) != Some(glue(&wanted)) {
        // Every zone names the addresses of its name servers.
        state
            .groups
            .values_mut()
            .for_each(|group| group.zone.bump());
    }
    cx.tell(Effect::new(Happening::HostConfigured).host(wanted.id));
    bring_back(state, wanted.id);
    let mut wanted = wanted;
    let networks = wanted.control.len();
    wanted
        .unheard
        .retain(|network| usize::from(*network) + 1 < networks);
    state.hosts.insert(wanted.id, wanted);
    Ok(())
}

/// A control address leads to one host only, or its messages would reach another.
fn check_control(state: &State, host: HostId, control: &[SocketAddr]) -> Result<(), Rejected> {
    if control.is_empty() || !distinct(control.iter()) {
        let why = "a host needs control addresses, each once";
        return Err(Rejected::WrongState(why.into()));
    }
    if let Some(taken) = control
        .iter()
        .find(|a| state.addresses.contains_key(&a.ip()))
    {
        let why = format!(
            "{} is a service address, so no host can be reached by it",
            taken.ip()
        );
        return Err(Rejected::WrongState(why));
    }
    let others = state.hosts.values().filter(|other| other.id != host);
    for other in others {
        if let Some(taken) = control
            .iter()
            .find(|address| other.control.contains(address))
        {
            let why = format!("control address {taken} is host {}'s", other.name);
            return Err(Rejected::WrongState(why));
        }
    }
    Ok(())
}

fn check_preferred(state: &State, host: HostId, spec: &MemberSpec) -> Result<(), Rejected> {
    let taken = |address, owner, group: &crate::GroupName| {
        Err(Rejected::AddressTaken {
            address,
            owner,
            group: group.clone(),
        })
    };
    for preferred in &spec.preferred {
        // The gate would cut that host off from the others.
        let own = |other: &&Host| other.control.iter().any(|a| a.ip() == preferred.ip);
        if let Some(other) = state.hosts.values().find(own) {
            let why = format!(
                "{} is a control address of host {}",
                preferred.ip, other.name
            );
            return Err(Rejected::WrongState(why));
        }
        for other in state.hosts.values().filter(|other| other.id != host) {
            for theirs in &other.members {
                if theirs.preferred.iter().any(|p| p.ip == preferred.ip) {
                    return taken(preferred.ip, other.id, &theirs.group);
                }
            }
        }
        if let Some(address) = state
            .addresses
            .get(&preferred.ip)
            .filter(|a| a.group != spec.group)
        {
            return taken(
                preferred.ip,
                address.preferred.unwrap_or_default(),
                &address.group,
            );
        }
    }
    Ok(())
}

/// A host that comes (back) brings the preferred addresses that ran out meanwhile.
fn bring_back(state: &mut State, host: HostId) {
    for group in state.groups.values_mut() {
        if let Some(member) = group.members.get_mut(&host) {
            member.expired.clear();
        }
    }
}

fn fence(
    state: &mut State,
    host: HostId,
    incarnation: Incarnation,
    silent_ms: u64,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let index = cx.index;
    let known = state.host_mut(host)?;
    if known.incarnation != incarnation {
        return Err(Rejected::StaleIncarnation {
            host,
            planned: incarnation,
            current: known.incarnation,
        });
    }
    if !known.is_up() {
        return Err(Rejected::WrongState(
            "the host is fenced or down already".into(),
        ));
    }
    known.state = HostState::Fencing { index };
    cx.tell(Effect::new(Happening::HostFencing { silent_ms }).host(host));
    Ok(())
}

fn check_fence(host: &Host, planned: u64) -> Result<(), Rejected> {
    match host.state {
        HostState::Fencing { index } if index == planned || mutated(Mutation::DownNotBound) => {
            Ok(())
        }
        HostState::Fencing { index } | HostState::Down { index } => Err(Rejected::Stale {
            planned,
            current: index,
        }),
        HostState::Up => Err(Rejected::WrongState("the host is not fenced".into())),
    }
}

fn down(
    state: &mut State,
    host: HostId,
    fence: u64,
    membership: u64,
    fence_ms: u64,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    check_fence(state.host(host)?, fence)?;
    if membership != state.membership.index {
        return Err(Rejected::Stale {
            planned: membership,
            current: state.membership.index,
        });
    }
    let known = state.host_mut(host)?;
    known.state = HostState::Down { index: cx.index };
    known.taken_at = cx.index;
    cx.tell(Effect::new(Happening::HostDown { fence_ms }).host(host));
    take_all(state, host, Reason::HostDown, cx);
    Ok(())
}

fn up(
    state: &mut State,
    host: HostId,
    seen: Incarnation,
    boot: Boot,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let known = state.host(host)?;
    if known.incarnation != seen {
        return Err(Rejected::StaleIncarnation {
            host,
            planned: seen,
            current: known.incarnation,
        });
    }
    let allowed = match known.state {
        HostState::Down { .. } => boot >= known.boot,
        HostState::Up => boot > known.boot,
        HostState::Fencing { .. } => false,
    };
    if !allowed {
        return Err(Rejected::WrongState(
            "the host is up already, is being fenced, or an old start of it spoke".into(),
        ));
    }
    take_all(state, host, Reason::Restarted, cx);
    let known = state.host_mut(host)?;
    known.incarnation = Incarnation(seen.0 + 1);
    known.boot = boot;
    known.state = HostState::Up;
    known.taken_at = cx.index;
    bring_back(state, host);
    cx.tell(Effect::new(Happening::HostUp).host(host));
    Ok(())
}

/// Networks beyond the host's control addresses, and a host that is heard nowhere, are refused: the first
/// is an old plan, the second is what fences are for.
fn hear(
    state: &mut State,
    host: HostId,
    unheard: &BTreeSet<u8>,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let known = state.host_mut(host)?;
    let exists = |network: &u8| usize::from(*network) < known.control.len();
    if unheard.len() >= known.control.len() || !unheard.iter().all(exists) {
        let why = "the host has no such control networks, or would be heard on none";
        return Err(Rejected::WrongState(why.into()));
    }
    for (network, control) in (0..=u8::MAX).zip(&known.control) {
        let control = *control;
        match (known.unheard.contains(&network), unheard.contains(&network)) {
            (false, true) => {
                cx.tell(Effect::new(Happening::NetworkLost { control }).host(host));
            }
            (true, false) => {
                cx.tell(Effect::new(Happening::NetworkFound { control }).host(host));
            }
            _ => {}
        }
    }
    known.unheard.clone_from(unheard);
    Ok(())
}

fn forget(state: &mut State, host: HostId, cx: &mut Context<'_>) -> Result<(), Rejected> {
    if !state.host(host)?.is_down() {
        return Err(Rejected::WrongState(
            "the host is not down; stop its daemon first, then forget it".into(),
        ));
    }
    take_all(state, host, Reason::HostDown, cx);
    state.hosts.remove(&host);
    cx.tell(Effect::new(Happening::HostForgotten).host(host));
    Ok(())
}

/// Frees every address of a host that holds nothing any more.
fn take_all(state: &mut State, host: HostId, reason: Reason, cx: &mut Context<'_>) {
    let held: Vec<(IpAddr, GroupName)> = state
        .held_by(host)
        .map(|(ip, a)| (ip, a.group.clone()))
        .collect();
    for (ip, group) in held {
        super::address::stand(state, ip, AddressState::Unserved, reason);
        cx.tell(
            Effect::new(Happening::Release)
                .group(&group)
                .address(ip)
                .host(host)
                .reason(reason),
        );
        super::address::drop_if_expired(state, ip);
    }
}
