//! Drawing lots from one number that the caller drew: the same number, the same lots.

use std::net::IpAddr;

/// Mixes a number well enough that close inputs give unlike outputs (splitmix64, Vigna 2015).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The lot of one candidate for one address; the lowest wins.
pub(crate) fn lot(dice: u64, address: IpAddr, host: u64) -> u64 {
    let number = match address {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64 ^ v6.to_bits() as u64,
    };
    mix(dice ^ mix(number ^ mix(host)))
}
