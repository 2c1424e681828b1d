//! Which addresses a zone should name, by load (failover.md, the zone; seed, DNS thread, figure 6C).
//!
//! A pure function of the served addresses, the replicated `shed` flags and the utilizations. The
//! flags, not the zone, carry the hysteresis: a host that has just become well with a utilization
//! between the marks was never shed, so it is admitted (docs/adr/0009).

use std::collections::BTreeSet;
use std::net::IpAddr;

use statemachine::{Command, Group, GroupCommand, GroupName, HostId, State, truly_served};

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

/// The members that stay in the zone: all below the high-water mark, and at least `min` of them.
#[must_use]
pub(crate) fn keep(mut members: Vec<Weighted>, min: usize, high: u32) -> BTreeSet<HostId> {
    members.sort_by_key(|m| (m.weighted, m.host));
    let stays = |(rank, member): (usize, &Weighted)| {
        (rank < min || member.weighted <= high).then_some(member.host)
    };
    members.iter().enumerate().filter_map(stays).collect()
}

/// The zone that `name` should have, as a command; none when it has it already. Without `sample`,
/// load is not looked at: members that are shed stay out, all others that serve come in.
pub(crate) fn publish(
    state: &State,
    view: &View,
    name: &GroupName,
    sample: bool,
) -> Option<Command> {
    let group = state.groups.get(name).filter(|group| !group.deleting)?;
    let served = truly_served(state, name);
    let serving: Vec<Weighted> = group
        .members
        .iter()
        .filter(|(_, member)| member.preferred.iter().any(|p| served.contains(&p.ip)))
        .map(|(id, member)| weigh_member(group, view, *id, member.shed, sample))
        .collect();
    let shed = |m: &&Weighted| m.shed;
    let wanted_shed: BTreeSet<HostId> = serving.iter().filter(shed).map(|m| m.host).collect();
    let kept = keep(
        serving,
        group.policy.min_addresses as usize,
        group.policy.high_water,
    );
    let published: BTreeSet<IpAddr> = kept
        .iter()
        .filter_map(|id| group.members.get(id))
        .flat_map(|member| member.preferred.iter().map(|p| p.ip))
        .filter(|ip| served.contains(ip))
        .collect();
    let is_shed: BTreeSet<HostId> = group
        .members
        .iter()
        .filter(|(_, m)| m.shed)
        .map(|(id, _)| *id)
        .collect();
    if published == group.zone.published && wanted_shed == is_shed {
        return None;
    }
    Some(Command::Group(GroupCommand::Publish {
        group: name.clone(),
        seen: group.zone.serial,
        published: published.into_iter().collect(),
        shed: wanted_shed.into_iter().collect(),
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

    /// Goal: load alone never empties the zone. Method: all members above high, `min` of them stay,
    /// the least used ones.
    #[test]
    fn the_least_used_members_stay_when_all_are_above_high() {
        let members: Vec<Weighted> = [(1, 950), (2, 900), (3, 990)]
            .map(|(id, u)| weigh(HostId(id), u, true, 800, 500))
            .into();
        assert_eq!(keep(members.clone(), 1, 800), [HostId(2)].into());
        assert_eq!(keep(members.clone(), 2, 800), [HostId(1), HostId(2)].into());
        assert_eq!(keep(members, 0, 800), BTreeSet::new());
    }
}
