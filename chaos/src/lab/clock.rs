//! The lab's clock and its only pause: microseconds of CLOCK_BOOTTIME.
//!
//! The daemons under test live by the same clock, so what a fault, the observer and a daemon's log
//! say of one moment can be compared. The observed machine is one machine: there is no skew.
//!
//! The pause is meant: a fault is applied at a time, a probe is sent at a time. Whoever waits for
//! something to happen waits for that instead (`Observer::wait`, `Process::wait_exit`).

use rustix::event::{Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Microseconds in a second.
const MICROS: u64 = 1_000_000;
/// Nanoseconds in a microsecond.
const NANOS: u64 = 1_000;

/// A moment: microseconds of CLOCK_BOOTTIME. Only differences mean something to people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct At(pub u64);

impl At {
    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: At) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` after this one.
    #[must_use]
    pub fn after(self, span: Duration) -> At {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        At(self.0.saturating_add(span))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0 / 1_000;
        write!(f, "{}.{:03}s", millis / 1_000, millis % 1_000)
    }
}

/// Now.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the one place of the crate that reads a clock"
)]
pub fn now() -> At {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    At(seconds * MICROS + nanos / NANOS)
}

/// Waits until `at`. Returns at once if that is past.
pub fn wait_until(at: At) {
    loop {
        let left = at.since(now());
        if left.is_zero() {
            return;
        }
        // A signal ends the poll early; then it goes on with what is left.
        let _ = poll(&mut [], Some(&timespec(left)));
    }
}

/// `span` as the kernel wants it.
pub(super) fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a fault is applied no earlier than asked.
    /// Method: wait for a moment that is ahead and for one that is past.
    #[test]
    fn waiting_ends_at_its_time_and_never_before() {
        let began = now();
        let end = began.after(Duration::from_millis(3));
        wait_until(end);
        assert!(now() >= end);
        wait_until(began);
        assert_eq!(began.since(end), Duration::ZERO);
    }
}
