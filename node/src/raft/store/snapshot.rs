//! Snapshots in the store: parts first, then, once they are durable, the pointer that makes them
//! current; old parts go in the background. A kill anywhere leaves the old one or the new one.
//!
//! What the snapshot covers stands in front of its bytes and not in the pointer: sled rewrites the
//! pointer's page with every tenth vote or mark, and names and addresses of 128 hosts are 13 KiB.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SMALL;
use super::Store;
use super::backend::{LogBackend, Slot};
use super::error::StoreError;
use super::flusher::Job;
use super::seal::cut;
use crate::raft::record::{Coverage, decode, encode};
use crate::raft::types::{LogId, Snapshot, SnapshotBytes, SnapshotMeta};

/// Parts written between two looks at the queue: 512 KiB, so that appends don't wait for a snapshot.
const BATCH: usize = 128;
/// Room for what a snapshot covers: voters, names and addresses of 128 hosts, several times over.
pub(crate) const COVERAGE_LIMIT: usize = 256 << 10;

/// Which snapshot is current, as stored.
#[derive(Debug, Serialize, Deserialize)]
struct Pointer {
    number: u64,
    bytes: u64,
    sum: u32,
}

/// Which snapshot is current.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    meta: SnapshotMeta,
}

/// Length of the coverage, the coverage, the state.
fn pack(meta: &SnapshotMeta, state: &[u8]) -> Result<Vec<u8>, StoreError> {
    let coverage = encode::<_, COVERAGE_LIMIT>(&Coverage::from(meta))?;
    let length = (coverage.len() as u32).to_le_bytes();
    Ok([&length[..], &coverage, state].concat())
}

fn unpack(mut bytes: Vec<u8>) -> Result<(SnapshotMeta, Vec<u8>), StoreError> {
    let fault = |what: String| StoreError::corrupt(format!("snapshot: {what}"));
    let short = || fault("cut short".into());
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
    let length = u32::from_le_bytes(*length) as usize;
    let coverage = rest.get(..length).ok_or_else(short)?;
    let coverage = decode::<Coverage, COVERAGE_LIMIT>(coverage);
    let meta = coverage
        .and_then(SnapshotMeta::try_from)
        .map_err(|error| fault(error.to_string()))?;
    bytes.drain(..4 + length);
    Ok((meta, bytes))
}

fn load(backend: &dyn LogBackend) -> Result<Option<(u64, SnapshotMeta, Vec<u8>)>, StoreError> {
    let Some(bytes) = backend.load(&Slot::Snapshot)? else {
        return Ok(None);
    };
    let pointer = decode::<Pointer, SMALL>(&bytes)
        .map_err(|error| StoreError::corrupt(format!("snapshot pointer: {error}")))?;
    let bytes = backend.load_snapshot(pointer.number)?;
    if bytes.len() as u64 != pointer.bytes || crc32c::crc32c(&bytes) != pointer.sum {
        return Err(StoreError::corrupt(format!(
            "snapshot {} does not verify",
            pointer.number
        )));
    }
    let (meta, state) = unpack(bytes)?;
    Ok(Some((pointer.number, meta, state)))
}

/// Checks at open that the current snapshot is whole and reaches as far as the log was purged.
pub(super) fn verify(
    backend: &dyn LogBackend,
    purged: Option<LogId>,
) -> Result<Option<Current>, StoreError> {
    let current = load(backend)?.map(|(number, meta, _)| Current { number, meta });
    let covered = current
        .as_ref()
        .and_then(|current| current.meta.last_log_id);
    if covered.map(|id| id.index()) < purged.map(|id| id.index()) {
        let what = "the log was purged further than the snapshot reaches";
        return Err(StoreError::corrupt(what));
    }
    Ok(current)
}

impl Store {
    /// Keeps a snapshot as the current one, unless that reaches further already; durable on return.
    pub(crate) async fn save_snapshot(
        &self,
        meta: &SnapshotMeta,
        state: &[u8],
    ) -> Result<(), StoreError> {
        let _one_at_a_time = self.shared.saving.lock().await;
        let number = match &*self.shared.snapshot() {
            Some(current) if current.meta.last_log_id >= meta.last_log_id => return Ok(()),
            Some(current) => current.number + 1,
            None => 1,
        };
        let bytes = pack(meta, state)?;
        for batch in cut(number, &bytes)?.chunks(BATCH) {
            self.push(Job::SnapshotParts {
                parts: batch.to_vec(),
            })
            .await?;
        }
        let sum = crc32c::crc32c(&bytes);
        let pointer = Pointer {
            number,
            bytes: bytes.len() as u64,
            sum,
        };
        // The parts must be on the disk before the pointer can be.
        self.barrier().await?;
        self.save(Slot::Snapshot, encode::<_, SMALL>(&pointer)?)
            .await?;
        *self.shared.snapshot() = Some(Current {
            number,
            meta: meta.clone(),
        });
        if let Some(last) = meta.last_log_id {
            self.shared.index().covered(last.index());
        }
        self.shared.queue.nudge();
        Ok(())
    }

    /// Reads the current snapshot.
    pub(crate) async fn load_snapshot(&self) -> Result<Option<Snapshot>, StoreError> {
        let loaded = self.blocking(load).await?;
        Ok(loaded.map(|(_, meta, state)| Snapshot {
            meta,
            snapshot: SnapshotBytes(Arc::new(state)),
        }))
    }
}
