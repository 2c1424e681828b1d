//! Tells others about the log at the moment it changes, before it is durable or committed.
//!
//! A voter must not acknowledge the heartbeat of a host whose fence stands in its log, though it be
//! not yet committed (lease.md, step 2), and answers `FenceStatus(i)` only once entry `i` is durable
//! here (step 6).

use std::collections::BTreeSet;

use statemachine::Entry;

use super::super::types::LogId;

/// Looks on. Called under the lock of the log index, so in one order and never twice at once: an
/// implementation must not block and must not call back into Raft.
pub trait LogWatch: Send + Sync {
    /// An application entry stands in the log, not yet durable. Called again for each entry of the
    /// log when the store is opened.
    fn appended(&self, id: LogId, entry: &Entry);

    /// A voter configuration stands in the log, and counts from now on: one set, or two while joint.
    fn members_appended(&self, id: LogId, voters: &[BTreeSet<u64>]) {
        let _ = (id, voters);
    }

    /// Every entry behind `index` was taken back; `None`: all.
    fn truncated_after(&self, index: Option<u64>);

    /// Every entry up to and with `index` is durable here, as an entry or inside a snapshot.
    fn durable(&self, index: u64);
}

/// Looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWatch;

impl LogWatch for NoWatch {
    fn appended(&self, _: LogId, _: &Entry) {}
    fn truncated_after(&self, _: Option<u64>) {}
    fn durable(&self, _: u64) {}
}
