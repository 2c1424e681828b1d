//! Says whether a history of reads and writes of one register is linearizable: whether each call can be
//! given one moment between its start and its end so that, in this order, each read gives what was
//! written last.
//!
//! The search of Wing and Gong (1993) with Lowe's cache of what was tried (2017), as in Porcupine: take
//! the first call that may come next, go on, and step back at a call whose end nobody waits for.
//! A write whose outcome nobody knows may take effect at any time after its start, or never.
//!
//! Limits: one register; two searches that reach the same set of calls and the same value are one.

use std::collections::HashSet;

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Set the register.
    Write(u64),
    /// It held this.
    Read(u64),
}

/// A call that was made, with its moments on one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called, for people.
    pub client: u64,
    /// What.
    pub call: Call,
    /// When it began.
    pub began: u64,
    /// When it ended; none when its outcome is not known. A read without an outcome is no operation.
    pub ended: Option<u64>,
}

/// No order explains the history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not linearizable: no order explains {stuck:?}, after {explained} of {all} calls")]
pub struct NotLinearizable {
    /// The call that the longest attempt could not place before its end.
    pub stuck: Operation,
    /// How many calls it had placed.
    pub explained: usize,
    /// How many there are.
    pub all: usize,
}

/// A start or an end of a call, in a list from which calls are lifted.
#[derive(Clone, Copy, Debug)]
struct Event {
    call: usize,
    is_end: bool,
    next: usize,
    before: usize,
}

/// The events in their order, as a doubly linked list with a head at 0.
struct Events(Vec<Event>);

impl Events {
    fn new(history: &[Operation]) -> Self {
        let mut order: Vec<(u64, bool, usize)> = Vec::new();
        for (call, one) in history.iter().enumerate() {
            order.push((one.began, false, call));
            order.push((one.ended.unwrap_or(u64::MAX), true, call));
        }
        // At the same moment starts come first: then the calls overlap, which forbids least.
        order.sort_unstable();
        let head = (0, false, usize::MAX);
        let event = |(at, (_, is_end, call)): (usize, (u64, bool, usize))| Event {
            call,
            is_end,
            next: at + 1,
            before: at.saturating_sub(1),
        };
        Self(
            std::iter::once(head)
                .chain(order)
                .enumerate()
                .map(event)
                .collect(),
        )
    }

    fn first(&self) -> Option<usize> {
        self.after(0)
    }

    fn after(&self, at: usize) -> Option<usize> {
        let next = self.0[at].next;
        (next < self.0.len()).then_some(next)
    }

    fn take(&mut self, at: usize) {
        let Event { next, before, .. } = self.0[at];
        self.0[before].next = next;
        if let Some(next) = self.0.get_mut(next) {
            next.before = before;
        }
    }

    fn give_back(&mut self, at: usize) {
        let Event { next, before, .. } = self.0[at];
        self.0[before].next = at;
        if let Some(next) = self.0.get_mut(next) {
            next.before = at;
        }
    }
}

/// Which calls have been placed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Placed(Vec<u64>);

impl Placed {
    fn flip(&mut self, call: usize) {
        self.0[call / 64] ^= 1 << (call % 64);
    }
}

/// Checks the history of a register that held `first`.
///
/// # Errors
/// [`NotLinearizable`], with the call that can't be explained.
pub fn check(first: u64, history: &[Operation]) -> Result<(), NotLinearizable> {
    let read: HashSet<u64> = history
        .iter()
        .filter_map(|one| match one.call {
            Call::Read(value) => Some(value),
            Call::Write(_) => None,
        })
        .collect();
    // A write that may never have happened and that nobody has seen explains nothing.
    let counts = |one: &&Operation| match one.call {
        Call::Write(value) => one.ended.is_some() || read.contains(&value),
        Call::Read(_) => one.ended.is_some(),
    };
    let history: Vec<Operation> = history.iter().filter(counts).copied().collect();
    search(first, &history)
}

fn search(first: u64, history: &[Operation]) -> Result<(), NotLinearizable> {
    let mut events = Events::new(history);
    let ends: Vec<usize> = {
        let mut ends = vec![0; history.len()];
        for (at, event) in events
            .0
            .iter()
            .enumerate()
            .filter(|(_, event)| event.is_end)
        {
            ends[event.call] = at;
        }
        ends
    };
    let mut placed = Placed(vec![0; history.len().div_ceil(64)]);
    let (mut value, mut tried) = (first, HashSet::new());
    let mut path: Vec<(usize, u64)> = Vec::new();
    let (mut deepest, mut stuck) = (0, None);
    let mut at = events.first();
    while let Some(here) = at {
        let event = events.0[here];
        let call = history[event.call].call;
        if event.is_end {
            if path.len() >= deepest {
                (deepest, stuck) = (path.len(), Some(event.call));
            }
            let Some((start, before)) = path.pop() else {
                break;
            };
            let undone = events.0[start].call;
            value = before;
            placed.flip(undone);
            events.give_back(ends[undone]);
            events.give_back(start);
            at = events.after(start);
            continue;
        }
        let next = match call {
            Call::Write(new) => Some(new),
            Call::Read(seen) => (seen == value).then_some(value),
        };
        placed.flip(event.call);
        match next {
            Some(next) if tried.insert((placed.clone(), next)) => {
                path.push((here, value));
                value = next;
                events.take(here);
                events.take(ends[event.call]);
                at = events.first();
            }
            _ => {
                placed.flip(event.call);
                at = events.after(here);
            }
        }
    }
    match (path.len() == history.len(), stuck) {
        (false, Some(stuck)) => Err(NotLinearizable {
            stuck: history[stuck],
            explained: deepest,
            all: history.len(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn write(value: u64, began: u64, ended: u64) -> Operation {
        Operation {
            client: 1,
            call: Call::Write(value),
            began,
            ended: Some(ended),
        }
    }

    fn read(value: u64, began: u64, ended: u64) -> Operation {
        Operation {
            client: 2,
            call: Call::Read(value),
            began,
            ended: Some(ended),
        }
    }

    fn unknown(value: u64, began: u64) -> Operation {
        Operation {
            ended: None,
            ..write(value, began, 0)
        }
    }

    /// Goal: histories that an order explains pass. Method: a row for each reason.
    #[test]
    fn histories_with_an_order_pass() {
        let rows: [(&str, &[Operation]); 7] = [
            ("nothing happened", &[]),
            (
                "one after the other",
                &[read(0, 1, 2), write(1, 3, 4), read(1, 5, 6)],
            ),
            (
                "a read during a write may see the old",
                &[write(1, 1, 9), read(0, 2, 3)],
            ),
            ("or the new", &[write(1, 1, 9), read(1, 2, 3)]),
            (
                "two writes at once, in either order",
                &[
                    write(1, 1, 9),
                    write(2, 1, 9),
                    read(2, 10, 11),
                    read(2, 12, 13),
                ],
            ),
            (
                "an unknown write came late",
                &[unknown(5, 1), read(0, 2, 3), read(5, 4, 5)],
            ),
            (
                "an unknown write never came",
                &[unknown(5, 1), write(1, 2, 3), read(1, 4, 5)],
            ),
        ];
        for (why, history) in rows {
            assert_eq!(check(0, history), Ok(()), "{why}");
        }
    }

    /// Goal: histories that no order explains are refused. Method: a row for each reason.
    #[test]
    fn histories_without_an_order_are_refused() {
        let rows: [(&str, &[Operation]); 6] = [
            ("a value from nowhere", &[read(7, 1, 2)]),
            (
                "an old value after a write",
                &[write(1, 1, 2), read(0, 3, 4)],
            ),
            (
                "new, then old, during one write",
                &[write(1, 1, 9), read(1, 2, 3), read(0, 4, 5)],
            ),
            (
                "two readers disagree on the order",
                &[
                    write(1, 1, 9),
                    write(2, 1, 9),
                    read(1, 10, 11),
                    read(2, 12, 13),
                    read(1, 14, 15),
                ],
            ),
            (
                "an unknown write was seen and undone",
                &[unknown(5, 1), read(5, 2, 3), read(0, 4, 5)],
            ),
            (
                "an unknown write before its start",
                &[read(5, 1, 2), unknown(5, 3)],
            ),
        ];
        for (why, history) in rows {
            assert!(check(0, history).is_err(), "{why}");
        }
    }

    /// A history of a true register: each call takes effect at a moment of its own, within its bounds.
    fn drawn(dice: &mut Rng, calls: u64) -> Vec<Operation> {
        let mut value = 0;
        let mut history = Vec::new();
        for moment in (0..calls).map(|n| 10 * n + 100) {
            let call = if dice.chance(500) {
                value = moment;
                Call::Write(moment)
            } else {
                Call::Read(value)
            };
            let (began, ended) = (moment - dice.below(50), moment + dice.below(50));
            let lost = matches!(call, Call::Write(_)) && dice.chance(50);
            let ended = (!lost).then_some(ended);
            history.push(Operation {
                client: 0,
                call,
                began,
                ended,
            });
        }
        history
    }

    /// Goal: a true register always passes, one that forgets is told of, and both in bounded time.
    /// Method: 40 histories of 100 calls, some ten at once; in each, one late read of an old value.
    #[test]
    fn true_register_passes_and_a_stale_read_does_not() {
        for seed in 0..40 {
            let mut history = drawn(&mut Rng::new(seed), 100);
            assert_eq!(check(0, &history), Ok(()), "seed {seed}");
            let writes =
                |one: &&Operation| matches!(one.call, Call::Write(_)) && one.ended.is_some();
            assert!(history.iter().filter(writes).count() > 20);
            history.push(read(0, 10_000, 10_001));
            let refused = check(0, &history);
            assert!(refused.is_err(), "seed {seed}");
        }
    }
}
