//! A host's boot-time clock: true time with an offset and a drift of its own.

use control::Instant;

/// Longest time that is counted with: 100 days, in microseconds.
const LONGEST_US: u64 = 100 * 86_400_000_000;

/// Offset and drift of one host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it showed at true time 0, in microseconds.
    pub offset_us: u64,
    /// How much faster than true time it runs, in parts per million; slower when negative.
    pub drift_ppm: i64,
}

impl Clock {
    /// What it shows at a true time, in microseconds since the world began.
    #[must_use]
    pub fn shows(&self, true_us: u64) -> Instant {
        Instant((self.offset_us + true_us).saturating_add_signed(self.gained(true_us)))
    }

    /// The first true time at which it shows `instant` or later.
    #[must_use]
    pub fn reaches(&self, instant: Instant) -> u64 {
        let passed = instant.0.saturating_sub(self.offset_us);
        if passed > LONGEST_US {
            return u64::MAX;
        }
        // Off by less than drift squared: by 0.000 1 % of what passed, which the loops make good.
        let gained = self.gained(passed);
        let gained = gained - self.gained(gained.unsigned_abs()) * gained.signum();
        let mut at = passed.saturating_add_signed(-gained);
        while at > 0 && self.shows(at - 1) >= instant {
            at -= 1;
        }
        while self.shows(at) < instant {
            at += 1;
        }
        at
    }

    /// By how much it is ahead after so long; 64 bits are enough for [`LONGEST_US`].
    fn gained(&self, true_us: u64) -> i64 {
        true_us as i64 * self.drift_ppm / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a wake-up is never early. Method: fast and slow clocks, both ways.
    #[test]
    fn the_time_at_which_a_clock_reaches_an_instant_is_exact() {
        for drift_ppm in [-1000, -1, 0, 7, 1000] {
            let clock = Clock {
                offset_us: 123_456,
                drift_ppm,
            };
            for true_us in [0, 1, 999_999, 60_000_000, 86_400_000_000] {
                let shown = clock.shows(true_us);
                let back = clock.reaches(shown);
                assert!(back <= true_us && clock.shows(back) >= shown);
                assert!(back == 0 || clock.shows(back - 1) < shown);
            }
        }
    }
}
