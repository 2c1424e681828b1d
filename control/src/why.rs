//! Why an address is where it is, and what happens next: the data behind `rais why`.
//!
//! Asks the same functions that plan, so that the explanation cannot differ from the deed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use statemachine::{Address, Command, HostId, LogTime, Reason, State};

use crate::placement::{Candidate, place};
use crate::{View, plan};

/// The explanation of one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The address as the log has it.
    pub address: Address,
    /// The rule that put it where it is.
    pub rule: Reason,
    /// Who would be chosen if it were free now, and by which rule.
    pub choice: Option<(HostId, Reason)>,
    /// What was found of every member.
    pub candidates: Vec<Candidate>,
    /// What the leader would do with it now; empty at rest.
    pub next: Vec<Command>,
    /// How long until it runs out as an orphan, in ms; none when it does not.
    pub orphan_expires_ms: Option<u64>,
}

/// Explains `ip`; none when it belongs to no group.
#[must_use]
pub fn why(state: &State, view: &View, now: LogTime, ip: IpAddr) -> Option<Why> {
    let address = state.addresses.get(&ip)?.clone();
    let placed = place(state, view, now, ip, 0);
    let drawn = plan(state, view, now, 0, Vec::new(), &BTreeSet::new());
    let concerns = |command: &Command| matches!(command, Command::Address(c) if c.address() == ip);
    Some(Why {
        rule: address.reason,
        choice: placed.chosen,
        candidates: placed.candidates,
        next: drawn.steps.into_iter().filter(concerns).collect(),
        orphan_expires_ms: state
            .orphan_deadline(ip)
            .map(|deadline| deadline.since(now)),
        address,
    })
}
