//! Raft at arm's length: openraft inside, a small surface of our own outside.
//!
//! `Raft` is the handle: propose, read, change the members, watch. `store` keeps log, vote and
//! snapshots, `machine` applies, `network` and `receive` are the two ends of a message, `record` and
//! `wire` the shapes on disk and on the wire. Nobody outside of this folder sees a type of openraft.
//!
//! Decisions: pre-vote on; a restarted leader stands for election again; a log that went backwards
//! is an error, never taken for a new host; reads by ReadIndex, never by lease; a leader that hears
//! no quorum falls silent, so that others can be elected. Everything waits for a bounded time.

mod config;
mod error;
mod machine;
mod network;
mod receive;
mod record;
pub mod store;
mod types;
mod view;
pub(crate) mod wire;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use openraft::{ChangeMembers, ReadPolicy};
use statemachine::{Applied, Entry, State, codec};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, Sleep};

pub use config::{Compaction, RaftTiming};
pub use error::{ChangeError, OpenError, ProposeError, ReadError};
pub use machine::{AppliedEntry, Observer, Step};
pub use network::{BoxFuture, RaftTransport, RpcClass, TransportError};
pub use receive::RpcError;
pub use record::RecordError;
pub use store::{LogWatch, NoWatch, Store, StoreError};
pub(crate) use types::LogId;
pub use types::Node;
pub use view::RaftView;
pub use wire::MAX_FRAME;

use machine::Machine;
use network::Network;
use receive::Inbox;
use types::{Proposal, TypeConfig};

type Core = openraft::Raft<TypeConfig, Machine>;

/// Proposals under way at once on one host. Each is at most 1 MiB; usual ones are some 100 bytes.
const MAX_PROPOSALS: usize = 1024;
/// How long a proposal or a change may take: far longer than an election, shorter than a client.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a read may wait for a quorum and for apply.
const READ_PATIENCE: Duration = Duration::from_secs(2);

/// Runs what takes long beside the runtime's own thread.
async fn aside<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    // Under virtual time there is one thread, and what it does takes no time.
    if cfg!(feature = "seeded") {
        return Ok(run());
    }
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(io::Error::other)
}

/// Until openraft's task has run once its metrics are empty, as if the store were.
async fn await_first_report(core: &Core) -> Result<(), OpenError> {
    let fault = |error: &dyn std::fmt::Display| OpenError::Core(error.to_string());
    let members = core
        .with_raft_state(|state| *state.membership_state.effective().log_id())
        .await;
    let members = members.map_err(|error| fault(&error))?;
    let reported = core.wait(Some(COMMIT_PATIENCE));
    let reported = reported
        .metrics(
            |metrics| *metrics.membership_config.log_id() == members,
            "start",
        )
        .await;
    reported.map(drop).map_err(|error| fault(&error))
}

/// Waits for news while this host leads; `false` once it does not, or the time is over.
async fn fresh_leader(views: &mut watch::Receiver<RaftView>, over: Pin<&mut Sleep>) -> bool {
    tokio::select! {
        biased;
        () = over => false,
        news = views.changed() => news.is_ok() && views.borrow().am_leader,
    }
}

/// How to open Raft.
pub struct RaftOptions {
    /// The host's directory; Raft keeps to `raft/` in it.
    pub data_dir: PathBuf,
    /// The host's id, forever: an id is never given twice.
    pub id: u64,
    /// Heartbeat and election times.
    pub timing: RaftTiming,
    /// When to make snapshots.
    pub compaction: Compaction,
    /// Carries messages to the other hosts.
    pub transport: Arc<dyn RaftTransport>,
    /// Looks at the log as it changes.
    pub log_watch: Arc<dyn LogWatch>,
    /// Told after each step of the state machine.
    pub applied: Observer,
}

/// Raft on this host. Clones share it.
#[derive(Clone)]
pub struct Raft {
    core: Core,
    store: Store,
    state: Arc<ArcSwap<State>>,
    view: watch::Receiver<RaftView>,
    inbox: Arc<Inbox>,
    room: Arc<Semaphore>,
    timing: RaftTiming,
    follower: Arc<JoinHandle<()>>,
    beating: Arc<JoinHandle<()>>,
    pace: Arc<watch::Sender<Duration>>,
}

/// While this host leads, sends a heartbeat to every follower, `every` so often. A leader stands for no election, so
/// openraft's tick has nothing to do meanwhile, and would only wake the thread.
async fn beat(
    core: Core,
    mut view: watch::Receiver<RaftView>,
    mut every: watch::Receiver<Duration>,
) {
    while view.wait_for(|view| view.am_leader).await.is_ok() {
        core.runtime_config().tick(false);
        let mut due = metronome(*every.borrow_and_update());
        while view.borrow().am_leader {
            tokio::select! {
                biased;
                _ = due.tick() => {
                    if core.trigger().heartbeat().await.is_err() {
                        return;
                    }
                }
                Ok(()) = every.changed() => due = metronome(*every.borrow_and_update()),
            }
        }
        core.runtime_config().tick(true);
    }
}

/// Due now, and then so often.
fn metronome(every: Duration) -> Interval {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

impl Raft {
    /// Opens the store, replays what was committed, and starts to take part.
    ///
    /// # Errors
    /// [`OpenError::Store`] if the store is in use or damaged; then nothing was started.
    pub async fn open(options: RaftOptions) -> Result<Self, OpenError> {
        let (dir, watch) = (options.data_dir.clone(), options.log_watch.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open(&dir, watch)).await;
        let store = opened.map_err(|error| OpenError::Core(error.to_string()))??;
        Self::over(store, options).await
    }

    /// Starts over an open store, which it closes when that fails.
    async fn over(store: Store, options: RaftOptions) -> Result<Self, OpenError> {
        let config = match config::build(&options.timing, &options.compaction) {
            Ok(config) => config,
            Err(error) => {
                store.close().await;
                return Err(error);
            }
        };
        let state = Arc::new(ArcSwap::from_pointee(State::default()));
        let replaying = Arc::new(AtomicBool::new(true));
        let machine = Machine::new(
            store.clone(),
            state.clone(),
            options.applied,
            replaying.clone(),
        );
        let network = Network::new(options.id, options.transport);
        let core =
            match Core::new(options.id, Arc::new(config), network, store.log(), machine).await {
                Ok(core) => core,
                Err(error) => {
                    store.close().await;
                    return Err(OpenError::Core(error.to_string()));
                }
            };
        replaying.store(false, Ordering::Relaxed);
        if let Err(error) = await_first_report(&core).await {
            let _ = core.shutdown().await;
            store.close().await;
            return Err(error);
        }
        let (view, follower) = view::follow(core.metrics());
        let pace = Duration::from_millis(options.timing.heartbeat_ms);
        let (pace, every) = watch::channel(pace);
        let beating = tokio::spawn(beat(core.clone(), view.clone(), every));
        let raft = Self {
            core,
            store,
            state,
            view,
            inbox: Arc::default(),
            room: Arc::new(Semaphore::new(MAX_PROPOSALS)),
            timing: options.timing,
            follower: Arc::new(follower),
            beating: Arc::new(beating),
            pace: Arc::new(pace),
        };
        raft.stand_alone().await;
        Ok(raft)
    }

    /// Follows a change of the timing as far as a running Raft can: a faster heartbeat is taken at once, since
    /// followers that have restarted wait less. A slower one, and the election time-outs (openraft's are
    /// fixed when it starts), come with the next start.
    pub fn retime(&self, timing: &RaftTiming) {
        let fastest = timing.heartbeat_ms.min(self.timing.heartbeat_ms).max(1);
        let pace = Duration::from_millis(fastest);
        self.pace
            .send_if_modified(|current| std::mem::replace(current, pace) != pace);
    }

    /// A sole voter need not wait for a leader that can't exist.
    async fn stand_alone(&self) {
        let view = self.view.borrow().clone();
        let alone = view.voters.len() == 1 && view.voters[0].iter().eq([&view.id]);
        if alone && let Err(error) = self.core.trigger().elect(false).await {
            tracing::error!(%error, "raft stopped while it started");
        }
    }

    /// Founds an array of one: this host, alone. Returns once it leads and its first entry is
    /// applied.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] if the store has seen an array before.
    pub async fn initialize_single(&self, node: Node) -> Result<(), ChangeError> {
        let id = self.view.borrow().id;
        self.core.initialize(BTreeMap::from([(id, node)])).await?;
        self.await_view(|view| {
            view.am_leader && view.committed > 0 && view.last_applied >= view.committed
        })
        .await
    }

    /// Waits until this host has applied all that it may have applied before its restart. Neither
    /// DNS nor the API should answer before.
    ///
    /// # Errors
    /// [`ReadError::NoQuorum`] if that took longer than `patience`.
    pub async fn wait_for_recovery(&self, patience: Duration) -> Result<(), ReadError> {
        match self.core.wait_for_recovery(Some(patience)).await {
            Ok(_) => Ok(()),
            Err(openraft::metrics::WaitError::Timeout(..)) => Err(ReadError::NoQuorum),
            Err(error) => Err(ReadError::Stopped(error.to_string())),
        }
    }

    /// Commits and applies an entry. On return `state()` shows it.
    ///
    /// # Errors
    /// After [`ProposeError::Timeout`] and [`ProposeError::Unknown`] the entry may still be applied.
    pub async fn propose(&self, entry: Entry) -> Result<Applied, ProposeError> {
        let _permit = self.room.try_acquire().map_err(|_| ProposeError::Busy)?;
        // Refused here, since in the log it would stop the store.
        codec::encode_entry(&entry).map_err(RecordError::from)?;
        let proposal = Proposal(Arc::new(entry));
        let mut views = self.view.clone();
        let mut fresh = std::pin::pin!(self.fresh_for());
        loop {
            let write = self.core.client_write(proposal.clone());
            let written = tokio::time::timeout(COMMIT_PATIENCE, write).await;
            match written
                .map_err(|_| ProposeError::Timeout)?
                .map_err(ProposeError::from)
            {
                Ok(written) => return Ok(written.data.0.unwrap_or_default()),
                Err(error @ ProposeError::NotLeader { leader: None }) => {
                    if !fresh_leader(&mut views, fresh.as_mut()).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A new leader refuses writes, and has written nothing, until a quorum has acknowledged it: for
    /// how long we wait for that instead of telling the caller to look for another leader.
    fn fresh_for(&self) -> Sleep {
        tokio::time::sleep(Duration::from_millis(2 * self.timing.election_max_ms))
    }

    /// Confirms with a quorum that this host leads, and waits until it has applied everything that
    /// was committed before the call; gives the read index. By ReadIndex: a lease would have to
    /// survive the restart of a follower, and does not.
    ///
    /// # Errors
    /// [`ReadError::NotLeader`] or [`ReadError::NoQuorum`]; the state may then be old.
    pub async fn linearizable(&self) -> Result<u64, ReadError> {
        let read = self.core.ensure_linearizable(ReadPolicy::ReadIndex);
        let read = tokio::time::timeout(READ_PATIENCE, read).await;
        Ok(read.map_err(|_| ReadError::NoQuorum)??.index())
    }

    /// What this host knows about Raft; changes as it learns.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<RaftView> {
        self.view.clone()
    }

    /// The state as of the last step.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The store, for the boot counter and small values.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Answers a message of another host, whom the transport has authenticated as `from`.
    ///
    /// # Errors
    /// [`RpcError`] if it is not a message of that host; nothing has changed then.
    pub async fn handle_rpc(&self, from: u64, body: &[u8]) -> Result<Vec<u8>, RpcError> {
        self.inbox.handle(&self.core, from, body).await
    }

    async fn change(&self, change: ChangeMembers<u64, Node>) -> Result<(), ChangeError> {
        let mut views = self.view.clone();
        let mut fresh = std::pin::pin!(self.fresh_for());
        loop {
            let change = self.core.change_membership(change.clone(), true);
            let changed = tokio::time::timeout(COMMIT_PATIENCE, change).await;
            match changed
                .map_err(|_| ChangeError::Timeout)?
                .map_err(ChangeError::from)
            {
                Ok(_) => return Ok(()),
                Err(error @ (ChangeError::NotLeader { leader: None } | ChangeError::TooEarly)) => {
                    if !fresh_leader(&mut views, fresh.as_mut()).await {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds a learner, and returns once that is committed; it need not have caught up.
    ///
    /// # Errors
    /// As [`ChangeError`] says.
    pub async fn add_learner(&self, id: u64, node: Node) -> Result<(), ChangeError> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, node)])))
            .await
    }

    /// Replaces a member's name and addresses.
    ///
    /// # Errors
    /// As [`ChangeError`] says.
    pub async fn change_node(&self, id: u64, node: Node) -> Result<(), ChangeError> {
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, node)])))
            .await
    }

    /// Makes exactly these members the voters, through a joint configuration; who was a voter and is
    /// no longer stays as a learner.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for a voter that is not a member. After [`ChangeError::Timeout`] the
    /// configuration may stay joint until somebody calls this again.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<(), ChangeError> {
        self.change(ChangeMembers::ReplaceAllVoters(voters)).await
    }

    /// Removes a learner for good. Its id is never used again.
    ///
    /// # Errors
    /// [`ChangeError::Refused`] for a voter: make it a learner first.
    pub async fn remove_node(&self, id: u64) -> Result<(), ChangeError> {
        if self.view.borrow().is_voter(id) {
            return Err(ChangeError::Refused(format!(
                "host {id} is a voter; demote it first"
            )));
        }
        self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id])))
            .await
    }

    /// Hands leadership to a voter; returns once this host knows that it leads.
    ///
    /// # Errors
    /// [`ChangeError::Timeout`] if it did not take over within four elections.
    pub async fn transfer_leader(&self, id: u64) -> Result<(), ChangeError> {
        let view = self.view.borrow().clone();
        if view.leader == Some(id) {
            return Ok(());
        }
        if !view.am_leader {
            return Err(ChangeError::NotLeader {
                leader: view.leader,
            });
        }
        if !view.is_voter(id) {
            return Err(ChangeError::Refused(format!("host {id} is not a voter")));
        }
        self.core.trigger().transfer_leader(id).await?;
        let patience = Duration::from_millis(4 * self.timing.election_max_ms);
        let taken = self.await_view(|view| view.leader == Some(id));
        tokio::time::timeout(patience, taken)
            .await
            .unwrap_or(Err(ChangeError::Timeout))
    }

    /// The leader is known to be dead: nobody waits for its time-out, and voter `id` elects itself if it is
    /// this host. Every voter is to be told so, or the others refuse until their time-out.
    ///
    /// # Errors
    /// [`ChangeError::Stopped`] only.
    pub async fn elect(&self, id: u64) -> Result<(), ChangeError> {
        let vote = self.core.metrics().borrow_watched().vote;
        let request = TransferLeaderRequest::new(vote, id, None);
        let handled = self.core.handle_transfer_leader(request).await;
        let answer = handled.map_err(|fatal| ChangeError::Stopped(fatal.to_string()))?;
        // The vote has changed meanwhile: somebody is being elected already.
        let _late = answer;
        Ok(())
    }

    /// Makes a snapshot now, for a backup.
    ///
    /// # Errors
    /// [`ChangeError::Stopped`] only.
    pub async fn snapshot_now(&self) -> Result<(), ChangeError> {
        Ok(self.core.trigger().snapshot().await?)
    }

    async fn await_view(&self, wanted: impl Fn(&RaftView) -> bool) -> Result<(), ChangeError> {
        let mut view = self.view.clone();
        let reached = view.wait_for(|view| wanted(view) || view.stopped.is_some());
        let reached = tokio::time::timeout(COMMIT_PATIENCE, reached).await;
        match reached.map_err(|_| ChangeError::Timeout)? {
            Ok(view) => match &view.stopped {
                Some(why) => Err(ChangeError::Stopped(why.clone())),
                None => Ok(()),
            },
            Err(_) => Err(ChangeError::Stopped("raft has ended".into())),
        }
    }

    /// Stops, writes what waits, and lets go of the directory.
    pub async fn shutdown(&self) {
        if let Err(error) = self.core.shutdown().await {
            tracing::error!(%error, "raft's task panicked");
        }
        self.store.close().await;
        self.follower.abort();
        self.beating.abort();
    }
}
