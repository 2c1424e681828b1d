//! Instants of a host's boot-time clock (CLOCK_BOOTTIME), as numbers that others hand in.

use serde::{Deserialize, Serialize};

/// Microseconds on one host's boot-time clock. Never compared across hosts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Instant(pub u64);

impl Instant {
    /// This instant plus `ms` milliseconds.
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(1000)))
    }

    /// This instant plus `us` microseconds.
    #[must_use]
    pub fn plus_us(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Whole milliseconds from `earlier` to this instant, 0 when it is not earlier.
    #[must_use]
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.us_since(earlier) / 1000
    }

    /// Microseconds from `earlier` to this instant, 0 when it is not earlier.
    #[must_use]
    pub fn us_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
