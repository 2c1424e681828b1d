//! Reads the test objects and load objects of a group's policy.
//!
//! An object has a name, a rhythm and exactly one kind, written as a table under the kind's name:
//! `http = { url = "…" }`. Two kinds in one object, or none, are refused with the list of kinds.
//!
//! Limits: URLs of loads are plain `http://`: they look at the service on this very host.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use statemachine::{LoadKind, LoadSpec, TestKind, TestSpec};

use super::diagnostic::Report;
use super::host_read::{absolute, choice};
use super::policy_read::{ROOT, narrow, span, url};
use super::scalar::{Complaint, complaint, interface_name, object_name, socket};
use super::section::{Placed, Section};

/// The kinds of test objects.
pub(crate) const TEST_KINDS: [&str; 7] = [
    "exec",
    "tcp",
    "http",
    "https",
    "dns",
    "process",
    "interface",
];
/// The kinds of load objects.
pub(crate) const LOAD_KINDS: [&str; 6] = ["exec", "cpu", "net", "connections", "http", "pressure"];
const TEST: [&str; 12] = [
    "name",
    "interval",
    "timeout",
    "rise",
    "fall",
    "exec",
    "tcp",
    "http",
    "https",
    "dns",
    "process",
    "interface",
];
const LOAD: [&str; 9] = [
    "name",
    "interval",
    "timeout",
    "exec",
    "cpu",
    "net",
    "connections",
    "http",
    "pressure",
];
/// Most test objects of a group; `Policy::check` has the same bound.
const MAX_TESTS: usize = 256;
/// Most load objects of a group; `Policy::check` has the same bound.
const MAX_LOADS: usize = 64;
/// An object runs ten times a second to once a day.
const INTERVAL: RangeInclusive<u64> = 100..=86_400_000;
/// Below 10 ms a scheduler's hiccup would fail a test.
const TIMEOUT: RangeInclusive<u64> = 10..=86_400_000;
/// Rhythm of an object unless the file says otherwise.
const DEFAULT_INTERVAL_MS: u64 = 1_000;
/// Patience with an object unless the file says otherwise.
const DEFAULT_TIMEOUT_MS: u64 = 500;
/// Rise and fall unless the file says otherwise: one slip is no failure.
const DEFAULT_COUNT: u32 = 2;
/// Most words of a command; the kernel's own bound is far higher.
const MAX_WORDS: usize = 64;

/// Reads every `[[test]]`.
pub(crate) fn read_tests(root: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<TestSpec> {
    let sections = root.tables("test", "[[test]]", &TEST, &ROOT, report);
    too_many(root, "test", sections.len(), MAX_TESTS, report);
    let mut seen = BTreeMap::new();
    let mut taken = Vec::new();
    for section in &sections {
        let name = read_name(section, &mut seen, report);
        let (interval_ms, timeout_ms) = read_rhythm(section, report);
        let rise = section
            .number("rise", 1..=100, report)
            .map_or(DEFAULT_COUNT, |one| narrow(one.value));
        let fall = section
            .number("fall", 1..=100, report)
            .map_or(DEFAULT_COUNT, |one| narrow(one.value));
        let kind = one_kind(section, &TEST_KINDS, report)
            .and_then(|kind| read_test_kind(section, kind, report));
        if let (Some(name), Some(kind)) = (name, kind) {
            taken.push(TestSpec {
                name,
                kind,
                interval_ms,
                timeout_ms,
                rise,
                fall,
            });
        }
    }
    taken
}

/// Reads every `[[load]]`.
pub(crate) fn read_loads(root: &Section<'_, '_>, report: &mut Report<'_>) -> Vec<LoadSpec> {
    let sections = root.tables("load", "[[load]]", &LOAD, &ROOT, report);
    too_many(root, "load", sections.len(), MAX_LOADS, report);
    let mut seen = BTreeMap::new();
    let mut taken = Vec::new();
    for section in &sections {
        let name = read_name(section, &mut seen, report);
        let (interval_ms, timeout_ms) = read_rhythm(section, report);
        let kind = one_kind(section, &LOAD_KINDS, report)
            .and_then(|kind| read_load_kind(section, kind, report));
        if let (Some(name), Some(kind)) = (name, kind) {
            taken.push(LoadSpec {
                name,
                kind,
                interval_ms,
                timeout_ms,
            });
        }
    }
    taken
}

fn too_many(root: &Section<'_, '_>, key: &str, count: usize, most: usize, report: &mut Report<'_>) {
    if count > most {
        report.add(
            root.span_of(key),
            format!("there are {count} [[{key}]] objects"),
            format!("write at most {most}"),
        );
    }
}

/// The object's name, unique in the group; `seen` maps names to the offset of their first use.
fn read_name(
    section: &Section<'_, '_>,
    seen: &mut BTreeMap<String, usize>,
    report: &mut Report<'_>,
) -> Option<String> {
    let name = section.need("name", "\"http\"", object_name, report)?;
    if let Some(first) = seen.get(&name.value) {
        let what = format!(
            "the name `{}` is used twice (first in line {})",
            name.value,
            report.line_of(*first)
        );
        report.add(name.span, what, "give each object its own name");
        return None;
    }
    seen.insert(name.value.clone(), name.span.start);
    Some(name.value)
}

/// Interval and time-out; a run must end before the next begins.
fn read_rhythm(section: &Section<'_, '_>, report: &mut Report<'_>) -> (u64, u64) {
    let before = report.count();
    let interval = span(section, "interval", INTERVAL, report).unwrap_or(DEFAULT_INTERVAL_MS);
    let timeout =
        span(section, "timeout", TIMEOUT, report).unwrap_or(DEFAULT_TIMEOUT_MS.min(interval));
    if timeout > interval && report.count() == before {
        let (t, i) = (
            super::scalar::Millis(timeout),
            super::scalar::Millis(interval),
        );
        report.add(
            section.span_of("timeout"),
            format!("`timeout` {t} is longer than `interval` {i}"),
            "a run must end before the next begins: shorten one or lengthen the other",
        );
    }
    (interval, timeout)
}

/// The one kind that the object has; reports none and several.
fn one_kind<'k>(
    section: &Section<'_, '_>,
    kinds: &[&'k str],
    report: &mut Report<'_>,
) -> Option<&'k str> {
    let mut present: Vec<&'k str> = kinds
        .iter()
        .copied()
        .filter(|kind| section.has(kind))
        .collect();
    present.sort_by_key(|kind| section.span_of(kind).start);
    let Some(first) = present.first() else {
        report.add(
            section.span.clone(),
            format!("{} has no kind", section.title),
            format!("add exactly one of: {}", kinds.join(", ")),
        );
        return None;
    };
    if let Some(second) = present.get(1) {
        let what = format!("{} has two kinds: {first} and {second}", section.title);
        report.add(
            section.span_of(second),
            what,
            "keep one; write another object for the other",
        );
        return None;
    }
    Some(first)
}

fn read_test_kind(
    section: &Section<'_, '_>,
    kind: &str,
    report: &mut Report<'_>,
) -> Option<TestKind> {
    let open = |keys: &[&str], report: &mut Report<'_>| {
        section.table(kind, &format!("`{kind} = {{ … }}`"), keys, &[], report)
    };
    match kind {
        "exec" => Some(TestKind::Exec {
            command: read_command(&open(&["command"], report)?, report)?,
        }),
        "tcp" => {
            let target =
                open(&["target"], report)?.need("target", "\"{address}:80\"", target, report)?;
            Some(TestKind::Tcp {
                target: target.value,
            })
        }
        "http" => read_http_test(
            &open(&["url", "expect_status", "expect_body"], report)?,
            report,
        ),
        "https" => {
            let keys = [
                "url",
                "host",
                "ca",
                "verify",
                "expect_status",
                "expect_body",
            ];
            read_https_test(&open(&keys, report)?, report)
        }
        "dns" => {
            let inner = open(&["server", "query"], report)?;
            let server = inner.need("server", "\"{address}:53\"", target, report);
            let query = inner.need("query", "\"www.example.\"", printable, report);
            Some(TestKind::Dns {
                server: server?.value,
                query: query?.value,
            })
        }
        "process" => {
            let path = |text: &str| absolute(text).map(|_| text.to_owned());
            let pid_file = open(&["pid_file"], report)?.need(
                "pid_file",
                "\"/run/httpd.pid\"",
                path,
                report,
            )?;
            Some(TestKind::Process {
                pid_file: pid_file.value,
            })
        }
        _ => {
            let inner = open(&["name", "gateway"], report)?;
            let name = inner.need("name", "\"eth0\"", interface_name, report);
            let gateway = inner
                .text("gateway", "an IP address in quotes", ip, report)
                .map(|one| one.value);
            Some(TestKind::Interface {
                name: name?.value,
                gateway,
            })
        }
    }
}

fn read_http_test(inner: &Section<'_, '_>, report: &mut Report<'_>) -> Option<TestKind> {
    let url = inner.need(
        "url",
        "\"http://{address}/health\"",
        |text| url(text, &["http"]),
        report,
    );
    let (expect_status, expect_body) = read_expected(inner, report);
    Some(TestKind::Http {
        url: url?.value,
        expect_status,
        expect_body,
    })
}

fn read_expected(inner: &Section<'_, '_>, report: &mut Report<'_>) -> (u16, Option<String>) {
    let status = inner
        .number("expect_status", 100..=599, report)
        .map_or(200, |one| one.value);
    let expect_body = inner
        .text("expect_body", "a string", printable, report)
        .map(|one| one.value);
    (u16::try_from(status).unwrap_or(u16::MAX), expect_body)
}

/// A certificate names a service and not the address it moves to, so somebody has to say the name.
fn read_https_test(inner: &Section<'_, '_>, report: &mut Report<'_>) -> Option<TestKind> {
    let url = inner.need(
        "url",
        "\"https://{address}/health\"",
        |text| url(text, &["https"]),
        report,
    );
    let host = inner.text("host", "a name in quotes", tls_name, report);
    let path = |text: &str| absolute(text).map(|_| text.to_owned());
    let ca = inner.text("ca", "a path in quotes", path, report);
    let verify = inner.flag("verify", report).unwrap_or(true);
    let (expect_status, expect_body) = read_expected(inner, report);
    let url = url?;
    let nameless = url.value.contains("//{address}") && !inner.has("host");
    if verify && nameless {
        report.add(
            url.span,
            "no certificate names an address that moves",
            "add `host = \"www.example\"`, the name in the certificate, or `verify = false`",
        );
        return None;
    }
    if let Some(ca) = ca.as_ref().filter(|_| !verify) {
        report.add(
            ca.span.clone(),
            "`ca` says nothing beside `verify = false`",
            "remove one of them",
        );
        return None;
    }
    Some(TestKind::Https {
        url: url.value,
        host: host.map(|one| one.value),
        ca: ca.map(|one| one.value),
        verify,
        expect_status,
        expect_body,
    })
}

/// A name that a certificate may hold.
fn tls_name(text: &str) -> Result<String, Complaint> {
    match rustls::pki_types::DnsName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(complaint(
            format!("`{}` is not a host name", text.escape_debug()),
            "write one such as www.example, without scheme and port",
        )),
    }
}

fn read_load_kind(
    section: &Section<'_, '_>,
    kind: &str,
    report: &mut Report<'_>,
) -> Option<LoadKind> {
    let open = |keys: &[&str], report: &mut Report<'_>| {
        section.table(kind, &format!("`{kind} = {{ … }}`"), keys, &[], report)
    };
    match kind {
        "exec" => Some(LoadKind::Exec {
            command: read_command(&open(&["command"], report)?, report)?,
        }),
        "cpu" => open(&[], report).map(|_| LoadKind::Cpu),
        "net" => {
            let interface = open(&["interface"], report)?.need(
                "interface",
                "\"eth0\"",
                interface_name,
                report,
            )?;
            Some(LoadKind::Net {
                interface: interface.value,
            })
        }
        "connections" => Some(LoadKind::Connections {
            capacity: read_capacity(&open(&["capacity"], report)?, report)?,
        }),
        "http" => {
            let inner = open(&["url", "field", "capacity"], report)?;
            let url = inner.need(
                "url",
                "\"http://{address}/load\"",
                |text| url(text, &["http"]),
                report,
            );
            let field = inner.need("field", "\"load.current\"", printable, report);
            let capacity = read_capacity(&inner, report);
            Some(LoadKind::Http {
                url: url?.value,
                field: field?.value,
                capacity: capacity?,
            })
        }
        _ => {
            let words = [("cpu", "cpu"), ("io", "io"), ("memory", "memory")];
            let resource = open(&["resource"], report)?.need(
                "resource",
                "\"cpu\"",
                |text| choice(text, &words),
                report,
            )?;
            Some(LoadKind::Pressure {
                resource: resource.value.to_owned(),
            })
        }
    }
}

/// As much as the host can bear: it divides the load, so it is there and not 0.
fn read_capacity(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<u64> {
    if !section.has("capacity") {
        section.missing("capacity", "capacity = 1000", report);
    }
    section
        .number("capacity", 1..=1_000_000_000_000, report)
        .map(|one| one.value)
}

/// A program and its arguments; no shell reads them, so each word is its own string.
fn read_command(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Vec<String>> {
    let example = "\"/usr/local/bin/check\", \"--fast\"";
    if !section.has("command") {
        section.missing("command", &format!("command = [{example}]"), report);
        return None;
    }
    let before = report.count();
    let words: Vec<Placed<String>> =
        section.list("command", example, |text| Ok(text.to_owned()), report);
    if report.count() > before {
        return None;
    }
    let trouble = match words.first() {
        None => Some(complaint(
            "`command` is empty",
            format!("write the program and its arguments: [{example}]"),
        )),
        Some(program) => absolute(&program.value).err(),
    };
    let long = (words.len() > MAX_WORDS).then(|| {
        complaint(
            format!("`command` has {} words", words.len()),
            format!("write at most {MAX_WORDS}"),
        )
    });
    let nul = words
        .iter()
        .any(|word| word.value.contains('\0'))
        .then(|| complaint("`command` holds a NUL character", "remove it"));
    if let Some(no) = trouble.or(long).or(nul) {
        report.add(section.span_of("command"), no.what, no.remedy);
        return None;
    }
    Some(words.into_iter().map(|word| word.value).collect())
}

/// `host:port`, where the host may be `{address}`.
fn target(text: &str) -> Result<String, Complaint> {
    if let Some(port) = text.strip_prefix("{address}:") {
        return match port.parse::<u16>() {
            Ok(1..) => Ok(text.to_owned()),
            _ => Err(complaint(
                format!("`{}` has a bad port", text.escape_debug()),
                "write a port from 1 to 65535",
            )),
        };
    }
    match socket(text) {
        Ok(address) => Ok(address.to_string()),
        Err(no) => Err(complaint(
            no.what,
            "write {address}:80, 10.0.0.1:80 or [fd00::1]:80",
        )),
    }
}

fn ip(text: &str) -> Result<std::net::IpAddr, Complaint> {
    text.parse().map_err(|_| {
        complaint(
            format!("`{}` is not an IP address", text.escape_debug()),
            "write one such as 10.0.0.1",
        )
    })
}

/// A short text without control characters.
fn printable(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > 1_000 || text.chars().any(char::is_control) {
        return Err(complaint(
            "the text is empty, too long or holds control characters",
            "write 1 to 1000 printable characters",
        ));
    }
    Ok(text.to_owned())
}
