//! An address with the length of its network's prefix: `10.77.0.101/24`.
//!
//! A host's own address within its network, so host bits are wanted: `10.77.0.0/24` is refused, as
//! is the broadcast address.
//!
//! Limits: no names, no netmasks in dotted form, no scope identifiers.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::scalar::{Complaint, complaint, unusable};

/// An IP address and the number of leading bits that name its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// Length of the network's prefix in bits: 1..=32 or 1..=128.
    pub length: u8,
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl Prefix {
    /// Bits of an address of this family.
    const fn width(&self) -> u8 {
        if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// The address's bits to the right of the prefix, as a number; and how many they are.
    fn host_bits(&self) -> (u128, u8) {
        let bits = match self.address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let count = self.width().saturating_sub(self.length);
        (bits & ones(count), count)
    }
}

/// A number whose lowest `count` bits are set.
fn ones(count: u8) -> u128 {
    if count >= 128 {
        u128::MAX
    } else {
        (1_u128 << count) - 1
    }
}

/// Splits `ADDRESS/LENGTH`.
fn split(text: &str) -> Result<Prefix, Complaint> {
    let shown = text.escape_debug();
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        return Err(complaint(
            format!("`{shown}` is not an IP address"),
            "write 10.0.0.101/24 or fd00::101/64",
        ));
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let Some(length) = length else {
        let usual = if address.is_ipv4() { 24 } else { 64 };
        return Err(complaint(
            format!("`{shown}` has no prefix length"),
            format!("write it with that of its network, such as `{address}/{usual}`"),
        ));
    };
    match length.parse::<u8>() {
        Ok(length) if (1..=width).contains(&length) => Ok(Prefix { address, length }),
        _ => Err(complaint(
            format!("`{shown}` has a bad prefix length"),
            format!("write 1 to {width} after the slash"),
        )),
    }
}

/// A service address as a host carries it: usable, and neither its network's first address nor,
/// in IPv4, its last.
pub fn preferred(text: &str) -> Result<Prefix, Complaint> {
    let prefix = split(text)?;
    if let Some(why) = unusable(prefix.address) {
        return Err(complaint(
            format!("`{text}` {why}"),
            "write an address that clients can reach",
        ));
    }
    let (host, count) = prefix.host_bits();
    if count >= 2 && host == 0 {
        let what = format!("`{text}` names the network itself, not an address in it");
        return Err(complaint(
            what,
            "set the bits after the prefix, or mend the prefix length",
        ));
    }
    if count >= 2 && prefix.address.is_ipv4() && host == ones(count) {
        let what = format!("`{text}` is the broadcast address of its network");
        return Err(complaint(
            what,
            "choose another address, or mend the prefix length",
        ));
    }
    Ok(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: networks and hosts are told apart at the edges of both families.
    /// Method: a table of texts and verdicts.
    #[test]
    fn judges_host_bits() {
        for good in [
            "10.77.0.101/24",
            "10.0.0.0/31",
            "10.0.0.1/32",
            "fd00:77::101/64",
            "fd00::/127",
            "127.77.1.1/32",
        ] {
            assert!(preferred(good).is_ok(), "{good}");
        }
        let bad = "10.0.0.0/24 10.0.0.255/24 10.0.0.1/0 10.0.0.1/33 10.0.0.1 fd00::/64 fe80::1/64 ::ffff:10.0.0.1/96 0.0.0.0/8 224.0.0.1/4 x/8 10.0.0.1/24/2";
        for bad in bad.split(' ') {
            assert!(preferred(bad).is_err(), "{bad}");
        }
    }
}
