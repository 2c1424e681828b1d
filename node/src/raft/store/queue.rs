//! The bounded queue between openraft's tasks and the flusher thread.
//!
//! Not an mpsc channel: the flusher takes everything that waits in one go (that is the group commit)
//! and also has to wait with a time-out, while senders wait without blocking a thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Jobs that may wait. openraft has at most a few appends under way per batch of proposals; each
/// job beyond waits in its task.
const ROOM: usize = 1024;

#[derive(Debug)]
struct Inner<T> {
    jobs: VecDeque<T>,
    nudged: bool,
    closed: bool,
}

/// First in, first out; bounded; many senders, one receiver.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    ready: Condvar,
    room: Semaphore,
}

/// What the receiver woke up for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T> {
    /// Everything that waited.
    Jobs(Vec<T>),
    /// Nothing came in time.
    Idle,
    /// A nudge came.
    Nudged,
    /// Closed and empty.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let inner = Inner {
            jobs: VecDeque::new(),
            nudged: false,
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            ready: Condvar::new(),
            room: Semaphore::new(ROOM),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a job once there is room; gives it back if the queue is closed.
    pub(super) async fn push(&self, job: T) -> Result<(), T> {
        match self.room.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(job),
        }
        let mut inner = self.lock();
        if inner.closed {
            return Err(job);
        }
        inner.jobs.push_back(job);
        self.ready.notify_one();
        Ok(())
    }

    /// Wakes the receiver without a job.
    pub(super) fn nudge(&self) {
        self.lock().nudged = true;
        self.ready.notify_one();
    }

    /// Lets the receiver finish what waits, and nobody add to it.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.ready.notify_one();
    }

    /// Waits for jobs, at most as long as `patience` says.
    pub(super) fn take(&self, patience: Option<Duration>) -> Taken<T> {
        let mut inner = self.lock();
        let waiting =
            |inner: &mut Inner<T>| inner.jobs.is_empty() && !inner.nudged && !inner.closed;
        inner = match patience {
            None => self
                .ready
                .wait_while(inner, waiting)
                .unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let woken = self.ready.wait_timeout_while(inner, patience, waiting);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        let nudged = std::mem::take(&mut inner.nudged);
        if !inner.jobs.is_empty() {
            let jobs: Vec<T> = inner.jobs.drain(..).collect();
            self.room.add_permits(jobs.len());
            return Taken::Jobs(jobs);
        }
        match (inner.closed, nudged) {
            (true, _) => Taken::Closed,
            (false, true) => Taken::Nudged,
            (false, false) => Taken::Idle,
        }
    }
}
