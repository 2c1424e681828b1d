//! Invariant 17: replicated time, and so every orphan timer, never runs faster than true time.
//!
//! That it never runs backwards is `apply`'s own law: it takes the later of two times.

use statemachine::State;

/// The fastest clock's gain, in parts per thousand, and a ms for rounding.
const GAIN_PER_MILLE: u64 = 1;

/// What is wrong with the state's time, if anything.
#[must_use]
pub fn too_fast(state: &State, true_us: u64) -> Option<String> {
    let true_ms = true_us / 1000;
    let most = true_ms + true_ms * GAIN_PER_MILLE / 1000 + 1;
    (state.at.0 > most).then(|| format!("replicated time is {} after {true_ms} ms", state.at))
}
