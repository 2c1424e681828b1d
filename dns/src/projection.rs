//! From the replicated state to the zones: the only place where `dns` knows what a group is.
//!
//! Reads only what `apply` fixed (addresses, time to live, name servers, serial), never who is up or
//! loaded: that was decided in the log, so every node that applied an index has the same zones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use statemachine::{Group, GroupName, Host, HostId, State};

use crate::primary::Secondaries;
use crate::zone::ZoneInput;
use crate::zones::Zones;

impl Zones {
    /// The zones of a state, all of them answered for.
    pub fn of(state: &State) -> Zones {
        Zones::project(inputs(state, &BTreeSet::new()))
    }

    /// The zones of `state` if they differ from `known`; this node may not answer for the groups in
    /// `withheld`. Cheap when they don't: it compares what zones are made of and builds nothing. Ask it
    /// after each applied entry.
    pub fn of_changed(
        state: &State,
        withheld: &BTreeSet<GroupName>,
        known: &Zones,
    ) -> Option<Zones> {
        let inputs = inputs(state, withheld);
        (inputs != known.inputs()).then(|| Zones::project(inputs))
    }
}

impl Secondaries {
    /// Who follows which zone, as the groups' policies say; groups without `[transfer]` have none.
    /// Of the name servers of a zone, `me` tells them in its turn.
    pub fn of(state: &State, me: HostId) -> Vec<Secondaries> {
        state
            .groups
            .values()
            .filter_map(|group| {
                let policy = &group.policy;
                let before = group.zone.nameservers.iter();
                let before = before.take_while(|id| **id != me).count();
                let transfer = policy.transfer.as_ref()?;
                Some(Secondaries {
                    zone: policy.zone.clone(),
                    notify: transfer.notify.clone(),
                    allow: transfer.allow.clone(),
                    key: transfer.tsig.clone(),
                    rank: u32::try_from(before).unwrap_or(u32::MAX),
                })
            })
            .collect()
    }
}

fn inputs(state: &State, withheld: &BTreeSet<GroupName>) -> Vec<ZoneInput> {
    state
        .groups
        .iter()
        .map(|(name, group)| input(state, group, withheld.contains(name)))
        .collect()
}

fn input(state: &State, group: &Group, withheld: bool) -> ZoneInput {
    let zone = &group.zone;
    let nameservers = zone.nameservers.iter().filter_map(|id| {
        let host = state.hosts.get(id)?;
        Some((host.name.0.clone(), reachable_at(host)))
    });
    ZoneInput {
        name: group.policy.zone.clone(),
        ttl_s: zone.ttl_s,
        serial: zone.serial,
        withheld,
        published: zone
            .named
            .iter()
            .map(|address| (home_of(state, *address), *address))
            .collect(),
        nameservers: nameservers.collect(),
    }
}

/// The name of the host that an address belongs to. An address without one (its host was
/// forgotten) stays in the apex set; the empty name makes no record.
fn home_of(state: &State, address: IpAddr) -> String {
    let preferred: Option<HostId> = state
        .addresses
        .get(&address)
        .and_then(|known| known.preferred);
    preferred
        .and_then(|id| state.hosts.get(&id))
        .map(|host| host.name.0.clone())
        .unwrap_or_default()
}

/// Where a host's name server is reached: the addresses it listens on, and its control
/// addresses of the family where it listens on all.
fn reachable_at(host: &Host) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for listen in &host.dns {
        if listen.ip().is_unspecified() {
            let control = host.control.iter().map(|control| control.ip());
            addresses.extend(control.filter(|ip| ip.is_ipv4() == listen.is_ipv4()));
        } else {
            addresses.push(listen.ip());
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use hickory_proto::rr::RecordType;
    use statemachine::{Address, HostState, Policy};

    use crate::name::NameKey;

    fn host(id: u64, name: &str, dns: &[&str]) -> Host {
        Host {
            control: vec!["10.77.0.1:7400".parse().unwrap()],
            dns: dns.iter().map(|address| address.parse().unwrap()).collect(),
            ..Host::new(HostId(id), name, HostState::Up)
        }
    }

    fn state() -> State {
        let mut state = State::default();
        let ip: IpAddr = "10.77.0.101".parse().unwrap();
        state
            .hosts
            .insert(HostId(1), host(1, "h1", &["0.0.0.0:53"]));
        state
            .hosts
            .insert(HostId(4), host(4, "h2", &["10.77.0.2:53"]));
        let web = GroupName("web".into());
        let home = Address::new(web.clone(), 24, HostId(4), Default::default());
        state.addresses.insert(ip, home);
        let mut zone = statemachine::Zone::new(1, 5);
        zone.serial = 17;
        zone.named.insert(ip);
        zone.nameservers = vec![HostId(1), HostId(4)];
        let group = Group {
            policy: Policy::new("web", "web.example."),
            generation: 3,
            deleting: false,
            members: Default::default(),
            zone,
        };
        state.groups.insert(web, group);
        state
    }

    /// Goal: the zone says what the log fixed: serial, published set under its home's name,
    /// name servers where they listen (control address for a wildcard).
    /// Method: project a small state and read the records.
    #[test]
    fn zones_follow_the_committed_state() {
        let zones = Zones::of(&state());
        assert_eq!(zones.refused(), &[]);
        let zone = zones.all()[0];
        assert_eq!(zone.serial(), 17);
        let text: Vec<String> = zone
            .records()
            .iter()
            .map(|record| format!("{} {} {}", record.name, record.record_type(), record.data))
            .collect();
        for line in [
            "web.example. A 10.77.0.101",
            "h2.web.example. A 10.77.0.101",
            "h1.ns.web.example. A 10.77.0.1",
            "h2.ns.web.example. A 10.77.0.2",
            "web.example. NS h1.ns.web.example.",
            "web.example. NS h2.ns.web.example.",
        ] {
            assert!(
                text.iter().any(|known| known == line),
                "{line} in {text:#?}"
            );
        }
        assert_eq!(text.len(), 7);
    }

    /// Goal: an entry that changed no zone costs no new zones, one that did is seen.
    /// Method: ask with the same state, with a moved clock, and with a taken address.
    #[test]
    fn only_a_changed_zone_makes_new_zones() {
        let mut state = state();
        let known = Zones::of(&state);
        state.index += 1;
        state.at.0 += 1_000;
        let none = BTreeSet::new();
        assert_eq!(Zones::of_changed(&state, &none, &known), None);
        let group = state.groups.values_mut().next().unwrap();
        group.zone.named.clear();
        group.zone.serial += 1;
        let next = Zones::of_changed(&state, &none, &known).unwrap();
        let name = NameKey::of(&"web.example.".parse().unwrap()).unwrap();
        let node = next.find(&name).unwrap().node(name.wire()).unwrap();
        assert_eq!(node.set(RecordType::A), None);
        assert!(node.set(RecordType::SOA).is_some());
    }

    /// Goal: a group that this node may not answer for any more is seen as a change, and back again.
    /// Method: withhold it, and answer for it again, in the same state.
    #[test]
    fn a_withheld_zone_is_a_changed_zone() {
        let state = state();
        let (none, all) = (BTreeSet::new(), state.groups.keys().cloned().collect());
        let known = Zones::of(&state);
        let held = Zones::of_changed(&state, &all, &known).unwrap();
        assert!(held.all().iter().all(|zone| zone.is_withheld()));
        assert_eq!(Zones::of_changed(&state, &all, &held), None);
        assert_eq!(Zones::of_changed(&state, &none, &held).unwrap(), known);
    }
}
