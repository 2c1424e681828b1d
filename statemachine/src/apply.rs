//! Applies committed entries. Total: every command has an outcome and none may panic, since an entry
//! that panics does so on every host, again at each restart.
//!
//! Control flow stands here, each family's changes in a file of its own. A command checks all
//! that it needs before it changes anything; `settle` then restores what must always hold.

mod address;
mod array;
mod group;
mod host;
mod token;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::{
    Command, Effect, Entry, HostId, MAX_COMMANDS, MAX_SESSIONS, Membership, Origin, Rejected,
    Session, State, settle,
};

/// What became of an entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Index of the entry.
    pub index: u64,
    /// One outcome for each command.
    pub outcomes: Vec<Result<(), Rejected>>,
    /// What happened.
    pub effects: Vec<Effect>,
}

/// What a command may read and write besides the state.
pub(crate) struct Context<'a> {
    pub(crate) index: u64,
    pub(crate) effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    pub(crate) fn tell(&mut self, effect: Effect) {
        self.effects.push(effect);
    }
}

/// Applies one committed entry.
pub fn apply(state: &mut State, index: u64, entry: &Entry) -> Applied {
    state.index = index;
    state.at = state.at.max(entry.at);
    state.wall = entry.wall;
    let mut applied = Applied {
        index,
        ..Applied::default()
    };
    if let Some(known) = entry
        .origin
        .and_then(|origin| remembered(state, origin, entry))
    {
        applied.outcomes = known;
        return applied;
    }
    let mut cx = Context {
        index,
        effects: &mut applied.effects,
    };
    for (position, command) in entry.commands.iter().enumerate() {
        let outcome = if position < MAX_COMMANDS {
            one(state, command, &mut cx)
        } else {
            Err(Rejected::Full {
                what: "commands in one entry".into(),
                limit: MAX_COMMANDS as u64,
            })
        };
        applied.outcomes.push(outcome);
    }
    if let Some(origin) = entry.origin {
        remember(state, origin, &applied.outcomes);
    }
    applied
}

/// Notes the voters that an entry of Raft's own set. Source: lease.md, steps 7 and 8.
pub fn note_membership(state: &mut State, index: u64, voters: Vec<BTreeSet<HostId>>) {
    state.index = index;
    state.membership = Membership { index, voters };
}

/// Notes an entry of Raft's own that says nothing.
pub fn note_blank(state: &mut State, index: u64) {
    state.index = index;
}

fn one(state: &mut State, command: &Command, cx: &mut Context<'_>) -> Result<(), Rejected> {
    let outcome = match command {
        Command::Tick => Ok(()),
        Command::Array(command) => array::apply(state, command, cx),
        Command::Host(command) => host::apply(state, command, cx),
        Command::Group(command) => group::apply(state, command, cx),
        Command::Address(command) => address::apply(state, command, cx),
        Command::Token(command) => token::apply(state, command, cx),
    };
    settle::settle(state, cx);
    outcome
}

fn remembered(state: &State, origin: Origin, entry: &Entry) -> Option<Vec<Result<(), Rejected>>> {
    let session = state.sessions.get(&origin.client)?;
    if origin.serial == session.serial {
        return Some(session.outcomes.clone());
    }
    let stale = Rejected::OldSerial {
        serial: origin.serial,
        last: session.serial,
    };
    (origin.serial < session.serial)
        .then(|| entry.commands.iter().map(|_| Err(stale.clone())).collect())
}

fn remember(state: &mut State, origin: Origin, outcomes: &[Result<(), Rejected>]) {
    let session = Session {
        serial: origin.serial,
        at: state.at,
        outcomes: outcomes.to_vec(),
    };
    state.sessions.insert(origin.client, session);
    if state.sessions.len() > MAX_SESSIONS {
        let oldest = state
            .sessions
            .iter()
            .min_by_key(|(client, s)| (s.at, **client))
            .map(|(c, _)| *c);
        oldest.map(|client| state.sessions.remove(&client));
    }
}
