//! One checker for each law (lease.md, invariants), and the place where the first breach is noted.

pub mod agreement;
pub mod clock;
pub mod epochs;
pub mod lease;
pub mod liveness;
pub mod one_holder;
pub mod zone;

use statemachine::{Applied, HostId, State, audit};

/// The laws that are checked as a world goes on.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    agreement: agreement::Agreement,
    epochs: epochs::Epochs,
    first: Option<String>,
}

impl Laws {
    /// Notes a breach, unless there was one before.
    pub(crate) fn broken(&mut self, now_us: u64, what: Option<String>) {
        if self.first.is_none()
            && let Some(what) = what
        {
            self.first = Some(format!("{} ms: {what}", now_us / 1000));
        }
    }

    /// A host applied an entry.
    pub(crate) fn applied(&mut self, now_us: u64, id: HostId, state: &State, applied: &Applied) {
        let (disagrees, first) = self.agreement.check(id, state);
        self.broken(now_us, disagrees);
        if !first {
            return;
        }
        // The others' states are the same at this index, or the law above is broken.
        let audited = audit(state).into_iter().next();
        let audited = audited.map(|v| format!("index {}: {}: {}", state.index, v.law, v.detail));
        self.broken(now_us, audited);
        let epochs = self.epochs.check(applied);
        self.broken(now_us, epochs);
        self.broken(now_us, zone::names_the_fallen(state));
        self.broken(now_us, clock::too_fast(state, now_us));
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn first(&self) -> Option<&str> {
        self.first.as_deref()
    }
}
