//! Invariant 7: no heartbeat is acknowledged whose host has not applied the last entry that took
//! something from it, as far as the voter knows.

use statemachine::{HostId, State};

/// What is wrong with a voter of this state acknowledging a heartbeat that says `applied`, if anything.
#[must_use]
pub fn acknowledged(voter: &State, from: HostId, applied: u64) -> Option<String> {
    let taken_at = voter.hosts.get(&from)?.taken_at;
    (applied < taken_at)
        .then(|| format!("h{from} is acknowledged at {applied}, and was taken from at {taken_at}"))
}
