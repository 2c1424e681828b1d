//! The machine's clock for leases: CLOCK_BOOTTIME.
//!
//! Not `std::time::Instant`: that is CLOCK_MONOTONIC, which stands still while the machine is
//! suspended, so that a host could wake up and believe in a lease that ended hours ago.
//! Not the wall clock either: an operator or NTP may step it.
//!
//! Limits: counts from the boot of this machine, so a value means nothing on another host or
//! after a reboot. A paused guest whose kvm-clock stops cannot see the gap (see
//! `docs/protocol/lease.md`).

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a second.
const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// Nanoseconds in a microsecond.
const NANOS_PER_MICRO: u64 = 1_000;
/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: u64 = 1_000_000;

/// Nanoseconds since this machine booted, suspend included. Never steps back.
///
/// 64 bits of nanoseconds last 584 years of uptime.
#[must_use]
pub fn boottime_ns() -> u64 {
    read(ClockId::Boottime)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this file is the one place of the crate that reads a clock"
)]
fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // The kernel never gives a negative time since boot; zero is the safe reading if it did.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds
        .saturating_mul(NANOS_PER_SECOND)
        .saturating_add(nanos)
}

/// Microseconds since this machine booted, suspend included: [`boottime_ns`], rounded down. The
/// unit of every deadline.
#[must_use]
pub fn boottime_us() -> u64 {
    boottime_ns() / NANOS_PER_MICRO
}

/// Milliseconds since this machine booted, suspend included: [`boottime_ns`], rounded down.
#[must_use]
pub fn boottime_ms() -> u64 {
    boottime_ns() / NANOS_PER_MILLI
}

/// Notices that the machine slept: CLOCK_BOOTTIME went on and CLOCK_MONOTONIC did not.
///
/// The two differ by the time slept and by nothing else, whatever NTP does. They can't be read at
/// once, so one is read between two looks at the other, which bounds the difference: a process that
/// was put off in between takes no pause of its own for sleep.
#[derive(Clone, Copy, Debug)]
pub struct Naps {
    /// What the machine has slept since it booted is no more than this, in nanoseconds.
    most_ns: u64,
}

/// The shortest sleep that is told, in nanoseconds: longer than what clocks are rounded by.
const NAP_NS: u64 = NANOS_PER_MILLI;

impl Naps {
    /// Counts from now on.
    #[must_use]
    pub fn starting() -> Self {
        let (before, boot) = (read(ClockId::Monotonic), boottime_ns());
        Self {
            most_ns: boot.saturating_sub(before),
        }
    }

    /// For how many milliseconds, at least one, the machine slept since the last look, if it did.
    pub fn look(&mut self) -> Option<u64> {
        let before = read(ClockId::Monotonic);
        let boot = boottime_ns();
        self.noted(before, boot, read(ClockId::Monotonic))
    }

    fn noted(&mut self, before: u64, boot: u64, after: u64) -> Option<u64> {
        let (least, most) = (boot.saturating_sub(after), boot.saturating_sub(before));
        let slept = least.saturating_sub(self.most_ns);
        if slept >= NAP_NS {
            self.most_ns = most;
            return Some(slept / NANOS_PER_MILLI);
        }
        // Two looks together know more than each.
        self.most_ns = self.most_ns.min(most);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: sleep is told once and to the millisecond; a late process is no sleeper.
    /// Method: readings by hand, in ms: awake, put off between two readings, asleep, awake.
    #[test]
    fn sleep_is_told_once_and_a_pause_is_no_sleep() {
        let mut naps = Naps { most_ns: 0 };
        let mut look = |before: u64, boot: u64, after: u64| {
            let [before, boot, after] = [before, boot, after].map(|ms| ms * NANOS_PER_MILLI);
            naps.noted(before, boot, after)
        };
        assert_eq!(look(100, 100, 100), None);
        assert_eq!(look(200, 900, 900), None);
        assert_eq!(look(1_000, 1_000, 9_000), None);
        assert_eq!(look(9_100, 69_100, 69_100), None, "put off while it looked");
        assert_eq!(look(69_100, 69_100, 69_100), None);
        assert_eq!(look(69_200, 129_200, 69_200), Some(60_000));
        assert_eq!(look(69_300, 129_300, 69_300), None);
        let mut here = Naps::starting();
        for _ in 0..10_000 {
            assert_eq!(here.look(), None);
        }
    }

    /// Goal: lease arithmetic may subtract two readings without a check for order.
    /// Method: many readings in a row, and the two units beside each other.
    #[test]
    fn clock_never_steps_back_and_its_units_agree() {
        let mut last = boottime_ns();
        for _ in 0..10_000 {
            let now = boottime_ns();
            assert!(now >= last, "{now} came after {last}");
            last = now;
        }
        let (ns, ms) = (boottime_ns(), boottime_ms());
        assert!(ms >= ns / NANOS_PER_MILLI && ms - ns / NANOS_PER_MILLI < 10_000);
    }
}
