//! Invariant 3: a host's lease ends no later than what a quorum of each configuration promised it.
//!
//! A dead voter counts as promising for ever, a restarted one from its start on, since that is how it
//! answers (lease.md, 6).

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
    let host = hosts.iter().find(|host| host.id == id)?;
    let ends = host.clock.reaches(deadline);
    if ends <= now_us {
        return None;
    }
    let promises = |voter: &HostId| {
        let voter = hosts.iter().find(|host| host.id == *voter);
        voter.is_some_and(|voter| match &voter.core {
            None => true,
            Some(core) => voter.clock.reaches(core.promised_until(id)) >= ends,
        })
    };
    let raft = host.core.as_ref()?.raft();
    let index = raft.membership;
    for set in &raft.voters {
        let promised: BTreeSet<HostId> = set.iter().copied().filter(promises).collect();
        if 2 * promised.len() <= set.len() {
            let until = ends / 1000;
            return Some(format!(
                "h{id} counts on a lease until {until} ms that only {promised:?} of the voters of {index} promised"
            ));
        }
    }
    None
}
