//! `rais zone GROUP` in words: who is in the zone, who is out, and why, with the numbers.
//!
//! The leader's own judgement gives the data (`control::judge_zone`), so an explanation can't differ
//! from the deed. What the log has published may be a moment behind it, and then this says so.

use control::{View, Weighted, ZoneEntry, ZoneVerdict, judge_zone};
use serde::{Deserialize, Serialize};
use statemachine::{Absence, Group, Policy, State};

use super::report::{ZoneMarks, ZoneMember};

/// The rule that puts an address into the zone or keeps it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZoneRule {
    /// In: its preferred host serves it, and is not out by load.
    Serving,
    /// In: above the high-water mark, but one of the least used that `min_addresses` keeps.
    Kept,
    /// Out by load.
    Shed,
    /// Out: a hot spare brings no address.
    Spare,
    /// Out: its group is being deleted.
    Deleting,
    /// Out: its host is an observer.
    Observer,
    /// Out: its host is down.
    HostDown,
    /// Out: an operator quiesced its host.
    Quiesced,
    /// Out: its host's tests fail.
    Unhealthy,
    /// Out: it ran out as an orphan.
    Expired,
    /// Out: nobody serves it.
    Unserved,
    /// Out: a host is taking it.
    Acquiring,
    /// Out: another than its preferred host serves it.
    Elsewhere,
    /// Out: its holder lets go of it.
    Releasing,
}

impl ZoneRule {
    fn of(verdict: ZoneVerdict) -> Self {
        match verdict {
            ZoneVerdict::Within => Self::Serving,
            ZoneVerdict::Kept => Self::Kept,
            ZoneVerdict::Shed => Self::Shed,
            ZoneVerdict::Spare => Self::Spare,
            ZoneVerdict::Absent(absence) => match absence {
                Absence::Deleting => Self::Deleting,
                Absence::Observer => Self::Observer,
                Absence::HostDown => Self::HostDown,
                Absence::Quiesced => Self::Quiesced,
                Absence::Unhealthy => Self::Unhealthy,
                Absence::Expired => Self::Expired,
                Absence::Unserved => Self::Unserved,
                Absence::Acquiring { .. } => Self::Acquiring,
                Absence::Elsewhere { .. } => Self::Elsewhere,
                Absence::Releasing { .. } => Self::Releasing,
            },
        }
    }
}

/// The numbers of a policy that decide on its zone.
pub fn zone_marks(policy: &Policy) -> ZoneMarks {
    ZoneMarks {
        high_water: policy.high_water,
        low_water: policy.low_water,
        scale: policy.scale,
        min_addresses: policy.min_addresses,
        sample_interval_ms: policy.sample_interval_ms,
    }
}

/// Each preferred address of a group's members: in or out, and why.
pub fn zone_members(state: &State, view: &View, group: &Group) -> Vec<ZoneMember> {
    let judged = judge_zone(state, view, group, true).entries.into_iter();
    judged
        .map(|entry| zone_member(state, view, group, &entry))
        .collect()
}

fn zone_member(state: &State, view: &View, group: &Group, entry: &ZoneEntry) -> ZoneMember {
    let (id, policy) = (entry.host, &group.policy);
    let report = view.report(id, &policy.name);
    let measured = report.is_some_and(|report| report.capacity > 0);
    let (zone, ip) = (&group.zone, entry.address);
    let published = ip.is_some_and(|ip| zone.named.contains(&ip));
    let floor = published && !ip.is_some_and(|ip| zone.published.contains(&ip));
    let mut reason = verdict_words(state, policy, entry, measured);
    if floor {
        reason += "; named all the same, as the last known (all_down)";
    } else if published != entry.verdict.is_in() {
        let step = if published { "leaves" } else { "enters" };
        reason += &format!("; it {step} with the leader's next look at the zone");
    }
    let weighed = entry.weighed.filter(|_| measured);
    let rank = entry.rank.map(|rank| rank.saturating_add(1));
    ZoneMember {
        host: state.name_of(id),
        address: entry.address,
        published,
        reason,
        utilization: measured.then(|| view.utilization(id, &policy.name, policy.scale)),
        weighted: weighed.map(|weighed| weighed.weighted),
        rule: ZoneRule::of(entry.verdict),
        shed: group.members.get(&id).is_some_and(|member| member.shed),
        rank: rank.and_then(|rank| u32::try_from(rank).ok()),
    }
}

fn verdict_words(state: &State, policy: &Policy, entry: &ZoneEntry, measured: bool) -> String {
    let (high, low) = (policy.high_water, policy.low_water);
    let load = |weighed: Weighted| match weighed.utilization {
        load if load > high => format!("its load {load} is above the high-water mark {high}"),
        load => format!("its load was above {high}, and {load} is not down to {low} yet"),
    };
    let shed = entry.weighed.map(load).unwrap_or_default();
    match (entry.verdict, entry.weighed) {
        (ZoneVerdict::Spare, _) => "a hot spare brings no address to publish".to_owned(),
        (ZoneVerdict::Absent(absence), _) => absence_words(state, absence),
        (ZoneVerdict::Within, Some(weighed)) if measured => {
            let load = weighed.utilization;
            format!("served at home, its load {load} is not above {high}")
        }
        (ZoneVerdict::Within, _) => "served at home, nothing measures its load".to_owned(),
        (ZoneVerdict::Kept, _) => {
            let least = policy.min_addresses;
            format!("{shed}, but min_addresses keeps the {least} least used")
        }
        (ZoneVerdict::Shed, _) => shed,
    }
}

fn absence_words(state: &State, absence: Absence) -> String {
    let of = |words: &str, host| format!("{words} {}", state.name_of(host));
    match absence {
        Absence::Deleting => "its group is being deleted".to_owned(),
        Absence::Observer => "its host is an observer and serves no address".to_owned(),
        Absence::HostDown => "its host is down".to_owned(),
        Absence::Quiesced => "an operator quiesced its host".to_owned(),
        Absence::Unhealthy => "its host's tests fail".to_owned(),
        Absence::Expired => "it ran out as an orphan; it returns with its host".to_owned(),
        Absence::Unserved => "nobody serves it".to_owned(),
        Absence::Acquiring { host } => of("not online yet, it is being taken by", host),
        Absence::Elsewhere { host } => of("not at its preferred host, it is served by", host),
        Absence::Releasing { host } => of("being let go of by", host),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use control::{GroupReport, Heartbeat, Instant, Report};
    use statemachine::{
        Address, AddressState, Boot, GroupName, Host, HostId, HostState, Member, PreferredAddress,
        Zone,
    };
    use std::net::IpAddr;

    fn ip(last: u64) -> IpAddr {
        format!("10.77.1.{last}").parse().unwrap()
    }

    fn host(id: u64) -> Host {
        Host::new(HostId(id), format!("h{id}").as_str(), HostState::Up)
    }

    /// Four hosts in `web`; each serves its own address, the last is a spare.
    fn array() -> State {
        let mut state = State::default();
        let name = GroupName("web".into());
        let mut group = Group {
            policy: Policy::new("web", "web.example."),
            generation: 1,
            deleting: false,
            members: Default::default(),
            zone: Zone::new(1, 5),
        };
        for id in 1..=4 {
            state.hosts.insert(HostId(id), host(id));
            let preferred = PreferredAddress {
                ip: ip(id),
                prefix_len: 24,
            };
            let own = if id < 4 { vec![preferred] } else { Vec::new() };
            for one in &own {
                let mut address = Address::new(name.clone(), 24, HostId(id), Default::default());
                address.state = AddressState::Online { host: HostId(id) };
                state.addresses.insert(one.ip, address);
                group.zone.published.insert(one.ip);
                group.zone.named.insert(one.ip);
            }
            group.members.insert(HostId(id), Member::new(own));
        }
        state.groups.insert(name, group);
        state
    }

    fn hear(state: &State, loads: &[(u64, u32)]) -> View {
        let mut view = View::default();
        view.look(state, Instant(1));
        for (id, load) in loads {
            let report = GroupReport {
                group: "web".into(),
                healthy: true,
                load: *load,
                capacity: 1000,
                why: None,
            };
            let heartbeat = Heartbeat {
                boot: Boot(1),
                report: Report {
                    held: Vec::new(),
                    groups: vec![report],
                },
                ..Heartbeat::default()
            };
            view.observe(HostId(*id), heartbeat, Instant(1));
        }
        view
    }

    fn told(state: &State, view: &View) -> Vec<(String, bool, ZoneRule, String)> {
        let group = state.groups.values().next().unwrap();
        let members = zone_members(state, view, group).into_iter();
        members
            .map(|one| (one.host, one.published, one.rule, one.reason))
            .collect()
    }

    /// Goal: each member's line says in or out, the rule and its numbers, and what is only decided yet.
    /// Method: one host within, one above high, one down, one spare.
    #[test]
    fn each_member_is_told_with_its_rule_and_its_numbers() {
        let mut state = array();
        let down = state.hosts.get_mut(&HostId(3)).unwrap();
        down.state = HostState::Down { index: 9 };
        let view = hear(&state, &[(1, 312), (2, 850)]);
        let web = state.groups.values_mut().next().unwrap();
        web.zone.published.remove(&ip(3));
        web.zone.named.remove(&ip(3));
        let line = |host: &str, published, rule, reason: &str| {
            (host.to_owned(), published, rule, reason.to_owned())
        };
        assert_eq!(
            told(&state, &view),
            [
                line(
                    "h1",
                    true,
                    ZoneRule::Serving,
                    "served at home, its load 312 is not above 800"
                ),
                line(
                    "h2",
                    true,
                    ZoneRule::Shed,
                    "its load 850 is above the high-water mark 800; it leaves with the leader's next look at the zone"
                ),
                line("h3", false, ZoneRule::HostDown, "its host is down"),
                line(
                    "h4",
                    false,
                    ZoneRule::Spare,
                    "a hot spare brings no address to publish"
                ),
            ]
        );
        let web = state.groups.values().next().unwrap();
        let shed = &zone_members(&state, &view, web)[1];
        assert_eq!(
            (shed.utilization, shed.weighted, shed.rank, shed.shed),
            (Some(850), Some(1150), Some(2), false)
        );
    }

    /// Goal: who stays out between the marks, and who is kept by the minimum, is told as such.
    /// Method: all shed before; one between the marks, one above.
    #[test]
    fn what_the_minimum_keeps_is_told_as_kept() {
        let mut state = array();
        let web = state.groups.values_mut().next().unwrap();
        web.members
            .values_mut()
            .for_each(|member| member.shed = true);
        web.members.remove(&HostId(3));
        web.members.remove(&HostId(4));
        web.zone.published = [ip(1)].into();
        web.zone.named = [ip(1)].into();
        let told = told(&state, &hear(&state, &[(1, 700), (2, 900)]));
        assert_eq!(told[0].2, ZoneRule::Kept);
        assert_eq!(
            told[0].3,
            "its load was above 800, and 700 is not down to 500 yet, but min_addresses keeps the 1 least used"
        );
        assert_eq!((told[1].1, told[1].2), (false, ZoneRule::Shed));
    }
}
