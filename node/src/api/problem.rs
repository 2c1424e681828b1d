//! A refusal as a person gets it: what is wrong, why, and what to do (RFC 9457's problem, typed).

use serde::{Deserialize, Serialize};
use statemachine::{Rejected, State};

/// Of what kind a refusal is; the HTTP API turns it into a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProblemKind {
    /// What was asked for does not exist.
    NotFound,
    /// It does not fit the present state; asking again later, or differently, may.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// No leader is known at the moment.
    NoLeader,
    /// No majority of voters answers, so nothing can change.
    NoQuorum,
    /// The client may not do this.
    Forbidden,
    /// The daemon failed.
    Internal,
}

impl ProblemKind {
    /// The HTTP status that says the same.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Invalid => 422,
            Self::NoLeader | Self::NoQuorum => 503,
            Self::Forbidden => 403,
            Self::Internal => 500,
        }
    }
}

/// Why a request was refused and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}; {remedy}")]
pub struct Problem {
    /// Its kind.
    pub kind: ProblemKind,
    /// What was refused, in a few words.
    pub title: String,
    /// Why.
    pub detail: String,
    /// What to do next.
    pub remedy: String,
}

impl Problem {
    /// A problem from its parts.
    pub fn new(
        kind: ProblemKind,
        title: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            title: title.into(),
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }

    /// No majority of voters answers.
    pub fn no_quorum() -> Self {
        Self::new(
            ProblemKind::NoQuorum,
            "no quorum",
            "less than a majority of the voters answers, so nothing can be changed",
            "bring voters back; `rais hosts` shows who is silent",
        )
    }

    /// No leader is known.
    pub fn no_leader() -> Self {
        Self::new(
            ProblemKind::NoLeader,
            "no leader",
            "an election is going on",
            "try again in a second; `rais status` shows the leader",
        )
    }

    /// What the state machine refused, with hosts by their names in `state`.
    pub fn rejected_by(state: &State, rejected: &Rejected) -> Self {
        let name = |host| state.name_of(host);
        let mut problem = Self::rejected(rejected);
        problem.detail = match rejected {
            Rejected::NotMember { host, group } => {
                format!("{} is not a member of group {group}", name(*host))
            }
            Rejected::AddressTaken {
                address,
                owner,
                group,
            } => format!(
                "address {address} is already the preferred address of {} in group {group}",
                name(*owner)
            ),
            _ => return problem,
        };
        problem
    }

    /// What the state machine refused.
    pub fn rejected(rejected: &Rejected) -> Self {
        let (kind, remedy) = match rejected {
            Rejected::UnknownHost(_) => (ProblemKind::NotFound, "`rais hosts` lists the hosts"),
            Rejected::UnknownGroup(_) => (ProblemKind::NotFound, "`rais groups` lists the groups"),
            Rejected::UnknownAddress(_) => (
                ProblemKind::NotFound,
                "`rais addresses` lists the addresses",
            ),
            Rejected::NotMember { .. } => (
                ProblemKind::NotFound,
                "`rais groups` lists each group's members",
            ),
            Rejected::BadName(_) => (ProblemKind::Invalid, "choose another name"),
            Rejected::BadPolicy { .. } => (ProblemKind::Invalid, "`rais check FILE` shows where"),
            Rejected::BadTiming(_) => (
                ProblemKind::Invalid,
                "change the numbers that it names, or use a preset: fast, lan or wan",
            ),
            Rejected::BadToken => (
                ProblemKind::Forbidden,
                "`rais token create` makes a new one",
            ),
            Rejected::ZoneTaken { .. } => (
                ProblemKind::Conflict,
                "choose another, or delete the other group first",
            ),
            Rejected::AddressTaken { .. } => (
                ProblemKind::Conflict,
                "take it out of one of the two configurations",
            ),
            Rejected::NameTaken(_) => {
                (ProblemKind::Conflict, "`rais hosts` lists the names in use")
            }
            Rejected::Stale { .. }
            | Rejected::StaleEpoch { .. }
            | Rejected::StaleIncarnation { .. }
            | Rejected::OldSerial { .. } => (
                ProblemKind::Conflict,
                "somebody else changed it meanwhile: look again and retry",
            ),
            Rejected::WrongState(_) | Rejected::WrongBeginning => {
                (ProblemKind::Conflict, "`rais status` shows what is so now")
            }
            Rejected::Full { .. } => (ProblemKind::Conflict, "remove what is no longer used"),
        };
        Self::new(kind, "refused", rejected.to_string(), remedy)
    }
}
