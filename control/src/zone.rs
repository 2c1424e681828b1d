//! Which addresses a zone should name, by load (failover.md, the zone; seed, DNS thread, figure 6C).
//!
//! A pure function of the served addresses, the replicated `shed` flags and the utilizations. The
//! flags, not the zone, carry the hysteresis: a host that has just become well with a utilization
//! between the marks was never shed, so it is admitted (docs/adr/0009).
//!
//! One judgement for the deed and for its explanation: `publish` proposes what [`judge_zone`] says,
//! `rais zone` shows it. Members are ranked, not addresses: a host with an IPv4 and an IPv6 address
//! counts once against `min_addresses`, so each family keeps as many as it can.

use std::collections::BTreeSet;
use std::net::IpAddr;

use statemachine::{
    Absence, Command, Group, GroupCommand, GroupName, HostId, Member, Policy, State, absence,
};

use crate::View;

/// A member, weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weighted {
    /// The member.
    pub host: HostId,
    /// load x scale / capacity.
    pub utilization: u32,
    /// Plus (high - low) while it is shed.
    pub weighted: u32,
    /// Out by load: set above the high-water mark, cleared below the low one.
    pub shed: bool,
}

/// Weighs one member against its group's marks.
#[must_use]
pub fn weigh(host: HostId, utilization: u32, was_shed: bool, high: u32, low: u32) -> Weighted {
    let shed = utilization > high || (was_shed && utilization > low);
    let weighted = if shed {
        utilization.saturating_add(high.saturating_sub(low))
    } else {
        utilization
    };
    Weighted {
        host,
        utilization,
        weighted,
        shed,
    }
}

/// What the zone's rules say of one preferred address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZoneVerdict {
    /// Out: its member brings no address.
    Spare,
    /// Out: it is not truly served, whatever the load.
    Absent(Absence),
    /// In: its member is not shed.
    Within,
    /// In although its member is shed: it ranks among the `min_addresses` least used.
    Kept,
    /// Out by load.
    Shed,
}

impl ZoneVerdict {
    /// Whether the zone should name the address.
    #[must_use]
    pub const fn is_in(self) -> bool {
        matches!(self, Self::Within | Self::Kept)
    }
}

/// One preferred address as the zone's rules see it; a spare has one entry without an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneEntry {
    /// The member.
    pub host: HostId,
    /// Its preferred address.
    pub address: Option<IpAddr>,
    /// Its member, weighed; none when the member serves none of its addresses.
    pub weighed: Option<Weighted>,
    /// The member's place among those that serve, the least used first, from 0.
    pub rank: Option<usize>,
    /// In or out, and by which rule.
    pub verdict: ZoneVerdict,
}

/// The zone that a group should have, and why: what the leader publishes and what `rais zone` explains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneJudgement {
    /// Each preferred address, by host.
    pub entries: Vec<ZoneEntry>,
    /// The members that are out by load, or would be but for the minimum.
    pub shed: BTreeSet<HostId>,
}

impl ZoneJudgement {
    /// The addresses that the zone should name.
    #[must_use]
    pub fn published(&self) -> BTreeSet<IpAddr> {
        let named = self.entries.iter().filter(|entry| entry.verdict.is_in());
        named.filter_map(|entry| entry.address).collect()
    }
}

/// Judges a group's zone. With `sampled`, by the load that each member reports; without, load is not
/// looked at: members that are shed stay so, and all others that serve are in.
#[must_use]
pub fn judge_zone(state: &State, view: &View, group: &Group, sampled: bool) -> ZoneJudgement {
    let policy = &group.policy;
    let missing = |id: HostId, ip| absence(state, group, id, ip);
    let serves = |id: HostId, member: &Member| {
        let own = member.preferred.iter();
        own.map(|p| p.ip).any(|ip| missing(id, ip).is_none())
    };
    let serving = group.members.iter().filter(|(id, m)| serves(**id, m));
    let mut ranked: Vec<Weighted> = serving
        .map(|(id, member)| weigh_member(group, view, *id, member.shed, sampled))
        .collect();
    ranked.sort_by_key(|member| (member.weighted, member.host));
    let mut entries = Vec::new();
    for (id, member) in &group.members {
        let rank = ranked.iter().position(|one| one.host == *id);
        let weighed = rank.and_then(|rank| ranked.get(rank)).copied();
        let judged = |address: Option<IpAddr>| {
            let verdict = match (address, weighed, rank) {
                (None, ..) => ZoneVerdict::Spare,
                (Some(ip), Some(weighed), Some(rank)) => match missing(*id, ip) {
                    Some(absence) => ZoneVerdict::Absent(absence),
                    None => by_load(weighed, rank, policy),
                },
                // Its member serves nothing, so this one is missing too.
                (Some(ip), ..) => {
                    ZoneVerdict::Absent(missing(*id, ip).unwrap_or(Absence::Unserved))
                }
            };
            ZoneEntry {
                host: *id,
                address,
                weighed,
                rank,
                verdict,
            }
        };
        let own = member.preferred.iter().map(|preferred| Some(preferred.ip));
        let spare = member.is_spare().then_some(None);
        entries.extend(own.chain(spare).map(judged));
    }
    let shed = ranked.iter().filter(|member| member.shed);
    ZoneJudgement {
        entries,
        shed: shed.map(|member| member.host).collect(),
    }
}

/// Rule 3 of failover.md: from index `min_addresses` on, those above the high-water mark are dropped.
fn by_load(weighed: Weighted, rank: usize, policy: &Policy) -> ZoneVerdict {
    if weighed.weighted <= policy.high_water {
        ZoneVerdict::Within
    } else if rank < policy.min_addresses as usize {
        ZoneVerdict::Kept
    } else {
        ZoneVerdict::Shed
    }
}

/// The zone that `name` should have, as a command; none when it has it already. Load is looked at
/// when `sample` says so.
pub(crate) fn publish(
    state: &State,
    view: &View,
    name: &GroupName,
    sample: bool,
) -> Option<Command> {
    let group = state.groups.get(name).filter(|group| !group.deleting)?;
    let judged = judge_zone(state, view, group, sample);
    let published = judged.published();
    let is_shed = |(id, member): (&HostId, &Member)| member.shed.then_some(*id);
    let shed_now: BTreeSet<HostId> = group.members.iter().filter_map(is_shed).collect();
    if published == group.zone.published && judged.shed == shed_now {
        return None;
    }
    Some(Command::Group(GroupCommand::Publish {
        group: name.clone(),
        seen: group.zone.serial,
        published: published.into_iter().collect(),
        shed: judged.shed.into_iter().collect(),
    }))
}

fn weigh_member(group: &Group, view: &View, id: HostId, was_shed: bool, sample: bool) -> Weighted {
    let policy = &group.policy;
    let (high, low) = (policy.high_water, policy.low_water);
    if sample {
        return weigh(
            id,
            view.utilization(id, &policy.name, policy.scale),
            was_shed,
            high,
            low,
        );
    }
    // Among those shed, the ones that the minimum keeps in the zone now go on being kept.
    let named = group.members.get(&id).is_some_and(|m| {
        m.preferred
            .iter()
            .any(|p| group.zone.published.contains(&p.ip))
    });
    let weighted = if was_shed {
        high.saturating_add(if named { 1 } else { 2 })
    } else {
        0
    };
    Weighted {
        host: id,
        utilization: 0,
        weighted,
        shed: was_shed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: above high a host leaves, in between it stays as it was, below low it comes back.
    #[test]
    fn a_member_is_shed_above_high_and_comes_back_below_low() {
        let mut shed = false;
        let story = [
            (400, false),
            (700, false),
            (801, true),
            (700, true),
            (501, true),
            (500, false),
            (700, false),
        ];
        for (utilization, expected) in story {
            shed = weigh(HostId(1), utilization, shed, 800, 500).shed;
            assert_eq!(shed, expected, "at {utilization}");
        }
    }
}
