//! Pauses between attempts to connect: at once, then doubling to a bound, each with jitter.
//!
//! The jitter is computed from who dials whom and the attempt: hosts that lost the same peer must
//! not come back in step, and for that their numbers differ enough; no randomness is needed.

use std::time::Duration;

/// The second attempt comes after about this long.
const FIRST: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Backoff {
    seed: u64,
    attempt: u32,
    greatest: Duration,
}

impl Backoff {
    pub(super) fn new(seed: u64, greatest: Duration) -> Self {
        Self {
            seed,
            attempt: 0,
            greatest,
        }
    }

    /// The pause before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        let Some(doublings) = attempt.checked_sub(1) else {
            return Duration::ZERO;
        };
        let full = FIRST
            .saturating_mul(1 << doublings.min(16))
            .min(self.greatest);
        // Between half and all of it.
        let share = mix(self.seed ^ u64::from(attempt)) % 512 + 512;
        let share = u32::try_from(share).unwrap_or(1023);
        full.saturating_mul(share) / 1024
    }

    pub(super) fn reset(&mut self) {
        self.attempt = 0;
    }
}

/// SplitMix64's output function: spreads neighbouring numbers.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: at once, then growing, never above the bound, not in step with another's.
    /// Method: the first pauses of two hosts.
    #[test]
    fn pauses_grow_to_the_bound_and_differ_between_hosts() {
        let greatest = Duration::from_millis(200);
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed, greatest);
            (0..100).map(|_| backoff.next()).collect::<Vec<_>>()
        };
        let (one, two) = (pauses(1), pauses(2));
        assert_eq!(one[0], Duration::ZERO);
        assert!(one[1] >= FIRST / 2 && one[1] <= FIRST);
        assert!(
            one[1..]
                .iter()
                .all(|pause| *pause <= greatest && !pause.is_zero())
        );
        assert!(one[10..].iter().all(|pause| *pause >= greatest / 2));
        assert_ne!(one[10..], two[10..]);
    }
}
