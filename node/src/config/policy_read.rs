//! Reads a group's policy and refuses what no group can live by, all of it at once.
//!
//! The result is the state machine's own [`Policy`], so that there is one noun for it and nothing
//! is lost on the way into the log. `Policy::check` guards the log once more, against old clients.
//!
//! Bounds that are not in the contract are here as constants with their reason.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use statemachine::{
    AllDown, GroupName, Network, Placement, Policy, QuorumLoss, Rebalance, Scripts, Stale, Transfer,
};

use super::diagnostic::Report;
use super::host_read::{absolute, choice};
use super::objects;
use super::scalar::{
    Complaint, Millis, complaint, duration, group_name, object_name, socket, unusable, zone_name,
};
use super::section::{Placed, Section};
use super::traps;

/// Keys at the top of the file.
pub(crate) const ROOT: [&str; 22] = [
    "name",
    "zone",
    "ttl",
    "fault_ttl",
    "min_addresses",
    "high_water",
    "low_water",
    "scale",
    "sample_interval",
    "all_down",
    "stale",
    "stale_after",
    "orphan_ttl",
    "placement",
    "quorum_loss",
    "last_resort_after",
    "rebalance",
    "test",
    "load",
    "scripts",
    "transfer",
    "traps",
];
/// A day in milliseconds: a longer TTL would outlive every failover that the DNS should show.
const DAY: u64 = 86_400_000;
/// Load decides on the zone ten times a second to once an hour.
const SAMPLE: RangeInclusive<u64> = 100..=3_600_000;
/// An orphan gets a minute at least, or a reboot would cost an address its group.
const ORPHAN: RangeInclusive<u64> = 60_000..=super::scalar::MAX_MILLIS;
/// Below a second an ordinary election would make a name server's copy stale.
const STALE: RangeInclusive<u64> = 1_000..=DAY;
/// Below a second an ordinary election would count as a lost quorum.
const LAST_RESORT: RangeInclusive<u64> = 1_000..=DAY;
/// The usual share of the TTL that answers live for while there is a fault: 1 s of the usual 5 s.
const FAULT_SHARE: u32 = 5;
/// A script may take up to ten minutes; the address waits for it.
const SCRIPT: RangeInclusive<u64> = 10..=600_000;
/// Most followers, managers and webhooks of a group; each costs a message for every change.
const MAX_PEERS: usize = 64;
/// How long a script may take unless the file says otherwise.
const DEFAULT_SCRIPT_MS: u64 = 5_000;

/// Reads the root table of a group policy. `None` only if the report has something to say.
pub(crate) fn read(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Policy> {
    let name = root.need("name", "\"web\"", group_name, report);
    let zone = root.need("zone", "\"web.example.\"", zone_name, report);
    let usual = Policy::new("", "");
    let words = "a string";
    let placement = [
        ("balanced", Placement::Balanced),
        ("random", Placement::Random),
    ];
    let quorum_loss = [
        ("hold", QuorumLoss::Hold),
        ("last_resort", QuorumLoss::LastResort),
    ];
    let rebalance = [("prefer", Rebalance::Prefer), ("sticky", Rebalance::Sticky)];
    let all_down = [
        ("empty", AllDown::Empty),
        ("last_known", AllDown::LastKnown),
    ];
    let stale = [("serve", Stale::Serve), ("servfail", Stale::Servfail)];
    let (ttl_s, fault_ttl_s) = read_ttls(root, usual.ttl_s, report);
    let marks = read_marks(root, report);
    let policy = Policy {
        name: GroupName(String::new()),
        zone: String::new(),
        ttl_s,
        fault_ttl_s,
        min_addresses: root
            .number("min_addresses", 1..=1_000, report)
            .map_or(usual.min_addresses, |one| narrow(one.value)),
        high_water: marks.high,
        low_water: marks.low,
        scale: marks.scale,
        sample_interval_ms: span(root, "sample_interval", SAMPLE, report)
            .unwrap_or(usual.sample_interval_ms),
        all_down: root
            .text("all_down", words, |text| choice(text, &all_down), report)
            .map_or(usual.all_down, |one| one.value),
        stale: root
            .text("stale", words, |text| choice(text, &stale), report)
            .map_or(usual.stale, |one| one.value),
        stale_after_ms: span(root, "stale_after", STALE, report).unwrap_or(usual.stale_after_ms),
        orphan_ttl_ms: read_orphan_ttl(root, report).unwrap_or(usual.orphan_ttl_ms),
        placement: root
            .text("placement", words, |text| choice(text, &placement), report)
            .map_or(usual.placement, |one| one.value),
        quorum_loss: root
            .text(
                "quorum_loss",
                words,
                |text| choice(text, &quorum_loss),
                report,
            )
            .map_or(usual.quorum_loss, |one| one.value),
        last_resort_after_ms: span(root, "last_resort_after", LAST_RESORT, report)
            .unwrap_or(usual.last_resort_after_ms),
        rebalance: root
            .text("rebalance", words, |text| choice(text, &rebalance), report)
            .map_or(usual.rebalance, |one| one.value),
        tests: objects::read_tests(root, report),
        loads: objects::read_loads(root, report),
        scripts: read_scripts(root, report),
        transfer: read_transfer(root, report),
        traps: traps::read(root, report),
    };
    Some(Policy {
        name: GroupName(name?.value),
        zone: zone?.value,
        ..policy
    })
}

/// `value`, which its range keeps within 32 bits.
pub(crate) fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// A duration under `key`, in milliseconds, within `range`.
pub(crate) fn span(
    section: &Section<'_, '_>,
    key: &str,
    range: RangeInclusive<u64>,
    report: &mut Report<'_>,
) -> Option<u64> {
    let bounded = |text: &str| {
        let time = duration(text)?;
        if range.contains(&time.0) {
            return Ok(time.0);
        }
        let (least, most) = (Millis(*range.start()), Millis(*range.end()));
        Err(complaint(
            format!("`{key}` is {time}, out of range"),
            format!("write {least} to {most}"),
        ))
    };
    section
        .text(key, "a duration in quotes, such as \"5s\"", bounded, report)
        .map(|one| one.value)
}

/// The TTL, and the shorter one while there is a fault: a fifth of it unless the file says otherwise.
fn read_ttls(root: &Section<'_, '_>, usual: u32, report: &mut Report<'_>) -> (u32, u32) {
    let before = report.count();
    let ttl_s = read_ttl(root, "ttl", report).unwrap_or(usual);
    let fault_ttl_s = read_ttl(root, "fault_ttl", report);
    let both_read = report.count() == before;
    if let Some(fault) = fault_ttl_s.filter(|fault| both_read && *fault > ttl_s) {
        report.add(
            root.span_of("fault_ttl"),
            format!("`fault_ttl` {fault}s is above `ttl` {ttl_s}s"),
            format!("write at most {ttl_s}s: answers are to live shorter while something is wrong"),
        );
    }
    (ttl_s, fault_ttl_s.unwrap_or(ttl_s.div_ceil(FAULT_SHARE)))
}

/// A TTL: whole seconds, since the DNS knows no others.
fn read_ttl(root: &Section<'_, '_>, key: &str, report: &mut Report<'_>) -> Option<u32> {
    let whole = |text: &str| {
        let time = duration(text)?;
        if time.0 == 0 || time.0 > DAY {
            return Err(complaint(
                format!("`{key}` is {time}, out of range"),
                "write 1s to 1d",
            ));
        }
        if !time.0.is_multiple_of(1_000) {
            return Err(complaint(
                format!("`{key}` is {time}, but the DNS counts whole seconds"),
                "write 1s or more, without ms",
            ));
        }
        Ok(narrow(time.0 / 1_000))
    };
    root.text(key, "a duration in quotes, such as \"5s\"", whole, report)
        .map(|one| one.value)
}

fn read_orphan_ttl(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Option<u64>> {
    let wanted = root.text(
        "orphan_ttl",
        "\"30d\" or \"never\"",
        |text| Ok(text == "never"),
        report,
    )?;
    if wanted.value {
        return Some(None);
    }
    span(root, "orphan_ttl", ORPHAN, report).map(Some)
}

/// The scale and its two water marks, as they stand together.
struct Marks {
    scale: u32,
    high: u32,
    low: u32,
}

/// Reads scale and marks. A mark that isn't given follows the scale: 80 % and 50 % of it.
fn read_marks(root: &Section<'_, '_>, report: &mut Report<'_>) -> Marks {
    let before = report.count();
    let scale = root
        .number("scale", 100..=1_000, report)
        .map_or(1_000, |one| one.value);
    let mark = |key: &str, usual: u64, report: &mut Report<'_>| {
        root.number(key, 1..=1_000, report)
            .map_or(usual, |one| one.value)
    };
    let high = mark("high_water", scale * 8 / 10, report);
    let low = mark("low_water", scale / 2, report);
    if report.count() == before {
        if high > scale {
            report.add(
                root.span_of("high_water"),
                format!("`high_water` {high} is above `scale` {scale}"),
                format!("write a mark of at most {scale}"),
            );
        }
        if low >= high {
            let key = if root.has("low_water") {
                "low_water"
            } else {
                "high_water"
            };
            report.add(
                root.span_of(key),
                format!("`low_water` {low} is not below `high_water` {high}"),
                "leave a gap, or a host would flap in and out of the zone",
            );
        }
    }
    Marks {
        scale: narrow(scale),
        high: narrow(high),
        low: narrow(low),
    }
}

fn read_scripts(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Scripts> {
    let section = root.table(
        "scripts",
        "[scripts]",
        &["acquire", "release", "timeout"],
        &ROOT,
        report,
    )?;
    let path = |text: &str| absolute(text).map(|_| text.to_owned());
    let acquire = section
        .text("acquire", "a path in quotes", path, report)
        .map(|one| one.value);
    let release = section
        .text("release", "a path in quotes", path, report)
        .map(|one| one.value);
    let timeout_ms = span(&section, "timeout", SCRIPT, report).unwrap_or(DEFAULT_SCRIPT_MS);
    if !section.has("acquire") && !section.has("release") {
        report.add(
            section.span.clone(),
            "[scripts] names no script",
            "add `acquire` or `release`, or remove the section",
        );
    }
    Some(Scripts {
        acquire,
        release,
        timeout_ms,
    })
}

fn read_transfer(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Transfer> {
    let section = root.table(
        "transfer",
        "[transfer]",
        &["notify", "allow", "tsig"],
        &ROOT,
        report,
    )?;
    let notify = section.list("notify", "\"10.77.0.53:53\"", peer, report);
    let allow = section.list("allow", "\"10.77.0.53\"", follower, report);
    let tsig = section
        .text("tsig", "the name of a key in quotes", object_name, report)
        .map(|one| one.value);
    unique(&section, "notify", &notify, report);
    unique(&section, "allow", &allow, report);
    Some(Transfer {
        notify: values(notify),
        allow: values(allow),
        tsig,
    })
}

/// The address of a name server that may take the zone, or the network of several.
fn follower(text: &str) -> Result<Network, Complaint> {
    let remedy =
        "write one IP address without a port, or a network: \"10.77.0.53\" or \"10.77.0.0/24\"";
    let shown = text.escape_debug();
    let (ip, length) = match text.split_once('/') {
        Some((ip, length)) => (ip, Some(length)),
        None => (text, None),
    };
    let Ok(ip) = ip.parse::<IpAddr>() else {
        return Err(complaint(format!("`{shown}` is not an IP address"), remedy));
    };
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let Some(length) = length else {
        return match unusable(ip) {
            Some(why) => Err(complaint(format!("`{text}` {why}"), remedy)),
            None => Ok(Network {
                ip,
                prefix_len: width,
            }),
        };
    };
    let prefix_len = length.parse().ok().filter(|length| *length <= width);
    let Some(prefix_len) = prefix_len else {
        return Err(complaint(
            format!("`{shown}` has a bad prefix length"),
            format!("write 0 to {width} after the slash"),
        ));
    };
    let network = Network { ip, prefix_len };
    match first_of(network) {
        first if first == ip => Ok(network),
        first => Err(complaint(
            format!("`{shown}` has bits after its prefix"),
            format!("write `{first}/{prefix_len}`, or one address without a prefix"),
        )),
    }
}

/// The first address of a network.
fn first_of(network: Network) -> IpAddr {
    let bits = u32::from(network.prefix_len);
    match network.ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

/// Where another program listens.
pub(super) fn peer(text: &str) -> Result<std::net::SocketAddr, Complaint> {
    let address = socket(text)?;
    match unusable(address.ip()) {
        Some(why) => Err(complaint(
            format!("`{text}` {why}"),
            "write an address that this host can reach",
        )),
        None => Ok(address),
    }
}

/// An absolute URL of one of `schemes`, with a host, without spaces or control characters.
pub(crate) fn url(text: &str, schemes: &[&str]) -> Result<String, Complaint> {
    let shown = text.escape_debug();
    let wanted: Vec<String> = schemes
        .iter()
        .map(|scheme| format!("{scheme}://"))
        .collect();
    let Some(rest) = wanted
        .iter()
        .find_map(|start| text.strip_prefix(start.as_str()))
    else {
        return Err(complaint(
            format!("`{shown}` does not start with {}", wanted.join(" or ")),
            "write a full URL",
        ));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let braces = rest.replace("{address}", "");
    if host.is_empty()
        || host.starts_with(':')
        || rest.len() > 2_000
        || rest.contains(|c: char| c.is_whitespace() || c.is_control())
    {
        return Err(complaint(
            format!("`{shown}` is not a URL"),
            "write a host after the slashes, and no spaces",
        ));
    }
    if braces.contains(['{', '}']) {
        return Err(complaint(
            format!("`{shown}` has an unknown placeholder"),
            "only {address} is filled in",
        ));
    }
    Ok(text.to_owned())
}

/// Reports entries of a list that stand there twice, and lists that are too long.
pub(super) fn unique<T: PartialEq + std::fmt::Display>(
    section: &Section<'_, '_>,
    key: &str,
    list: &[Placed<T>],
    report: &mut Report<'_>,
) {
    if list.len() > MAX_PEERS {
        report.add(
            section.span_of(key),
            format!("`{key}` has {} entries", list.len()),
            format!("write at most {MAX_PEERS}"),
        );
        return;
    }
    for (index, one) in list.iter().enumerate() {
        if list
            .iter()
            .take(index)
            .any(|other| other.value == one.value)
        {
            report.add(
                one.span.clone(),
                format!("`{}` is in `{key}` twice", one.value),
                "remove one",
            );
        }
    }
}

pub(super) fn values<T>(list: Vec<Placed<T>>) -> Vec<T> {
    list.into_iter().map(|one| one.value).collect()
}
