//! One checker for each law (lease.md, invariants, in that order), and the place where the first breach
//! is noted.
//!
//! Each file holds one law as a function of what it needs and no more, so that unit tests can ask it
//! too. What needs only a state is in `statemachine::audit`, which every daemon can ask itself.

pub mod agreement;
pub mod applied_first;
pub mod down_after_lease;
pub mod durable;
pub mod epochs;
pub mod fenced_ack;
pub mod home;
pub mod needless;
pub mod one_answer;
pub mod one_gate;
pub mod orphan_clock;
pub mod pending;
pub mod promised;
pub mod renewal;
pub mod restarted_voter;
pub mod settled;
pub mod up_empty;
pub mod zone;

use std::fmt;

use statemachine::{Applied, HostId, State, audit};

use crate::reference::Reference;

/// A law; the first seventeen are those of lease.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Law {
    OneGate = 1,
    OneAnswer,
    Promised,
    FencedAck,
    DownAfterLease,
    Epochs,
    AppliedFirst,
    RestartedVoter,
    Settled,
    UpEmpty,
    Agreement,
    Durable,
    Renewal,
    Pending,
    Home,
    Zone,
    OrphanClock,
    /// Scenarios 4 and 8.
    Needless,
    /// `statemachine::audit`.
    Audit,
    /// The naive reference of the promise.
    Reference,
}

/// A broken law.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which.
    pub law: Law,
    /// When, in ms of true time.
    pub at_ms: u64,
    /// Who breaks it, and how.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, law) = (self.law as u8, self.law);
        write!(f, "{} ms: {} ({number} {law:?})", self.at_ms, self.what)
    }
}

/// The laws that are checked as a world goes on.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    agreement: agreement::Agreement,
    epochs: epochs::Epochs,
    orphans: orphan_clock::OrphanClock,
    pub(crate) durable: durable::Durable,
    pub(crate) fenced: fenced_ack::FencedAcks,
    pub(crate) settled: settled::Settled,
    pub(crate) reference: Reference,
    /// Only this one is looked at.
    only: Option<Law>,
    /// `last_resort` is asked for: outside the promise of one holder (lease.md).
    reduced: bool,
    first: Option<Breach>,
}

impl Laws {
    pub(crate) fn new(only: Option<Law>, reduced: bool) -> Self {
        Self {
            only,
            reduced,
            ..Self::default()
        }
    }

    /// Notes a breach, unless there was one before.
    pub(crate) fn broken(&mut self, now_us: u64, law: Law, what: Option<String>) {
        let of_one_holder = matches!(law, Law::OneGate | Law::OneAnswer | Law::Reference);
        if self.first.is_none()
            && !(self.reduced && of_one_holder)
            && self.only.is_none_or(|only| only == law)
            && let Some(what) = what
        {
            let at_ms = now_us / 1000;
            self.first = Some(Breach { law, at_ms, what });
        }
    }

    /// A host applied an entry by itself: is its state that of the others?
    pub(crate) fn agree(&mut self, now_us: u64, id: HostId, state: &State) {
        let disagrees = self.agreement.check(id, state);
        self.broken(now_us, Law::Agreement, disagrees);
    }

    /// A host applied the entry of this term.
    pub(crate) fn applied(&mut self, now_us: u64, id: HostId, index: u64, term: u64) {
        let lost = self.durable.applied(id, index, term);
        self.broken(now_us, Law::Durable, lost);
    }

    /// A host is the first to apply an entry.
    pub(crate) fn first_applied(&mut self, now_us: u64, state: &State, applied: &Applied) {
        self.settled.applied(state, now_us);
        let audited = audit(state).into_iter().next();
        let audited = audited.map(|v| format!("index {}: {}: {}", state.index, v.law, v.detail));
        self.broken(now_us, Law::Audit, audited);
        let epochs = self.epochs.check(applied);
        self.broken(now_us, Law::Epochs, epochs);
        self.broken(now_us, Law::Zone, zone::names_the_fallen(state));
        let orphans = self.orphans.check(state, now_us);
        self.broken(now_us, Law::OrphanClock, orphans);
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn first(&self) -> Option<&Breach> {
        self.first.as_ref()
    }
}
