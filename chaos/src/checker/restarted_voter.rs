//! Invariant 8: a voter that has run for less than L answers for a fence as if it had promised
//! everything just before it started.

use statemachine::HostId;

/// What is wrong with an answer, if anything; all of the voter's own clock.
#[must_use]
pub fn answered(voter: HostId, remaining_us: u64, uptime_us: u64, lease_ms: u32) -> Option<String> {
    let lease_us = u64::from(lease_ms) * 1000;
    (remaining_us + uptime_us < lease_us).then(|| {
        format!(
            "h{voter} is up for {uptime_us} us and says that its promise runs for {remaining_us} us of {lease_us}"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: young voters must answer with what is left of L. Method: both sides of the bound.
    #[test]
    fn a_young_voter_that_says_nothing_is_left_is_told() {
        assert_eq!(answered(HostId(1), 200_000, 100_000, 300), None);
        assert_eq!(answered(HostId(1), 0, 300_000, 300), None);
        assert!(answered(HostId(1), 199_999, 100_000, 300).is_some());
    }
}
