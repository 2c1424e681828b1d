//! Makes a failing storm smaller: what comes after the breach goes first, then as many faults as can be
//! left out while the same law stays broken.
//!
//! Leaving a fault out changes every random number after it, so this finds a small story, not the
//! smallest.

use super::{Blow, Storm};
use crate::Law;

/// Most runs that one search may cost.
const RUNS: usize = 600;

/// A smaller storm of the same seed that breaks the same law.
#[must_use]
pub fn shrink(storm: &Storm, law: Law, at_ms: u64) -> Storm {
    let mut left = RUNS;
    let mut best = storm.clone();
    let early = |blows: &[Blow]| {
        let mut blows = blows.to_vec();
        blows.retain(|blow| blow.at_ms <= at_ms);
        blows
    };
    attempt(&mut best, early(&storm.blows), law, &mut left);
    let mut size = best.blows.len() / 2;
    while size > 0 && left > 0 {
        let mut from = 0;
        while from < best.blows.len() && left > 0 {
            let mut blows = best.blows.clone();
            blows.drain(from..(from + size).min(blows.len()));
            if !attempt(&mut best, blows, law, &mut left) {
                from += size;
            }
        }
        size /= 2;
    }
    best
}

fn attempt(best: &mut Storm, blows: Vec<Blow>, law: Law, left: &mut usize) -> bool {
    *left = left.saturating_sub(1);
    let end = blows.last().map_or(0, |blow| blow.at_ms);
    let smaller = Storm {
        blows_ms: best.blows_ms.min(end + 1),
        blows,
        ..best.clone()
    };
    let broken = smaller.run().broken;
    let same = broken.is_some_and(|breach| breach.law == law);
    if same {
        *best = smaller;
    }
    same
}
