//! Invariant 14: no fence stays pending beyond a bound: some time after the faults every host that
//! runs is up.

use statemachine::{HostId, State};

/// Who should be up and is not, one line each; `runs` tells whose daemon runs.
#[must_use]
pub fn overdue(state: &State, runs: impl Fn(HostId) -> bool) -> Vec<String> {
    let fallen = state
        .hosts
        .values()
        .filter(|host| runs(host.id) && !host.is_up());
    fallen
        .map(|host| format!("h{} is {:?}", host.id, host.state))
        .collect()
}
