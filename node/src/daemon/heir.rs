//! To whom a leader that ends hands over, and how long it goes on to serve for that.

use std::time::Duration;

use statemachine::HostId;
use tokio::time::timeout;

use super::Daemon;
use crate::raft::RaftView;

/// An heir may be so many entries behind the newest follower.
const HEIR_BEHIND: u64 = 16;

/// A leader that ends in order hands over first: the others need not wait for an election. One that `serves`
/// goes on to until its heir plans.
pub(super) async fn hand_over(daemon: &Daemon, serves: bool) {
    let view = daemon.raft.view().borrow().clone();
    let state = daemon.raft.state();
    let up = |id: u64| state.hosts.get(&HostId(id)).filter(|host| host.is_up());
    let able = |id: u64| up(id).filter(|_| id != view.id && view.is_voter(id));
    let followers = view.matched.iter();
    let able = followers.filter_map(|(id, matched)| Some((*matched, able(*id)?)));
    let able: Vec<_> = able.collect();
    let newest = able.iter().map(|(matched, _)| *matched).max();
    // Of those that keep up the one that has been up for longest: it has its connections.
    let keeps_up = able
        .iter()
        .filter(|(matched, _)| Some(*matched + HEIR_BEHIND) >= newest);
    let heir = keeps_up.min_by_key(|(_, host)| host.taken_at);
    let Some((_, heir)) = heir.filter(|_| view.am_leader) else {
        return;
    };
    // An heir that is gone too is not waited for: what begins then is an election.
    let patience = Duration::from_millis(u64::from(state.timing.election_max_ms));
    match timeout(patience, daemon.raft.transfer_leader(heir.id.0)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return tracing::info!(%error, "leadership was not handed over; the others elect");
        }
        Err(_) => return tracing::info!("the heir does not answer; the others elect"),
    }
    if !serves {
        return;
    }
    // Nobody takes what is let go here before it plans, which begins with an entry of its own.
    let mut changes = daemon.raft.view();
    let plans = |_: &RaftView| daemon.raft.state().leader.map(|(id, _)| id) == Some(heir.id);
    let _late = timeout(patience, changes.wait_for(plans)).await;
}
