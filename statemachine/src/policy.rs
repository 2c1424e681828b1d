//! A service group's policy: what the array agrees on, declarative (interface.md, group policy).
//!
//! Durations are milliseconds unless the name says otherwise. Values are checked by [`Policy::check`]
//! before they enter the log and again by `apply`, since an old client may send what is refused now.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

use crate::{GroupName, Rejected};

/// Longest zone name, in bytes with the final dot: `HOST.ns.` before it must stay within 255.
const MAX_ZONE: usize = 187;

/// Least time without a quorum that makes a name server's copy stale, in ms: an election passes unnoticed.
const MIN_STALE_MS: u64 = 1_000;

/// Most managers, and most webhooks, of a group; each costs a message for every event.
const MAX_TOLD: usize = 64;

/// How a host is chosen when neither the preferred host nor a spare decides it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Fewest addresses held, then lowest utilization, then a recorded random pick.
    #[default]
    Balanced,
    /// A recorded random pick.
    Random,
}

/// What happens when the array has no quorum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuorumLoss {
    /// Leases end, addresses go silent. No dual service ever.
    #[default]
    Hold,
    /// Survivors serve what probing finds unused. Loud, and outside the promise.
    LastResort,
}

/// What happens when the preferred host comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rebalance {
    /// It takes its address back at once.
    #[default]
    Prefer,
    /// The address stays until an operator moves it.
    Sticky,
}

/// What a zone says when no address may be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllDown {
    /// No address: clients are told at once that there is no service.
    #[default]
    Empty,
    /// The addresses that it named last, without those that an operator took out.
    LastKnown,
}

/// What a name server says that has lost touch with the quorum for longer than the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stale {
    /// What it knew last.
    #[default]
    Serve,
    /// SERVFAIL, so that resolvers ask another name server of the zone.
    Servfail,
}

/// One test object: is the service on this host well?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestSpec {
    /// Its name, unique in the group.
    pub name: String,
    /// What it does.
    pub kind: TestKind,
    /// Time between two runs.
    pub interval_ms: u64,
    /// A run that takes longer is ended and counts as failed.
    pub timeout_ms: u64,
    /// Passes in a row before the member counts as healthy again.
    pub rise: u32,
    /// Failures in a row before the member counts as failed.
    pub fall: u32,
}

/// What a test object does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TestKind {
    /// Runs a program, without a shell; exit code 0 passes.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Connects.
    Tcp {
        /// `host:port`; `{address}` stands for the service address.
        target: String,
    },
    /// Fetches.
    Http {
        /// The URL; `{address}` stands for the service address.
        url: String,
        /// The status that passes.
        expect_status: u16,
        /// Text that the body must contain.
        expect_body: Option<String>,
    },
    /// Asks a name server.
    Dns {
        /// `address:port` of the server.
        server: String,
        /// The name to ask for.
        query: String,
    },
    /// A process that must live.
    Process {
        /// File that holds its process id.
        pid_file: String,
    },
    /// An interface that must have carrier and reach its gateway.
    Interface {
        /// The interface's name.
        name: String,
        /// Address that must answer, if given.
        gateway: Option<IpAddr>,
    },
    /// Fetches over TLS. The last of its family: what was written before decodes as before.
    Https {
        /// The URL; `{address}` stands for the service address.
        url: String,
        /// The name that the service is asked for, and that its certificate must hold; none: the URL's.
        host: Option<String>,
        /// File of the authorities that the certificate must be signed by; none: the system's.
        ca: Option<String>,
        /// Whether the certificate counts at all.
        verify: bool,
        /// The status that passes.
        expect_status: u16,
        /// Text that the body must contain.
        expect_body: Option<String>,
    },
}

/// One load object: how much is this host used?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// Its name, unique in the group.
    pub name: String,
    /// What it measures.
    pub kind: LoadKind,
    /// Time between two samples.
    pub interval_ms: u64,
    /// A sample that takes longer is ended and counts as failed.
    pub timeout_ms: u64,
}

/// What a load object measures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoadKind {
    /// A program that prints `load capacity`.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Processor time used, from procfs.
    Cpu,
    /// Bytes a second of an interface against its speed.
    Net {
        /// The interface's name.
        interface: String,
    },
    /// Established TCP connections to the service addresses.
    Connections {
        /// As many as the host can bear.
        capacity: u64,
    },
    /// A field of a JSON document.
    Http {
        /// The URL.
        url: String,
        /// Dotted path of the field.
        field: String,
        /// As much as the host can bear.
        capacity: u64,
    },
    /// Pressure stall information.
    Pressure {
        /// `cpu`, `io` or `memory`.
        resource: String,
    },
}

/// Programs run when an address is acquired and released.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// Run after the address is on the interface.
    pub acquire: Option<String>,
    /// Run before the address leaves the interface.
    pub release: Option<String>,
    /// A script that runs longer is ended.
    pub timeout_ms: u64,
}

/// An address, or all addresses of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its first address.
    pub ip: IpAddr,
    /// How many leading bits name it: 32 or 128 for one address alone.
    pub prefix_len: u8,
}

impl Network {
    /// Whether `ip` belongs to it. An IPv4 address that came in IPv6's clothes is IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let same = match (self.ip.to_canonical(), ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros()
            }
            _ => return false,
        };
        same >= self.prefix_len.into()
    }
}

impl core::fmt::Display for Network {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { ip, prefix_len } = self;
        match (ip, prefix_len) {
            (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => write!(f, "{ip}"),
            _ => write!(f, "{ip}/{prefix_len}"),
        }
    }
}

/// Name servers that follow the zone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Servers told of each change.
    pub notify: Vec<SocketAddr>,
    /// Whence the zone may be transferred.
    pub allow: Vec<Network>,
    /// Name of the TSIG key to use.
    pub tsig: Option<String>,
}

/// Who is told of what happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traps {
    /// SNMP managers.
    pub snmp: Vec<SnmpTarget>,
    /// URLs that each event is posted to.
    pub webhook: Vec<Webhook>,
}

impl Traps {
    /// Whether there is nobody to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.snmp.is_empty() && self.webhook.is_empty()
    }
}

/// One SNMP manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SnmpTarget {
    /// Where it listens.
    pub target: SocketAddr,
    /// The version of SNMP, and as whom.
    pub security: SnmpSecurity,
    /// Told by informs, which it acknowledges, instead of traps.
    pub inform: bool,
}

/// How a manager knows that a message is ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnmpSecurity {
    /// Version 2c: a word that everybody on the way can read.
    Community(String),
    /// Version 3: the name of a user whose passwords stand in each host's own file.
    User(String),
}

/// A URL that events are posted to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Webhook {
    /// The URL.
    pub url: String,
    /// Name of the key that signs, whose secret stands in each host's own file.
    pub key: Option<String>,
}

/// A service group's policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The group.
    pub name: GroupName,
    /// Its DNS zone: absolute, lower case, with the final dot.
    pub zone: String,
    /// Time to live of every record, in seconds.
    pub ttl_s: u32,
    /// Time to live of every record while an address that should be in the zone is missing, in
    /// seconds; at most `ttl_s`.
    pub fault_ttl_s: u32,
    /// The zone never falls below this many addresses by load alone.
    pub min_addresses: u32,
    /// A host above this utilization leaves the zone; in units of `scale`.
    pub high_water: u32,
    /// A host below this utilization comes back.
    pub low_water: u32,
    /// Utilization of a fully used host; 100 to 1000 (seed, DNS thread).
    pub scale: u32,
    /// How often the load decides on the zone.
    pub sample_interval_ms: u64,
    /// What the zone says when nothing may be published.
    pub all_down: AllDown,
    /// What a name server without a quorum says, once `stale_after_ms` have passed.
    pub stale: Stale,
    /// How long a name server may be out of touch with the quorum before `stale` decides.
    pub stale_after_ms: u64,
    /// How long an address may be served by another than its preferred host; none = for ever.
    pub orphan_ttl_ms: Option<u64>,
    /// Whom to choose.
    pub placement: Placement,
    /// What to do without a quorum.
    pub quorum_loss: QuorumLoss,
    /// How long without a quorum before `last_resort` begins.
    pub last_resort_after_ms: u64,
    /// What to do when the preferred host comes back.
    pub rebalance: Rebalance,
    /// Test objects.
    pub tests: Vec<TestSpec>,
    /// Load objects.
    pub loads: Vec<LoadSpec>,
    /// Programs run at acquire and release.
    pub scripts: Option<Scripts>,
    /// Name servers that follow.
    pub transfer: Option<Transfer>,
    /// Who is told.
    pub traps: Option<Traps>,
}

impl Policy {
    /// A policy with the defaults of interface.md.
    #[must_use]
    pub fn new(name: &str, zone: &str) -> Self {
        Self {
            name: name.into(),
            zone: zone.into(),
            ttl_s: 5,
            fault_ttl_s: 1,
            min_addresses: 1,
            high_water: 800,
            low_water: 500,
            scale: 1000,
            sample_interval_ms: 1000,
            all_down: AllDown::Empty,
            stale: Stale::Serve,
            stale_after_ms: 30_000,
            orphan_ttl_ms: Some(30 * 24 * 3600 * 1000),
            placement: Placement::Balanced,
            quorum_loss: QuorumLoss::Hold,
            last_resort_after_ms: 5000,
            rebalance: Rebalance::Prefer,
            tests: Vec::new(),
            loads: Vec::new(),
            scripts: None,
            transfer: None,
            traps: None,
        }
    }

    /// Whether managers or webhooks are to be told of what happens.
    #[must_use]
    pub fn tells(&self) -> bool {
        self.traps.as_ref().is_some_and(|traps| !traps.is_empty())
    }

    /// Refuses what no group can live by. The config parser says the same with line and column.
    ///
    /// # Errors
    /// [`Rejected::BadPolicy`], naming the field.
    pub fn check(&self) -> Result<(), Rejected> {
        let rules = [
            (!self.name.0.is_empty() && self.name.0.len() <= 63, "name"),
            (
                self.zone.ends_with('.') && self.zone.len() > 1 && self.zone.len() <= MAX_ZONE,
                "zone",
            ),
            (
                self.zone.trim_end_matches('.').split('.').all(is_label),
                "zone",
            ),
            (self.ttl_s >= 1 && self.ttl_s <= 86_400, "ttl"),
            (
                self.fault_ttl_s >= 1 && self.fault_ttl_s <= self.ttl_s,
                "fault_ttl",
            ),
            (self.stale_after_ms >= MIN_STALE_MS, "stale_after"),
            (self.scale >= 100 && self.scale <= 1000, "scale"),
            (self.low_water < self.high_water, "low_water"),
            (self.sample_interval_ms >= 100, "sample_interval"),
            (self.tests.len() <= 256, "test"),
            (self.loads.len() <= 64, "load"),
            (
                self.traps
                    .iter()
                    .all(|traps| traps.snmp.len() <= MAX_TOLD && traps.webhook.len() <= MAX_TOLD),
                "traps",
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, field)) => Err(Rejected::BadPolicy {
                field: field.into(),
            }),
            None => Ok(()),
        }
    }
}

fn is_label(label: &str) -> bool {
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    (1..=63).contains(&label.len()) && label.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Goal: networks are told apart by their length, to the bit.
    /// Method: neighbours across and within borders; no length, whole length, two families.
    #[test]
    fn networks_are_told_apart() {
        let has = |ip: &str, prefix_len, other: &str| {
            let ip = ip.parse().unwrap();
            Network { ip, prefix_len }.contains(other.parse().unwrap())
        };
        assert!(has("10.9.0.1", 24, "10.9.0.255") && !has("10.9.0.1", 24, "10.9.1.1"));
        assert!(has("10.9.0.1", 23, "10.9.1.1") && has("10.9.0.1", 0, "192.0.2.1"));
        assert!(has("10.9.0.1", 32, "10.9.0.1") && !has("10.9.0.1", 32, "10.9.0.0"));
        assert!(has("fd09::1", 64, "fd09::ffff") && !has("fd09::1", 64, "fd09:0:0:1::1"));
        assert!(!has("10.9.0.1", 0, "fd09::1") && has("10.9.0.1", 24, "::ffff:10.9.0.7"));
    }
}
