//! Invariant 17: replicated time, and so every orphan timer, never runs backwards, nor faster than the
//! fastest clock.

use statemachine::{LogTime, State};

/// The fastest clock's gain, in parts per thousand, and a ms for rounding.
const GAIN_PER_MILLE: u64 = 1;

/// Replicated time as it was last.
#[derive(Debug, Default)]
pub struct OrphanClock {
    last: LogTime,
}

impl OrphanClock {
    /// What is wrong with the time of the next state, if anything.
    pub fn check(&mut self, state: &State, true_us: u64) -> Option<String> {
        let before = std::mem::replace(&mut self.last, state.at);
        if state.at < before {
            return Some(format!(
                "replicated time went from {before} to {}",
                state.at
            ));
        }
        let true_ms = true_us / 1000;
        let most = true_ms + true_ms * GAIN_PER_MILLE / 1000 + 1;
        (state.at.0 > most).then(|| format!("replicated time is {} after {true_ms} ms", state.at))
    }
}
