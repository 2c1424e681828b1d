//! What this host knows about Raft right now: one value to watch, instead of openraft's metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{LogIdOptionExt, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::types::{LogId, Metrics, Node, TypeConfig};

/// Younger acknowledgements than this are not news: a leader gets one with each heartbeat, and every
/// one would wake whoever watches.
const QUORUM_NEWS: Duration = Duration::from_millis(100);

/// Raft, as seen from this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftView {
    /// This host.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// Who leads, if it knows.
    pub leader: Option<u64>,
    /// True while it leads, as far as it knows.
    pub am_leader: bool,
    /// Index of the last applied entry; 0 before any.
    pub last_applied: u64,
    /// Index up to which entries are known to be committed; 0 before any.
    pub committed: u64,
    /// The voter sets of the newest configuration in its log, committed or not: one, or two while
    /// joint; none on a host that knows no array yet.
    pub voters: Vec<BTreeSet<u64>>,
    /// The entry that set them.
    pub membership: Option<LogId>,
    /// The newest voter configuration known to be committed.
    pub committed_membership: Option<LogId>,
    /// Voters and learners.
    pub nodes: BTreeMap<u64, Node>,
    /// As leader: the last index that each host is known to have.
    pub matched: BTreeMap<u64, u64>,
    /// As leader: when the newest message that a quorum has acknowledged was sent. On the monotonic
    /// clock, which stands still in suspend: a hint, never a lease.
    pub quorum_acked: Option<Instant>,
    /// Why Raft stopped here, if it did.
    pub stopped: Option<String>,
}

/// openraft wraps its instants and shows only how long ago they were.
fn instant(at: impl openraft::Instant) -> Option<Instant> {
    crate::clock::monotonic().checked_sub(at.elapsed())
}

impl RaftView {
    fn of(metrics: &RaftMetrics<TypeConfig>) -> Self {
        let members = metrics.membership_config.membership();
        let matched = metrics.replication.iter().flatten();
        Self {
            id: metrics.id,
            term: metrics.current_term,
            leader: metrics.current_leader,
            am_leader: metrics.state == ServerState::Leader,
            last_applied: metrics.last_applied.index().unwrap_or(0),
            committed: metrics.local_committed.index().unwrap_or(0),
            voters: members.get_joint_config().clone(),
            membership: *metrics.membership_config.log_id(),
            committed_membership: *metrics.committed_membership_config.log_id(),
            nodes: members
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
            matched: matched
                .filter_map(|(id, at)| Some((*id, at.index()?)))
                .collect(),
            quorum_acked: metrics
                .last_quorum_acked
                .and_then(|at| instant(at.into_inner())),
            stopped: metrics
                .running_state
                .as_ref()
                .err()
                .map(ToString::to_string),
        }
    }

    /// As leader: how long ago a quorum was heard, in terms of the message that it answered. A leader
    /// alone is its own quorum.
    #[must_use]
    pub fn quorum_age(&self, now: Instant) -> Option<Duration> {
        if !self.am_leader {
            return None;
        }
        if self.voters.iter().all(|set| set.iter().eq([&self.id])) {
            return Some(Duration::ZERO);
        }
        self.quorum_acked
            .map(|at| now.saturating_duration_since(at))
    }

    /// True on a leader that heard a quorum within `limit`.
    #[must_use]
    pub fn quorum_ok(&self, now: Instant, limit: Duration) -> bool {
        self.quorum_age(now).is_some_and(|age| age <= limit)
    }

    /// True for a voter of any active configuration.
    #[must_use]
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&id))
    }

    /// Takes over a newer view; says if that is news.
    fn update(&mut self, newer: Self) -> bool {
        let acked = |view: &Self| view.quorum_acked;
        let fresh = match (acked(self), acked(&newer)) {
            (Some(old), Some(new)) => new.saturating_duration_since(old) >= QUORUM_NEWS,
            (old, new) => old.is_some() != new.is_some(),
        };
        let newer = if fresh {
            newer
        } else {
            Self {
                quorum_acked: self.quorum_acked,
                ..newer
            }
        };
        let news = *self != newer;
        *self = newer;
        news
    }
}

/// Keeps a view up to date until Raft ends.
pub(crate) fn follow(mut metrics: Metrics) -> (watch::Receiver<RaftView>, JoinHandle<()>) {
    let first = RaftView::of(&metrics.borrow_watched());
    let (publish, view) = watch::channel(first);
    let task = tokio::spawn(async move {
        while metrics.changed().await.is_ok() {
            let newer = RaftView::of(&metrics.borrow_and_update());
            publish.send_if_modified(|view| view.update(newer));
        }
        publish.send_if_modified(|view| {
            let running = view.stopped.is_none();
            view.stopped.get_or_insert_with(|| "raft has ended".into());
            (view.am_leader, view.leader) = (false, None);
            running
        });
    });
    (view, task)
}
