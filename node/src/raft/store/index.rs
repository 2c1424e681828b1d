//! The log in memory: where each entry stands, and the entries themselves as far as they fit.
//!
//! openraft reads entries right after `append`, long before they are on the disk; and replication
//! and `apply` nearly always want the newest. So the newest are kept here, and an entry that is not
//! yet durable always is. Positions of all entries stay (the log is cut every few thousand).

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use openraft::EntryPayload;

use super::error::StoreError;
use super::watch::LogWatch;
use crate::raft::types::{LogEntry, LogId};

/// Encoded bytes of entries that stay in memory once they are durable.
const CACHE_BYTES: usize = 16 << 20;

struct Place {
    id: LogId,
    bytes: usize,
    entry: Option<LogEntry>,
}

/// Where an entry can be had.
#[derive(Debug)]
pub(super) enum Found {
    /// Here it is.
    Hot(LogEntry),
    /// On the disk; it must have this position.
    Cold(LogId),
}

/// The log in memory.
pub(super) struct LogIndex {
    watch: Arc<dyn LogWatch>,
    places: VecDeque<Place>,
    purged: Option<LogId>,
    /// First index that may still have its entry here.
    hot_from: u64,
    hot_bytes: usize,
    durable: Option<u64>,
    /// Grows with each truncation: a flush of entries from before it says nothing about those after.
    generation: u64,
}

impl LogIndex {
    pub(super) fn new(purged: Option<LogId>, watch: Arc<dyn LogWatch>) -> Self {
        let durable = purged.map(|id| id.index());
        if let Some(durable) = durable {
            watch.durable(durable);
        }
        Self {
            watch,
            places: VecDeque::new(),
            purged,
            hot_from: 0,
            hot_bytes: 0,
            durable,
            generation: 0,
        }
    }

    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    pub(super) fn last(&self) -> Option<LogId> {
        self.places.back().map(|place| place.id).or(self.purged)
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    fn first_index(&self) -> Option<u64> {
        self.places.front().map(|place| place.id.index())
    }

    /// Adds an entry behind the last. The very first of a log may have any index.
    pub(super) fn append(&mut self, entry: LogEntry, bytes: usize) -> Result<(), StoreError> {
        let id = entry.log_id;
        if let Some(last) = self.last()
            && last.index().checked_add(1) != Some(id.index())
        {
            return Err(StoreError::Gap {
                given: id.index(),
                last: last.index(),
            });
        }
        match &entry.payload {
            EntryPayload::Normal(proposal) => self.watch.appended(id, &proposal.0),
            EntryPayload::Membership(members) => {
                self.watch.members_appended(id, members.get_joint_config());
            }
            EntryPayload::Blank => {}
        }
        if self.places.is_empty() {
            self.hot_from = id.index();
        }
        self.hot_bytes += bytes;
        self.places.push_back(Place {
            id,
            bytes,
            entry: Some(entry),
        });
        Ok(())
    }

    /// Takes back everything behind `last`.
    pub(super) fn truncate_after(&mut self, last: Option<u64>) {
        let goes = |place: &Place| last.is_none_or(|last| place.id.index() > last);
        let mut cut = false;
        while self.places.back().is_some_and(goes) {
            if let Some(place) = self.places.pop_back() {
                self.hot_bytes -= place.entry.map_or(0, |_| place.bytes);
            }
            cut = true;
        }
        if cut {
            self.generation += 1;
            let end = self.last().map(|id| id.index());
            self.durable = self.durable.min(end);
            self.hot_from = self.hot_from.min(end.map_or(0, |end| end + 1));
            self.watch.truncated_after(last);
        }
    }

    /// Forgets everything up to and with `upto`, which may lie behind the last entry.
    pub(super) fn purge(&mut self, upto: LogId) {
        while self
            .first_index()
            .is_some_and(|first| first <= upto.index())
        {
            if let Some(place) = self.places.pop_front() {
                self.hot_bytes -= place.entry.map_or(0, |_| place.bytes);
            }
        }
        self.purged = self.purged.max(Some(upto));
    }

    /// Notes that entries up to `upto`, appended in `generation`, are durable.
    pub(super) fn flushed(&mut self, generation: u64, upto: u64) {
        if generation != self.generation || self.durable.is_some_and(|known| known >= upto) {
            return;
        }
        self.durable = Some(upto);
        self.watch.durable(upto);
        self.cool();
    }

    /// Notes that a durable snapshot covers everything up to `upto`.
    pub(super) fn covered(&mut self, upto: u64) {
        if self.durable.is_none_or(|known| known < upto) {
            self.durable = Some(upto);
            self.watch.durable(upto);
        }
    }

    /// Drops the oldest durable entries while there are too many bytes of them.
    fn cool(&mut self) {
        let Some(first) = self.first_index() else {
            return;
        };
        self.hot_from = self.hot_from.max(first);
        while self.hot_bytes > CACHE_BYTES
            && self.durable.is_some_and(|known| self.hot_from <= known)
        {
            let Some(place) = self.places.get_mut((self.hot_from - first) as usize) else {
                return;
            };
            if place.entry.take().is_some() {
                self.hot_bytes -= place.bytes;
            }
            self.hot_from += 1;
        }
    }

    /// What a range holds, at most `budget` bytes of it but at least one entry.
    pub(super) fn find(&self, range: Range<u64>, budget: usize) -> Vec<Found> {
        let Some(first) = self.first_index() else {
            return Vec::new();
        };
        let from = range.start.max(first);
        let end = range.end.min(first + self.places.len() as u64);
        if from >= end {
            return Vec::new();
        }
        let mut left = budget;
        let mut out = Vec::new();
        let places = self
            .places
            .range((from - first) as usize..(end - first) as usize);
        for place in places {
            if !out.is_empty() && place.bytes > left {
                break;
            }
            left = left.saturating_sub(place.bytes);
            out.push(match &place.entry {
                Some(entry) => Found::Hot(entry.clone()),
                None => Found::Cold(place.id),
            });
        }
        out
    }
}
