//! A disk in memory whose power can be cut: what was not flushed is lost, but for a prefix of it.
//!
//! Records are cut and sealed as on sled. What a former life of the host still writes goes nowhere.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chaos::Rng;

use super::backend::{LogBackend, LogRecord, SealedPart, Slot};
use super::error::StoreError;
use super::seal::{Joiner, cut, part_key, split_key};

/// A tree, and a key in it.
type Key = (u8, Vec<u8>);
type Tree = BTreeMap<Key, Vec<u8>>;

const LOG: u8 = 0;
const SLOTS: u8 = 1;
const SNAPSHOTS: u8 = 2;

#[derive(Debug, Default)]
struct Inner {
    /// What a power cut leaves.
    kept: Tree,
    /// What reads see.
    seen: Tree,
    /// What `seen` is ahead by, in order.
    ahead: Vec<(Key, Option<Vec<u8>>)>,
    life: u64,
    /// Says that it has flushed, and has not: the hole that the checks must find.
    lies: bool,
}

impl Inner {
    fn set(&mut self, key: Key, value: Option<Vec<u8>>) {
        put(&mut self.seen, &key, &value);
        self.ahead.push((key, value));
    }

    fn keys(&self, tree: u8) -> impl DoubleEndedIterator<Item = &Vec<u8>> {
        let all = (tree, Vec::new())..(tree + 1, Vec::new());
        self.seen.range(all).map(|((_, key), _)| key)
    }

    fn remove(&mut self, tree: u8, keys: Vec<Vec<u8>>) {
        keys.into_iter().for_each(|key| self.set((tree, key), None));
    }
}

fn put(tree: &mut Tree, key: &Key, value: &Option<Vec<u8>>) {
    match value {
        Some(value) => drop(tree.insert(key.clone(), value.clone())),
        None => drop(tree.remove(key)),
    }
}

/// The disk.
#[derive(Debug, Default)]
pub(in crate::raft) struct Disk(Mutex<Inner>);

impl Disk {
    pub(in crate::raft) fn that_lies(lies: bool) -> Arc<Self> {
        let inner = Inner {
            lies,
            ..Inner::default()
        };
        Arc::new(Self(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power; gives how many writes were lost.
    pub(in crate::raft) fn cut(&self, dice: &mut Rng) -> usize {
        let mut inner = self.lock();
        let ahead = std::mem::take(&mut inner.ahead);
        let kept = dice.below(ahead.len() as u64 + 1) as usize;
        for (key, value) in &ahead[..kept] {
            put(&mut inner.kept, key, value);
        }
        inner.seen = inner.kept.clone();
        inner.life += 1;
        ahead.len() - kept
    }

    /// The disk as this life of the host has it.
    pub(in crate::raft) fn mount(self: &Arc<Self>) -> Arc<dyn LogBackend> {
        let life = self.lock().life;
        Arc::new(Mounted {
            disk: self.clone(),
            life,
        })
    }
}

struct Mounted {
    disk: Arc<Disk>,
    life: u64,
}

impl Mounted {
    fn with<T>(&self, run: impl FnOnce(&mut Inner) -> T) -> Result<T, StoreError> {
        let mut inner = self.disk.lock();
        if inner.life != self.life {
            return Err(StoreError::Closed);
        }
        Ok(run(&mut inner))
    }
}

impl LogBackend for Mounted {
    fn append(&self, records: &[LogRecord]) -> Result<(), StoreError> {
        for record in records {
            let parts = cut(record.index, &record.bytes)?;
            let one = |inner: &mut Inner, (key, value): SealedPart| {
                inner.set((LOG, key.to_vec()), Some(value));
            };
            self.with(|inner| parts.into_iter().for_each(|part| one(inner, part)))?;
        }
        Ok(())
    }

    fn scan(
        &self,
        range: Range<u64>,
        visit: &mut dyn FnMut(LogRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let key = |number| (LOG, part_key(number, 0).to_vec());
        let found = self.with(|inner| {
            let found = inner.seen.range(key(range.start)..key(range.end));
            found
                .map(|(k, v)| (k.1.clone(), v.clone()))
                .collect::<Vec<_>>()
        })?;
        let mut joiner = Joiner::default();
        for (key, value) in found {
            if let Some((index, bytes)) = joiner.take(&key, &value)? {
                visit(LogRecord { index, bytes })?;
            }
        }
        joiner.end()
    }

    fn truncate_after(&self, last: Option<u64>) -> Result<(), StoreError> {
        self.with(|inner| {
            let stays = |key: &&Vec<u8>| split_key(key).is_ok_and(|(at, _)| Some(at) > last);
            let keys = inner.keys(LOG).rev().filter(stays).cloned().collect();
            inner.remove(LOG, keys);
        })
    }

    fn purge_chunk(&self, upto: u64, limit: usize) -> Result<bool, StoreError> {
        self.with(|inner| {
            let goes = |key: &&Vec<u8>| split_key(key).is_ok_and(|(at, _)| at <= upto);
            let keys: Vec<_> = inner
                .keys(LOG)
                .take_while(goes)
                .take(limit)
                .cloned()
                .collect();
            let full = keys.len() == limit;
            inner.remove(LOG, keys);
            full
        })
    }

    fn save(&self, slot: &Slot, bytes: &[u8]) -> Result<(), StoreError> {
        let key = format!("{slot:?}").into_bytes();
        self.with(|inner| inner.set((SLOTS, key), Some(bytes.to_vec())))
    }

    fn load(&self, slot: &Slot) -> Result<Option<Vec<u8>>, StoreError> {
        let key = format!("{slot:?}").into_bytes();
        self.with(|inner| inner.seen.get(&(SLOTS, key)).cloned())
    }

    fn save_snapshot_parts(&self, parts: &[SealedPart]) -> Result<(), StoreError> {
        self.with(|inner| {
            for (key, value) in parts {
                inner.set((SNAPSHOTS, key.to_vec()), Some(value.clone()));
            }
        })
    }

    fn load_snapshot(&self, number: u64) -> Result<Vec<u8>, StoreError> {
        let key = |part| (SNAPSHOTS, part_key(number, part).to_vec());
        let parts = self.with(|inner| {
            let found = inner.seen.range(key(0)..=key(u16::MAX));
            found
                .map(|(k, v)| (k.1.clone(), v.clone()))
                .collect::<Vec<_>>()
        })?;
        let mut joiner = Joiner::default();
        for (key, value) in parts {
            if let Some((_, bytes)) = joiner.take(&key, &value)? {
                return Ok(bytes);
            }
        }
        Err(StoreError::corrupt(format!(
            "snapshot {number} is not whole"
        )))
    }

    fn sweep_snapshots(&self, keep: u64, limit: usize) -> Result<bool, StoreError> {
        self.with(|inner| {
            let goes = |key: &&Vec<u8>| split_key(key).is_ok_and(|(at, _)| at < keep);
            let keys = inner.keys(SNAPSHOTS).take_while(goes).take(limit);
            let keys: Vec<_> = keys.cloned().collect();
            let full = keys.len() == limit;
            inner.remove(SNAPSHOTS, keys);
            full
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.with(|inner| {
            if !inner.lies {
                for (key, value) in std::mem::take(&mut inner.ahead) {
                    put(&mut inner.kept, &key, &value);
                }
            }
        })
    }

    fn close(&self) {}
}
