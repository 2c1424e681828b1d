//! The state machine behind Raft: applies committed entries to the `State` in memory, publishes it, and
//! makes and takes snapshots.
//!
//! The state lives in memory only; after a restart it is the newest snapshot plus the log up to the
//! saved committed index. Each batch is published before anybody is answered, so whoever proposed
//! sees at least his own write. The state is copied once for each batch, since readers hold the old.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use statemachine::{Applied, HostId, LogTime, State, codec};

use super::aside;
use super::store::Store;
use super::types::{
    LogEntry, LogId, Reply, Snapshot, SnapshotBytes, SnapshotMeta, StoredMembers, TypeConfig,
};

/// What became of one application entry.
#[derive(Clone, Debug, PartialEq)]
pub struct AppliedEntry {
    /// Its replicated time.
    pub at: LogTime,
    /// Its proposer's wall clock, in ms since 1970.
    pub wall: u64,
    /// Outcomes and effects, with the index.
    pub applied: Applied,
}

/// A step of the state machine: entries that were applied together, or a snapshot that was taken.
#[derive(Clone, Debug)]
pub struct Step {
    /// The state after it.
    pub state: Arc<State>,
    /// Index of the last entry in it, application entry or not.
    pub index: u64,
    /// The application entries; none when a snapshot was taken.
    pub entries: Vec<AppliedEntry>,
    /// Entries of an earlier run that are applied again at start: their effects were told before.
    pub replay: bool,
}

/// Told after each step, in order. It must not block: it runs between apply and the answers.
pub type Observer = Arc<dyn Fn(Step) + Send + Sync>;

/// The state machine that openraft drives.
pub(crate) struct Machine {
    store: Store,
    published: Arc<ArcSwap<State>>,
    observer: Observer,
    replaying: Arc<AtomicBool>,
    applied: Option<LogId>,
    members: StoredMembers,
}

fn host_sets(voters: &[BTreeSet<u64>]) -> Vec<BTreeSet<HostId>> {
    voters
        .iter()
        .map(|set| set.iter().copied().map(HostId).collect())
        .collect()
}

impl Machine {
    pub(crate) fn new(
        store: Store,
        published: Arc<ArcSwap<State>>,
        observer: Observer,
        replaying: Arc<AtomicBool>,
    ) -> Self {
        let members = StoredMembers::default();
        Self {
            store,
            published,
            observer,
            replaying,
            applied: None,
            members,
        }
    }

    /// Applies one entry to `state`.
    fn one(&mut self, state: &mut State, entry: &LogEntry) -> Option<AppliedEntry> {
        let id = entry.log_id;
        self.applied = Some(id);
        match &entry.payload {
            EntryPayload::Blank => {
                statemachine::note_blank(state, id.index());
                None
            }
            EntryPayload::Normal(proposal) => {
                let entry = &proposal.0;
                let applied = statemachine::apply(state, id.index(), entry);
                Some(AppliedEntry {
                    at: entry.at,
                    wall: entry.wall,
                    applied,
                })
            }
            EntryPayload::Membership(members) => {
                let voters = host_sets(members.get_joint_config());
                statemachine::note_membership(state, id.index(), voters);
                self.members = StoredMembers::new(Some(id), members.clone());
                None
            }
        }
    }

    fn publish(&self, state: Arc<State>, entries: Vec<AppliedEntry>) {
        let Some(applied) = self.applied else { return };
        self.published.store(state.clone());
        let replay = self.replaying.load(Ordering::Relaxed);
        (self.observer)(Step {
            state,
            index: applied.index(),
            entries,
            replay,
        });
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembers), io::Error> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut state = self.published.load_full();
        let mut done = Vec::new();
        let mut waiting: Vec<(ApplyResponder<TypeConfig>, Reply)> = Vec::new();
        let mut result = Ok(());
        while let Some(item) = entries.next().await {
            let (entry, responder) = match item {
                Ok(item) => item,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            let applied = self.one(Arc::make_mut(&mut state), &entry);
            if let Some(responder) = responder {
                waiting.push((
                    responder,
                    Reply(applied.as_ref().map(|one| one.applied.clone())),
                ));
            }
            done.extend(applied);
        }
        self.publish(state, done);
        waiting
            .into_iter()
            .for_each(|(responder, reply)| responder.send(reply));
        result
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            store: self.store.clone(),
            state: self.published.load_full(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.members.clone(),
            },
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> Result<(), io::Error> {
        let bytes = snapshot.0.clone();
        let decoded = aside(move || codec::decode_state(&bytes)).await?;
        let state = decoded.map_err(io::Error::other)?;
        // Durable before it counts: openraft purges the log right after.
        self.store.save_snapshot(meta, &snapshot.0).await?;
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        self.publish(Arc::new(state), Vec::new());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.store.load_snapshot().await?)
    }
}

/// Makes one snapshot of a state that no longer changes.
pub(crate) struct Builder {
    store: Store,
    state: Arc<State>,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let state = self.state.clone();
        let encoded = aside(move || codec::encode_state(&state)).await?;
        let bytes = Arc::new(encoded.map_err(io::Error::other)?);
        self.store.save_snapshot(&self.meta, &bytes).await?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: SnapshotBytes(bytes),
        })
    }
}
