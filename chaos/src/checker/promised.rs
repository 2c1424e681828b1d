//! Invariant 3: a host's lease ends no later than what a quorum of each configuration promised it.
//!
//! A dead voter counts as promising for ever, a restarted one from its start on for the longest L that
//! anybody knows of, since that is how it answers (lease.md, 6): whoever asks says that L, and a voter that
//! lost its newest state may not know it.

use std::collections::BTreeSet;

use control::Instant;
use statemachine::HostId;

use crate::host::SimHost;

/// What is wrong with a deadline that a host has just come to, if anything.
pub(crate) fn unpromised(
    hosts: &[SimHost],
    id: HostId,
    deadline: Instant,
    now_us: u64,
) -> Option<String> {
    let host = crate::host::of(hosts, id)?;
    let ends = host.clock.reaches(deadline);
    if ends <= now_us {
        return None;
    }
    let longest_ms = hosts.iter().map(|host| host.state.longest_lease_ms()).max();
    let longest_ms = u64::from(longest_ms.unwrap_or(0));
    let promises = |voter: &HostId| {
        let voter = crate::host::of(hosts, *voter);
        voter.is_some_and(|voter| match &voter.core {
            None => true,
            // What its clock shows at the end of the lease must not be past its promise.
            Some(core) => {
                let started = voter.clock.shows(voter.started_at);
                let promised = core.promised_until(id).max(started.plus_ms(longest_ms));
                promised >= voter.clock.shows(ends)
            }
        })
    };
    let raft = host.core.as_ref()?.raft();
    for set in &raft.voters {
        let count = set.iter().filter(|voter| promises(voter)).count();
        if 2 * count <= set.len() {
            let promised: BTreeSet<HostId> = set.iter().copied().filter(promises).collect();
            let until = ends / 1000;
            return Some(format!(
                "h{id} counts on a lease until {until} ms that only {promised:?} of the voters of {} promised",
                raft.membership.index
            ));
        }
    }
    None
}
