//! Invariant 13: a lease renews, with a leader or without, while its host and a quorum of voters run
//! undisturbed, reach each other, and have applied what they must know of that host.
//!
//! Stricter than "for 10 L without a leader": no lease may lapse at all in such a time, and elections are
//! part of it. A voter that restarted while nobody led, or was cut off from the leader, does not know of
//! the host's newest start and rightly keeps silent (lease.md, 2): it counts from when it knows.

use statemachine::HostId;

use crate::quiet::Quiet;

/// What is wrong with a lease that has just lapsed, if anything. `calm_us` is for how long all must have
/// been undisturbed before it counts.
pub(crate) fn lapsed(quiet: &Quiet<'_>, id: HostId, calm_us: u64) -> Option<String> {
    let undisturbed = quiet.fair(calm_us)
        && quiet.unchanged(id, calm_us)
        && quiet.steady(id, calm_us)
        && quiet.quorum(id, |voter| {
            quiet.steady(voter, calm_us)
                && quiet.joined(voter, id, calm_us)
                && quiet.knows(voter, id, calm_us)
        });
    undisturbed.then(|| {
        let ms = calm_us / 1000;
        format!("h{id} lost its lease although nothing disturbed it or a quorum for {ms} ms")
    })
}
