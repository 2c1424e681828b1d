//! Beside the seventeen (scenarios 4 and 8): a host is not fenced while it and a quorum of voters run
//! undisturbed, reach each other and the leader, and its lease never lapsed. The leader itself may have
//! been away, or may not hear it.

use statemachine::HostId;

use crate::quiet::Quiet;

/// What is wrong with `leader` fencing `id`, if anything.
pub(crate) fn fence(quiet: &Quiet<'_>, leader: HostId, id: HostId, calm_us: u64) -> Option<String> {
    let knows = |voter: HostId| {
        let there = voter == leader || quiet.steady(voter, calm_us);
        voter == id
            || there && quiet.joined(voter, id, calm_us) && quiet.joined(voter, leader, calm_us)
    };
    let needless = quiet.fair(calm_us)
        && quiet.unchanged(id, calm_us)
        && quiet.started(leader, calm_us)
        && quiet.steady(id, calm_us)
        && quiet.leased(id, calm_us)
        && quiet.quorum(leader, knows);
    needless.then(|| format!("h{leader} fences h{id}, which a quorum hears, with a valid lease"))
}
