//! Everything that can wake a host's control, and everything that it then does.
//!
//! Closed enums, so that the whole surface reads on one screen and the simulator can hold both ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use statemachine::{Boot, Command, GroupName, HostId, LogTime, State};

use crate::{HostAction, HostEvent, LocalGroup, Message, Vow};

/// An entry, among all that were ever written at its place: two leaders may have written there, even in
/// one term, since openraft lets a later leader of a term succeed. The order is that of Raft's logs. It
/// says which of two is newer only where one of them is committed: of two that are not, the older may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EntryId {
    /// The term it was written in.
    pub term: u64,
    /// The leader who wrote it.
    pub leader: HostId,
    /// Its place in the log.
    pub index: u64,
}

/// What Raft says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    /// Its term.
    pub term: u64,
    /// The leader, where one is known.
    pub leader: Option<HostId>,
    /// Whether this host leads.
    pub am_leader: bool,
    /// The newest voter sets, committed or not.
    pub voters: Vec<BTreeSet<HostId>>,
    /// The entry that set them.
    pub membership: EntryId,
    /// The newest entry known to be committed that set voters.
    pub committed: EntryId,
    /// Hosts that follow without a vote.
    pub learners: BTreeSet<HostId>,
}

impl RaftStatus {
    /// Whether a voter that names this configuration knows of none that this host does not: it is the same,
    /// or this host knows a committed one that is not older. Then the voters that were to be asked were
    /// asked (lease.md, step 3).
    #[must_use]
    pub fn covers(&self, named: EntryId) -> bool {
        named == self.membership || named <= self.committed
    }
}

/// What happened to this host's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMark {
    /// An entry was appended, not yet flushed, that takes something from these hosts.
    Appended {
        /// Which.
        entry: EntryId,
        /// Whom it fences, declares down or forgets; none for any other entry.
        taken_from: Vec<HostId>,
    },
    /// A voter configuration was appended, and counts from now on; Raft's status may say so later.
    Reconfigured {
        /// Its entry.
        entry: EntryId,
    },
    /// Everything after `after` was cut off.
    Truncated {
        /// The last index that stays.
        after: u64,
    },
    /// Everything up to `index` is on disk.
    Durable {
        /// That index.
        index: u64,
    },
}

/// What wakes the control.
#[derive(Clone, Debug)]
pub enum Event {
    /// Time passed.
    Woke,
    /// A datagram came, authentic and fresh.
    Received {
        /// From whom.
        from: HostId,
        /// On which of the control networks, as a position in the control addresses.
        network: u8,
        /// What it says.
        message: Message,
    },
    /// An entry was applied.
    Applied {
        /// The state after it.
        state: Arc<State>,
    },
    /// Raft's standing changed.
    Raft(RaftStatus),
    /// The log changed.
    Log(LogMark),
    /// Somebody who knows the secret of `vow` says that `boot` of `host` has ended and holds nothing.
    LastWord {
        /// Whose.
        host: HostId,
        /// Which start.
        boot: Boot,
        /// Digest of the secret that came with it.
        vow: Vow,
    },
    /// Another host of the array refuses this one, since the array has forgotten it.
    Forgotten,
    /// A proposal was answered; what it did came before as `Applied`.
    Proposed {
        /// Which.
        id: u64,
    },
    /// The driver told something.
    Host(HostEvent),
    /// Tests and loads of a group were looked at.
    Measured {
        /// Which group.
        group: GroupName,
        /// What they say.
        measured: LocalGroup,
        /// Which test fails, and how; none while all is well.
        why: Option<String>,
    },
}

/// What the control does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// To whom.
        to: HostId,
        /// What.
        message: Message,
    },
    /// Propose an entry.
    Propose {
        /// Its number, for the answer.
        id: u64,
        /// Replicated time.
        at: LogTime,
        /// Its commands.
        commands: Vec<Command>,
    },
    /// Work for the driver.
    Perform(HostAction),
    /// Raft's leader has said its last word: elect another at once.
    Elect {
        /// Whom: all that heard the word choose the same, most likely.
        to: HostId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(term: u64, leader: u64, index: u64) -> EntryId {
        let leader = HostId(leader);
        EntryId {
            term,
            leader,
            index,
        }
    }

    /// Goal: an acknowledgement counts where this host knows the voters that it names, or later ones that
    /// are committed, and nowhere else: not those that another leader wrote at the same place, in a later
    /// term or the same; nor older ones, while what this host has may never be committed (Raft's figure 8).
    #[test]
    fn only_voters_that_are_known_or_left_behind_are_covered() {
        let status = RaftStatus {
            membership: entry(5, 2, 53),
            committed: entry(3, 1, 40),
            ..RaftStatus::default()
        };
        let covered = [entry(5, 2, 53), entry(3, 1, 40), entry(2, 1, 39)];
        let not = [
            entry(6, 1, 53),
            entry(5, 3, 53),
            entry(4, 1, 52),
            entry(3, 1, 41),
            entry(5, 2, 54),
        ];
        assert!(covered.iter().all(|named| status.covers(*named)));
        assert!(!not.iter().any(|named| status.covers(*named)));
    }
}
