//! Addresses: assign, online, release, expire, move. The epoch is the compare-and-set token.

use alloc::string::String;
use core::net::IpAddr;

use super::Context;
use crate::{
    Address, AddressCommand, AddressState, Backoff, Effect, Epoch, Happening, HostId, Reason,
    Rejected, State,
};

/// First wait after a failed acquire, in ms; doubles with each failure in a row.
const BACKOFF_FIRST_MS: u64 = 1_000;
/// Longest wait after failed acquires, in ms.
const BACKOFF_MAX_MS: u64 = 60_000;
/// Longest text of a host's error that the log keeps, in bytes.
const MAX_ERROR: usize = 200;

pub(super) fn apply(
    state: &mut State,
    command: &AddressCommand,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    match command {
        AddressCommand::Assign {
            address,
            to,
            held_under,
            reason,
        } => assign(state, *address, *to, *held_under, *reason, cx),
        AddressCommand::Online {
            address,
            held_under,
            acquire_ms,
            announce_ms,
        } => online(
            state,
            *address,
            *held_under,
            (*acquire_ms, *announce_ms),
            cx,
        ),
        AddressCommand::AcquireFailed {
            address,
            held_under,
            error,
        } => acquire_failed(state, *address, *held_under, error, cx),
        AddressCommand::Contest {
            address,
            held_under,
            by,
        } => contest(state, *address, *held_under, by.as_deref(), cx),
        AddressCommand::Release {
            address,
            held_under,
            reason,
        } => release(state, *address, *held_under, *reason, cx),
        AddressCommand::Released {
            address,
            held_under,
            error,
        } => released(state, *address, *held_under, error.as_deref(), cx),
        AddressCommand::Strand {
            address,
            held_under,
        } => {
            let found = expect(state, *address, *held_under)?;
            if found.state == AddressState::Unserved && !found.stranded {
                let effect = Effect::new(Happening::CannotAssign)
                    .group(&found.group)
                    .address(*address);
                cx.tell(effect);
                change(state, *address, |a| a.stranded = true);
            }
            Ok(())
        }
        AddressCommand::Expire {
            address,
            held_under,
        } => expire(state, *address, *held_under, cx),
        AddressCommand::Move { address, to } => move_to(state, *address, *to, cx),
    }
}

/// The address, provided that it stands under the epoch that the plan saw.
fn expect(state: &State, ip: IpAddr, planned: Epoch) -> Result<&Address, Rejected> {
    let address = state.address(ip)?;
    if address.epoch != planned {
        return Err(Rejected::StaleEpoch {
            address: ip,
            planned,
            current: address.epoch,
        });
    }
    Ok(address)
}

fn change(state: &mut State, ip: IpAddr, how: impl FnOnce(&mut Address)) {
    if let Some(address) = state.addresses.get_mut(&ip) {
        how(address);
    }
}

pub(super) fn stand(state: &mut State, ip: IpAddr, stand: AddressState, reason: Reason) {
    let (at, index) = (state.at, state.index);
    change(state, ip, |address| {
        address.index = index;
        address.state = stand;
        address.reason = reason;
        address.since = at;
        address.contested = None;
    });
}

fn contest(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    by: Option<&str>,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    let AddressState::Online { host } = address.state else {
        return wrong("nobody serves the address");
    };
    let by = by.map(cut);
    if address.contested == by {
        return Ok(());
    }
    let group = address.group.clone();
    if let Some(by) = by.clone() {
        let effect = Effect::new(Happening::Contested { by }).group(&group);
        cx.tell(effect.address(ip).host(host));
    }
    change(state, ip, |address| address.contested = by);
    Ok(())
}

fn wrong<T>(why: &str) -> Result<T, Rejected> {
    Err(Rejected::WrongState(why.into()))
}

/// Whether the host may be given addresses of this one's group.
fn may_serve(state: &State, address: &Address, to: HostId) -> Result<(), Rejected> {
    let host = state.host(to)?;
    let group = state
        .groups
        .get(&address.group)
        .ok_or_else(|| Rejected::UnknownGroup(address.group.clone()))?;
    let not_member = || Rejected::NotMember {
        host: to,
        group: address.group.clone(),
    };
    let member = group.members.get(&to).ok_or_else(not_member)?;
    match () {
        () if !host.is_up() => wrong("the host is not up"),
        () if host.observer => wrong("the host is an observer and never holds an address"),
        () if member.quiesced => wrong("the host is quiesced in this group; resume it first"),
        () if !member.healthy => wrong("the host's tests of this group fail"),
        () => Ok(()),
    }
}

fn assign(
    state: &mut State,
    ip: IpAddr,
    to: HostId,
    held_under: Epoch,
    reason: Reason,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    if address.state != AddressState::Unserved {
        return wrong("the address is not free");
    }
    if address.expired {
        return wrong("the address has run out");
    }
    may_serve(state, address, to)?;
    let group = address.group.clone();
    state.epoch = Epoch(state.epoch.0 + 1);
    let epoch = state.epoch;
    stand(state, ip, AddressState::Acquiring { host: to }, reason);
    change(state, ip, |address| {
        address.epoch = epoch;
        address.stranded = false;
    });
    let effect = Effect::new(Happening::Assigned { epoch })
        .group(&group)
        .address(ip);
    cx.tell(effect.host(to).reason(reason));
    Ok(())
}

fn online(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    (acquire_ms, announce_ms): (u64, u64),
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    let AddressState::Acquiring { host } = address.state else {
        return wrong("nobody is acquiring the address");
    };
    let (group, reason) = (address.group.clone(), address.reason);
    stand(state, ip, AddressState::Online { host }, reason);
    change(state, ip, |address| {
        address.backoff.remove(&host);
    });
    let what = Happening::Acquire {
        epoch: held_under,
        acquire_ms,
        announce_ms,
    };
    cx.tell(
        Effect::new(what)
            .group(&group)
            .address(ip)
            .host(host)
            .reason(reason),
    );
    Ok(())
}

fn acquire_failed(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    error: &str,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    let AddressState::Acquiring { host } = address.state else {
        return wrong("nobody is acquiring the address");
    };
    let group = address.group.clone();
    stand(state, ip, AddressState::Unserved, Reason::AcquireFailed);
    back_off(state, ip, host);
    let what = Happening::AcquireFail { error: cut(error) };
    cx.tell(Effect::new(what).group(&group).address(ip).host(host));
    drop_if_expired(state, ip);
    Ok(())
}

/// `host` is not given the address for a while, twice as long as the last time.
fn back_off(state: &mut State, ip: IpAddr, host: HostId) {
    let now = state.at;
    change(state, ip, |address| {
        let backoff = address.backoff.get(&host);
        let failures = backoff.map_or(0, |b| b.failures).saturating_add(1);
        let wait = BACKOFF_FIRST_MS
            .saturating_mul(1 << (failures - 1).min(16))
            .min(BACKOFF_MAX_MS);
        let until = now.plus(wait);
        address.backoff.insert(host, Backoff { until, failures });
    });
}

fn release(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    reason: Reason,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    let (AddressState::Acquiring { host } | AddressState::Online { host }) = address.state else {
        return wrong("nobody holds the address, or its holder was told to let go already");
    };
    let effect = Effect::new(Happening::ReleaseAsked)
        .group(&address.group)
        .address(ip);
    cx.tell(effect.host(host).reason(reason));
    stand(state, ip, AddressState::Releasing { host }, reason);
    Ok(())
}

fn released(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    error: Option<&str>,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    let Some(host) = address.state.host() else {
        return wrong("nobody holds the address");
    };
    let asked = matches!(address.state, AddressState::Releasing { .. });
    let reason = if asked {
        address.reason
    } else {
        Reason::HolderLetGo
    };
    let group = address.group.clone();
    stand(state, ip, AddressState::Unserved, reason);
    if let Some(error) = error {
        if !asked {
            back_off(state, ip, host);
        }
        let what = Happening::ReleaseFail { error: cut(error) };
        cx.tell(Effect::new(what).group(&group).address(ip).host(host));
    }
    cx.tell(
        Effect::new(Happening::Release)
            .group(&group)
            .address(ip)
            .host(host)
            .reason(reason),
    );
    drop_if_expired(state, ip);
    Ok(())
}

fn expire(
    state: &mut State,
    ip: IpAddr,
    held_under: Epoch,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = expect(state, ip, held_under)?;
    match state.orphan_deadline(ip) {
        Some(deadline) if deadline <= state.at => {}
        _ => return wrong("the orphan timer has not run out"),
    }
    let (group, preferred, stand_now) = (address.group.clone(), address.preferred, address.state);
    if address.expired {
        return Ok(());
    }
    change(state, ip, |address| address.expired = true);
    if let Some(home) = preferred
        && let Some(member) = state.group_mut(&group)?.members.get_mut(&home)
    {
        member.expired.insert(ip);
    }
    cx.tell(
        Effect::new(Happening::OrphanExpired)
            .group(&group)
            .address(ip),
    );
    match stand_now {
        AddressState::Acquiring { host } | AddressState::Online { host } => {
            stand(
                state,
                ip,
                AddressState::Releasing { host },
                Reason::OrphanExpired,
            );
        }
        AddressState::Unserved | AddressState::Releasing { .. } => drop_if_expired(state, ip),
    }
    Ok(())
}

fn move_to(
    state: &mut State,
    ip: IpAddr,
    to: HostId,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let address = state.address(ip)?;
    may_serve(state, address, to)?;
    let group = address.group.clone();
    change(state, ip, |address| address.pin = Some(to));
    cx.tell(
        Effect::new(Happening::Moved)
            .group(&group)
            .address(ip)
            .host(to),
    );
    Ok(())
}

/// An address that ran out leaves its group once nobody holds it.
pub(super) fn drop_if_expired(state: &mut State, ip: IpAddr) {
    let gone = |address: &Address| address.expired && address.state == AddressState::Unserved;
    if state.addresses.get(&ip).is_some_and(gone) {
        state.addresses.remove(&ip);
    }
}

pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_ERROR)].into()
}
