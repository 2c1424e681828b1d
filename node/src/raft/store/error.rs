//! Why the store refused: typed, since the daemon acts differently on each.

use std::path::PathBuf;

use crate::raft::record::RecordError;

/// What to do about a store that does not verify. A copy of another host's store, or an old backup of
/// one's own, would bring back a voter that has forgotten its promises (docs: recovery).
const REMEDY: &str = "move the directory away, `rais forget` this host and let it join again; \
                      never copy another host's store into place";

/// Why the store could not be opened, read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another daemon has the directory.
    #[error("{} is in use by another rais daemon; stop that one first", .dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// Something on disk does not verify. Nothing of it is used.
    #[error("store is damaged: {what}; {remedy}")]
    Corrupt {
        /// What does not verify.
        what: String,
        /// What to do about it.
        remedy: String,
    },
    /// The disk or the file system refused.
    #[error("{action}: {reason}")]
    Io {
        /// What was tried, with the path.
        action: String,
        /// What the system said.
        reason: String,
    },
    /// A value that the store can't hold.
    #[error("record refused: {0}")]
    Record(#[from] RecordError),
    /// Entries that don't follow on the log.
    #[error("entry {given} does not follow on {last}")]
    Gap {
        /// Index of the entry.
        given: u64,
        /// Last index of the log.
        last: u64,
    },
    /// The store was closed, or failed before; the first failure is in the log.
    #[error("store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt {
            what: what.into(),
            remedy: REMEDY.into(),
        }
    }

    pub(crate) fn io(action: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Io {
            action: action.into(),
            reason: reason.to_string(),
        }
    }
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}
