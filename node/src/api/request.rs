//! What can be asked of a daemon, and the answers.
//!
//! A request that changes something goes to the leader ([`Request::is_write`]); so do `plan` and
//! `why`, since only the leader has the view that they explain. Everything else is answered from
//! the daemon's own copy.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use statemachine::{Policy, Timing};

use super::audit::{AuditReport, Testimony};
use super::event::EventRecord;
use super::problem::Problem;
use super::report::{
    PlanReport, TestsReport, TimingReport, TrapTrial, TrapsReport, WhyReport, ZoneReport,
};
use super::status::Status;
use super::when::WallTime;
use crate::config::{Complaint, complaint, group_name, host_name};

/// Most suppositions of one `rais plan`.
pub const MAX_HYPOTHESES: usize = 16;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The array as this daemon knows it; answered by [`Response::Status`].
    Status,
    /// A group's zone; [`Response::Zone`].
    Zone {
        /// Which group.
        group: String,
    },
    /// Past events, oldest first, the events of one entry never cut apart; [`Response::Events`].
    Events {
        /// Only those after this log index; none: the newest ones.
        since: Option<u64>,
        /// At most so many, and never more than [`MAX_EVENTS`](super::MAX_EVENTS).
        limit: u32,
    },
    /// A stream of [`Response::Event`] that ends only with the connection.
    FollowEvents {
        /// Begin after this log index; none: with what happens from now on.
        since: Option<u64>,
    },
    /// Why an address is where it is; [`Response::Why`].
    Why {
        /// Which.
        address: IpAddr,
    },
    /// What the leader would do; [`Response::Plan`].
    Plan {
        /// Suppositions, taken together; at most [`MAX_HYPOTHESES`].
        hypotheses: Vec<Hypothesis>,
    },
    /// Keeps a host from acquiring; [`Response::Done`].
    Quiesce {
        /// Which.
        host: String,
        /// In one group; none: in all of them.
        group: Option<String>,
        /// It also gives away what it holds.
        drain: bool,
    },
    /// Ends quiesce; [`Response::Done`].
    Resume {
        /// Which.
        host: String,
        /// In one group; none: in all of them.
        group: Option<String>,
    },
    /// Hands an address over; [`Response::Done`].
    Move {
        /// Which.
        address: IpAddr,
        /// To which host.
        to: String,
    },
    /// Creates or changes a group; [`Response::GroupApplied`].
    GroupApply {
        /// The policy.
        policy: Box<Policy>,
        /// The generation that the author saw (from the dry run); none: there was no such group.
        /// Ignored by a dry run.
        seen: Option<u64>,
        /// Only says what would change.
        dry_run: bool,
    },
    /// A group's policy; [`Response::Group`].
    GroupShow {
        /// Which.
        group: String,
    },
    /// Deletes a group; [`Response::Done`].
    GroupDelete {
        /// Which.
        group: String,
    },
    /// Removes a host for good; [`Response::Done`].
    Forget {
        /// Which.
        host: String,
    },
    /// Makes a join token; [`Response::Token`].
    TokenCreate {
        /// How long it is good for, in seconds.
        ttl_s: u64,
        /// For how many hosts.
        uses: u32,
    },
    /// Hands leadership to a host; [`Response::Done`].
    TransferLeader {
        /// To whom.
        host: String,
    },
    /// The tests and loads of the host that is asked; [`Response::Tests`].
    Tests,
    /// The timing in force; [`Response::Timing`].
    TimingShow,
    /// Changes the timing; [`Response::Done`].
    TimingApply {
        /// The new timing.
        timing: Timing,
        /// The timing that the author saw.
        seen: Timing,
    },
    /// Who is told of events; [`Response::Traps`].
    Traps,
    /// Sends a test to all whom a group's policy names; [`Response::Tried`].
    TrapsTest {
        /// Which group.
        group: String,
    },
    /// Whether the array keeps its laws; [`Response::Audit`].
    Audit,
    /// What the host that is asked has applied; [`Response::Testimony`].
    Testify,
    /// Makes a new certificate for the host that is asked; [`Response::Done`].
    CertRenew,
}

impl Request {
    /// Whether it changes the array, so that only the leader can do it.
    pub const fn is_write(&self) -> bool {
        match self {
            Self::GroupApply { dry_run, .. } => !*dry_run,
            Self::Quiesce { .. }
            | Self::Resume { .. }
            | Self::Move { .. }
            | Self::GroupDelete { .. }
            | Self::Forget { .. }
            | Self::TokenCreate { .. }
            | Self::TransferLeader { .. }
            | Self::TimingApply { .. } => true,
            Self::Status
            | Self::Zone { .. }
            | Self::Events { .. }
            | Self::FollowEvents { .. }
            | Self::Why { .. }
            | Self::Plan { .. }
            | Self::GroupShow { .. }
            | Self::Tests
            | Self::TimingShow
            | Self::Traps
            | Self::TrapsTest { .. }
            | Self::Audit
            | Self::Testify
            | Self::CertRenew => false,
        }
    }

    /// Whether only the leader can answer it: writes, and what explains the leader's own view.
    pub const fn needs_leader(&self) -> bool {
        self.is_write()
            || matches!(
                self,
                Self::Why { .. }
                    | Self::Plan { .. }
                    | Self::GroupApply { .. }
                    | Self::Traps
                    | Self::TrapsTest { .. }
                    | Self::Audit
            )
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Zone`].
    Zone(ZoneReport),
    /// To [`Request::Events`].
    Events(Vec<EventRecord>),
    /// One of the stream that [`Request::FollowEvents`] opens.
    Event(EventRecord),
    /// To [`Request::Why`].
    Why(WhyReport),
    /// To [`Request::Plan`].
    Plan(PlanReport),
    /// A change was committed.
    Done {
        /// Its log index; null when the change isn't an entry (a transfer of leadership).
        index: Option<u64>,
        /// What was done, in words.
        words: String,
    },
    /// To [`Request::GroupApply`].
    GroupApplied {
        /// What changed, or would, one line each; none: nothing.
        changes: Vec<String>,
        /// The generation that the changes are against; none: the group is new.
        seen: Option<u64>,
        /// The log index; none after a dry run.
        index: Option<u64>,
    },
    /// To [`Request::GroupShow`].
    Group {
        /// The policy in force.
        policy: Box<Policy>,
        /// Its generation.
        generation: u64,
    },
    /// To [`Request::TokenCreate`].
    Token {
        /// The token, to be given to `rais join`.
        token: String,
        /// When it runs out.
        expires: WallTime,
        /// For how many hosts it is good.
        uses: u32,
    },
    /// To [`Request::Tests`].
    Tests(TestsReport),
    /// To [`Request::TimingShow`].
    Timing(TimingReport),
    /// The request was refused.
    Refused {
        /// Why, and what to do.
        problem: Problem,
    },
    /// To [`Request::Traps`].
    Traps(TrapsReport),
    /// To [`Request::TrapsTest`].
    Tried(Vec<TrapTrial>),
    /// To [`Request::Audit`].
    Audit(AuditReport),
    /// To [`Request::Testify`].
    Testimony(Testimony),
}

/// A supposition for `rais plan --if`: `down h2`, `up h2`, `quiesce h2 [GROUP]`, `resume h2 [GROUP]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hypothesis {
    /// The host is down.
    Down {
        /// Which.
        host: String,
    },
    /// The host is up and healthy.
    Up {
        /// Which.
        host: String,
    },
    /// The host is quiesced.
    Quiesce {
        /// Which.
        host: String,
        /// In one group; none: in all of them.
        group: Option<String>,
    },
    /// The host is not quiesced.
    Resume {
        /// Which.
        host: String,
        /// In one group; none: in all of them.
        group: Option<String>,
    },
}

impl fmt::Display for Hypothesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, host, group) = match self {
            Self::Down { host } => ("down", host, &None),
            Self::Up { host } => ("up", host, &None),
            Self::Quiesce { host, group } => ("quiesce", host, group),
            Self::Resume { host, group } => ("resume", host, group),
        };
        write!(f, "{verb} {host}")?;
        group.as_ref().map_or(Ok(()), |group| write!(f, " {group}"))
    }
}

impl FromStr for Hypothesis {
    type Err = Complaint;

    fn from_str(text: &str) -> Result<Self, Complaint> {
        let fit = "write `down HOST`, `up HOST`, `quiesce HOST [GROUP]` or `resume HOST [GROUP]`";
        let mut words = text.split_whitespace();
        let Some(verb) = words.next() else {
            return Err(complaint("the supposition is empty", fit));
        };
        if !["down", "up", "quiesce", "resume"].contains(&verb) {
            return Err(complaint(
                format!("`{}` can't be supposed", verb.escape_debug()),
                fit,
            ));
        }
        let Some(host) = words.next() else {
            return Err(complaint(format!("`{verb}` names no host"), fit));
        };
        let host = host_name(host)?;
        let group = words.next().map(group_name).transpose()?;
        if let Some(more) = words.next() {
            return Err(complaint(
                format!("`{}` is one word too many", more.escape_debug()),
                fit,
            ));
        }
        match (verb, group) {
            ("quiesce", group) => Ok(Self::Quiesce { host, group }),
            ("resume", group) => Ok(Self::Resume { host, group }),
            (_, Some(group)) => Err(complaint(
                format!("`{verb}` takes no group, but `{group}` is given"),
                fit,
            )),
            ("down", None) => Ok(Self::Down { host }),
            (_, None) => Ok(Self::Up { host }),
        }
    }
}
