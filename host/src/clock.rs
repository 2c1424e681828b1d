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
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the one place of the crate that reads a clock"
)]
pub fn boottime_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
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

#[cfg(test)]
mod tests {
    use super::*;

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
