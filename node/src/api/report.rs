//! The answers to `why`, `plan` and `zone`: decisions with their grounds, in words.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use statemachine::Timing;

use super::follow::FollowedReport;
use super::status::AddressWord;
use super::zone::ZoneRule;

/// `rais why ADDRESS`: why it is where it is, and what happens next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The address.
    pub address: IpAddr,
    /// Its group.
    pub group: String,
    /// Where it stands.
    pub state: AddressWord,
    /// Who holds it.
    pub holder: Option<String>,
    /// Who brought it.
    pub preferred_host: Option<String>,
    /// The fencing token of its last assignment.
    pub epoch: u64,
    /// The rule that put it there, in words.
    pub rule: String,
    /// For how long it has stood there, in ms of replicated time.
    pub since_ms: u64,
    /// Everyone who was looked at for it, with the verdict.
    pub candidates: Vec<CandidateReport>,
    /// What happens next, in words.
    pub next: String,
    /// In how many ms that will be; null when it waits for something other than time.
    pub next_in_ms: Option<u64>,
}

/// One host that was considered for an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateReport {
    /// The host.
    pub host: String,
    /// It was chosen.
    pub chosen: bool,
    /// `chosen because …` or `passed over because …`.
    pub verdict: String,
}

/// `rais plan`: what the leader would do now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanReport {
    /// Under which suppositions, as they were given.
    pub hypotheses: Vec<String>,
    /// Index of the log entry that the plan was drawn from.
    pub index: u64,
    /// The steps; none: the array is as it should be.
    pub steps: Vec<PlanStep>,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// In words.
    pub words: String,
    /// The command as the log would hold it.
    pub raw: String,
}

/// `rais zone GROUP`: what its name servers answer, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneReport {
    /// The group.
    pub group: String,
    /// The zone.
    pub zone: String,
    /// SOA serial.
    pub serial: u32,
    /// Time to live of each record, in seconds.
    pub ttl_s: u32,
    /// An address that should be in the zone is missing: the time to live is the policy's `fault_ttl`.
    pub at_fault: bool,
    /// Nothing may be published, and the zone names what it named last (`all_down = "last_known"`).
    pub last_known: bool,
    /// The answering host gives SERVFAIL for it: out of touch with the quorum for longer than the policy's
    /// `stale_after`.
    pub withheld: bool,
    /// The addresses that the zone names.
    pub published: Vec<IpAddr>,
    /// Where the zone is served.
    pub servers: Vec<SocketAddr>,
    /// Every record.
    pub records: Vec<RecordLine>,
    /// Each member's preferred addresses: in or out, and why.
    pub members: Vec<ZoneMember>,
    /// The numbers that decide by load.
    pub marks: ZoneMarks,
    /// How existing name servers follow it; null: the policy has no `[transfer]`.
    pub followed: Option<FollowedReport>,
}

/// What a group's policy says of load; the rules are those of docs/protocol/dns.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneMarks {
    /// Above it a host leaves the zone.
    pub high_water: u32,
    /// Down to it a host comes back.
    pub low_water: u32,
    /// Utilization of a fully used host.
    pub scale: u32,
    /// As many members stay, whatever the load.
    pub min_addresses: u32,
    /// How often the load decides.
    pub sample_interval_ms: u64,
}

/// One record, as a zone file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordLine {
    /// Owner.
    pub name: String,
    /// Time to live in seconds.
    pub ttl_s: u32,
    /// `SOA`, `NS`, `A` or `AAAA`.
    pub kind: String,
    /// The rest.
    pub value: String,
}

/// Whether a member's address is in the zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneMember {
    /// The host.
    pub host: String,
    /// Its preferred address; null for a hot spare.
    pub address: Option<IpAddr>,
    /// It is in the zone.
    pub published: bool,
    /// Why, or why not.
    pub reason: String,
    /// Load in units of the group's scale.
    pub utilization: Option<u32>,
    /// Load as the zone's rule weighs it: with high - low on top while shed; null while its host serves
    /// none of its addresses.
    pub weighted: Option<u32>,
    /// The rule behind `reason`, for machines.
    pub rule: ZoneRule,
    /// The log has its host as out by load.
    pub shed: bool,
    /// Its host's place among those that serve, the least used first, from 1.
    pub rank: Option<u32>,
}

/// `rais tests`: what the answering host looks at, of its own services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestsReport {
    /// That host.
    pub host: String,
    /// Its tests and loads, by group.
    pub tests: Vec<TestLine>,
}

/// One test or load, as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestLine {
    /// Its group.
    pub group: String,
    /// Its name in the policy.
    pub name: String,
    /// `test` or `load`.
    pub sort: String,
    /// What it looks at, with `{address}` filled in.
    pub looks_at: String,
    /// It passes, by its rise and fall; a load is measured.
    pub good: bool,
    /// What the last run found; null before the first.
    pub found: Option<String>,
    /// How long ago that was, in ms.
    pub ago_ms: Option<u64>,
}

/// `rais traps`: who is told of events, and what became of it on the leader that is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrapsReport {
    /// What happened up to this log index has been told to everybody who takes events.
    pub told: u64,
    /// Everybody whom a policy names.
    pub targets: Vec<TrapLine>,
}

/// One SNMP manager or webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrapLine {
    /// Which; of a webhook without the path, which may hold a secret.
    pub target: String,
    /// The groups whose policies name it.
    pub groups: Vec<String>,
    /// Events that wait for it.
    pub queued: u64,
    /// Events told since the daemon's start; those of a former leader are not in it.
    pub sent: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Events given up.
    pub dropped: u64,
    /// Why the last attempt failed; null when it did not.
    pub error: Option<String>,
}

/// How the trial of one target went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrapTrial {
    /// Which.
    pub target: String,
    /// It was sent, and acknowledged where that is usual.
    pub good: bool,
    /// In words.
    pub said: String,
}

/// `rais timing show`: the timing in force, and whether an older one may still count somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimingReport {
    /// The timing in force.
    pub timing: Timing,
    /// Index of the entry that set it.
    pub index: u64,
    /// Every host that is up has applied it, and the leases of before have ended.
    pub settled: bool,
    /// The longest L that a host may count with, in ms.
    pub longest_lease_ms: u32,
}
