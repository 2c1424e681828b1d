//! The array-wide timing: how fast silence is noticed, and how long a lease lasts.
//!
//! Presets and formulas are those of lease.md. `check` refuses what is unsafe and shows the
//! arithmetic, so that a person can mend it.

use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Timing of heartbeats, leases and elections, in milliseconds of each host's boot-time clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// h: a host sends a heartbeat to every voter this often.
    pub heartbeat_ms: u32,
    /// D: the leader suspects a host after this long without a heartbeat.
    pub suspect_ms: u32,
    /// L: a voter's promise lasts this long from its acknowledgement, a lease L(1 - eps) from the send.
    pub lease_ms: u32,
    /// How often Raft's leader sends its own heartbeat.
    pub raft_heartbeat_ms: u32,
    /// Shortest election time-out.
    pub election_min_ms: u32,
    /// Longest election time-out.
    pub election_max_ms: u32,
}

/// Why a timing is refused, with the arithmetic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("unsafe timing: {0}")]
pub struct UnsafeTiming(pub String);

impl Timing {
    /// For one rack and dedicated links: heartbeat 20 ms.
    pub const FAST: Self = Self {
        heartbeat_ms: 20,
        suspect_ms: 60,
        lease_ms: 80,
        raft_heartbeat_ms: 20,
        election_min_ms: 60,
        election_max_ms: 120,
    };
    /// The default: heartbeat 100 ms.
    pub const LAN: Self = Self {
        heartbeat_ms: 100,
        suspect_ms: 300,
        lease_ms: 300,
        raft_heartbeat_ms: 100,
        election_min_ms: 150,
        election_max_ms: 300,
    };
    /// Across sites: heartbeat 1 s.
    pub const WAN: Self = Self {
        heartbeat_ms: 1000,
        suspect_ms: 4000,
        lease_ms: 4000,
        raft_heartbeat_ms: 300,
        election_min_ms: 1000,
        election_max_ms: 2000,
    };

    /// The usable part of a lease: L(1 - eps), eps = 10 % (lease.md, Clocks).
    #[must_use]
    pub fn usable_lease_ms(&self) -> u64 {
        u64::from(self.lease_ms) * 9 / 10
    }

    /// Refuses what cannot keep a lease alive or would suspect a healthy host.
    ///
    /// # Errors
    /// [`UnsafeTiming`] with the arithmetic in words.
    pub fn check(&self) -> Result<(), UnsafeTiming> {
        let h = u64::from(self.heartbeat_ms);
        let rules = [
            (
                h >= 10,
                format!("heartbeat {h} ms is below 10 ms, the grain of the timers used"),
            ),
            (
                u64::from(self.suspect_ms) >= 3 * h,
                format!(
                    "suspicion {} ms < 3 x heartbeat {h} ms: two lost datagrams would cost a failover",
                    self.suspect_ms
                ),
            ),
            (
                self.usable_lease_ms() >= 2 * h + 10,
                format!(
                    "usable lease {} ms (90 % of {} ms) < 2 x heartbeat {h} ms + 10 ms: one lost datagram would drop the addresses",
                    self.usable_lease_ms(),
                    self.lease_ms
                ),
            ),
            (
                self.election_max_ms >= 3 * self.raft_heartbeat_ms
                    && self.election_min_ms > self.raft_heartbeat_ms
                    && self.raft_heartbeat_ms > 0,
                format!(
                    "election maximum {} ms, for which followers wait, < 3 x Raft heartbeat {} ms, or its minimum {} ms not above one: leaders would be deposed needlessly",
                    self.election_max_ms, self.raft_heartbeat_ms, self.election_min_ms
                ),
            ),
            (
                self.election_max_ms > self.election_min_ms,
                format!(
                    "election maximum {} ms is not above the minimum {} ms: votes would split",
                    self.election_max_ms, self.election_min_ms
                ),
            ),
            (
                self.lease_ms <= 60_000,
                format!("lease {} ms is above 60 000 ms", self.lease_ms),
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, why)) => Err(UnsafeTiming(why)),
            None => Ok(()),
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::LAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_safe() {
        for preset in [Timing::FAST, Timing::LAN, Timing::WAN] {
            assert_eq!(preset.check(), Ok(()));
        }
    }

    #[test]
    fn an_unsafe_timing_shows_the_arithmetic() {
        let short = Timing {
            lease_ms: 200,
            ..Timing::LAN
        };
        let why = short.check().unwrap_err().0;
        assert!(
            why.contains("180 ms (90 % of 200 ms) < 2 x heartbeat 100 ms"),
            "{why}"
        );
    }
}
