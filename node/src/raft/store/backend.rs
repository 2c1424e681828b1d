//! What the log needs from a disk. One implementation today (sled); a preallocated segment file could
//! be another, and would have to pass the same tests.
//!
//! Every call blocks, and only the flusher thread writes. Nothing is durable before `flush` returns;
//! what a crash leaves is a prefix of the writes, in their order.

use std::ops::Range;

use super::error::StoreError;

/// A sealed part of a record, with its key.
pub type SealedPart = ([u8; 10], Vec<u8>);

/// One encoded entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Its index.
    pub index: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The small values beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The last vote.
    Vote,
    /// The last index known to be committed.
    Committed,
    /// The last purged position.
    Purged,
    /// Which snapshot is current, and what it covers.
    Snapshot,
    /// How often this store has been opened by a daemon.
    Boot,
    /// A value of somebody else (`put_meta`).
    Meta(String),
}

/// A place for log, vote and snapshots.
pub trait LogBackend: Send + Sync + 'static {
    /// Writes entries behind the last one.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn append(&self, records: &[LogRecord]) -> Result<(), StoreError>;

    /// Shows every entry of a range, in order.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] for a record that does not verify, and whatever `visit` returns.
    fn scan(
        &self,
        range: Range<u64>,
        visit: &mut dyn FnMut(LogRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError>;

    /// Removes every entry behind `last`; `None` removes all. From the end, so that no hole remains.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn truncate_after(&self, last: Option<u64>) -> Result<(), StoreError>;

    /// Removes at most `limit` records up to and with `upto`, oldest first; says if any are left.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn purge_chunk(&self, upto: u64, limit: usize) -> Result<bool, StoreError>;

    /// Writes a small value.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn save(&self, slot: &Slot, bytes: &[u8]) -> Result<(), StoreError>;

    /// Reads a small value.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it does not verify.
    fn load(&self, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a sealed part of snapshot `number`.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn save_snapshot_parts(&self, parts: &[SealedPart]) -> Result<(), StoreError>;

    /// Reads snapshot `number`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is not whole.
    fn load_snapshot(&self, number: u64) -> Result<Vec<u8>, StoreError>;

    /// Removes at most `limit` parts of snapshots before `keep`; says if any are left.
    ///
    /// # Errors
    /// [`StoreError::Io`] from the disk.
    fn sweep_snapshots(&self, keep: u64, limit: usize) -> Result<bool, StoreError>;

    /// Returns once everything written before is on the disk.
    ///
    /// # Errors
    /// [`StoreError::Io`]: nothing since the last flush may be relied on.
    fn flush(&self) -> Result<(), StoreError>;

    /// Lets go of the files. Every later call gives [`StoreError::Closed`].
    fn close(&self);
}
