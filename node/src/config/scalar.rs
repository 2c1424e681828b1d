//! The small words of our configuration files: durations, names, addresses.
//!
//! Each parser takes the text of one value and answers either with a value that needs no further
//! check or with a [`Complaint`]: what is wrong and what to write instead. They are plain
//! functions so that the command line uses the same ones.
//!
//! Limits: names are lower case, since DNS can't tell `H1` from `h1` and two spellings of one
//! host are an accident waiting; a duration is at most 10 years.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a value was refused: what is wrong with it, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Complaint {
    /// What is wrong, in lower case.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Builds a [`Complaint`].
pub fn complaint(what: impl Into<String>, remedy: impl Into<String>) -> Complaint {
    Complaint {
        what: what.into(),
        remedy: remedy.into(),
    }
}

/// A span of time in whole milliseconds.
///
/// People read and write it as `500ms`, `1h30m` or `30d` (TOML, JSON); on the wire and in the log
/// it is the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// Units of a duration, largest first, with their length in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest duration that is understood: 10 years, so that sums of a few never overflow.
pub const MAX_MILLIS: u64 = 3_650 * 86_400_000;

impl Millis {
    /// `seconds` as milliseconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// As the standard library's duration.
    pub const fn to_duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (unit, length) in UNITS {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
                rest %= length;
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for Millis {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        duration(text)
    }
}

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return duration(&text).map_err(serde::de::Error::custom);
        }
        u64::deserialize(deserializer).map(Self)
    }
}

/// Reads `500ms`, `5s`, `1h30m`, `30d`: whole numbers, each with a unit, larger units first.
pub fn duration(text: &str) -> Result<Millis, Complaint> {
    let bad = || {
        complaint(
            format!("`{text}` is not a duration"),
            "write a whole number and a unit: 500ms, 5s, 10m, 1h or 30d",
        )
    };
    let mut rest = text;
    let mut total: u64 = 0;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at_checked(letters).ok_or_else(bad)?;
        let length = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(bad)?
            .1;
        if number.is_empty() || length >= smallest {
            return Err(bad());
        }
        let number: u64 = number.parse().map_err(|_| bad())?;
        total = number
            .checked_mul(length)
            .and_then(|part| total.checked_add(part))
            .unwrap_or(u64::MAX);
        smallest = length;
        rest = after;
    }
    if text.is_empty() {
        return Err(bad());
    }
    if total > MAX_MILLIS {
        return Err(complaint(
            format!("`{text}` is longer than 10 years"),
            "write a shorter duration",
        ));
    }
    Ok(Millis(total))
}

/// One label by RFC 1123: letters, digits and inner hyphens, 1 to 63; lower case (see the header).
fn label(kind: &str, text: &str) -> Result<(), Complaint> {
    let fit = "use 1 to 63 of a-z, 0-9 and inner hyphens";
    if text.is_empty() {
        return Err(complaint(format!("the {kind} is empty"), fit));
    }
    if text.len() > 63 {
        return Err(complaint(
            format!("the {kind} has {} characters", text.chars().count()),
            fit,
        ));
    }
    if let Some(bad) = text
        .chars()
        .find(|c| !c.is_ascii_alphanumeric() && *c != '-')
    {
        return Err(complaint(
            format!("the {kind} `{text}` has a `{}`", bad.escape_default()),
            fit,
        ));
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err(complaint(
            format!("the {kind} `{text}` starts or ends with a hyphen"),
            fit,
        ));
    }
    if text.bytes().any(|c| c.is_ascii_uppercase()) {
        let lower = text.to_ascii_lowercase();
        return Err(complaint(
            format!("the {kind} `{text}` has an upper-case letter"),
            format!("write `{lower}`"),
        ));
    }
    Ok(())
}

/// A host's name: one DNS label, as it stands before the zone in `HOST.zone`; `ns` is the zone's own.
pub fn host_name(text: &str) -> Result<String, Complaint> {
    label("host name", text)?;
    if text == "ns" {
        return Err(complaint(
            "the host name `ns` is reserved for the name servers of a zone",
            "choose another name",
        ));
    }
    Ok(text.to_owned())
}

/// A group's name: one label, so that it can stand in commands, URLs and environment variables.
pub fn group_name(text: &str) -> Result<String, Complaint> {
    label("group name", text)?;
    Ok(text.to_owned())
}

/// The name of a test or load object: printable, without spaces, 1 to 63 characters.
pub fn object_name(text: &str) -> Result<String, Complaint> {
    let good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if text.is_empty() || text.len() > 63 || !text.chars().all(good) {
        return Err(complaint(
            format!("`{}` is not a name", text.escape_debug()),
            "use 1 to 63 of a-z, 0-9, `-`, `_` and `.`",
        ));
    }
    Ok(text.to_owned())
}

/// Longest zone name, last dot included. A name has at most 255 octets on the wire, one more than
/// its text, and a host's label of up to 63 goes before the zone; `Policy::check` keeps a few more
/// free and has the same bound, so that no file passes here and is refused by the log.
pub const MAX_ZONE: usize = 187;

/// A DNS zone's name: absolute (with the last dot), not the root, lower case in the result.
pub fn zone_name(text: &str) -> Result<String, Complaint> {
    let fit = "write a full name such as `web.example.`";
    let Some(inner) = text.strip_suffix('.') else {
        let name = if text.is_empty() { "web.example" } else { text };
        return Err(complaint(
            format!("the zone `{}` does not end in a dot", text.escape_debug()),
            format!("write `{}.`", name.escape_debug()),
        ));
    };
    if inner.is_empty() {
        return Err(complaint("the zone is the root of the DNS", fit));
    }
    if text.len() > MAX_ZONE {
        return Err(complaint(
            format!("the zone's name has {} characters", text.len()),
            format!("use at most {MAX_ZONE}"),
        ));
    }
    for part in inner.split('.') {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let edge = part.starts_with('-') || part.ends_with('-');
        if part.is_empty() || part.len() > 63 || edge || !part.chars().all(good) {
            let what = format!(
                "the zone `{}` has the bad label `{}`",
                text.escape_debug(),
                part.escape_debug()
            );
            return Err(complaint(
                what,
                "each label has 1 to 63 of a-z, 0-9, `_` and inner hyphens",
            ));
        }
    }
    Ok(text.to_ascii_lowercase())
}

/// A network interface's name by the kernel's rules.
pub fn interface_name(text: &str) -> Result<String, Complaint> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '/' || c == ':';
    if text.is_empty() || text.len() > 15 || text == "." || text == ".." || text.contains(bad) {
        let what = format!("`{}` is not the name of an interface", text.escape_debug());
        return Err(complaint(
            what,
            "write one that `ip link` shows, such as `eth0` (1 to 15 characters)",
        ));
    }
    Ok(text.to_owned())
}

/// An IP address and a port, the port not 0.
pub fn socket(text: &str) -> Result<SocketAddr, Complaint> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            return Err(complaint(
                format!("`{text}` has port 0"),
                "write a port from 1 to 65535",
            ));
        }
        return Ok(SocketAddr::new(address.ip(), address.port()));
    }
    let shown = text.escape_debug();
    if let Ok(ip) = text.parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 7400);
        return Err(complaint(
            format!("`{shown}` has no port"),
            format!("write it as `{example}`"),
        ));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.parse::<IpAddr>().is_ok() && port.parse::<u16>().is_err() {
            return Err(complaint(
                format!("`{shown}` has a bad port"),
                "write a port from 1 to 65535",
            ));
        }
        if port.parse::<u16>().is_ok() && host.parse::<IpAddr>().is_err() {
            return Err(complaint(
                format!("`{shown}` has a bad IP address"),
                "write an IP address, not a name: 10.0.0.1:7400 or [fd00::1]:7400",
            ));
        }
    }
    Err(complaint(
        format!("`{shown}` is not an address and port"),
        "write 10.0.0.1:7400 or [fd00::1]:7400",
    ))
}

/// Why no daemon can be reached or serve at this address, if so; loopback is judged elsewhere.
pub fn unusable(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("stands for no address"),
        _ if ip.is_multicast() => Some("is a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => Some("is reserved"),
        IpAddr::V6(v6) if is_mapped(v6) => Some("is an IPv4 address written as IPv6"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("is link-local, so it means nothing without its interface")
        }
        _ => None,
    }
}

/// `::ffff:a.b.c.d`.
fn is_mapped(ip: Ipv6Addr) -> bool {
    ip.to_ipv4_mapped().is_some()
}
