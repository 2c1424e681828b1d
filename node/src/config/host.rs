//! The host configuration, `rais.toml`: what is true of this host only.
//!
//! Only types and their meaning; `host_read.rs` reads the file and refuses what is wrong with it,
//! so a [`HostConfig`] that came from [`parse_host`](super::parse_host) needs no second check.
//! What the array agrees on stands in a group's policy, never here: two hosts could differ.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::dns_key::DnsKey;
use super::dns_limits::DnsLimits;
use super::prefix::Prefix;
use super::trap_keys::TrapKeys;

/// Where the admin API listens unless the file says otherwise.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// Port of the HTTP responder of the loopback driver unless the file says otherwise.
pub const DEFAULT_LOOPBACK_HTTP_PORT: u16 = 8077;

/// Everything a daemon has to know of its own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// The host's name: one lower-case DNS label.
    pub name: String,
    /// Directory of the daemon's store and certificates; absolute.
    pub data_dir: PathBuf,
    /// Control addresses; never empty, the first is the host's id address.
    pub control: Vec<SocketAddr>,
    /// Where the HTTPS API, the dashboard and the metrics listen.
    pub admin: SocketAddr,
    /// Local users may look at the dashboard and read the API without a certificate.
    pub admin_open_on_loopback: bool,
    /// Where the DNS server listens, UDP and TCP; empty: this host serves no DNS.
    pub dns: Vec<SocketAddr>,
    /// What the DNS server may use, and how often it says the same.
    pub dns_limits: DnsLimits,
    /// Keys shared with name servers that follow our zones.
    pub dns_keys: Vec<DnsKey>,
    /// Passwords and keys of those who are told of events.
    pub trap_keys: TrapKeys,
    /// Votes and serves DNS but never holds a service address.
    pub observer: bool,
    /// The groups this host is in; each group at most once.
    pub members: Vec<MemberConfig>,
    /// Who puts service addresses on this host.
    pub driver: Driver,
    /// What the log looks like.
    pub log: LogConfig,
    /// As whom the programs of tests, loads and scripts run; none: `nobody`, or as the daemon where that
    /// is not root's. A name or `uid:gid`. Not the policy's: the array must not choose root here.
    pub program_user: Option<String>,
}

/// A host's part in one service group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberConfig {
    /// The group's name.
    pub group: String,
    /// The service addresses that this host brings; none: it is a hot spare.
    pub preferred: Vec<Prefix>,
    /// The interface that carries the group's service addresses.
    pub interface: String,
}

/// How service addresses get onto this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// The kernel's interfaces, through netlink: the real thing.
    Netlink,
    /// Loopback addresses behind a tiny HTTP responder, without root: `rais demo` and tests.
    Loopback {
        /// Port on which a held address answers.
        http_port: u16,
    },
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least urgent messages that are written.
    pub level: LogLevel,
}

/// For whom the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line each.
    Text,
    /// One JSON object each.
    Json,
}

/// The least urgent messages that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Somebody must act now.
    Error,
    /// Somebody should look today.
    Warn,
    /// What the array did.
    Info,
    /// Why it did so.
    Debug,
    /// Each step, for developers.
    Trace,
}

impl LogLevel {
    /// As the file and tracing's filters spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl LogFormat {
    /// As the file spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl HostConfig {
    /// A host in no group, with everything else as a file that doesn't mention it would have it.
    pub fn new(
        name: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        control: Vec<SocketAddr>,
    ) -> Self {
        Self {
            name: name.into(),
            data_dir: data_dir.into(),
            control,
            admin: DEFAULT_ADMIN,
            admin_open_on_loopback: false,
            dns: Vec::new(),
            dns_limits: DnsLimits::default(),
            dns_keys: Vec::new(),
            trap_keys: TrapKeys::default(),
            observer: false,
            members: Vec::new(),
            driver: Driver::Netlink,
            log: LogConfig {
                format: LogFormat::Text,
                level: LogLevel::Info,
            },
            program_user: None,
        }
    }

    /// The address by which the array knows this host: the first control address.
    pub fn id_address(&self) -> Option<SocketAddr> {
        self.control.first().copied()
    }

    /// The file that reads back as this value; `rais init` and `rais demo` write it.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        // Writing into a String can't fail, so the results below carry no news.
        let _ = writeln!(out, "name = {}", quote(&self.name));
        let _ = writeln!(
            out,
            "data_dir = {}",
            quote(&self.data_dir.to_string_lossy())
        );
        if self.observer {
            let _ = writeln!(out, "observer = true");
        }
        if matches!(self.driver, Driver::Loopback { .. }) {
            let _ = writeln!(out, "driver = \"loopback\"");
        }
        let _ = writeln!(out, "\n[control]\nlisten = {}", quote_all(&self.control));
        let _ = writeln!(out, "\n[admin]\nlisten = \"{}\"", self.admin);
        if self.admin_open_on_loopback {
            let _ = writeln!(out, "open_on_loopback = true");
        }
        let _ = writeln!(out, "\n[dns]\nlisten = {}", quote_all(&self.dns));
        out += &self.dns_limits.to_toml();
        for key in &self.dns_keys {
            let _ = writeln!(out, "\n[[dns.key]]\nname = {}", quote(&key.name));
            let _ = writeln!(out, "algorithm = \"{}\"", key.algorithm.as_str());
            let file = key.secret_file.to_string_lossy();
            let _ = writeln!(out, "secret_file = {}", quote(&file));
        }
        out += &self.trap_keys.to_toml();
        if let Driver::Loopback { http_port } = self.driver {
            let _ = writeln!(out, "\n[loopback]\nhttp_port = {http_port}");
        }
        let _ = writeln!(
            out,
            "\n[log]\nformat = \"{}\"\nlevel = \"{}\"",
            self.log.format.as_str(),
            self.log.level.as_str()
        );
        if let Some(user) = &self.program_user {
            let _ = writeln!(out, "\n[programs]\nuser = {}", quote(user));
        }
        for member in &self.members {
            let _ = writeln!(out, "\n[[member]]\ngroup = {}", quote(&member.group));
            let _ = writeln!(out, "preferred = {}", quote_all(&member.preferred));
            let _ = writeln!(out, "interface = {}", quote(&member.interface));
        }
        out
    }
}

/// `text` as a TOML string.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Each item as a TOML string, in one list.
pub(crate) fn quote_all<T: std::fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quote(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}
