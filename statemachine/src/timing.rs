//! The array-wide timing: how fast silence is noticed, and how long a lease lasts.
//!
//! Presets and formulas are those of lease.md. `check` refuses what is unsafe and shows the
//! arithmetic, so that a person can mend it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
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

/// A rule that a timing breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimingFault {
    /// The number to change, as the file calls it.
    pub key: &'static str,
    /// What does not fit, with the arithmetic.
    pub why: String,
}

/// Shortest heartbeat and Raft heartbeat, in ms: the grain of the timers used (jiffies of 10 ms exist).
pub const GRAIN_MS: u64 = 10;
/// Longest suspicion, lease and election, in ms: a minute. What a voter that restarted waits for.
pub const MAX_MS: u32 = 60_000;
/// Shortest lease, in ms: eps of it, 8 ms, is two ticks of a kernel at 250 Hz, by which its gate may close late.
pub const MIN_LEASE_MS: u64 = 80;
/// What must be left of a lease when its renewal comes, in ms: 20 for which the address driver still
/// takes an address (host's `WORTH_US`), 10 for the round trip.
pub const SPARE_MS: u64 = 30;

/// The usable part of a lease of `lease_ms`: L(1 - eps), eps = 10 % (lease.md, Clocks).
#[must_use]
pub fn usable_ms(lease_ms: u32) -> u64 {
    u64::from(lease_ms) * 9 / 10
}

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

    /// The usable part of a lease: [`usable_ms`] of it.
    #[must_use]
    pub fn usable_lease_ms(&self) -> u64 {
        usable_ms(self.lease_ms)
    }

    /// Refuses what cannot keep a lease alive or would suspect a healthy host.
    ///
    /// # Errors
    /// [`UnsafeTiming`] with the arithmetic of every broken rule in words.
    pub fn check(&self) -> Result<(), UnsafeTiming> {
        let whys: Vec<String> = self.faults().into_iter().map(|fault| fault.why).collect();
        match whys.is_empty() {
            true => Ok(()),
            false => Err(UnsafeTiming(whys.join("; "))),
        }
    }

    /// Every rule that this timing breaks; none when it is safe.
    #[must_use]
    pub fn faults(&self) -> Vec<TimingFault> {
        let mut rules = self.lease_rules().to_vec();
        rules.extend(self.election_rules());
        let broken = rules.into_iter().filter(|(holds, ..)| !holds);
        broken
            .map(|(_, key, why)| TimingFault { key, why })
            .collect()
    }

    fn lease_rules(&self) -> [Rule; 6] {
        let (h, d, l) = (
            u64::from(self.heartbeat_ms),
            u64::from(self.suspect_ms),
            u64::from(self.lease_ms),
        );
        let (usable, max) = (self.usable_lease_ms(), u64::from(MAX_MS));
        [
            (
                h >= GRAIN_MS,
                "heartbeat",
                format!("heartbeat {h} ms < {GRAIN_MS} ms, the grain of the timers used"),
            ),
            (
                d >= 3 * h,
                "suspect",
                format!(
                    "suspicion {d} ms < 3 x heartbeat {h} ms = {} ms: two lost datagrams would cost a failover",
                    3 * h
                ),
            ),
            (
                d <= max,
                "suspect",
                format!("suspicion {d} ms > {max} ms: a dead host's addresses would stay dark"),
            ),
            (
                usable >= 2 * h + SPARE_MS,
                "lease",
                format!(
                    "usable lease {usable} ms (90 % of {l} ms) < 2 x heartbeat {h} ms + {SPARE_MS} ms = {} ms: one lost datagram would drop the addresses",
                    2 * h + SPARE_MS
                ),
            ),
            (
                l >= MIN_LEASE_MS,
                "lease",
                format!(
                    "lease {l} ms < {MIN_LEASE_MS} ms: 10 % of it must outlast two ticks of the kernel, 8 ms"
                ),
            ),
            (
                l <= max,
                "lease",
                format!(
                    "lease {l} ms > {max} ms: a restarted voter would hold up failovers as long"
                ),
            ),
        ]
    }

    fn election_rules(&self) -> [Rule; 5] {
        let (beat, min, max, bound) = (
            u64::from(self.raft_heartbeat_ms),
            u64::from(self.election_min_ms),
            u64::from(self.election_max_ms),
            u64::from(MAX_MS),
        );
        [
            (
                beat >= GRAIN_MS,
                "raft_heartbeat",
                format!("Raft heartbeat {beat} ms < {GRAIN_MS} ms, the grain of the timers used"),
            ),
            (
                min > beat,
                "election_min",
                format!(
                    "election minimum {min} ms is not above the Raft heartbeat, {beat} ms: leaders would be deposed needlessly"
                ),
            ),
            (
                max >= 3 * beat,
                "election_max",
                format!(
                    "election maximum {max} ms, for which followers wait, < 3 x Raft heartbeat {beat} ms = {} ms: leaders would be deposed needlessly",
                    3 * beat
                ),
            ),
            (
                max >= min + GRAIN_MS,
                "election_max",
                format!(
                    "election maximum {max} ms < minimum {min} ms + {GRAIN_MS} ms: votes would split"
                ),
            ),
            (
                max <= bound,
                "election_max",
                format!(
                    "election maximum {max} ms > {bound} ms: a dead leader would not be replaced"
                ),
            ),
        ]
    }
}

/// Whether it holds, the number to change, and why not.
type Rule = (bool, &'static str, String);

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

    /// Goal: each unsafe combination is refused, and the words hold the numbers and the key to change.
    /// Method: `lan` with one or two numbers changed, from just unsafe to absurd.
    #[test]
    fn an_unsafe_timing_names_the_key_and_shows_the_arithmetic() {
        let lan = Timing::LAN;
        #[rustfmt::skip]
        let rows = [
            (Timing { heartbeat_ms: 9, ..lan }, "heartbeat", "heartbeat 9 ms < 10 ms"),
            (Timing { heartbeat_ms: 0, ..lan }, "heartbeat", "heartbeat 0 ms < 10 ms"),
            (Timing { suspect_ms: 299, ..lan }, "suspect", "suspicion 299 ms < 3 x heartbeat 100 ms = 300 ms"),
            (Timing { suspect_ms: 60_001, ..lan }, "suspect", "suspicion 60001 ms > 60000 ms"),
            (Timing { lease_ms: 255, ..lan }, "lease", "usable lease 229 ms (90 % of 255 ms) < 2 x heartbeat 100 ms + 30 ms = 230 ms"),
            (Timing { heartbeat_ms: 10, lease_ms: 79, ..lan }, "lease", "lease 79 ms < 80 ms"),
            (Timing { lease_ms: 60_001, ..lan }, "lease", "lease 60001 ms > 60000 ms"),
            (Timing { raft_heartbeat_ms: 9, ..lan }, "raft_heartbeat", "Raft heartbeat 9 ms < 10 ms"),
            (Timing { election_min_ms: 100, ..lan }, "election_min", "election minimum 100 ms is not above the Raft heartbeat, 100 ms"),
            (Timing { election_max_ms: 299, ..lan }, "election_max", "election maximum 299 ms, for which followers wait, < 3 x Raft heartbeat 100 ms = 300 ms"),
            (Timing { election_min_ms: 291, ..lan }, "election_max", "election maximum 300 ms < minimum 291 ms + 10 ms"),
            (Timing { election_max_ms: 60_001, ..lan }, "election_max", "election maximum 60001 ms > 60000 ms"),
        ];
        for (timing, key, words) in rows {
            let faults = timing.faults();
            let [fault] = faults.as_slice() else {
                panic!("{words}: {faults:?}");
            };
            assert_eq!(fault.key, key);
            assert!(fault.why.contains(words), "{}", fault.why);
            assert_eq!(timing.check(), Err(UnsafeTiming(fault.why.clone())));
        }
    }

    /// Goal: numbers from anywhere are judged, not overflowed: `apply` checks what it is given.
    #[test]
    fn the_largest_numbers_are_refused_without_overflow() {
        let huge = Timing {
            heartbeat_ms: u32::MAX,
            suspect_ms: u32::MAX,
            lease_ms: u32::MAX,
            raft_heartbeat_ms: u32::MAX,
            election_min_ms: u32::MAX,
            election_max_ms: u32::MAX,
        };
        assert!(huge.faults().len() >= 5);
    }

    /// Goal: what is just safe passes.
    #[test]
    fn the_tightest_timing_passes() {
        let tight = Timing {
            heartbeat_ms: 10,
            suspect_ms: 30,
            lease_ms: 80,
            raft_heartbeat_ms: 10,
            election_min_ms: 20,
            election_max_ms: 30,
        };
        assert_eq!(tight.check(), Ok(()));
    }
}
