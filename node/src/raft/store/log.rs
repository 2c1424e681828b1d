//! The store as openraft's log: append, read, truncate, purge, vote, committed.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::atomic::Ordering;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::backend::{LogRecord, Slot};
use super::error::StoreError;
use super::flusher::Job;
use super::index::Found;
use super::{SMALL, Store, decode_entry};
use crate::raft::record::{Ballot, RECORD_LIMIT, StoredEntry, encode};
use crate::raft::types::{LogEntry, LogId, TypeConfig, Vote};

/// Encoded bytes that one replication request is filled with; a frame is at most 4 MiB.
const READ_BUDGET: usize = 2 << 20;
/// A cold read may race with a truncation; then the entry is looked up again, at most this often.
const READ_TRIES: usize = 4;

/// openraft's handle on the log. Clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    store: Store,
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&at) => at,
        Bound::Excluded(&at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.saturating_add(1),
        Bound::Excluded(&at) => at,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl LogStore {
    pub(super) fn new(store: Store) -> Self {
        Self { store }
    }

    async fn entries(&self, range: Range<u64>, budget: usize) -> Result<Vec<LogEntry>, StoreError> {
        for _ in 0..READ_TRIES {
            let found = self.store.shared.index().find(range.clone(), budget);
            if let Some(entries) = self.warm(found).await? {
                return Ok(entries);
            }
        }
        Err(StoreError::corrupt(format!(
            "entries {range:?} are not on the disk"
        )))
    }

    /// Fetches what is not in memory; `None` if the log changed meanwhile.
    async fn warm(&self, found: Vec<Found>) -> Result<Option<Vec<LogEntry>>, StoreError> {
        let cold: Vec<LogId> = found
            .iter()
            .filter_map(|one| {
                if let Found::Cold(id) = one {
                    Some(*id)
                } else {
                    None
                }
            })
            .collect();
        let mut read = Vec::new();
        if let (Some(first), Some(last)) = (cold.first(), cold.last()) {
            let range = first.index()..last.index() + 1;
            read = self
                .store
                .blocking(move |backend| {
                    let mut out = Vec::new();
                    backend.scan(range, &mut |record| {
                        out.push(decode_entry(&record)?);
                        Ok(())
                    })?;
                    Ok(out)
                })
                .await?;
        }
        if !read.iter().map(|entry| entry.log_id).eq(cold) {
            return Ok(None);
        }
        // Cold entries are the oldest of the log, so they stand before every hot one.
        read.extend(found.into_iter().filter_map(|one| match one {
            Found::Hot(entry) => Some(entry),
            Found::Cold(_) => None,
        }));
        Ok(Some(read))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        Ok(self.entries(bounds(&range), usize::MAX).await?)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<LogEntry>, io::Error> {
        Ok(self.entries(start..end, READ_BUDGET).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.store.shared.vote())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let index = self.store.shared.index();
        Ok(LogState {
            last_purged_log_id: index.purged(),
            last_log_id: index.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let bytes = encode::<_, SMALL>(&Ballot::from(*vote)).map_err(StoreError::from)?;
        self.store.save(Slot::Vote, bytes).await?;
        *self.store.shared.vote() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        let shared = &self.store.shared;
        *shared.committed() = committed;
        shared.committed_moved.store(true, Ordering::SeqCst);
        if shared.resting.swap(false, Ordering::SeqCst) {
            shared.queue.nudge();
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(*self.store.shared.committed())
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut taken = Vec::new();
        for entry in entries {
            let stored = StoredEntry::try_from(&entry).map_err(StoreError::from)?;
            let bytes = encode::<_, RECORD_LIMIT>(&stored).map_err(StoreError::from)?;
            taken.push((entry, bytes.len()));
            records.push(LogRecord {
                index: stored.at.index,
                bytes,
            });
        }
        let generation = {
            let mut index = self.store.shared.index();
            for (entry, bytes) in taken {
                index.append(entry, bytes)?;
            }
            index.generation()
        };
        Ok(self
            .store
            .push(Job::Append {
                records,
                generation,
                done,
            })
            .await?)
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let last = last.map(|id| id.index());
        self.store.shared.index().truncate_after(last);
        // Not awaited: the queue keeps it before the appends that follow, and nothing is promised
        // about the entries that go.
        Ok(self.store.push(Job::Truncate { last }).await?)
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.store.shared.index().purge(upto);
        Ok(self.store.push(Job::Purge { upto }).await?)
    }
}
