//! Reads `rais.toml` and refuses what could not work, all of it at once.
//!
//! Refused are contradictions that the daemon would otherwise meet at night: an address that the
//! host both talks on and gives away, a port used twice, a group twice, an address that no client
//! reaches. Whether an interface exists is the running daemon's business, not the file's.
//!
//! `observer` is taken from the top of the file and from `[dns]`, since the documented example has
//! it below that header, where TOML makes it a key of `[dns]`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

use statemachine::{MAX_GROUPS, MAX_PREFERRED};

use super::diagnostic::Report;
use super::dns_key::{self, DnsKey};
use super::dns_limits::{self, DnsLimits};
use super::host::{
    DEFAULT_ADMIN, DEFAULT_LOOPBACK_HTTP_PORT, Driver, HostConfig, LogConfig, LogFormat, LogLevel,
    MemberConfig,
};
use super::prefix::{self, Prefix};
use super::scalar::{
    Complaint, complaint, group_name, host_name, interface_name, socket, unusable,
};
use super::section::{Placed, Section, nearest};
use super::trap_keys;

/// Keys at the top of the file.
pub(crate) const ROOT: [&str; 13] = [
    "name", "data_dir", "control", "admin", "dns", "observer", "member", "driver", "gate",
    "loopback", "log", "programs", "traps",
];
const DNS: [&str; 7] = [
    "listen",
    "threads",
    "tcp_connections",
    "tcp_connections_per_client",
    "rate",
    "key",
    "observer",
];
const ADMIN: [&str; 2] = ["listen", "open_on_loopback"];
const MEMBER: [&str; 3] = ["group", "preferred", "interface"];
/// Most control addresses of a host; each is tried and heartbeats go to all.
const MAX_CONTROL: usize = 8;
/// Most addresses on which a host serves DNS.
const MAX_DNS: usize = 16;

/// Reads the root table of a host configuration. `None` only if the report has something to say.
pub(crate) fn read(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<HostConfig> {
    let name = root.need("name", "\"h1\"", host_name, report);
    let data_dir = root.need("data_dir", "\"/var/lib/rais\"", absolute, report);
    let (driver, loopback) = read_driver(root, report);
    let mut used = Ports::default();
    let control = read_control(root, loopback, &mut used, report);
    let served = read_dns(root, loopback, &mut used, report);
    let (dns, observer) = (served.listen, served.observer);
    let (admin, admin_open_on_loopback) = read_admin(root, &mut used, report);
    let log = read_log(root, report);
    let programs = root.table("programs", "[programs]", &["user"], &ROOT, report);
    let program_user =
        programs.and_then(|section| section.text("user", "\"nobody\"", user, report));
    let members = read_members(root, loopback, observer, report);
    let own = OwnAddresses {
        control: &control,
        dns: &dns,
        admin: admin.as_ref(),
    };
    refuse_shared(&members, &own, report);
    Some(HostConfig {
        name: name?.value,
        data_dir: data_dir?.value,
        control: control.into_iter().map(|one| one.value).collect(),
        admin: admin.map_or(DEFAULT_ADMIN, |one| one.value),
        admin_open_on_loopback,
        dns: dns.into_iter().map(|one| one.value).collect(),
        dns_limits: served.limits,
        dns_keys: served.keys,
        trap_keys: trap_keys::read(root, report),
        observer,
        members: members.into_iter().filter_map(Member::finish).collect(),
        driver,
        log,
        program_user: program_user.map(|one| one.value),
    })
}

/// A user's name, or `uid:gid`; whether there is such a one is this machine's business.
fn user(text: &str) -> Result<String, Complaint> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-.:$".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(fits) {
        return Err(complaint(
            format!("`{}` is no user", text.escape_debug()),
            "write a user's name, or uid:gid",
        ));
    }
    Ok(text.to_owned())
}

/// An absolute path, since the daemon's working directory is anybody's guess.
pub(crate) fn absolute(text: &str) -> Result<PathBuf, Complaint> {
    if text.contains('\0') {
        return Err(complaint(
            "the path holds a NUL character",
            "write a plain path",
        ));
    }
    if !Path::new(text).is_absolute() {
        return Err(complaint(
            format!("`{}` is not an absolute path", text.escape_debug()),
            "write it from `/` on",
        ));
    }
    Ok(PathBuf::from(text))
}

/// One of a few words.
pub(crate) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, Complaint> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let remedy = match nearest(text, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of: {}", names.join(", ")),
    };
    Err(complaint(
        format!("`{}` is not known here", text.escape_debug()),
        remedy,
    ))
}

fn read_driver(root: &Section<'_, '_>, report: &mut Report<'_>) -> (Driver, bool) {
    let words = [("netlink", false), ("loopback", true)];
    let loopback = root.text(
        "driver",
        "\"netlink\" or \"loopback\"",
        |text| choice(text, &words),
        report,
    );
    let loopback = loopback.is_some_and(|one| one.value);
    check_gate(root, loopback, report);
    let section = root.table("loopback", "[loopback]", &["http_port"], &ROOT, report);
    if let (Some(section), false) = (&section, loopback) {
        report.add(
            section.span.clone(),
            "[loopback] without the loopback driver",
            "remove it, or write `driver = \"loopback\"` at the top",
        );
    }
    let port = section.and_then(|section| section.number("http_port", 1..=65_535, report));
    let http_port = port
        .and_then(|port| u16::try_from(port.value).ok())
        .unwrap_or(DEFAULT_LOOPBACK_HTTP_PORT);
    (
        if loopback {
            Driver::Loopback { http_port }
        } else {
            Driver::Netlink
        },
        loopback,
    )
}

/// Each driver has its one way, so the key only says that whoever wrote it knows: real interfaces serve
/// nothing without a gate in the kernel, or a daemon that is stopped would go on answering.
fn check_gate(root: &Section<'_, '_>, loopback: bool, report: &mut Report<'_>) {
    let words = [("required", true), ("none", false)];
    let gate = root.text("gate", "\"required\"", |text| choice(text, &words), report);
    let Some(gate) = gate.filter(|gate| gate.value == loopback) else {
        return;
    };
    let (what, remedy) = match loopback {
        true => (
            "the loopback driver has no gate",
            "remove `gate`, or use the netlink driver",
        ),
        false => (
            "real interfaces serve nothing without a gate",
            "remove the line, or write `gate = \"required\"`",
        ),
    };
    report.add(gate.span, what, remedy);
}

fn read_control(
    root: &Section<'_, '_>,
    loopback: bool,
    used: &mut Ports,
    report: &mut Report<'_>,
) -> Vec<Placed<SocketAddr>> {
    let example = "\"10.77.0.1:7400\"";
    let Some(section) = root.table("control", "[control]", &["listen"], &ROOT, report) else {
        if !root.has("control") {
            report.add(
                root.span.clone(),
                "the section [control] is missing",
                format!("add `[control]` with `listen = [{example}]`"),
            );
        }
        return Vec::new();
    };
    if !section.has("listen") {
        section.missing("listen", &format!("listen = [{example}]"), report);
        return Vec::new();
    }
    let before = report.count();
    let listen = section.list("listen", example, |text| reachable(text, loopback), report);
    if listen.is_empty() && report.count() == before {
        report.add(
            section.span_of("listen"),
            "`listen` of [control] is empty",
            format!("name at least one address: listen = [{example}]"),
        );
    }
    limit(&section, "listen", listen.len(), MAX_CONTROL, report);
    used.take("[control]", &listen, report);
    listen
}

/// What `[dns]` says.
struct Served {
    listen: Vec<Placed<SocketAddr>>,
    limits: DnsLimits,
    keys: Vec<DnsKey>,
    observer: bool,
}

fn read_dns(
    root: &Section<'_, '_>,
    loopback: bool,
    used: &mut Ports,
    report: &mut Report<'_>,
) -> Served {
    let at_top = root.flag("observer", report);
    let Some(section) = root.table("dns", "[dns]", &DNS, &ROOT, report) else {
        return Served {
            listen: Vec::new(),
            limits: DnsLimits::default(),
            keys: Vec::new(),
            observer: at_top.unwrap_or(false),
        };
    };
    let limits = dns_limits::read(&section, report);
    let keys = dns_key::read(&section, report);
    let below = section.flag("observer", report);
    if at_top.is_some() && section.has("observer") {
        report.add(
            section.span_of("observer"),
            "`observer` is given twice",
            "keep the one at the top of the file",
        );
    }
    let listen = section.list(
        "listen",
        "\"10.77.0.1:53\"",
        |text| reachable(text, loopback),
        report,
    );
    limit(&section, "listen", listen.len(), MAX_DNS, report);
    used.take("[dns]", &listen, report);
    Served {
        listen,
        limits,
        keys,
        observer: at_top.or(below).unwrap_or(false),
    }
}

fn read_admin(
    root: &Section<'_, '_>,
    used: &mut Ports,
    report: &mut Report<'_>,
) -> (Option<Placed<SocketAddr>>, bool) {
    let Some(section) = root.table("admin", "[admin]", &ADMIN, &ROOT, report) else {
        return (None, false);
    };
    let open = section.flag("open_on_loopback", report).unwrap_or(false);
    let listen = section.text(
        "listen",
        "one address, such as \"127.0.0.1:7443\"",
        socket,
        report,
    );
    let Some(listen) = listen else {
        return (None, open);
    };
    if listen.value.ip().is_multicast() {
        report.add(
            listen.span.clone(),
            format!("`{}` is a multicast address", listen.value),
            "write an address of this host",
        );
        return (None, open);
    }
    used.take("[admin]", std::slice::from_ref(&listen), report);
    (Some(listen), open)
}

fn read_log(root: &Section<'_, '_>, report: &mut Report<'_>) -> LogConfig {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
        LogLevel::Trace,
    ]
    .map(|level| (level.as_str(), level));
    let section = root.table("log", "[log]", &["format", "level"], &ROOT, report);
    let format = section.as_ref().and_then(|s| {
        s.text(
            "format",
            "\"text\" or \"json\"",
            |text| choice(text, &formats),
            report,
        )
    });
    let level = section
        .as_ref()
        .and_then(|s| s.text("level", "\"info\"", |text| choice(text, &levels), report));
    LogConfig {
        format: format.map_or(LogFormat::Text, |one| one.value),
        level: level.map_or(LogLevel::Info, |one| one.value),
    }
}

/// A member as read: parts may be missing after a mistake.
struct Member {
    group: Option<Placed<String>>,
    preferred: Vec<Placed<Prefix>>,
    interface: Option<String>,
}

impl Member {
    fn finish(self) -> Option<MemberConfig> {
        let preferred = self.preferred.into_iter().map(|one| one.value).collect();
        Some(MemberConfig {
            group: self.group?.value,
            preferred,
            interface: self.interface?,
        })
    }
}

fn read_members(
    root: &Section<'_, '_>,
    loopback: bool,
    observer: bool,
    report: &mut Report<'_>,
) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    let sections = root.tables("member", "[[member]]", &MEMBER, &ROOT, report);
    limit(root, "member", sections.len(), MAX_GROUPS, report);
    for section in sections.into_iter().take(MAX_GROUPS) {
        if observer {
            report.add(
                section.span.clone(),
                "an observer is in no group, but here is a [[member]]",
                "remove the member, or `observer = true`",
            );
        }
        let group = section.need("group", "\"web\"", group_name, report);
        if let Some(group) = &group {
            let same = |other: &Placed<String>| other.value == group.value;
            if let Some(first) = members
                .iter()
                .filter_map(|m| m.group.as_ref())
                .find(|g| same(g))
            {
                let what = format!(
                    "the host is in group `{}` twice (first in line {})",
                    group.value,
                    report.line_of(first.span.start)
                );
                report.add(
                    group.span.clone(),
                    what,
                    "keep one [[member]] for each group",
                );
            }
        }
        let preferred = section.list(
            "preferred",
            "\"10.77.0.101/24\"",
            |text| servable(text, loopback),
            report,
        );
        let mut interface = section
            .text(
                "interface",
                "a string, such as \"eth0\"",
                interface_name,
                report,
            )
            .map(|one| one.value);
        if !section.has("interface") {
            if loopback {
                interface = Some("lo".to_owned());
            } else {
                section.missing("interface", "interface = \"eth0\"", report);
            }
        }
        members.push(Member {
            group,
            preferred,
            interface,
        });
    }
    members
}

/// An address and port at which other hosts or clients reach this one.
fn reachable(text: &str, loopback: bool) -> Result<SocketAddr, Complaint> {
    let address = socket(text)?;
    if let Some(why) = unusable(address.ip()) {
        return Err(complaint(
            format!("`{text}` {why}"),
            "write an address of this host that others can reach",
        ));
    }
    if address.ip().is_loopback() && !loopback {
        return Err(complaint(
            format!("`{text}` is a loopback address, which no other host reaches"),
            "write another address, or `driver = \"loopback\"` at the top for a trial on one machine",
        ));
    }
    Ok(address)
}

/// A preferred address that the chosen driver can serve.
fn servable(text: &str, loopback: bool) -> Result<Prefix, Complaint> {
    let prefix = prefix::preferred(text)?;
    match (prefix.address.is_loopback(), loopback) {
        (true, false) => Err(complaint(
            format!("`{text}` is a loopback address, which no client reaches"),
            "write another address, or `driver = \"loopback\"` at the top for a trial on one machine",
        )),
        (false, true) => Err(complaint(
            format!("the loopback driver can't serve `{text}`"),
            "write an address of 127.0.0.0/8, or `driver = \"netlink\"`",
        )),
        _ => Ok(prefix),
    }
}

/// Refuses more than `most` entries.
fn limit(section: &Section<'_, '_>, key: &str, count: usize, most: usize, report: &mut Report<'_>) {
    if count > most {
        report.add(
            section.span_of(key),
            format!("`{key}` of {} has {count} entries", section.title),
            format!("write at most {most}"),
        );
    }
}

/// Which section listens where, so that no port is used twice.
#[derive(Default)]
struct Ports(BTreeMap<SocketAddr, (&'static str, Range<usize>)>);

impl Ports {
    fn take(
        &mut self,
        section: &'static str,
        listen: &[Placed<SocketAddr>],
        report: &mut Report<'_>,
    ) {
        for one in listen {
            if let Some((first, span)) = self.0.get(&one.value) {
                let what = format!(
                    "`{}` is used twice (first by {first} in line {})",
                    one.value,
                    report.line_of(span.start)
                );
                report.add(one.span.clone(), what, "remove one, or change its port");
                continue;
            }
            self.0.insert(one.value, (section, one.span.clone()));
        }
    }
}

/// The addresses that stay with this host.
struct OwnAddresses<'a> {
    control: &'a [Placed<SocketAddr>],
    dns: &'a [Placed<SocketAddr>],
    admin: Option<&'a Placed<SocketAddr>>,
}

impl OwnAddresses<'_> {
    fn user_of(&self, ip: IpAddr) -> Option<&'static str> {
        let among = |list: &[Placed<SocketAddr>]| list.iter().any(|one| one.value.ip() == ip);
        match () {
            () if among(self.control) => Some("a control address"),
            () if among(self.dns) => Some("the DNS server's address"),
            () if self.admin.is_some_and(|one| one.value.ip() == ip) => {
                Some("the admin API's address")
            }
            () => None,
        }
    }
}

/// Refuses a preferred address that two members bring, or that the host needs for itself.
fn refuse_shared(members: &[Member], own: &OwnAddresses<'_>, report: &mut Report<'_>) {
    let mut seen: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for (index, one) in members
        .iter()
        .flat_map(|member| &member.preferred)
        .enumerate()
    {
        if index == MAX_PREFERRED {
            report.add(
                one.span.clone(),
                format!("the host brings more than {MAX_PREFERRED} addresses"),
                "spread them over more hosts",
            );
        }
        let ip = one.value.address;
        if let Some(first) = seen.get(&ip) {
            let what = format!(
                "the preferred address {ip} is given twice (first in line {})",
                report.line_of(*first)
            );
            report.add(
                one.span.clone(),
                what,
                "remove one: an address has one group and one preferred host",
            );
            continue;
        }
        seen.insert(ip, one.span.start);
        if let Some(user) = own.user_of(ip) {
            let what = format!("the preferred address {ip} is also {user}");
            report.add(
                one.span.clone(),
                what,
                "choose another: a service address moves away, this one must stay",
            );
        }
    }
}
