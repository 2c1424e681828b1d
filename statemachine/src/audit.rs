//! Every law that a replicated state must keep; empty when all is well.
//!
//! One checker for each law, shared by unit tests, the simulator and `rais audit` (house rule 10).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::timing::MAX_MS;
use crate::{AllDown, State, truly_served};

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The law's name.
    pub law: String,
    /// Who breaks it, and how.
    pub detail: String,
}

/// A law's name and its checker.
type Law = (&'static str, fn(&State) -> Vec<String>);

/// Checks every law.
#[must_use]
pub fn audit(state: &State) -> Vec<Violation> {
    let laws: [Law; 9] = [
        ("an address belongs to a group", addresses_have_groups),
        ("a holder is a host that is not down", holders_stand),
        (
            "an epoch was drawn from the array's counter",
            epochs_are_drawn,
        ),
        (
            "an address away from home has an orphan timer",
            orphans_are_timed,
        ),
        ("a zone names only what is truly served", zones_are_true),
        ("one host prefers an address", one_home),
        (
            "a member is a host that configures it",
            members_are_configured,
        ),
        (
            "tokens and names are distinct and bounded",
            names_are_distinct,
        ),
        ("the timing is safe", timing_is_safe),
    ];
    let broken = |(law, check): Law| {
        check(state)
            .into_iter()
            .map(move |detail| Violation {
                law: law.into(),
                detail,
            })
            .collect::<Vec<_>>()
    };
    laws.into_iter().flat_map(broken).collect()
}

fn addresses_have_groups(state: &State) -> Vec<String> {
    let lost = state
        .addresses
        .iter()
        .filter(|(_, a)| !state.groups.contains_key(&a.group));
    lost.map(|(ip, a)| format!("{ip} belongs to {} which is not there", a.group))
        .collect()
}

fn holders_stand(state: &State) -> Vec<String> {
    let holder = |ip, a: &crate::Address| match a.state.host().map(|id| (id, state.hosts.get(&id)))
    {
        None => None,
        Some((id, None)) => Some(format!("{ip} is held by host {id} which is not there")),
        Some((id, Some(host))) => host
            .is_down()
            .then(|| format!("{ip} is held by host {id} which is down")),
    };
    state
        .addresses
        .iter()
        .filter_map(|(ip, a)| holder(ip, a))
        .collect()
}

fn epochs_are_drawn(state: &State) -> Vec<String> {
    let mut told = Vec::new();
    let mut seen = alloc::collections::BTreeSet::new();
    for (ip, address) in &state.addresses {
        if address.epoch > state.epoch {
            told.push(format!(
                "{ip} has epoch {}, the counter is at {}",
                address.epoch, state.epoch
            ));
        }
        if address.epoch.0 > 0 && !seen.insert(address.epoch) {
            told.push(format!("{ip} shares epoch {} with another", address.epoch));
        }
        if address.epoch.0 == 0 && address.state.host().is_some() {
            told.push(format!("{ip} is held without an epoch"));
        }
    }
    told
}

fn orphans_are_timed(state: &State) -> Vec<String> {
    let wrong = |a: &&crate::Address| {
        a.at_home() == a.orphaned_at.is_some() || a.orphaned_at > Some(state.at)
    };
    let name = |(ip, a): (&core::net::IpAddr, &crate::Address)| {
        format!(
            "{ip} at home: {}, orphaned at {:?}, now {}",
            a.at_home(),
            a.orphaned_at,
            state.at
        )
    };
    state
        .addresses
        .iter()
        .filter(|(_, a)| wrong(a))
        .map(name)
        .collect()
}

fn zones_are_true(state: &State) -> Vec<String> {
    let mut told = Vec::new();
    for (name, group) in &state.groups {
        let served = truly_served(state, name);
        for ip in group.zone.published.difference(&served) {
            told.push(format!("zone of {name} names {ip}"));
        }
        let named = &group.zone.named;
        let floor = group.zone.published.is_empty() && group.policy.all_down == AllDown::LastKnown;
        if *named != group.zone.published && !floor {
            told.push(format!("zone of {name} names what it may not publish"));
        }
        if !named.iter().all(|ip| state.addresses.contains_key(ip)) {
            told.push(format!("zone of {name} names an address of nobody"));
        }
        let ttls = [group.policy.ttl_s, group.policy.fault_ttl_s];
        if !ttls.contains(&group.zone.ttl_s) {
            told.push(format!("zone of {name} has a time to live of its own"));
        }
        if group.zone.serial == 0 {
            told.push(format!("zone of {name} has serial 0"));
        }
    }
    told
}

fn one_home(state: &State) -> Vec<String> {
    let mut homes = alloc::collections::BTreeMap::new();
    let mut told = Vec::new();
    for host in state.hosts.values() {
        for preferred in host.members.iter().flat_map(|spec| &spec.preferred) {
            if let Some(other) = homes.insert(preferred.ip, host.id) {
                told.push(format!(
                    "{} is preferred by hosts {other} and {}",
                    preferred.ip, host.id
                ));
            }
        }
    }
    told
}

fn members_are_configured(state: &State) -> Vec<String> {
    let mut told = Vec::new();
    for (name, group) in &state.groups {
        for id in group.members.keys() {
            let spec = state
                .hosts
                .get(id)
                .and_then(|h| h.members.iter().find(|m| m.group == *name));
            if spec.is_none() {
                told.push(format!(
                    "host {id} is a member of {name} against its configuration"
                ));
            }
        }
    }
    told
}

fn names_are_distinct(state: &State) -> Vec<String> {
    let mut names = alloc::collections::BTreeSet::new();
    let mut told: Vec<String> = Vec::new();
    for host in state
        .hosts
        .values()
        .filter(|host| !names.insert(&host.name))
    {
        told.push(format!("the name {} is given twice", host.name));
    }
    for (id, _) in state.tokens.iter().filter(|(_, token)| token.uses == 0) {
        told.push(format!("token {id} is used up and still open"));
    }
    told
}

fn timing_is_safe(state: &State) -> Vec<String> {
    let unsafe_ = state.timing.check().err();
    let mut told: Vec<String> = unsafe_.map(|why| format!("{why}")).into_iter().collect();
    if state.previous_lease_ms > MAX_MS {
        told.push(format!(
            "a former lease of {} ms was never safe",
            state.previous_lease_ms
        ));
    }
    told
}
