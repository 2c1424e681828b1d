//! Whom the leader chooses for an address (failover.md's table), and why not the others.
//!
//! One function decides for the plan and explains for `rais why`, so that they cannot differ.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use statemachine::{Address, HostId, LogTime, Member, Placement, Reason, State};

use crate::View;
use crate::lot::lot;

/// What was found of one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The member.
    pub host: HostId,
    /// Chosen, or why not.
    pub verdict: Verdict,
}

/// Chosen, or why not. Those down to `Backoff` cannot serve at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It gets the address.
    Chosen {
        /// By this rule.
        reason: Reason,
    },
    /// It is down in the log.
    Down,
    /// It is being fenced.
    Fencing,
    /// It is up in the log but was not heard in time.
    Silent,
    /// It is up and heard, but says that it has no lease.
    Leaseless,
    /// It never holds an address.
    Observer,
    /// An operator keeps it from acquiring.
    Quiesced,
    /// Its tests fail.
    Unhealthy {
        /// Which, and why, as far as it said.
        why: Option<String>,
    },
    /// It failed to take this address a short while ago.
    Backoff {
        /// Not before this instant.
        until: LogTime,
    },
    /// It could, but an operator moved the address elsewhere.
    NotPinned,
    /// It could, but the preferred host goes first.
    NotPreferred,
    /// It could, but it does not claim the address as another does.
    NotClaiming,
    /// It could, but a hot spare goes first.
    NotSpare,
    /// It could, but it holds more addresses than the one chosen.
    HoldsMore {
        /// As many.
        held: usize,
    },
    /// It could, but it is used more than the one chosen.
    UsedMore {
        /// Its utilization.
        utilization: u32,
    },
    /// It could, but the lot fell on another.
    Lot,
}

impl Verdict {
    /// True when the host could serve the address.
    #[must_use]
    pub fn is_able(&self) -> bool {
        !matches!(
            self,
            Self::Down
                | Self::Fencing
                | Self::Silent
                | Self::Leaseless
                | Self::Observer
                | Self::Quiesced
                | Self::Unhealthy { .. }
                | Self::Backoff { .. }
        )
    }
}

/// The decision for one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Who gets it, and by which rule; none when nobody can.
    pub chosen: Option<(HostId, Reason)>,
    /// What was found of every member, in the order of ids.
    pub candidates: Vec<Candidate>,
}

/// Decides who should serve `ip`, as if it were unserved.
#[must_use]
pub fn place(state: &State, view: &View, now: LogTime, ip: IpAddr, dice: u64) -> Placed {
    let Some(address) = state.addresses.get(&ip) else {
        return Placed::default();
    };
    let Some(group) = state.groups.get(&address.group) else {
        return Placed::default();
    };
    let mut candidates = Vec::new();
    let mut able = Vec::new();
    for (id, member) in &group.members {
        let verdict = hindrance(state, view, now, address, *id, member);
        if verdict.is_none() {
            able.push(Able::of(state, view, ip, *id, member, dice));
        }
        candidates.push(Candidate {
            host: *id,
            verdict: verdict.unwrap_or(Verdict::Lot),
        });
    }
    let Some((winner, reason)) = choose(address, &able, group.policy.placement) else {
        return Placed {
            chosen: None,
            candidates,
        };
    };
    for candidate in &mut candidates {
        if let Some(loser) = able.iter().find(|a| a.host == candidate.host) {
            candidate.verdict = verdict(loser, winner, reason);
        }
    }
    Placed {
        chosen: Some((winner.host, reason)),
        candidates,
    }
}

/// Why a member cannot serve the address at all; none when it can.
pub(crate) fn hindrance(
    state: &State,
    view: &View,
    now: LogTime,
    address: &Address,
    id: HostId,
    member: &Member,
) -> Option<Verdict> {
    let Some(host) = state.hosts.get(&id) else {
        return Some(Verdict::Down);
    };
    let backoff = address
        .backoff
        .get(&id)
        .filter(|backoff| backoff.until > now);
    match () {
        () if host.is_down() => Some(Verdict::Down),
        () if !host.is_up() => Some(Verdict::Fencing),
        () if host.observer => Some(Verdict::Observer),
        () if view.fresh(id).is_none() => Some(Verdict::Silent),
        () if member.quiesced => Some(Verdict::Quiesced),
        () if !member.healthy => {
            let report = view.report(id, &address.group);
            let why = report.and_then(|report| report.why.clone());
            Some(Verdict::Unhealthy { why })
        }
        () => match backoff {
            Some(backoff) => Some(Verdict::Backoff {
                until: backoff.until,
            }),
            // The last, since it passes by itself: who has only this against it is waited for.
            None => (!view.is_well(id)).then_some(Verdict::Leaseless),
        },
    }
}

/// A member that could serve, with all that the choice asks of it.
struct Able {
    host: HostId,
    spare: bool,
    claims: bool,
    held: usize,
    utilization: u32,
    /// Holds the address now; breaks ties where it is asked why the address is where it is.
    here: bool,
    lot: u64,
}

impl Able {
    fn of(
        state: &State,
        view: &View,
        ip: IpAddr,
        host: HostId,
        member: &Member,
        dice: u64,
    ) -> Self {
        let address = state.addresses.get(&ip);
        let group = address.map(|address| &address.group);
        let holder = address.and_then(|address| address.state.host());
        let scale = group
            .and_then(|g| state.groups.get(g))
            .map_or(1000, |g| g.policy.scale);
        Self {
            host,
            spare: member.is_spare(),
            // What the log gave to somebody is not claimed but held.
            claims: holder.is_none()
                && view
                    .fresh(host)
                    .is_some_and(|h| h.report.of(ip).is_some_and(|one| one.phase.is_held())),
            held: state.held_by(host).filter(|(held, _)| *held != ip).count(),
            utilization: group.map_or(0, |group| view.utilization(host, group, scale)),
            here: holder == Some(host),
            lot: lot(dice, ip, host.0),
        }
    }
}

fn choose<'a>(
    address: &Address,
    able: &'a [Able],
    policy: Placement,
) -> Option<(&'a Able, Reason)> {
    let named = |id: Option<HostId>| able.iter().find(|a| Some(a.host) == id);
    if let Some(pinned) = named(address.pin) {
        return Some((pinned, Reason::Operator));
    }
    if let Some(home) = named(address.preferred) {
        return Some((home, Reason::Preferred));
    }
    let claimed = able
        .iter()
        .filter(|a| a.claims)
        .min_by_key(|a| (!a.spare, a.lot));
    if let Some(claimed) = claimed {
        return Some((claimed, Reason::Claimed));
    }
    let any_spare = able.iter().any(|a| a.spare);
    let pool = able.iter().filter(|a| a.spare == any_spare);
    let best = match policy {
        Placement::Balanced => pool.min_by_key(|a| (a.held, a.utilization, !a.here, a.lot)),
        Placement::Random => pool.min_by_key(|a| (!a.here, a.lot)),
    };
    let reason = match (any_spare, policy) {
        (true, _) => Reason::Spare,
        (false, Placement::Balanced) => Reason::Balanced,
        (false, Placement::Random) => Reason::Random,
    };
    best.map(|best| (best, reason))
}

fn verdict(of: &Able, winner: &Able, reason: Reason) -> Verdict {
    if of.host == winner.host {
        return Verdict::Chosen { reason };
    }
    match reason {
        Reason::Operator => Verdict::NotPinned,
        Reason::Preferred => Verdict::NotPreferred,
        Reason::Claimed => Verdict::NotClaiming,
        Reason::Spare if !of.spare => Verdict::NotSpare,
        Reason::Random => Verdict::Lot,
        _ if of.held > winner.held => Verdict::HoldsMore { held: of.held },
        _ if of.utilization > winner.utilization => Verdict::UsedMore {
            utilization: of.utilization,
        },
        _ => Verdict::Lot,
    }
}
