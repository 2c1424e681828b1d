//! Load objects: what each measured last, and what that makes of the group.
//!
//! A group is as used as its most used resource: an idle processor does not help a full link. A load
//! object that fails keeps its last value for a while; then it is left out, since nobody knows whether
//! the host is idle or full, and calling it full would empty the zone when a script breaks everywhere.

use control::Instant;

use super::{Outcome, Reading};

/// So many failures in a row, and a load object counts no more.
pub const MISSES: u32 = 3;

/// What one load object measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    value: Option<(u64, u64)>,
    misses: u32,
    last: Option<(Instant, Result<(), String>)>,
}

impl Gauge {
    /// Takes in one outcome.
    pub fn take(&mut self, now: Instant, outcome: &Outcome) {
        let read = match outcome {
            Ok(Reading::Load { capacity: 0, .. }) => Err("its capacity is 0".to_owned()),
            Ok(Reading::Load { load, capacity }) => Ok((*load, *capacity)),
            Ok(Reading::Passed) => Err("it measured nothing".to_owned()),
            Err(why) => Err(why.clone()),
        };
        match &read {
            Ok(value) => (self.value, self.misses) = (Some(*value), 0),
            Err(_) => {
                self.misses += 1;
                self.value = self.value.filter(|_| self.misses < MISSES);
            }
        }
        self.last = Some((now, read.map(|_| ())));
    }

    /// Load and capacity; none when they are not known.
    #[must_use]
    pub fn value(&self) -> Option<(u64, u64)> {
        self.value
    }

    /// When it was looked at last.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.last.as_ref().map(|(at, _)| *at)
    }

    /// What was found last, in words.
    #[must_use]
    pub fn words(&self) -> Option<String> {
        let (_, last) = self.last.as_ref()?;
        Some(match (last, self.value) {
            (Ok(()), Some((load, capacity))) => format!("{load} of {capacity}"),
            (Ok(()), None) => "nothing".to_owned(),
            (Err(why), _) => why.clone(),
        })
    }
}

/// Load and capacity of the most used; `(0, 0)` when nothing is measured.
pub(super) fn most_used<'a>(gauges: impl Iterator<Item = &'a Gauge>) -> (u32, u32) {
    let values = gauges.filter_map(Gauge::value);
    let ratio = |(load, capacity): &(u64, u64)| {
        // Billionths: finer than any scale.
        u128::from(*load) * 1_000_000_000 / u128::from((*capacity).max(1))
    };
    values.max_by_key(ratio).map_or((0, 0), |(load, capacity)| {
        // A heartbeat has 32 bits for each; the ratio is what counts.
        let bits = 64 - load.max(capacity).leading_zeros();
        let shift = bits.saturating_sub(32);
        let narrow = |value: u64| u32::try_from(value >> shift).unwrap_or(u32::MAX);
        (narrow(load), narrow(capacity).max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(load: u64, capacity: u64) -> Gauge {
        let mut gauge = Gauge::default();
        gauge.take(Instant(0), &Ok(Reading::Load { load, capacity }));
        gauge
    }

    /// Goal: the most used resource speaks for the host, whatever the units.
    #[test]
    fn a_group_is_as_used_as_its_most_used_resource() {
        let gauges = [gauge(10, 100), gauge(900, 1_000), gauge(5_000, 1_000_000)];
        assert_eq!(most_used(gauges.iter()), (900, 1_000));
        assert_eq!(most_used([].iter()), (0, 0));
    }

    /// Goal: large numbers keep their ratio in 32 bits.
    #[test]
    fn large_loads_keep_their_ratio() {
        let gauges = [gauge(1 << 40, 1 << 41)];
        let (load, capacity) = most_used(gauges.iter());
        assert_eq!(u64::from(load) * 2, u64::from(capacity));
        let overfull = [gauge(u64::MAX, 1)];
        let (load, capacity) = most_used(overfull.iter());
        assert!(load > 1_000_000 && capacity >= 1);
    }

    /// Goal: a load object that fails keeps its value for two runs and is then left out, and says why.
    #[test]
    fn a_load_that_fails_counts_for_a_while_and_then_no_more() {
        let mut gauge = gauge(1, 2);
        for left in [true, true, false] {
            gauge.take(Instant(1), &Err("gone".to_owned()));
            assert_eq!(gauge.value().is_some(), left);
            assert_eq!(gauge.words().as_deref(), Some("gone"));
        }
        gauge.take(
            Instant(2),
            &Ok(Reading::Load {
                load: 3,
                capacity: 4,
            }),
        );
        assert_eq!(gauge.value(), Some((3, 4)));
    }

    /// Goal: a capacity of 0 divides nothing.
    #[test]
    fn a_capacity_of_nothing_counts_as_failed() {
        assert_eq!(gauge(1, 0).value(), None);
    }
}
