//! Invariant 16: no zone names an address of a host that is down in the same state, and load alone
//! never brings a zone below its minimum.

use std::net::IpAddr;

use statemachine::{State, truly_served};

/// What is wrong with the zones at any time, if anything.
#[must_use]
pub fn names_the_fallen(state: &State) -> Option<String> {
    for (name, group) in &state.groups {
        for ip in &group.zone.published {
            let holder = state.addresses.get(ip).and_then(|a| a.state.host());
            let standing = holder.and_then(|id| state.hosts.get(&id));
            if standing.is_none_or(|host| host.is_down()) {
                return Some(format!("the zone of {name} names {ip}, held by {holder:?}"));
            }
        }
    }
    None
}

/// What the zones lack some time after the faults, one line each.
#[must_use]
pub fn overdue(state: &State) -> Vec<String> {
    let mut told = Vec::new();
    for (name, group) in &state.groups {
        let served = truly_served(state, name);
        let shed = |ip: &&IpAddr| {
            let home = state.addresses.get(*ip).and_then(|a| a.preferred);
            !home.is_some_and(|home| group.members.get(&home).is_some_and(|m| m.shed))
        };
        for ip in served.difference(&group.zone.published).filter(shed) {
            told.push(format!("{ip} is served at home and not in the zone"));
        }
        let least = (group.policy.min_addresses as usize).min(served.len());
        let named = group.zone.published.len();
        if named < least {
            told.push(format!("the zone of {name} names {named} of {least}"));
        }
    }
    told
}
