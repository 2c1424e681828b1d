//! `[traps]` of a group's policy: who is told of what happens.
//!
//! A policy is replicated, shown and diffed, so it names users and keys, never their secrets: those
//! are in files of each host (`trap_keys.rs`). A community is no secret: it is readable on the wire.

use statemachine::{SnmpSecurity, SnmpTarget, Traps, Webhook};

use super::diagnostic::Report;
use super::host::quote;
use super::policy_read::{ROOT, peer, unique, url, values};
use super::scalar::{Complaint, complaint, object_name};
use super::section::{Item, Placed, Section};

const SNMP: [&str; 5] = ["target", "version", "community", "user", "inform"];
const WEBHOOK: [&str; 2] = ["url", "key"];

pub(super) fn read(root: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Traps> {
    let section = root.table("traps", "[traps]", &["snmp", "webhook"], &ROOT, report)?;
    let title = "snmp = [{ target = …, version = …, community = … }]";
    let mut snmp = Vec::new();
    for one in section.tables("snmp", title, &SNMP, &[], report) {
        snmp.extend(read_snmp(&one, report));
    }
    let shown = |one: &Placed<SnmpTarget>| Placed {
        value: one.value.target,
        span: one.span.clone(),
    };
    let targets: Vec<_> = snmp.iter().map(shown).collect();
    unique(&section, "snmp", &targets, report);
    let mut webhook = Vec::new();
    for item in section.mixed(
        "webhook",
        "\"https://hooks.example/rais\"",
        &WEBHOOK,
        report,
    ) {
        webhook.extend(read_webhook(item, report));
    }
    let shown = |one: &Placed<Webhook>| Placed {
        value: one.value.url.clone(),
        span: one.span.clone(),
    };
    let urls: Vec<_> = webhook.iter().map(shown).collect();
    unique(&section, "webhook", &urls, report);
    Some(Traps {
        snmp: values(snmp),
        webhook: values(webhook),
    })
}

fn read_snmp(section: &Section<'_, '_>, report: &mut Report<'_>) -> Option<Placed<SnmpTarget>> {
    let target = section.need("target", "\"10.77.0.60:162\"", peer, report);
    let version = section.need("version", "\"2c\"", version, report);
    let inform = section.flag("inform", report).unwrap_or(false);
    let (needed, unfit) = match version?.value {
        Version::V2c => ("community", "user"),
        Version::V3 => ("user", "community"),
    };
    if section.has(unfit) {
        report.add(
            section.span_of(unfit),
            format!("`{unfit}` does not go with this version"),
            format!("write `{needed}` instead: 2c has a community, 3 a user"),
        );
    }
    let security = match needed {
        "user" => {
            let user = section.need("user", "\"rais\"", user, report);
            SnmpSecurity::User(user?.value)
        }
        _ => {
            let community = section.need("community", "\"public\"", community, report);
            SnmpSecurity::Community(community?.value)
        }
    };
    let target = target?;
    Some(Placed {
        value: SnmpTarget {
            target: target.value,
            security,
            inform,
        },
        span: target.span,
    })
}

fn read_webhook(item: Item<'_, '_>, report: &mut Report<'_>) -> Option<Placed<Webhook>> {
    let (url, key) = match item {
        Item::Text(text) => match checked(&text.value) {
            Ok(_) => (text, None),
            Err(no) => {
                report.add(text.span, no.what, no.remedy);
                return None;
            }
        },
        Item::Table(section) => {
            let example = "\"https://hooks.example/rais\"";
            let url = section.need("url", example, checked, report);
            let key = section.text("key", "the name of a key in quotes", object_name, report);
            (url?, key.map(|one| one.value))
        }
    };
    let (span, url) = (url.span, url.value);
    Some(Placed {
        value: Webhook { url, key },
        span,
    })
}

fn checked(text: &str) -> Result<String, Complaint> {
    WebUrl::parse(text).map(|_| text.to_owned())
}

#[derive(Clone, Copy)]
enum Version {
    V2c,
    V3,
}

fn version(text: &str) -> Result<Version, Complaint> {
    match text {
        "2c" => Ok(Version::V2c),
        "3" => Ok(Version::V3),
        _ => Err(complaint(
            format!(
                "`{}` is not a version of SNMP that traps are sent in",
                text.escape_debug()
            ),
            "write `version = \"2c\"` or `version = \"3\"`",
        )),
    }
}

fn community(text: &str) -> Result<String, Complaint> {
    if text.is_empty() || text.len() > 255 || text.chars().any(char::is_control) {
        return Err(complaint(
            "the community is empty, too long or holds control characters",
            "write 1 to 255 printable characters",
        ));
    }
    Ok(text.to_owned())
}

/// The name of an SNMPv3 user: at most 32 bytes (RFC 3414).
pub(super) fn user(text: &str) -> Result<String, Complaint> {
    match object_name(text) {
        Ok(name) if name.len() > 32 => Err(complaint(
            format!("the user `{name}` has {} characters", name.len()),
            "write at most 32",
        )),
        read => read,
    }
}

/// A URL that can be posted to, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebUrl {
    /// Over TLS.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// As the server is told: with brackets, and the port where it was given.
    pub authority: String,
    /// Path and query; may hold a secret, so it is never shown.
    pub path: String,
}

impl WebUrl {
    /// Takes `text` apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Complaint> {
        url(text, &["https", "http"])?;
        let bad = |remedy: &str| {
            let origin: String = text.chars().take(40).collect();
            complaint(
                format!("`{}` is no URL for a webhook", origin.escape_debug()),
                remedy,
            )
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| bad("write a full URL"))?;
        if rest.contains(['{', '}', '#']) || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad(
                "percent-encode what is no plain ASCII; `#` and braces mean nothing here",
            ));
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(bad("leave out name and password; sign with `key` instead"));
        }
        let tls = scheme == "https";
        let (host, port) = match authority
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'))
        {
            Some((host, after)) => (
                host,
                after.strip_prefix(':').or(after.is_empty().then_some("")),
            ),
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        let port = match port {
            Some("") if !authority.ends_with(':') => Some(if tls { 443 } else { 80 }),
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => None,
        };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_host = match authority.starts_with('[') {
            true => host.parse::<std::net::Ipv6Addr>().is_ok(),
            false => !host.is_empty() && host.bytes().all(named),
        };
        let port = port.filter(|_| is_host);
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            tls,
            host: host.to_owned(),
            port: port.ok_or_else(|| bad("write a host, and a port from 1 to 65535 if any"))?,
            authority: authority.to_owned(),
            path: format!("{slash}{path}"),
        })
    }

    /// What may be shown: without the path.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

/// The lines of the section.
pub(super) fn write(traps: &Traps) -> Vec<(&'static str, String)> {
    let manager = |target: &SnmpTarget| {
        let (version, key, value) = match &target.security {
            SnmpSecurity::Community(community) => ("2c", "community", community),
            SnmpSecurity::User(user) => ("3", "user", user),
        };
        let inform = if target.inform { ", inform = true" } else { "" };
        format!(
            "{{ target = \"{}\", version = \"{version}\", {key} = {}{inform} }}",
            target.target,
            quote(value)
        )
    };
    let hook = |hook: &Webhook| match &hook.key {
        Some(key) => format!("{{ url = {}, key = {} }}", quote(&hook.url), quote(key)),
        None => quote(&hook.url),
    };
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    vec![
        ("snmp", list(traps.snmp.iter().map(manager).collect())),
        ("webhook", list(traps.webhook.iter().map(hook).collect())),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{parse_policy, policy_to_toml};
    use super::*;

    /// Goal: every form reads back as it was written. Method: one of each.
    #[test]
    fn every_form_of_a_target_reads_back() {
        let file = "name = \"web\"\nzone = \"web.example.\"\n[traps]\nsnmp = [{ target = \"10.0.0.1:162\", version = \"2c\", community = \"public\" }, \
                    { target = \"[fd00::1]:162\", version = \"3\", user = \"rais\", inform = true }]\n\
                    webhook = [\"http://10.0.0.1:8080/x\", { url = \"https://hooks.example/rais\", key = \"hooks\" }]\n";
        let policy = parse_policy("f", file).unwrap();
        let traps = policy.traps.clone().unwrap();
        assert!(!traps.snmp[0].inform && traps.snmp[1].inform);
        assert_eq!(traps.snmp[1].security, SnmpSecurity::User("rais".into()));
        assert_eq!(traps.webhook[1].key.as_deref(), Some("hooks"));
        let written = policy_to_toml(&policy);
        assert!(
            file.contains(written.split("[traps]\n").nth(1).unwrap()),
            "{written}"
        );
        assert_eq!(parse_policy("f", &written).unwrap(), policy);
    }

    /// Goal: a URL is taken apart as browsers do, and what can't be posted to is refused.
    #[test]
    fn urls_are_taken_apart() {
        let rows = [
            ("http://a", "a", 80, "/"),
            ("https://a.example:8443/x?y=1", "a.example", 8443, "/x?y=1"),
            ("https://[fd00::1]/x", "fd00::1", 443, "/x"),
            ("http://[::1]:81?q", "::1", 81, "/?q"),
        ];
        for (text, host, port, path) in rows {
            let url = WebUrl::parse(text).unwrap();
            assert_eq!(
                (url.host.as_str(), url.port, url.path.as_str()),
                (host, port, path)
            );
        }
        let url = WebUrl::parse("https://hooks.example/secret").unwrap();
        assert_eq!(url.origin(), "https://hooks.example");
        for text in [
            "ftp://a",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:",
            "http://a:99999",
            "http://u:p@a/",
            "http://[::1",
            "http://[a]/",
            "http://[::1]x",
            "http://ä/",
            "http://a/#x",
            "http://a/{address}",
            "http://a b/",
        ] {
            assert!(WebUrl::parse(text).is_err(), "{text}");
        }
    }
}
