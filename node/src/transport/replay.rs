//! The sliding window that lets each packet of a session through once (RFC 6479's idea).
//!
//! A packet is checked before it is decrypted and marked after, so that a forged one can't move
//! the window.

/// Packets that may overtake one another: at 20 ms a heartbeat over two networks and with acks,
/// 1024 counters are more than 5 s.
pub const REPLAY_WINDOW: u64 = 1024;

const WORDS: usize = (REPLAY_WINDOW / 64) as usize;

/// Which counters were seen, of the newest [`REPLAY_WINDOW`].
#[derive(Debug, Clone)]
pub(super) struct ReplayWindow {
    /// The next counter never seen: one above the highest.
    next: u64,
    /// A ring of bits: counter c is bit c % 64 of word c / 64 % WORDS.
    seen: [u64; WORDS],
}

/// Why a counter is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Seen before.
    Replayed,
    /// Older than the window: can't tell.
    TooOld,
}

impl ReplayWindow {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            seen: [0; WORDS],
        }
    }

    fn place(counter: u64) -> (usize, u64) {
        // The remainder is below WORDS, so it fits any usize.
        (
            ((counter / 64) % WORDS as u64) as usize,
            1 << (counter % 64),
        )
    }

    /// May a packet with this counter be new?
    pub(super) fn check(&self, counter: u64) -> Result<(), Stale> {
        if counter >= self.next {
            return Ok(());
        }
        if self.next - counter > REPLAY_WINDOW {
            return Err(Stale::TooOld);
        }
        let (word, bit) = Self::place(counter);
        if self.seen[word] & bit != 0 {
            Err(Stale::Replayed)
        } else {
            Ok(())
        }
    }

    /// Marks a counter that [`Self::check`] let through and whose packet was authentic.
    pub(super) fn mark(&mut self, counter: u64) {
        if counter >= self.next {
            // Forget the counters that the window leaves behind, whose bits are used anew.
            let fresh = (counter - self.next).min(REPLAY_WINDOW - 1);
            for step in 0..=fresh {
                let (word, bit) = Self::place(counter - step);
                self.seen[word] &= !bit;
            }
            self.next = counter.saturating_add(1);
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Goal: no counter passes twice, and none within the window is refused unseen.
        /// Method: random walks beside a plain set.
        #[test]
        fn each_counter_passes_once_and_only_old_ones_are_refused(
            steps in prop::collection::vec((0u64..3000, any::<bool>()), 1..400),
        ) {
            let mut window = ReplayWindow::new();
            let mut seen = BTreeSet::new();
            let mut highest = 0u64;
            for (step, forward) in steps {
                let counter =
                    if forward { highest + step / 100 } else { highest.saturating_sub(step) };
                let result = window.check(counter);
                if seen.contains(&counter) {
                    prop_assert!(result.is_err());
                } else if counter + REPLAY_WINDOW > highest {
                    prop_assert_eq!(result, Ok(()));
                } else {
                    prop_assert_eq!(result, Err(Stale::TooOld));
                }
                if result.is_ok() {
                    window.mark(counter);
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }

    /// Goal: the last counter of all neither wraps nor panics. Method: mark it.
    #[test]
    fn the_end_of_the_counter_does_not_wrap() {
        let mut window = ReplayWindow::new();
        window.mark(u64::MAX - 1);
        assert_eq!(window.check(u64::MAX - 1), Err(Stale::Replayed));
        assert_eq!(window.check(0), Err(Stale::TooOld));
    }
}
