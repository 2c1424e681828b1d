//! The one place of the daemon that reads a clock.
//!
//! Two clocks: the boot-time clock for every decision (it runs on in suspend, nobody can set it),
//! and the wall clock for what people read and for the validity of certificates.

use std::time::{SystemTime, UNIX_EPOCH};

use control::Instant;

/// Now, on the boot-time clock.
pub fn now() -> Instant {
    Instant(host::clock::boottime_ns() / 1000)
}

/// Now, on the wall clock.
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the one place that reads a clock"
)]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Now, on the wall clock, in milliseconds since 1970.
pub fn wall_ms() -> u64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Now, on the wall clock, in microseconds since 1970.
pub fn wall_us() -> u64 {
    let since = wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Names this boot of the machine: readings of the boot-time clock compare only within one.
pub fn machine_boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Now, on the monotonic clock: for the ages that Raft measures on it, never for a lease.
#[expect(
    clippy::disallowed_methods,
    reason = "this file is the one place that reads a clock"
)]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
