//! Timings to try: the presets, and safe ones whose lease is far longer than the suspicion time-out.
//!
//! With D = L a silent host's lease has all but ended when it is fenced, and most holes stay shut; a
//! long L makes each wait of the protocol count.

use statemachine::Timing;

use crate::Rng;

/// Draws a timing that `Timing::check` accepts.
pub(super) fn draw(rng: &mut Rng) -> Timing {
    let base = match rng.below(12) {
        0 => Timing::FAST,
        1 | 2 => Timing::WAN,
        _ => Timing::LAN,
    };
    if rng.chance(500) {
        return base;
    }
    let lease_ms = base.suspect_ms * rng.between((2, 8)) as u32;
    Timing { lease_ms, ..base }
}
