//! What openraft is told about us: ids, nodes, the proposal and its answer.
//!
//! openraft's own types stay inside `raft/`; the rest of the daemon sees `Node`, `u64` ids and the
//! state machine's `Entry` and `Applied`. A proposal is shared by pointer, since the log index, the
//! flusher, each replication stream and `apply` all look at the same entry.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use statemachine::{Applied, Entry};

/// A member of the Raft configuration, as the log carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The host's name, for people.
    pub name: String,
    /// Its control addresses, the id address first.
    pub control: Vec<SocketAddr>,
}

/// One application entry on its way through the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal(pub Arc<Entry>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands at {}", self.0.commands.len(), self.0.at)
    }
}

/// What `apply` made of an entry; `None` for blank and membership entries.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply(pub Option<Applied>);

/// What openraft runs on.
#[cfg(not(feature = "seeded"))]
#[allow(deprecated)]
type Runtime = openraft::impls::TokioRuntime;
/// The same, with chance from a seed.
#[cfg(feature = "seeded")]
#[allow(deprecated)]
pub(crate) type Runtime =
    openraft::rt::deterministic_rng::DeterministicRng<openraft::impls::TokioRuntime>;

openraft::declare_raft_types!(
    /// The types that openraft is built with here.
    pub TypeConfig:
        D = Proposal,
        R = Reply,
        NodeId = u64,
        Node = Node,
        AsyncRuntime = Runtime,
);

/// A leader: its term and id. Named in full, as `impl From` can't look through a projection.
type Leader = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// Position in the log: leader and index.
pub(crate) type LogId = openraft::LogId<Leader>;
/// A vote, granted or committed.
pub(crate) type Vote = openraft::Vote<Leader>;
/// An entry of openraft.
pub(crate) type LogEntry = openraft::Entry<Leader, openraft::EntryPayload<Proposal, u64, Node>>;
/// A voter configuration with its nodes.
pub(crate) type Members = openraft::Membership<u64, Node>;
/// A voter configuration and the position that set it.
pub(crate) type StoredMembers = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub(crate) type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot with its bytes.
pub(crate) type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotBytes>;

/// An encoded state, shared by pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBytes(pub Arc<Vec<u8>>);

/// openraft's metrics, to watch.
pub(crate) type Metrics =
    openraft::type_config::alias::WatchReceiverOf<TypeConfig, openraft::RaftMetrics<TypeConfig>>;
