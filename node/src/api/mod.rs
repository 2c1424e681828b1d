//! What a client may ask of a daemon and what it gets: plain values, for the wire and for people.
//!
//! Each type serves two readers. Over the control connection it goes as bincode through serde, so
//! no type uses serde's `flatten`, `untagged`, `tag` or `skip`; as JSON it is the contract of
//! interface.md, so no field of those examples is renamed.
//!
//! Limits: enums may grow at their end only, or an older client misreads them; the connection
//! carries the version of the protocol and refuses what it can't read.

mod audit;
mod event;
mod follow;
mod problem;
mod project;
mod report;
mod request;
mod status;
mod when;
mod words;
mod zone;

#[cfg(test)]
mod tests;

pub use audit::{AuditReport, AuditedHost, BrokenLaw, Testimony};
pub use event::{EventRecord, LAST_RESORT, MAX_EVENTS, Phases, reason_words};
pub use follow::{FollowedReport, SecondaryReport};
pub use problem::{Problem, ProblemKind};
pub use project::{Live, LiveHost, project};
pub use report::{
    CandidateReport, PlanReport, PlanStep, RecordLine, TestLine, TestsReport, TimingReport,
    TrapLine, TrapTrial, TrapsReport, WhyReport, ZoneMarks, ZoneMember, ZoneReport,
};
pub use request::{Hypothesis, MAX_HYPOTHESES, Request, Response};
pub use status::{
    AddressStatus, AddressWord, FailoverStatus, GroupStatus, HostRole, HostStatus, HostWord,
    MemberStatus, Reloaded, Status,
};
pub use when::WallTime;
pub use words::{command_words, plan_report, verdict_words, why_report};
pub use zone::{ZoneRule, zone_marks, zone_members};
