//! What two of the mutations remember (`statemachine/src/mutation.rs`). Without the feature `mutations`
//! it has no content and its functions do nothing.

use statemachine::{HostId, State};

use crate::Instant;

/// A voter's memory of what it should have noted elsewhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holes {
    /// Fences that it was asked about.
    #[cfg(feature = "mutations")]
    asked: std::collections::BTreeSet<HostId>,
    /// Promises that it gave and has not noted.
    #[cfg(feature = "mutations")]
    unnoted: std::collections::BTreeMap<HostId, Instant>,
}

#[cfg(not(feature = "mutations"))]
impl Holes {
    pub(crate) fn ask(&mut self, _: &State, _: HostId) {}

    pub(crate) fn was_asked(&self, _: HostId) -> bool {
        false
    }

    pub(crate) fn note(&mut self, _: HostId, end: Instant) -> Instant {
        end
    }
}

#[cfg(feature = "mutations")]
impl Holes {
    /// Somebody asks about the fence of `host`: heeded until that host is up anew, in memory only.
    pub(crate) fn ask(&mut self, state: &State, host: HostId) {
        self.asked.insert(host);
        let fenced = |id: &HostId| state.hosts.get(id).is_some_and(|host| !host.is_up());
        self.asked.retain(fenced);
    }

    pub(crate) fn was_asked(&self, host: HostId) -> bool {
        self.asked.contains(&host)
    }

    /// Which end is noted now: the one that was promised before, when the hole is open.
    pub(crate) fn note(&mut self, host: HostId, end: Instant) -> Instant {
        let before = self.unnoted.insert(host, end).unwrap_or_default();
        if statemachine::mutated(statemachine::Mutation::AckBeforePromise) {
            before
        } else {
            end
        }
    }
}
