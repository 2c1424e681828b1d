//! What is due, soonest first, and in the order of arrival at equal times.
//!
//! A binary heap of small keys over a table of jobs: a heap of the jobs themselves spent its time on
//! moving them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Jobs by the time at which they are due.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<(u64, u64, u32)>>,
    jobs: Vec<Option<T>>,
    free: Vec<u32>,
    serial: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            jobs: Vec::new(),
            free: Vec::new(),
            serial: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Adds a job.
    pub(crate) fn push(&mut self, at: u64, job: T) {
        self.serial += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.jobs.push(None);
                (self.jobs.len() - 1) as u32
            }
        };
        if let Some(place) = self.jobs.get_mut(slot as usize) {
            *place = Some(job);
        }
        self.heap.push(Reverse((at, self.serial, slot)));
    }

    /// When the next job is due.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the next job out.
    pub(crate) fn pop(&mut self) -> Option<(u64, T)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let job = self.jobs.get_mut(slot as usize)?.take()?;
        Some((at, job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the order is that of time, then of arrival. Method: pushed out of order, with ties.
    #[test]
    fn jobs_come_out_by_time_and_then_by_arrival() {
        let mut queue = Queue::default();
        for (at, job) in [(5, 'c'), (1, 'a'), (5, 'd'), (2, 'b')] {
            queue.push(at, job);
        }
        assert_eq!(queue.next_at(), Some(1));
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, j)| j).collect();
        assert_eq!(order, "abcd");
        queue.push(7, 'e');
        assert_eq!(queue.jobs.len(), 4, "places are used again");
    }
}
