//! Order of zone versions: serials wrap, so "greater" is "less than half of the circle ahead".
//!
//! RFC 1982, section 3.2. Two serials that are exactly half of the circle apart have no order
//! there; here neither is newer, so such a pair leads to a whole transfer and never to none.

/// Half of the circle of 32-bit serials.
const HALF: u32 = 1 << 31;

/// Whether `serial` comes after `than`.
pub fn is_newer(serial: u32, than: u32) -> bool {
    let ahead = serial.wrapping_sub(than);
    ahead != 0 && ahead < HALF
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: serials are ordered on a circle.
    /// Method: neighbours, the wrap, the far side.
    #[test]
    fn newer_is_ahead_on_the_circle() {
        for (serial, than, newer) in [
            (2, 1, true),
            (1, 2, false),
            (7, 7, false),
            (1, u32::MAX, true),
            (u32::MAX, 1, false),
            (HALF - 1, 0, true),
            (HALF, 0, false),
            (0, HALF, false),
            (HALF + 1, 0, false),
            (0, HALF + 1, true),
        ] {
            assert_eq!(is_newer(serial, than), newer, "{serial} {than}");
        }
    }
}
