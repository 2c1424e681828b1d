//! The one thread that writes: takes everything that waits, writes it in order, flushes once, then
//! tells everybody in order. That is the group commit: the disk is asked once for many appends.
//!
//! After a failed write or flush nothing is written any more: what sled holds in memory is then
//! unknown, and only a restart reads again what is really there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::storage::IOFlushed;

use super::backend::{LogBackend, LogRecord, SealedPart, Slot};
use super::error::StoreError;
use super::queue::Taken;
use super::{Shared, encode_position};
use crate::raft::types::{LogId, TypeConfig};

/// Keys removed in one go between two groups. Removing 199,000 at once stalled the log for 2.6 s.
const SWEEP: usize = 256;
/// How long a committed position may wait for company before it is flushed alone. Losing it costs a
/// restarted host the wait for its leader, nothing else.
const COMMITTED_LAG: Duration = Duration::from_millis(200);

/// Told once the write is durable, or failed.
pub(super) type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Something to write.
pub(super) enum Job {
    /// Entries behind the last.
    Append {
        records: Vec<LogRecord>,
        generation: u64,
        done: IOFlushed<TypeConfig>,
    },
    /// A small value.
    Save {
        slot: Slot,
        bytes: Vec<u8>,
        done: Done,
    },
    /// Take back entries.
    Truncate { last: Option<u64> },
    /// Forget entries.
    Purge { upto: LogId },
    /// Parts of a snapshot that is not yet current.
    SnapshotParts { parts: Vec<SealedPart> },
    /// Everything before is on the disk.
    Barrier { done: Done },
}

enum After {
    Appended {
        generation: u64,
        upto: Option<u64>,
        done: IOFlushed<TypeConfig>,
    },
    Call(Done),
    Purged(u64),
}

pub(super) struct Flusher {
    backend: Arc<dyn LogBackend>,
    shared: Arc<Shared>,
    failed: Option<StoreError>,
    purging: Option<u64>,
    sweeping: bool,
}

impl Flusher {
    pub(super) fn new(
        backend: Arc<dyn LogBackend>,
        shared: Arc<Shared>,
        purging: Option<u64>,
    ) -> Self {
        Self {
            backend,
            shared,
            failed: None,
            purging,
            sweeping: true,
        }
    }

    /// Runs until the queue is closed, then lets go of the store.
    pub(super) fn run(mut self) {
        let mut patience = self.patience();
        while self.turn(patience) {
            patience = self.patience();
        }
    }

    /// Waits so long for work and does it; false once the queue is closed and the store let go.
    pub(super) fn turn(&mut self, patience: Option<Duration>) -> bool {
        match self.shared.queue.take(patience) {
            Taken::Jobs(jobs) => self.group(jobs),
            Taken::Idle => self.idle(),
            // A committed position, or a new snapshot that makes an old one garbage.
            Taken::Nudged => self.sweeping = true,
            Taken::Closed => {
                self.end();
                return false;
            }
        }
        self.sweep();
        true
    }

    fn end(&mut self) {
        self.save_committed();
        if let Err(error) = self.flush() {
            tracing::error!(%error, "the last flush of the store failed");
        }
        self.backend.close();
    }

    fn patience(&self) -> Option<Duration> {
        if self.purging.is_some() || self.sweeping {
            return Some(Duration::ZERO);
        }
        let resting = self.shared.resting.load(Ordering::SeqCst);
        (!resting).then_some(COMMITTED_LAG)
    }

    fn group(&mut self, jobs: Vec<Job>) {
        self.shared.resting.store(false, Ordering::SeqCst);
        let after: Vec<After> = jobs.into_iter().filter_map(|job| self.write(job)).collect();
        self.save_committed();
        let result = if after.is_empty() {
            Ok(())
        } else {
            self.flush()
        };
        for one in after {
            self.tell(one, result.clone());
        }
    }

    /// Nothing came for a while: flush the committed position, then sleep until somebody knocks.
    fn idle(&mut self) {
        if self.purging.is_some() || self.sweeping {
            return;
        }
        self.shared.resting.store(true, Ordering::SeqCst);
        if self.save_committed()
            && let Err(error) = self.flush()
        {
            tracing::error!(%error, "flush of the committed position failed");
        }
    }

    fn guard(&mut self, run: impl FnOnce(&dyn LogBackend) -> Result<(), StoreError>) {
        if self.failed.is_none()
            && let Err(error) = run(&*self.backend)
        {
            tracing::error!(%error, "the store failed; nothing more is written");
            self.failed = Some(error);
        }
    }

    fn write(&mut self, job: Job) -> Option<After> {
        match job {
            Job::Append {
                records,
                generation,
                done,
            } => {
                let upto = records.last().map(|record| record.index);
                self.guard(|backend| backend.append(&records));
                Some(After::Appended {
                    generation,
                    upto,
                    done,
                })
            }
            Job::Save { slot, bytes, done } => {
                self.guard(|backend| backend.save(&slot, &bytes));
                Some(After::Call(done))
            }
            Job::Truncate { last } => {
                self.guard(|backend| backend.truncate_after(last));
                None
            }
            Job::Purge { upto } => {
                self.guard(|backend| backend.save(&Slot::Purged, &encode_position(Some(upto))?));
                Some(After::Purged(upto.index()))
            }
            Job::SnapshotParts { parts } => {
                self.guard(|backend| backend.save_snapshot_parts(&parts));
                None
            }
            Job::Barrier { done } => Some(After::Call(done)),
        }
    }

    /// Writes the committed position if it moved; says if it did.
    fn save_committed(&mut self) -> bool {
        let Some(committed) = self.shared.take_committed() else {
            return false;
        };
        self.guard(|backend| backend.save(&Slot::Committed, &encode_position(Some(committed))?));
        true
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.guard(|backend| backend.flush());
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn tell(&mut self, after: After, result: Result<(), StoreError>) {
        match after {
            After::Call(done) => done(result),
            After::Purged(upto) => {
                self.purging = self.purging.max(result.is_ok().then_some(upto));
            }
            After::Appended {
                generation,
                upto,
                done,
            } => {
                if let (Ok(()), Some(upto)) = (&result, upto) {
                    self.shared.index().flushed(generation, upto);
                }
                done.io_completed(result.map_err(Into::into));
            }
        }
    }

    /// Removes a few of the keys that nobody reads any more; the next flush takes that along.
    fn sweep(&mut self) {
        if self.failed.is_some() {
            (self.purging, self.sweeping) = (None, false);
        } else if let Some(upto) = self.purging {
            let mut more = false;
            self.guard(|backend| {
                more = backend.purge_chunk(upto, SWEEP)?;
                Ok(())
            });
            self.purging = more.then_some(upto);
        } else if self.sweeping {
            // Before the first one counts, what lies there may be the first one, half written.
            let mut more = false;
            if let Some(keep) = self.shared.current_snapshot() {
                self.guard(|backend| {
                    more = backend.sweep_snapshots(keep, SWEEP)?;
                    Ok(())
                });
            }
            self.sweeping = more;
        }
    }
}
