//! The leader's care of Raft's own members: who follows the log, who votes.
//!
//! Every host of the state follows; up to [`MAX_VOTERS`] vote, always an odd number, and a voter that is down
//! gives its vote to a live host that has caught up (failover.md, joining and leaving). The choice is
//! pure; the task around it makes one change at a time and looks again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use statemachine::{HostId, State};

use super::Daemon;
use crate::raft::{ChangeError, Node, RaftView};

/// Most voters: five survive the loss of two, and more make each commit slower.
const MAX_VOTERS: usize = 5;
/// A learner may vote when it is behind by no more entries than this.
const CAUGHT_UP: u64 = 256;
/// How often to look when nothing changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// One change.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    Add { id: u64, node: Node },
    Rename { id: u64, node: Node },
    Voters(BTreeSet<u64>),
    Remove { id: u64 },
}

/// Cares for the members while this host leads; ends with the daemon.
pub async fn care(daemon: Arc<Daemon>) {
    let mut view = daemon.raft.view();
    loop {
        let current = view.borrow_and_update().clone();
        let state = daemon.raft.state();
        daemon.follow_hosts(&state, &current);
        if current.am_leader
            && let Some(change) = next(&state, &current)
            && let Err(error) = make(&daemon, &change).await
        {
            tracing::debug!(?change, %error, "change of the members did not succeed; tried again");
        }
        let changed = tokio::time::timeout(LOOK_EVERY, view.changed()).await;
        if matches!(changed, Ok(Err(_))) {
            return;
        }
    }
}

async fn make(daemon: &Daemon, change: &Change) -> Result<(), ChangeError> {
    match change {
        Change::Add { id, node } => daemon.raft.add_learner(*id, node.clone()).await,
        Change::Rename { id, node } => daemon.raft.change_node(*id, node.clone()).await,
        Change::Voters(voters) => daemon.raft.change_voters(voters.clone()).await,
        Change::Remove { id } => daemon.raft.remove_node(*id).await,
    }
}

/// The next change that brings Raft's members closer to what they should be.
fn next(state: &State, view: &RaftView) -> Option<Change> {
    if state.array.is_none() || view.membership != view.committed_membership {
        return None;
    }
    for host in state.hosts.values() {
        let node = Node {
            name: host.name.0.clone(),
            control: host.control.clone(),
        };
        match view.nodes.get(&host.id.0) {
            None => {
                return Some(Change::Add {
                    id: host.id.0,
                    node,
                });
            }
            Some(known) if *known != node => {
                return Some(Change::Rename {
                    id: host.id.0,
                    node,
                });
            }
            Some(_) => {}
        }
    }
    let [voters] = view.voters.as_slice() else {
        // A configuration left joint by a leader that died: finish it.
        return view.voters.last().cloned().map(Change::Voters);
    };
    let wanted = wanted_voters(state, view, voters);
    if wanted != *voters {
        return Some(Change::Voters(wanted));
    }
    let gone = view
        .nodes
        .keys()
        .find(|id| !state.hosts.contains_key(&HostId(**id)));
    gone.map(|id| Change::Remove { id: *id })
}

/// Who should vote: live voters first, then live learners that caught up, then voters that are down.
fn wanted_voters(state: &State, view: &RaftView, voters: &BTreeSet<u64>) -> BTreeSet<u64> {
    let last = view
        .matched
        .values()
        .copied()
        .max()
        .unwrap_or(view.last_applied)
        .max(view.last_applied);
    let caught_up = |id: &u64| {
        view.matched
            .get(id)
            .is_some_and(|matched| last.saturating_sub(*matched) <= CAUGHT_UP)
    };
    let alive = |id: &u64| {
        *id == view.id
            || state
                .hosts
                .get(&HostId(*id))
                .is_some_and(|host| !host.is_down())
    };
    let known: Vec<u64> = state.hosts.keys().map(|id| id.0).collect();
    let rank = |id: &u64| match (voters.contains(id), alive(id)) {
        (true, true) => Some(0),
        (false, true) if caught_up(id) => Some(1),
        (true, false) => Some(2),
        (false, _) => None,
    };
    let mut ranked: Vec<(u8, u64)> = known
        .iter()
        .filter_map(|id| Some((rank(id)?, *id)))
        .collect();
    ranked.sort_unstable();
    let most = known.len().min(MAX_VOTERS);
    let count = ranked.len().min(odd(most));
    ranked
        .into_iter()
        .take(odd(count))
        .map(|(_, id)| id)
        .collect()
}

/// The largest odd number that is not above `n`; 1 for 0.
fn odd(n: usize) -> usize {
    if n.is_multiple_of(2) {
        n.saturating_sub(1).max(1)
    } else {
        n
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statemachine::{
        ArrayCommand, ArrayId, Boot, Command, Entry, HostCommand, Incarnation, Timing,
        TokenCommand, TokenId, apply,
    };

    /// An array of `hosts`, all up but `down`, whose ids are 1, 2, 3…
    fn array(hosts: u64, down: &[u64]) -> State {
        let mut state = State::default();
        let control = |id: u64| {
            let last = u8::try_from(id).unwrap();
            vec![std::net::SocketAddr::from(([127, 0, 0, last], 1))]
        };
        let run = |state: &mut State, index, command| {
            let entry = Entry {
                commands: vec![command],
                ..Entry::default()
            };
            assert_eq!(apply(state, index, &entry).outcomes, vec![Ok(())]);
        };
        let (name, timing, array) = ("h1".into(), Timing::LAN, ArrayId([1; 16]));
        run(
            &mut state,
            1,
            Command::Array(ArrayCommand::Found {
                array,
                timing,
                name,
                control: control(1),
            }),
        );
        let token = TokenCommand::Create {
            token: TokenId(1),
            secret_hash: [0; 32],
            ttl_ms: 1000,
            uses: 99,
        };
        run(&mut state, 1, Command::Token(token));
        for id in 2..=hosts {
            let name = format!("h{id}").as_str().into();
            let (token, secret_hash) = (TokenId(1), [0; 32]);
            run(
                &mut state,
                id,
                Command::Host(HostCommand::Join {
                    token,
                    secret_hash,
                    name,
                    control: control(id),
                }),
            );
        }
        for id in (1..=hosts).filter(|id| !down.contains(id)) {
            let up = HostCommand::Up {
                host: HostId(id),
                seen: Incarnation(0),
                boot: Boot(1),
            };
            run(&mut state, 100, Command::Host(up));
        }
        state
    }

    fn view(state: &State, voters: &[u64], behind: &[u64]) -> RaftView {
        let node = |id: &HostId| {
            let host = &state.hosts[id];
            (
                id.0,
                Node {
                    name: host.name.0.clone(),
                    control: host.control.clone(),
                },
            )
        };
        let matched = |id: &HostId| (id.0, if behind.contains(&id.0) { 0 } else { 1000 });
        RaftView {
            id: 1,
            last_applied: 1000,
            voters: vec![voters.iter().copied().collect()],
            nodes: state.hosts.keys().map(node).collect(),
            matched: state.hosts.keys().map(matched).collect(),
            ..RaftView::default()
        }
    }

    /// Goal: the number of voters is odd, at most five, live, and changes only for a reason.
    #[test]
    fn voters_are_odd_live_and_caught_up() {
        // hosts, down, voters now, behind -> voters then
        type Row = (
            u64,
            &'static [u64],
            &'static [u64],
            &'static [u64],
            &'static [u64],
        );
        let rows: [Row; 8] = [
            (1, &[], &[1], &[], &[1]),
            (2, &[], &[1], &[], &[1]),
            (3, &[], &[1], &[], &[1, 2, 3]),
            (3, &[], &[1], &[3], &[1]),
            (3, &[2], &[1, 2, 3], &[], &[1, 2, 3]),
            (4, &[2], &[1, 2, 3], &[], &[1, 3, 4]),
            (7, &[], &[1, 2, 3, 4, 5], &[], &[1, 2, 3, 4, 5]),
            (7, &[2, 5], &[1, 2, 3, 4, 5], &[6], &[1, 2, 3, 4, 7]),
        ];
        for (hosts, down, voters, behind, expected) in rows {
            let state = array(hosts, down);
            let view = view(&state, voters, behind);
            let wanted = wanted_voters(&state, &view, &view.voters[0]);
            assert_eq!(
                wanted,
                expected.iter().copied().collect(),
                "{hosts} hosts, down {down:?}, voters {voters:?}"
            );
        }
    }
}
