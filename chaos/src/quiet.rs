//! What has been undisturbed for how long: so that checkers can tell a failover that was needed from
//! one that was not.
//!
//! Errs on the side of "disturbed": a checker that is silent too often finds less, one that cries wolf
//! finds nothing.

use std::collections::BTreeMap;

use statemachine::HostId;

use crate::host::{self, SimHost};
use crate::link::Links;

/// Since when each voter has known what it must to acknowledge each host, by voter and host.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    since: BTreeMap<(HostId, HostId), u64>,
}

impl Knowledge {
    /// What a host has in its state or its log has changed.
    pub(crate) fn look(&mut self, hosts: &[SimHost], changed: HostId, now: u64) {
        let Some(changed) = host::of(hosts, changed) else {
            return;
        };
        for other in hosts {
            for (voter, host) in [(changed, other), (other, changed)] {
                if knows(voter, host) {
                    self.since.entry((voter.id, host.id)).or_insert(now);
                } else {
                    self.since.remove(&(voter.id, host.id));
                }
            }
        }
    }
}

/// The voter has applied what it must know to acknowledge the host, and no newer voters than it knows.
/// One that restarted without a leader, or was cut off from it, has not: it rightly keeps silent.
fn knows(voter: &SimHost, host: &SimHost) -> bool {
    let standing = |of: &SimHost| {
        let standing = of.state.hosts.get(&host.id).filter(|host| host.is_up());
        standing.map(|host| (host.incarnation, host.boot, of.state.timing_index))
    };
    let same = standing(voter).is_some() && standing(voter) == standing(host);
    same && voter.raft.membership() <= host.raft.membership()
}

/// A look at a world.
pub(crate) struct Quiet<'a> {
    pub(crate) hosts: &'a [SimHost],
    pub(crate) links: &'a Links,
    pub(crate) now: u64,
    /// When the voters or the timing changed last.
    pub(crate) changed_at: u64,
    pub(crate) knowledge: &'a Knowledge,
}

impl Quiet<'_> {
    /// No datagram was lost or late.
    pub(crate) fn fair(&self, for_us: u64) -> bool {
        self.links.fair_since() + for_us <= self.now
    }

    /// Neither the voters, nor L, nor the standing of this host changed, in anybody's log.
    pub(crate) fn unchanged(&self, id: HostId, for_us: u64) -> bool {
        let touched = host::of(self.hosts, id).map_or(u64::MAX, |host| host.touched_at);
        self.changed_at.max(touched).saturating_add(for_us) <= self.now
    }

    /// The host runs, and was neither stopped nor slow.
    pub(crate) fn steady(&self, id: HostId, for_us: u64) -> bool {
        host::of(self.hosts, id).is_some_and(|host| {
            host.runs() && host.is_quick() && host.disturbed_at.saturating_add(for_us) <= self.now
        })
    }

    /// The host's daemon has run since then, stopped or not.
    pub(crate) fn started(&self, id: HostId, for_us: u64) -> bool {
        host::of(self.hosts, id).is_some_and(|host| host.started_at + for_us <= self.now)
    }

    /// The host's lease has been valid.
    pub(crate) fn leased(&self, id: HostId, for_us: u64) -> bool {
        let since = host::of(self.hosts, id).and_then(|host| host.leased_since);
        since.is_some_and(|since| since + for_us <= self.now)
    }

    /// The voter has known what it must to acknowledge the host.
    pub(crate) fn knows(&self, voter: HostId, id: HostId, for_us: u64) -> bool {
        let since = self.knowledge.since.get(&(voter, id));
        since.is_some_and(|since| since + for_us <= self.now)
    }

    /// Nothing was blocked between two hosts, either way.
    pub(crate) fn joined(&self, a: HostId, b: HostId, for_us: u64) -> bool {
        a == b || self.links.rough_at(a, b, self.now).saturating_add(for_us) <= self.now
    }

    /// True when a majority of each of this host's voter sets are so.
    pub(crate) fn quorum(&self, id: HostId, so: impl Fn(HostId) -> bool) -> bool {
        host::of(self.hosts, id).is_some_and(|host| host.raft.is_quorum(so))
    }
}
