//! The messages between daemons that leave Raft alone: heartbeats, acknowledgements, fence questions.
//!
//! All are small datagrams, any of them may be lost, doubled or late: each is repeated while it matters
//! and harmless when it comes twice (docs/adr/0007). The seed's info message is `Heartbeat`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use statemachine::{Boot, Epoch, GroupName, HostId, Incarnation};

use crate::{ClientList, EntryId, Orders};

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "I live, and this is how I am."
    Heartbeat(Heartbeat),
    /// A voter heard a heartbeat and promises not to take anything before L has passed.
    Ack {
        /// The incarnation that the heartbeat named.
        incarnation: Incarnation,
        /// The start that the heartbeat named.
        boot: Boot,
        /// The heartbeat's number.
        seq: u64,
        /// The newest voter configuration in the voter's log.
        membership: EntryId,
    },
    /// The leader asks a voter when its promises to `host` end (lease.md, step 6).
    AskFence {
        /// Who is fenced.
        host: HostId,
        /// The fence's entry, as the leader wrote or found it.
        entry: EntryId,
        /// The longest L that any host may count with, in ms: a voter that has just started may have
        /// promised it and not know it any more.
        lease_ms: u32,
    },
    /// The voter has that entry on disk, and its promises end after `remaining_us`.
    FenceStatus {
        /// Who is fenced.
        host: HostId,
        /// The fence's entry, as it was asked for: an answer about one that was cut off is none.
        entry: EntryId,
        /// How long its longest promise still runs, in microseconds of its clock.
        remaining_us: u64,
    },
    /// The leader asks a voter whether it hears `host` (step 4).
    AskHeard {
        /// Who is suspected.
        host: HostId,
        /// The newest start and heartbeat that the leader has of it. Both heard that one at about the
        /// same time, so whoever has nothing newer knows no better than the leader.
        since: (Boot, u64),
    },
    /// The clients of an address, as its holder tells those who may take it next.
    Clients(ClientList),
    /// What the voter heard.
    Heard {
        /// Who is suspected.
        host: HostId,
        /// True when it was heard within D, after what the leader knows, and said that its lease is fine.
        well: bool,
    },
    /// Without a quorum: what the acting leader wants of a host.
    LastResort(Orders),
}

/// Digest of the secret that a host's warden tells when that start of the daemon has ended and holds
/// nothing any more: its last word (lease.md, the gate). Whoever knows the secret is the warden, and
/// what it says of that start stays true for ever, so a late or doubled word does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vow(pub [u8; 16]);

/// A host's heartbeat (lease.md, step 1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The incarnation that the host believes to be its own.
    pub incarnation: Incarnation,
    /// The start of its daemon.
    pub boot: Boot,
    /// Grows with each heartbeat of this start.
    pub seq: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// The newest voter configuration that it knows of.
    pub membership: EntryId,
    /// The lease that it asks for, in ms: the L that it counts with, or 0 for none.
    pub lease_ms: u32,
    /// Whether its lease is valid.
    pub lease_ok: bool,
    /// By what its last word will be known; none when nobody is there to say it.
    pub vow: Option<Vow>,
    /// How it is.
    pub report: Report,
}

impl Heartbeat {
    /// True when another says nothing that this one does not: they differ by their numbers alone.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        // Named in full, so that no new field can be forgotten here.
        let Self {
            incarnation,
            boot,
            seq: _,
            applied,
            membership,
            lease_ms,
            lease_ok,
            vow,
            report,
        } = other;
        (self.incarnation, self.boot, self.vow) == (*incarnation, *boot, *vow)
            && (self.applied, self.membership) == (*applied, *membership)
            && (self.lease_ms, self.lease_ok) == (*lease_ms, *lease_ok)
            && self.report == *report
    }
}

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every address that it holds or is busy with.
    pub held: Vec<HeldReport>,
    /// Health and load, for each of its groups.
    pub groups: Vec<GroupReport>,
}

/// One address, as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldReport {
    /// The address.
    pub address: IpAddr,
    /// The assignment.
    pub epoch: Epoch,
    /// How far it is.
    pub phase: HeldPhase,
    /// The MAC of a machine that claims it too.
    pub contested: Option<String>,
}

/// How far a host is with an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeldPhase {
    /// Being taken.
    Acquiring,
    /// Served.
    Online {
        /// How long the acquire took, without the announcement, in ms.
        acquire_ms: u64,
        /// How long the first announcement took, in ms.
        announce_ms: u64,
    },
    /// Could not be taken; not held.
    Failed {
        /// Why.
        error: String,
    },
    /// Being let go.
    Releasing,
}

impl HeldPhase {
    /// True when the host has, or may have, the address on an interface.
    #[must_use]
    pub fn is_held(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

/// One group, as a member sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    pub group: GroupName,
    /// Its tests pass here.
    pub healthy: bool,
    /// Load, in the unit of `capacity`.
    pub load: u32,
    /// Capacity; 0 when nothing measures it.
    pub capacity: u32,
    /// Which test fails, and why; at most [`MAX_WHY`] bytes. None while all is well.
    pub why: Option<String>,
}

/// Longest [`GroupReport::why`], in bytes: a heartbeat holds some of them beside its addresses.
pub const MAX_WHY: usize = 120;

impl Report {
    /// What it says of one address.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&HeldReport> {
        self.held.iter().find(|held| held.address == address)
    }

    /// True when the host has nothing on an interface.
    #[must_use]
    pub fn is_empty_handed(&self) -> bool {
        self.held.iter().all(|held| !held.phase.is_held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what plans depend on is told apart from what only counts on.
    /// Method: another number; then each of the others changed.
    #[test]
    fn heartbeats_that_differ_by_their_number_alone_say_the_same() {
        let one = Heartbeat::default();
        let next = Heartbeat {
            seq: 1,
            ..one.clone()
        };
        assert!(one.says_the_same(&next));
        let changes: [fn(&mut Heartbeat); 8] = [
            |h| h.incarnation = Incarnation(1),
            |h| h.boot = Boot(1),
            |h| h.applied = 1,
            |h| h.membership.index = 1,
            |h| h.lease_ms = 1,
            |h| h.lease_ok = true,
            |h| h.vow = Some(Vow([0; 16])),
            |h| {
                h.report.groups.push(GroupReport {
                    group: "web".into(),
                    healthy: true,
                    load: 0,
                    capacity: 0,
                    why: None,
                })
            },
        ];
        for change in changes {
            let mut other = one.clone();
            change(&mut other);
            assert!(!one.says_the_same(&other), "{other:?}");
        }
    }
}
