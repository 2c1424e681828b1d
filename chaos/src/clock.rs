//! A host's boot-time clock: true time with an offset and a drift of its own.

use control::Instant;

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
        let gained = i128::from(true_us) * i128::from(self.drift_ppm) / 1_000_000;
        let local = i128::from(self.offset_us) + i128::from(true_us) + gained;
        Instant(u64::try_from(local).unwrap_or(0))
    }

    /// The first true time at which it shows `instant` or later.
    #[must_use]
    pub fn reaches(&self, instant: Instant) -> u64 {
        let passed = i128::from(instant.0) - i128::from(self.offset_us);
        let guess = passed.max(0) * 1_000_000 / (1_000_000 + i128::from(self.drift_ppm));
        let mut at = u64::try_from(guess).unwrap_or(u64::MAX).saturating_sub(2);
        while self.shows(at) < instant {
            at += 1;
        }
        at
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
