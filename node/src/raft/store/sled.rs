//! The backend on sled 0.34, with the precautions that its source and our kill tests ask for.
//!
//! `flush()` writes but does not make the disk flush its cache, so each is followed by `sync_data`
//! on our own handle of the file `db`. What kills and power cuts at start-up leave is put right before
//! opening (`settle`). sled may panic on damaged bytes: opening and verifying run under
//! `catch_unwind`. Small parts only (`seal`), no timer of its own.
//!
//! Limits: one writer (the flusher); the whole store is read once at open to verify it.

use std::fs::File;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::backend::{LogBackend, LogRecord, SealedPart, Slot};
use super::error::StoreError;
use super::seal::{Joiner, cut, part_key, seal, split_key, unseal};
use super::tide::Tide;

/// sled's page cache. Its default is 1 GiB; a log of 10,000 small entries is a few MiB.
const CACHE_BYTES: u64 = 32 << 20;
/// sled lets go of its file a moment after its last handle: how often and how long we wait for that,
/// 5 s in all. Nobody else can be meant, since we hold the directory's own lock.
const REOPEN_TRIES: u32 = 500;
const REOPEN_PAUSE: Duration = Duration::from_millis(10);
/// A program that was just forked holds a lock which its parent gave up, until it is executed.
const LOCK_TRIES: u32 = 20;
/// Key of the number that is compared with the tide mark.
const TIDE_KEY: &[u8] = b"tide";

#[derive(Debug)]
struct Open {
    db: ::sled::Db,
    log: ::sled::Tree,
    slots: ::sled::Tree,
    snapshots: ::sled::Tree,
    file: File,
    tide: Tide,
    _lock: File,
}

/// Opens the hole that the crash tests must find: nothing is synced any more.
#[cfg(test)]
pub(in crate::raft) static UNSYNCED: AtomicBool = AtomicBool::new(false);

impl Open {
    fn sync(&self) -> std::io::Result<()> {
        #[cfg(test)]
        if UNSYNCED.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.file.sync_data()
    }
}

/// An open store.
#[derive(Debug)]
pub(super) struct SledBackend {
    open: RwLock<Option<Open>>,
    number: AtomicU64,
    dirty: AtomicBool,
    /// The disk has failed.
    failed: AtomicBool,
}

fn disk(error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(reason) => StoreError::io("use the store", reason),
        other => StoreError::corrupt(other.to_string()),
    }
}

/// Runs sled code that reads bytes which may be damaged.
fn guarded<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(StoreError::corrupt("sled panicked while reading it")))
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|error| StoreError::io(format!("open {}", path.display()), error))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => std::thread::park_timeout(REOPEN_PAUSE),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(StoreError::io(format!("lock {}", path.display()), error));
            }
        }
    }
    Err(StoreError::Locked { dir: dir.into() })
}

/// Makes the directory fit for sled, whatever a kill or a power cut left of it.
///
/// - A `snap.*.generating` is no snapshot yet, and sled takes an empty or torn one for corruption.
/// - `conf` repeats what we always ask for; sled writes it without a sync and refuses a torn one.
/// - sled reads what is in `db`, synced or not, and writes a snapshot of it that is: so it has to be. After
///   a sync that failed the kernel goes on showing what the disk does not have, as if all were well:
///   so it forgets what it shows, and the disk is read.
fn settle(dir: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let unfinished = name.starts_with("snap.") && name.ends_with(".generating");
        if unfinished || name == "conf" {
            std::fs::remove_file(entry.path())?;
        }
    }
    match File::open(dir.join("db")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        file => {
            let file = file?;
            file.sync_all()?;
            Ok(rustix::fs::fadvise(
                &file,
                0,
                None,
                rustix::fs::Advice::DontNeed,
            )?)
        }
    }
}

fn open_sled(dir: &Path) -> Result<::sled::Db, StoreError> {
    let config = ::sled::Config::default()
        .path(dir)
        .cache_capacity(CACHE_BYTES)
        .flush_every_ms(None);
    for _ in 0..REOPEN_TRIES {
        match guarded(|| Ok(config.open()))? {
            Ok(db) => return Ok(db),
            Err(::sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                std::thread::park_timeout(REOPEN_PAUSE);
            }
            Err(error) => return Err(disk(error)),
        }
    }
    Err(StoreError::io(
        format!("open {}", dir.display()),
        "its file stays locked",
    ))
}

impl SledBackend {
    /// Opens the store under `dir`, or makes one, and verifies all of it.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        let fault = |error| StoreError::io(format!("open {}", dir.display()), error);
        let sled_dir: PathBuf = dir.join("sled");
        std::fs::create_dir_all(&sled_dir).map_err(fault)?;
        let lock = lock(dir)?;
        let (tide, mark) = Tide::open(dir, !sled_dir.join("db").exists())?;
        settle(&sled_dir).map_err(fault)?;
        let db = open_sled(&sled_dir)?;
        // sled renamed its snapshot and removed the one before, which knows of segments that are now
        // free: once they are written over, the old one must not come back.
        let settled = File::open(&sled_dir).and_then(|dir| dir.sync_all());
        settled.map_err(fault)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(sled_dir.join("db"));
        let file = file.map_err(fault)?;
        let tree = |name: &str| guarded(|| db.open_tree(name).map_err(disk));
        let (log, slots, snapshots) = (tree("log")?, tree("slots")?, tree("snapshots")?);
        let number = guarded(|| verify(&log, &slots, &snapshots))?;
        if number < mark {
            return Err(StoreError::corrupt(format!(
                "{} ends at write {number}, but had come to {mark}: its tail is lost",
                sled_dir.display()
            )));
        }
        let open = Open {
            db,
            log,
            slots,
            snapshots,
            file,
            tide,
            _lock: lock,
        };
        Ok(Self {
            open: RwLock::new(Some(open)),
            number: AtomicU64::new(number),
            dirty: AtomicBool::new(true),
            failed: AtomicBool::new(false),
        })
    }

    fn with<T>(&self, run: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let open = self
            .open
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let done = open.as_ref().map_or(Err(StoreError::Closed), run);
        if let Err(StoreError::Io { .. }) = done {
            self.failed.store(true, Ordering::Relaxed);
        }
        done
    }

    fn write<T>(&self, run: impl FnOnce(&Open) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.dirty.store(true, Ordering::Relaxed);
        self.with(run)
    }
}

/// Reads every record once; gives the number to compare with the tide mark.
fn verify(
    log: &::sled::Tree,
    slots: &::sled::Tree,
    snapshots: &::sled::Tree,
) -> Result<u64, StoreError> {
    for item in slots.iter() {
        let (key, value) = item.map_err(disk)?;
        unseal(&key, &value)?;
    }
    // Old snapshots and purged entries may be half removed: each part alone must verify. That the
    // log and the current snapshot are whole is checked when they are read, right after this.
    for item in snapshots.iter().chain(log.iter()) {
        let (key, value) = item.map_err(disk)?;
        unseal(&key, &value)?;
    }
    let Some(value) = slots.get(TIDE_KEY).map_err(disk)? else {
        return Ok(0);
    };
    let part = unseal(TIDE_KEY, &value)?;
    let bytes = part
        .body
        .try_into()
        .map_err(|_| StoreError::corrupt("tide has a wrong length"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn slot_key(slot: &Slot) -> Vec<u8> {
    match slot {
        Slot::Vote => b"vote".to_vec(),
        Slot::Committed => b"committed".to_vec(),
        Slot::Purged => b"purged".to_vec(),
        Slot::Snapshot => b"snapshot".to_vec(),
        Slot::Boot => b"boot".to_vec(),
        Slot::Meta(name) => [b"meta/", name.as_bytes()].concat(),
    }
}

/// First keys of a tree, at most `limit`, that `wanted` accepts; stops at the first it does not.
fn first_keys(
    tree: &::sled::Tree,
    limit: usize,
    wanted: impl Fn(u64) -> bool,
) -> Result<Vec<::sled::IVec>, StoreError> {
    let mut keys = Vec::new();
    for key in tree.iter().keys().take(limit) {
        let key = key.map_err(disk)?;
        if !wanted(split_key(&key)?.0) {
            break;
        }
        keys.push(key);
    }
    Ok(keys)
}

fn remove(tree: &::sled::Tree, keys: &[::sled::IVec]) -> Result<(), StoreError> {
    keys.iter()
        .try_for_each(|key| tree.remove(key).map(drop).map_err(disk))
}

impl LogBackend for SledBackend {
    fn append(&self, records: &[LogRecord]) -> Result<(), StoreError> {
        self.write(|open| {
            for record in records {
                for (key, value) in cut(record.index, &record.bytes)? {
                    open.log.insert(key, value).map_err(disk)?;
                }
            }
            Ok(())
        })
    }

    fn scan(
        &self,
        range: Range<u64>,
        visit: &mut dyn FnMut(LogRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.with(|open| {
            let mut joiner = Joiner::default();
            for item in open
                .log
                .range(part_key(range.start, 0)..part_key(range.end, 0))
            {
                let (key, value) = item.map_err(disk)?;
                if let Some((index, bytes)) = joiner.take(&key, &value)? {
                    visit(LogRecord { index, bytes })?;
                }
            }
            joiner.end()
        })
    }

    fn truncate_after(&self, last: Option<u64>) -> Result<(), StoreError> {
        self.write(|open| {
            let from = match last {
                None => part_key(0, 0),
                Some(u64::MAX) => return Ok(()),
                Some(last) => part_key(last + 1, 0),
            };
            let keys: Result<Vec<_>, _> = open.log.range(from..).keys().rev().collect();
            remove(&open.log, &keys.map_err(disk)?)
        })
    }

    fn purge_chunk(&self, upto: u64, limit: usize) -> Result<bool, StoreError> {
        self.write(|open| {
            let keys = first_keys(&open.log, limit, |index| index <= upto)?;
            remove(&open.log, &keys)?;
            Ok(keys.len() == limit)
        })
    }

    fn save(&self, slot: &Slot, bytes: &[u8]) -> Result<(), StoreError> {
        self.write(|open| {
            let key = slot_key(slot);
            open.slots
                .insert(&key, seal(&key, 0, 1, bytes))
                .map_err(disk)?;
            Ok(())
        })
    }

    fn load(&self, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|open| {
            let key = slot_key(slot);
            let Some(value) = open.slots.get(&key).map_err(disk)? else {
                return Ok(None);
            };
            Ok(Some(unseal(&key, &value)?.body.to_vec()))
        })
    }

    fn save_snapshot_parts(&self, parts: &[SealedPart]) -> Result<(), StoreError> {
        self.write(|open| {
            parts.iter().try_for_each(|(key, value)| {
                open.snapshots
                    .insert(key, value.as_slice())
                    .map(drop)
                    .map_err(disk)
            })
        })
    }

    fn load_snapshot(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        self.with(|open| {
            let mut joiner = Joiner::default();
            for item in open
                .snapshots
                .range(part_key(number, 0)..=part_key(number, u16::MAX))
            {
                let (key, value) = item.map_err(disk)?;
                if let Some((_, bytes)) = joiner.take(&key, &value)? {
                    return Ok(bytes);
                }
            }
            Err(StoreError::corrupt(format!(
                "snapshot {number} is not whole"
            )))
        })
    }

    fn sweep_snapshots(&self, keep: u64, limit: usize) -> Result<bool, StoreError> {
        self.write(|open| {
            // Numbers only grow, so whatever is not to be kept lies before it.
            let keys = first_keys(&open.snapshots, limit, |number| number < keep)?;
            remove(&open.snapshots, &keys)?;
            Ok(keys.len() == limit)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        if !self.dirty.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        self.with(|open| {
            let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
            let value = seal(TIDE_KEY, 0, 1, &number.to_le_bytes());
            open.slots.insert(TIDE_KEY, value).map_err(disk)?;
            open.db.flush().map_err(disk)?;
            open.sync()
                .map_err(|error| StoreError::io("sync the store", error))?;
            open.tide.raise(number)
        })
    }

    fn close(&self) {
        let open = self
            .open
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if self.failed.load(Ordering::Relaxed) {
            // sled writes once more when it goes, and panics if it can't. On a disk that failed nothing is
            // written any more: it stays, with its lock, until the process ends.
            std::mem::forget(open);
        }
    }
}
