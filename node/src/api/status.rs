//! `rais status`: the array as one daemon knows it (interface.md has the JSON).

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use statemachine::AddressState;

use super::event::Phases;
use super::when::WallTime;

/// The array as the answering daemon knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The array's id, in hex.
    pub array: String,
    /// The leader's name; null while there is none or it is not known.
    pub leader: Option<String>,
    /// Raft's term.
    pub term: u64,
    /// Whether a majority of voters is in touch, so that anything can change at all.
    pub quorum: bool,
    /// Version of the answering daemon.
    pub version: String,
    /// The hosts, by name.
    pub hosts: Vec<HostStatus>,
    /// The groups, by name.
    pub groups: Vec<GroupStatus>,
    /// Name of the host that answered.
    pub answered_by: String,
    /// Index of the last log entry that this answer contains.
    pub index: u64,
    /// The array serves in last-resort mode: two hosts may serve one address.
    pub last_resort: bool,
    /// How long ago the answering host's copy was known to be current, in ms: it had then applied what a
    /// quorum had. Its DNS answers are as old; null before the first time.
    pub current_ms: Option<u64>,
    /// What became of the answering host's configuration when it was read again (SIGHUP); null when it was not.
    pub reloaded: Option<Reloaded>,
}

/// A configuration that was read again by a running daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// When.
    pub at: WallTime,
    /// What is wrong with the file; nothing of it was taken then.
    pub error: Option<String>,
    /// What of it waits for a restart of the daemon.
    pub restart: Vec<String>,
}

/// A host's part in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostRole {
    /// It votes.
    Voter,
    /// It follows the log without a vote.
    Learner,
}

/// What the log says of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostWord {
    /// May hold addresses.
    Up,
    /// Its leases are running out.
    Fencing,
    /// Holds nothing.
    Down,
}

/// One host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its number: the log index of its join.
    pub id: u64,
    /// Its part in Raft.
    pub role: HostRole,
    /// Whether `state` is `up`.
    pub up: bool,
    /// Votes and serves DNS but never holds an address.
    pub observer: bool,
    /// Its control addresses; the first is its id address.
    pub control: Vec<SocketAddr>,
    /// How long ago it was last heard, in ms; null when the answering host hasn't heard it.
    pub last_heard_ms: Option<u64>,
    /// How long its lease still runs, in ms; null when that isn't known here.
    pub lease_ms: Option<u64>,
    /// Up, fencing or down.
    pub state: HostWord,
    /// What guards its addresses: `nftables`, or `none` (then the promise is reduced); null when
    /// it wasn't told.
    pub gate: Option<String>,
    /// Those of its control addresses where the leader does not hear it, though it hears it elsewhere.
    pub unheard: Vec<SocketAddr>,
    /// Where it serves DNS.
    pub dns: Vec<SocketAddr>,
    /// How often it has been declared up.
    pub incarnation: u64,
}

/// One service group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// Its zone.
    pub zone: String,
    /// The zone's serial.
    pub serial: u32,
    /// The addresses that the zone names.
    pub published: Vec<IpAddr>,
    /// Time to live of its records now, in seconds: shorter while there is a fault.
    pub ttl_s: u32,
    /// The answering host gives SERVFAIL for it: out of touch with the quorum for longer than `stale_after`.
    pub withheld: bool,
    /// Its members, by host name.
    pub members: Vec<MemberStatus>,
    /// Its addresses.
    pub addresses: Vec<AddressStatus>,
}

/// A host's standing in a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The host.
    pub host: String,
    /// The addresses that it brings.
    pub preferred: Vec<IpAddr>,
    /// It brings none.
    pub spare: bool,
    /// Its tests pass.
    pub healthy: bool,
    /// Which test fails, and why; null while all is well, or when the answering host wasn't told.
    pub failing: Option<String>,
    /// An operator keeps it from acquiring.
    pub quiesced: bool,
    /// Load in units of the group's scale; null when it wasn't reported.
    pub utilization: Option<u32>,
    /// Quiesced, and gives away what it holds.
    pub draining: bool,
    /// Out of the zone by load.
    pub shed: bool,
}

/// Where an address stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressWord {
    /// Nobody holds it.
    Unserved,
    /// A host was told to take it.
    Acquiring,
    /// A host serves it.
    Online,
    /// Its holder was told to let go.
    Releasing,
}

impl AddressWord {
    /// The word for a state of the log.
    pub const fn of(state: &AddressState) -> Self {
        match state {
            AddressState::Unserved => Self::Unserved,
            AddressState::Acquiring { .. } => Self::Acquiring,
            AddressState::Online { .. } => Self::Online,
            AddressState::Releasing { .. } => Self::Releasing,
        }
    }

    /// As JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unserved => "unserved",
            Self::Acquiring => "acquiring",
            Self::Online => "online",
            Self::Releasing => "releasing",
        }
    }
}

/// One service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// The address.
    pub address: IpAddr,
    /// Where it stands.
    pub state: AddressWord,
    /// Who holds it; null when nobody does.
    pub host: Option<String>,
    /// Who brought it; null when that host was forgotten.
    pub preferred_host: Option<String>,
    /// The fencing token of its last assignment.
    pub epoch: u64,
    /// Seconds until it leaves the group as an orphan; null when it is at home or may stay.
    pub orphan_expires_s: Option<u64>,
    /// The rule that moved it last, in words.
    pub reason: String,
    /// Its last failover, as far back as the answering host's log goes; null when there was none.
    pub failover: Option<FailoverStatus>,
}

/// A failover that ended: a host died, another serves its address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverStatus {
    /// When it was served again.
    pub at: WallTime,
    /// Who died.
    pub from: String,
    /// Who took over.
    pub to: String,
    /// From the last sign of life to the address served again, in ms: the sum of the phases.
    pub ms: u64,
    /// What its parts took.
    pub phases: Phases,
}
