//! The queue before one target: in order, bounded, tried again with growing pauses.
//!
//! While a target takes nothing its queue fills and then drops the newest; it never holds up another
//! target, nor the mark in the log (docs/adr/0037).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::Tenure;
use super::target::Courier;
use crate::api::EventRecord;
use crate::clock;

/// Entries that wait before one target; some 200 bytes for each event, 64 targets: a few MB at worst.
const QUEUE: usize = 1_024;
/// How often a target that takes nothing is tried, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The pause after the first failure; it doubles from there.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// For so long after it was queued an event is tried again.
    pub give_up: Duration,
}

impl Pace {
    /// At most 66 times: 1, 2, 4, … 60 s apart for an hour.
    pub const USUAL: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        give_up: Duration::from_secs(3_600),
    };
}

/// What became of a target's events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Told.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Given up.
    pub dropped: u64,
    /// Waiting.
    pub queued: u64,
    /// Why the last attempt failed, if it did.
    pub failing: Option<String>,
    /// There is no room for what waits.
    pub full: bool,
    /// Index of the last entry that was queued, and of the last that was told or given up.
    pub last: u64,
    /// See there.
    pub done: u64,
}

/// The events of one entry that a target wants, each with its number in the entry.
pub struct Told {
    /// The entry's index.
    pub index: u64,
    /// The events.
    pub events: Vec<(u32, EventRecord)>,
}

/// A queue and the task that empties it.
pub struct Line {
    name: String,
    count: Arc<Mutex<Count>>,
    queue: mpsc::Sender<(Instant, Told)>,
    next: Arc<Mutex<Option<Courier>>>,
    task: JoinHandle<()>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Begins after log index `from`. `progressed` is woken when an entry is done with.
    pub fn start(
        name: String,
        courier: Courier,
        count: Arc<Mutex<Count>>,
        (tenure, pace): (Tenure, Pace),
        from: u64,
        progressed: Arc<Notify>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        {
            let mut count = lock(&count);
            (count.last, count.done, count.failing) = (from, from, None);
        }
        let next = Arc::default();
        let worker = Worker {
            name: name.clone(),
            courier,
            next: Arc::clone(&next),
            count: Arc::clone(&count),
            tenure,
            pace,
            progressed,
        };
        Self {
            name,
            count,
            queue,
            next,
            task: tokio::spawn(worker.run(waiting)),
        }
    }

    /// Goes another way from the next attempt on.
    pub fn exchange(&self, courier: Courier) {
        *lock(&self.next) = Some(courier);
    }

    /// Queues an entry, or drops it where there is no room.
    pub fn push(&self, told: Told) {
        let (index, events) = (told.index, told.events.len() as u64);
        let mut count = lock(&self.count);
        match self.queue.try_send((clock::monotonic(), told)) {
            Ok(()) => {
                count.queued += events;
                (count.last, count.full) = (index, false);
            }
            Err(_) => {
                count.dropped += events;
                if !std::mem::replace(&mut count.full, true) {
                    let words = "too many events wait; the newest are dropped and counted";
                    tracing::warn!(target = self.name, "{words}");
                }
            }
        }
    }

    /// The index after which this target waits for something, unless it takes nothing at all.
    pub fn holds(&self) -> Option<u64> {
        let count = lock(&self.count);
        (count.failing.is_none() && count.done < count.last).then_some(count.done)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
        let mut count = lock(&self.count);
        // The next leader goes on from the mark; what was held up is behind it.
        if count.failing.is_some() {
            count.dropped += count.queued;
        }
        count.queued = 0;
    }
}

struct Worker {
    name: String,
    courier: Courier,
    next: Arc<Mutex<Option<Courier>>>,
    count: Arc<Mutex<Count>>,
    tenure: Tenure,
    pace: Pace,
    progressed: Arc<Notify>,
}

impl Worker {
    async fn run(mut self, mut waiting: mpsc::Receiver<(Instant, Told)>) {
        while let Some((queued, told)) = waiting.recv().await {
            for (number, event) in &told.events {
                self.deliver((*number, event), queued).await;
                let mut count = lock(&self.count);
                count.queued = count.queued.saturating_sub(1);
            }
            lock(&self.count).done = told.index;
            self.progressed.notify_one();
        }
    }

    async fn deliver(&mut self, event: (u32, &EventRecord), queued: Instant) {
        let mut pause = self.pace.first;
        loop {
            if let Some(courier) = lock(&self.next).take() {
                self.courier = courier;
            }
            let Err(failure) = self.courier.tell(event, &self.tenure).await else {
                return self.good();
            };
            let age = clock::monotonic().saturating_duration_since(queued);
            let last = failure.lasting || age >= self.pace.give_up;
            self.bad(failure.words, last);
            if last {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(self.pace.longest);
        }
    }

    fn good(&self) {
        let mut count = lock(&self.count);
        count.sent += 1;
        if count.failing.take().is_some() {
            let dropped = count.dropped;
            tracing::info!(target = self.name, dropped, "takes events again");
        }
    }

    fn bad(&self, error: String, last: bool) {
        let mut count = lock(&self.count);
        count.failed += 1;
        count.dropped += u64::from(last);
        if count.failing.is_none() {
            let words = match last {
                true => "does not take events; `rais traps` counts what is dropped",
                false => "does not take events; each is tried again for an hour",
            };
            tracing::warn!(target = self.name, error, "{words}");
        }
        count.failing = Some(error);
        drop(count);
        self.progressed.notify_one();
    }
}
