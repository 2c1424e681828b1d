//! Invariant 16: no zone names an address of a host that is down in the same state.

use statemachine::State;

/// What is wrong with the zones, if anything.
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
