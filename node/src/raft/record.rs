//! Our own shapes of what Raft keeps and sends, and the one place where bincode meets them.
//!
//! openraft's serde layouts change between its alphas, so neither disk nor wire ever sees them:
//! every value passes through a struct of this file. bincode runs with a byte limit and a fixed
//! configuration, and left-over bytes are refused (docs/adr/0002).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::vote::RaftLeaderId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use statemachine::codec;

use super::types::{LogEntry, LogId, Members, Node, Proposal, SnapshotMeta, StoredMembers, Vote};

/// Room for an entry, or for a membership of 128 hosts with a few addresses each, and its header.
pub(crate) const RECORD_LIMIT: usize = codec::MAX_ENTRY + (64 << 10);
/// Most voter sets in one configuration: two while it is joint.
const MAX_CONFIGS: usize = 2;

/// Room for a position and the kind of an entry.
const SMALL_WEIGHT: usize = 40;
/// Room for a node: a name of 63 bytes and a few addresses.
const NODE_WEIGHT: usize = 256;

/// Why bytes were refused, or could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not a value of the expected shape, or larger than allowed.
    #[error("record does not decode: {0}")]
    Malformed(String),
    /// bincode would have ignored these.
    #[error("{0} bytes are left over after the record")]
    Trailing(usize),
    /// The application entry inside is damaged or too long.
    #[error("entry: {0}")]
    Entry(#[from] codec::CodecError),
    /// A voter configuration that could never have been committed.
    #[error("voter configuration is not valid: {0}")]
    Members(String),
}

/// Encodes one value.
pub(crate) fn encode<T: Serialize, const LIMIT: usize>(value: &T) -> Result<Vec<u8>, RecordError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let bytes = bincode::serde::encode_to_vec(value, config)
        .map_err(|error| RecordError::Malformed(error.to_string()))?;
    // bincode checks its limit on decoding only.
    if bytes.len() > LIMIT {
        return Err(RecordError::Malformed(format!(
            "{} bytes exceed {LIMIT}",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// Decodes one value that must fill `bytes`.
pub(crate) fn decode<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, RecordError> {
    if bytes.len() > LIMIT {
        return Err(RecordError::Malformed(format!(
            "{} bytes exceed {LIMIT}",
            bytes.len()
        )));
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| RecordError::Malformed(error.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(RecordError::Trailing(left)),
    }
}

/// Bytes that bincode reads in one piece instead of one element at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}

/// A position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) index: u64,
}

impl From<LogId> for Position {
    fn from(id: LogId) -> Self {
        let leader = id.committed_leader_id();
        Self {
            term: leader.term,
            leader: leader.node_id,
            index: id.index(),
        }
    }
}

impl From<Position> for LogId {
    fn from(at: Position) -> Self {
        LogId::new(RaftLeaderId::new(at.term, at.leader), at.index)
    }
}

/// A vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ballot {
    pub(crate) term: u64,
    pub(crate) node: u64,
    pub(crate) committed: bool,
}

impl From<Vote> for Ballot {
    fn from(vote: Vote) -> Self {
        let leader = vote.leader_id;
        Self {
            term: leader.term,
            node: leader.node_id,
            committed: vote.committed,
        }
    }
}

impl From<Ballot> for Vote {
    fn from(ballot: Ballot) -> Self {
        if ballot.committed {
            Vote::new_committed(ballot.term, ballot.node)
        } else {
            Vote::new(ballot.term, ballot.node)
        }
    }
}

/// Voters and nodes of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Roster {
    voters: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Node>,
}

impl From<&Members> for Roster {
    fn from(members: &Members) -> Self {
        Self {
            voters: members.get_joint_config().clone(),
            nodes: members
                .nodes()
                .map(|(id, node)| (*id, node.clone()))
                .collect(),
        }
    }
}

impl TryFrom<Roster> for Members {
    type Error = RecordError;

    fn try_from(roster: Roster) -> Result<Self, RecordError> {
        if roster.voters.len() > MAX_CONFIGS {
            return Err(RecordError::Members(format!(
                "{} voter sets",
                roster.voters.len()
            )));
        }
        // Only a store without any entry has the empty configuration.
        if roster.voters.is_empty() && roster.nodes.is_empty() {
            return Ok(Members::default());
        }
        Members::new(roster.voters, roster.nodes)
            .map_err(|error| RecordError::Members(error.to_string()))
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StoredPayload {
    /// A new leader's first entry.
    Blank,
    /// An application entry, as `statemachine::codec` writes it.
    Normal(Blob),
    /// A voter configuration.
    Members(Roster),
}

/// One entry of the log, on disk and on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredEntry {
    pub(crate) at: Position,
    pub(crate) payload: StoredPayload,
}

impl StoredEntry {
    /// About as many bytes as it takes in a message.
    pub(crate) fn weight(&self) -> usize {
        match &self.payload {
            StoredPayload::Blank => SMALL_WEIGHT,
            StoredPayload::Normal(blob) => SMALL_WEIGHT + blob.0.len(),
            StoredPayload::Members(roster) => SMALL_WEIGHT + roster.nodes.len() * NODE_WEIGHT,
        }
    }
}

impl TryFrom<&LogEntry> for StoredEntry {
    type Error = RecordError;

    fn try_from(entry: &LogEntry) -> Result<Self, RecordError> {
        let payload = match &entry.payload {
            openraft::EntryPayload::Blank => StoredPayload::Blank,
            openraft::EntryPayload::Normal(proposal) => {
                StoredPayload::Normal(Blob(codec::encode_entry(&proposal.0)?))
            }
            openraft::EntryPayload::Membership(members) => StoredPayload::Members(members.into()),
        };
        Ok(Self {
            at: entry.log_id.into(),
            payload,
        })
    }
}

impl TryFrom<StoredEntry> for LogEntry {
    type Error = RecordError;

    fn try_from(stored: StoredEntry) -> Result<Self, RecordError> {
        let payload = match stored.payload {
            StoredPayload::Blank => openraft::EntryPayload::Blank,
            StoredPayload::Normal(blob) => {
                openraft::EntryPayload::Normal(Proposal(Arc::new(codec::decode_entry(&blob.0)?)))
            }
            StoredPayload::Members(roster) => {
                openraft::EntryPayload::Membership(roster.try_into()?)
            }
        };
        Ok(openraft::Entry {
            log_id: stored.at.into(),
            payload,
        })
    }
}

/// What a snapshot covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coverage {
    pub(crate) last: Option<Position>,
    members_at: Option<Position>,
    members: Roster,
}

impl From<&SnapshotMeta> for Coverage {
    fn from(meta: &SnapshotMeta) -> Self {
        Self {
            last: meta.last_log_id.map(Into::into),
            members_at: meta.last_membership.log_id().map(Into::into),
            members: meta.last_membership.membership().into(),
        }
    }
}

impl TryFrom<Coverage> for SnapshotMeta {
    type Error = RecordError;

    fn try_from(coverage: Coverage) -> Result<Self, RecordError> {
        let members: Members = coverage.members.try_into()?;
        Ok(openraft::SnapshotMeta {
            last_log_id: coverage.last.map(Into::into),
            last_membership: StoredMembers::new(coverage.members_at.map(Into::into), members),
        })
    }
}
