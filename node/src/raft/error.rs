//! Why Raft refused: what a caller can act on, without openraft's types.

use openraft::errors::{
    ChangeMembershipError, ClientWriteError, Fatal, ForwardToLeader, InitializeError,
    LinearizableReadError, RaftError,
};

use super::record::RecordError;
use super::store::StoreError;
use super::types::TypeConfig;

/// Why Raft could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The timing contradicts itself.
    #[error("raft timing: {0}")]
    Timing(String),
    /// openraft refused what it found in the store.
    #[error("start raft: {0}")]
    Core(String),
}

/// Why a proposal was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Ask the leader; nothing was written.
    #[error("this host does not lead; the leader is {leader:?}")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// No answer in time: it may still be applied. A retry under the same origin is safe.
    #[error("the proposal was not committed in time; it may still be")]
    Timeout,
    /// The leader changed while it was under way: it may still be applied, or never.
    #[error("the leader changed; the proposal may or may not be committed")]
    Unknown {
        /// Who leads, if known.
        leader: Option<u64>,
    },
    /// Too many proposals are under way; nothing was written.
    #[error("too many proposals are under way; try again")]
    Busy,
    /// The entry can't be encoded; nothing was written.
    #[error("entry refused: {0}")]
    Refused(#[from] RecordError),
    /// Raft ended on this host.
    #[error("raft has stopped on this host: {0}")]
    Stopped(String),
}

/// Why a linearizable read was not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Ask the leader.
    #[error("this host does not lead; the leader is {leader:?}")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// No quorum answered in time.
    #[error("no quorum confirmed the leader in time")]
    NoQuorum,
    /// Raft ended on this host.
    #[error("raft has stopped on this host: {0}")]
    Stopped(String),
}

/// Why the configuration was not changed, or leadership not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Ask the leader.
    #[error("this host does not lead; the leader is {leader:?}")]
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Another change is not yet committed.
    #[error("another change of the members is under way")]
    InProgress,
    /// The leader is new and has committed nothing yet.
    #[error("the leader is new; try again in a moment")]
    TooEarly,
    /// The change can't be made.
    #[error("change of the members refused: {0}")]
    Refused(String),
    /// No answer in time: it may still happen.
    #[error("the change was not committed in time; it may still be")]
    Timeout,
    /// Raft ended on this host.
    #[error("raft has stopped on this host: {0}")]
    Stopped(String),
}

type WriteError = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

fn leader(forward: &ForwardToLeader<TypeConfig>) -> Option<u64> {
    forward.leader_id
}

impl From<Fatal<TypeConfig>> for ChangeError {
    fn from(fatal: Fatal<TypeConfig>) -> Self {
        Self::Stopped(fatal.to_string())
    }
}

impl From<WriteError> for ProposeError {
    fn from(error: WriteError) -> Self {
        match error {
            RaftError::Fatal(fatal) => Self::Stopped(fatal.to_string()),
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Self::NotLeader {
                leader: leader(&forward),
            },
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(forward)) => Self::Unknown {
                leader: leader(&forward),
            },
            // Neither a change of members nor conditional: openraft has no other reason.
            RaftError::APIError(other) => Self::Stopped(other.to_string()),
        }
    }
}

impl From<WriteError> for ChangeError {
    fn from(error: WriteError) -> Self {
        match error {
            RaftError::Fatal(fatal) => fatal.into(),
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => Self::NotLeader {
                leader: leader(&forward),
            },
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Self::Timeout,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )) => Self::InProgress,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::UncommittedLeaderLog(_),
            )) => Self::TooEarly,
            RaftError::APIError(other) => Self::Refused(other.to_string()),
        }
    }
}

impl From<RaftError<TypeConfig, InitializeError<TypeConfig>>> for ChangeError {
    fn from(error: RaftError<TypeConfig, InitializeError<TypeConfig>>) -> Self {
        match error {
            RaftError::Fatal(fatal) => fatal.into(),
            RaftError::APIError(other) => Self::Refused(other.to_string()),
        }
    }
}

impl From<RaftError<TypeConfig, LinearizableReadError<TypeConfig>>> for ReadError {
    fn from(error: RaftError<TypeConfig, LinearizableReadError<TypeConfig>>) -> Self {
        match error {
            RaftError::Fatal(fatal) => Self::Stopped(fatal.to_string()),
            RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => {
                Self::NotLeader {
                    leader: leader(&forward),
                }
            }
            RaftError::APIError(_) => Self::NoQuorum,
        }
    }
}
