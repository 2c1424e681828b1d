//! Keeps a member that fails again and again from taking addresses each time it looks well for a moment.
//!
//! As BGP's route flap damping: each fall adds a penalty, which halves every minute; above a mark the
//! member counts as failed although its tests pass, until the penalty is below a second one. So the
//! third fall within two minutes is held back, for some two minutes; the worst case is three.
//!
//! Limits: it cannot see that nobody else is left to serve; hence the short worst case.

use control::Instant;

/// Added by each fall.
pub const FALL_PENALTY: u64 = 1_000;
/// Above this the member is held back: two falls at once never are.
pub const HELD_ABOVE: u64 = 2_000;
/// Below this it is well again.
pub const WELL_BELOW: u64 = 750;
/// The penalty grows no further: 6,000 is below 750 after three half-lives.
pub const MAX_PENALTY: u64 = 6_000;
/// The penalty halves in so long, in ms.
const HALF_LIFE_MS: u64 = 60_000;

/// A member's penalty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damp {
    penalty: u64,
    at: Instant,
    held: bool,
}

impl Damp {
    /// The tests have just begun to fail.
    pub fn fell(&mut self, now: Instant) {
        let held = self.ends(now).is_some();
        self.penalty = (self.penalty(now) + FALL_PENALTY).min(MAX_PENALTY);
        self.at = now;
        self.held = held || self.penalty > HELD_ABOVE;
    }

    /// The penalty as it stands now.
    #[must_use]
    pub fn penalty(&self, now: Instant) -> u64 {
        let passed = now.ms_since(self.at);
        let halves = u32::try_from(passed / HALF_LIFE_MS).unwrap_or(u32::MAX);
        let whole = self.penalty.checked_shr(halves).unwrap_or(0);
        // A straight line between two halvings is within 6 % of the curve.
        whole - whole * (passed % HALF_LIFE_MS) / (2 * HALF_LIFE_MS)
    }

    /// Until when it is held back; none when it is not.
    #[must_use]
    pub fn ends(&self, now: Instant) -> Option<Instant> {
        if !self.held {
            return None;
        }
        let mut halves = 0;
        while self.penalty >> (halves + 1) >= WELL_BELOW {
            halves += 1;
        }
        let whole = self.penalty >> halves;
        let rest = (whole - (WELL_BELOW - 1)) * 2 * HALF_LIFE_MS;
        let ends = self
            .at
            .plus_ms(halves * HALF_LIFE_MS + rest.div_ceil(whole));
        (ends > now).then_some(ends)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000)
    }

    /// Goal: one slip and a second are forgiven, the third soon after is not, and time heals.
    #[test]
    fn the_third_fall_in_two_minutes_is_held_back_and_then_forgiven() {
        let mut damp = Damp::default();
        damp.fell(at(0));
        assert_eq!((damp.penalty(at(0)), damp.ends(at(0))), (1_000, None));
        damp.fell(at(10));
        assert_eq!(damp.ends(at(10)), None);
        damp.fell(at(20));
        let ends = damp.ends(at(20)).unwrap();
        assert!((60..=140).contains(&(ends.0 / 1_000_000 - 20)), "{ends:?}");
        assert!(damp.penalty(Instant(ends.0 - 2_000_000)) >= WELL_BELOW);
        assert!(damp.penalty(ends) < WELL_BELOW);
        assert_eq!(damp.ends(ends), None);
    }

    /// Goal: falls far apart are never held back.
    #[test]
    fn a_fall_every_five_minutes_is_not_held_back() {
        let mut damp = Damp::default();
        for fall in 0..50 {
            damp.fell(at(fall * 300));
            assert_eq!(damp.ends(at(fall * 300)), None);
        }
    }

    /// Goal: a storm of falls is held back for at most 200 s after the last.
    #[test]
    fn the_longest_time_held_back_is_bounded() {
        let mut damp = Damp::default();
        for fall in 0..1_000 {
            damp.fell(at(fall));
        }
        assert_eq!(damp.penalty(at(999)), MAX_PENALTY);
        assert!(damp.ends(at(999)).unwrap() <= at(999 + 200));
    }

    /// Goal: far in the future nothing overflows and nothing is left.
    #[test]
    fn a_penalty_is_gone_after_a_long_time() {
        let mut damp = Damp::default();
        damp.fell(at(0));
        assert_eq!(damp.penalty(Instant(u64::MAX)), 0);
    }
}
