//! Log, vote and snapshots of this host, durable: what openraft stores, in records of our own.
//!
//! `Store` is the handle; `log` is the part that openraft reads and appends through, `snapshot` the
//! part of the state machine. All writes go through one queue to one thread (`flusher`), all reads
//! of recent entries are served from memory (`index`), the disk is behind `LogBackend`.
//!
//! Invariant: what was acknowledged is on the disk. A store that does not verify is not opened.

mod backend;
mod error;
mod flusher;
mod index;
mod log;
#[cfg(all(test, feature = "seeded"))]
pub(in crate::raft) mod memory;
mod queue;
mod seal;
mod sled;
mod snapshot;
mod tide;
mod watch;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

pub use backend::{LogBackend, LogRecord, SealedPart, Slot};
pub use error::StoreError;
pub(crate) use log::LogStore;
#[cfg(test)]
pub(in crate::raft) use sled::UNSYNCED;
pub use watch::{LogWatch, NoWatch};

use super::aside;
use super::record::{Ballot, Position, RECORD_LIMIT, StoredEntry, decode, encode};
use super::types::{LogEntry, LogId, Vote};
use flusher::{Flusher, Job};
use index::LogIndex;
use queue::Queue;
use snapshot::Current;

/// Room for one position or vote: three numbers of at most 9 bytes, and an option.
const SMALL: usize = 64;
/// Longest value of `put_meta`: a clock anchor, a serial; not a place for data.
const MAX_META: usize = 2048;

/// What the handle, the readers and the flusher share.
pub(crate) struct Shared {
    queue: Queue<Job>,
    index: Mutex<LogIndex>,
    vote: Mutex<Option<Vote>>,
    committed: Mutex<Option<LogId>>,
    committed_moved: AtomicBool,
    /// The flusher sleeps without a time-out: a moved committed position must wake it.
    resting: AtomicBool,
    snapshot: Mutex<Option<Current>>,
    /// Held while a snapshot is written: one is built here while another comes from the leader.
    saving: tokio::sync::Mutex<()>,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, LogIndex> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vote(&self) -> MutexGuard<'_, Option<Vote>> {
        self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> MutexGuard<'_, Option<LogId>> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn take_committed(&self) -> Option<LogId> {
        if self.committed_moved.swap(false, Ordering::SeqCst) {
            *self.committed()
        } else {
            None
        }
    }

    fn current_snapshot(&self) -> Option<u64> {
        self.snapshot().as_ref().map(|current| current.number)
    }

    fn snapshot(&self) -> MutexGuard<'_, Option<Current>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encode_position(at: Option<LogId>) -> Result<Vec<u8>, StoreError> {
    Ok(encode::<_, SMALL>(&at.map(Position::from))?)
}

fn decode_position(bytes: &[u8]) -> Result<Option<LogId>, StoreError> {
    let at: Option<Position> = decode::<_, SMALL>(bytes)
        .map_err(|error| StoreError::corrupt(format!("position: {error}")))?;
    Ok(at.map(Into::into))
}

fn decode_entry(record: &LogRecord) -> Result<LogEntry, StoreError> {
    let fault = |error| StoreError::corrupt(format!("entry {}: {error}", record.index));
    let stored: StoredEntry = decode::<_, RECORD_LIMIT>(&record.bytes).map_err(fault)?;
    if stored.at.index != record.index {
        return Err(StoreError::corrupt(format!(
            "entry {} stands at {}",
            stored.at.index, record.index
        )));
    }
    stored.try_into().map_err(fault)
}

/// Ends the flusher when the last handle is gone.
struct Life {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Life {
    fn thread(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

/// An open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn LogBackend>,
    shared: Arc<Shared>,
    life: Arc<Life>,
}

impl Store {
    /// Opens the store in `data_dir`, or makes one; verifies all of it, and shows the log to `watch`.
    ///
    /// Blocks for as long as it takes to read the whole store.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if a daemon has it, [`StoreError::Corrupt`] if anything does not verify.
    pub fn open(data_dir: &Path, watch: Arc<dyn LogWatch>) -> Result<Self, StoreError> {
        let backend = sled::SledBackend::open(&data_dir.join("raft"))?;
        Self::over(Arc::new(backend), watch)
    }

    /// Opens a store over a backend.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn over(
        backend: Arc<dyn LogBackend>,
        watch: Arc<dyn LogWatch>,
    ) -> Result<Self, StoreError> {
        let (store, flusher) = Self::assemble(backend, watch)?;
        let thread = std::thread::Builder::new().name("raft-store".into());
        let thread = thread
            .spawn(move || flusher.run())
            .map_err(|error| StoreError::io("start the store's thread", error))?;
        *store.life.thread() = Some(thread);
        Ok(store)
    }

    /// Opens a store whose writes are done by calls of what comes with it: false once it is closed.
    #[cfg(all(test, feature = "seeded"))]
    pub(in crate::raft) fn by_hand(
        backend: Arc<dyn LogBackend>,
        watch: Arc<dyn LogWatch>,
    ) -> Result<(Self, impl FnMut() -> bool + Send), StoreError> {
        let (store, mut flusher) = Self::assemble(backend, watch)?;
        let turn = move || flusher.turn(Some(std::time::Duration::ZERO));
        Ok((store, turn))
    }

    fn assemble(
        backend: Arc<dyn LogBackend>,
        watch: Arc<dyn LogWatch>,
    ) -> Result<(Self, Flusher), StoreError> {
        let position = |slot| match backend.load(&slot)? {
            Some(bytes) => decode_position(&bytes),
            None => Ok(None),
        };
        let (purged, committed) = (position(Slot::Purged)?, position(Slot::Committed)?);
        let vote = match backend.load(&Slot::Vote)? {
            None => None,
            Some(bytes) => {
                let ballot: Ballot = decode::<_, SMALL>(&bytes)
                    .map_err(|error| StoreError::corrupt(format!("vote: {error}")))?;
                Some(Vote::from(ballot))
            }
        };
        let index = load_log(&*backend, purged, watch)?;
        let snapshot = snapshot::verify(&*backend, purged)?;
        let shared = Arc::new(Shared {
            queue: Queue::new(),
            index: Mutex::new(index),
            vote: Mutex::new(vote),
            committed: Mutex::new(committed),
            committed_moved: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            snapshot: Mutex::new(snapshot),
            saving: tokio::sync::Mutex::new(()),
        });
        let purging = purged.map(|id| id.index());
        let flusher = Flusher::new(backend.clone(), shared.clone(), purging);
        let life = Life {
            shared: shared.clone(),
            thread: Mutex::new(None),
        };
        let store = Self {
            backend,
            shared,
            life: Arc::new(life),
        };
        Ok((store, flusher))
    }

    /// The part that openraft appends through.
    pub(crate) fn log(&self) -> LogStore {
        LogStore::new(self.clone())
    }

    async fn push(&self, job: Job) -> Result<(), StoreError> {
        self.shared
            .queue
            .push(job)
            .await
            .map_err(|_| StoreError::Closed)
    }

    /// Writes a small value and returns once it is durable.
    async fn save(&self, slot: Slot, bytes: Vec<u8>) -> Result<(), StoreError> {
        let (told, wait) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(told.send(result)));
        self.push(Job::Save { slot, bytes, done }).await?;
        wait.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Returns once everything written before is durable.
    ///
    /// # Errors
    /// [`StoreError`] of the first write that failed.
    pub async fn barrier(&self) -> Result<(), StoreError> {
        let (told, wait) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(told.send(result)));
        self.push(Job::Barrier { done }).await?;
        wait.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Counts a start of the daemon: one more than ever before on this disk, durable on return.
    ///
    /// # Errors
    /// [`StoreError`] if it could not be written; then it must not be used.
    pub async fn next_boot(&self) -> Result<u64, StoreError> {
        let seen = match self.read(Slot::Boot).await? {
            None => 0,
            Some(bytes) => decode::<u64, SMALL>(&bytes)
                .map_err(|error| StoreError::corrupt(format!("boot counter: {error}")))?,
        };
        let boot = seen + 1;
        self.save(Slot::Boot, encode::<_, SMALL>(&boot)?).await?;
        Ok(boot)
    }

    /// Keeps a small value under `key`, durable on return.
    ///
    /// # Errors
    /// [`StoreError::Record`] above 2 KiB; otherwise as the disk says.
    pub async fn put_meta(&self, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
        if bytes.len() > MAX_META {
            let what = format!("{} bytes for {key} exceed {MAX_META}", bytes.len());
            return Err(super::record::RecordError::Malformed(what).into());
        }
        self.save(Slot::Meta(key.into()), bytes.to_vec()).await
    }

    /// Reads what `put_meta` kept.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it does not verify.
    pub async fn get_meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(Slot::Meta(key.into())).await
    }

    async fn read(&self, slot: Slot) -> Result<Option<Vec<u8>>, StoreError> {
        self.blocking(move |backend| backend.load(&slot)).await
    }

    /// Reads from the disk without holding up the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&dyn LogBackend) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let backend = self.backend.clone();
        let read = aside(move || run(&*backend)).await;
        read.unwrap_or(Err(StoreError::Closed))
    }

    /// Writes what waits, flushes, and lets go of the directory.
    pub async fn close(&self) {
        self.shared.queue.close();
        let thread = self.life.thread().take();
        if let Some(thread) = thread {
            let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
            if !matches!(joined, Ok(true)) {
                tracing::error!("the store's thread panicked");
            }
        }
    }
}

/// Reads the log into memory; it must follow on what was purged without a gap.
fn load_log(
    backend: &dyn LogBackend,
    purged: Option<LogId>,
    watch: Arc<dyn LogWatch>,
) -> Result<LogIndex, StoreError> {
    let from = purged.map_or(0, |id| id.index() + 1);
    let mut index = LogIndex::new(purged, watch);
    let generation = index.generation();
    let mut next = from;
    backend.scan(from..u64::MAX, &mut |record| {
        if record.index != next {
            return Err(StoreError::corrupt(format!(
                "entry {next} is missing from the log"
            )));
        }
        next += 1;
        let entry = decode_entry(&record)?;
        index.append(entry, record.bytes.len())?;
        index.flushed(generation, record.index);
        Ok(())
    })?;
    Ok(index)
}
