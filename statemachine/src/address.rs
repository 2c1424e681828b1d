//! Service addresses: who holds each, under which epoch, and since when it is an orphan.

use alloc::{collections::BTreeMap, string::String};
use serde::{Deserialize, Serialize};

use crate::{Epoch, GroupName, HostId, LogTime, Reason};

/// Where an address stands in its life (failover.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressState {
    /// Nobody holds it.
    Unserved,
    /// The host was told to take it.
    Acquiring {
        /// Who.
        host: HostId,
    },
    /// The host serves it.
    Online {
        /// Who.
        host: HostId,
    },
    /// The host was told to let go.
    Releasing {
        /// Who.
        host: HostId,
    },
}

/// A host that failed to take the address, and until when it is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backoff {
    /// Not before this instant again.
    pub until: LogTime,
    /// Failures in a row; the wait doubles with each.
    pub failures: u32,
}

/// A service address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The group that it belongs to.
    pub group: GroupName,
    /// Length of its network prefix, in bits.
    pub prefix_len: u8,
    /// The host that brought it, unless that host was forgotten.
    pub preferred: Option<HostId>,
    /// Where it stands.
    pub state: AddressState,
    /// Epoch of its last assignment; 0 before the first.
    pub epoch: Epoch,
    /// Why it stands there: the rule that moved it last.
    pub reason: Reason,
    /// When it came to stand there.
    pub since: LogTime,
    /// Index of the entry that made it stand there. Its holder's report counts from then on.
    pub index: u64,
    /// When it stopped being served by its preferred host; none while it is.
    pub orphaned_at: Option<LogTime>,
    /// It ran out as an orphan and leaves the group when its holder has let go.
    pub expired: bool,
    /// The host that an operator moved it to; it stays there while that host can serve.
    pub pin: Option<HostId>,
    /// Nobody could serve it when it was last looked at; told once.
    pub stranded: bool,
    /// The MAC of a machine that claims it while its holder has it; none when nobody does.
    pub contested: Option<String>,
    /// Hosts that failed to take it.
    pub backoff: BTreeMap<HostId, Backoff>,
}

impl AddressState {
    /// The host that holds, takes or lets go of the address.
    #[must_use]
    pub fn host(&self) -> Option<HostId> {
        match *self {
            Self::Unserved => None,
            Self::Acquiring { host } | Self::Online { host } | Self::Releasing { host } => {
                Some(host)
            }
        }
    }

    /// The word of interface.md.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unserved => "unserved",
            Self::Acquiring { .. } => "acquiring",
            Self::Online { .. } => "online",
            Self::Releasing { .. } => "releasing",
        }
    }
}

impl Address {
    /// An address as it enters the group: unserved, its orphan timer running.
    #[must_use]
    pub fn new(group: GroupName, prefix_len: u8, preferred: HostId, at: LogTime) -> Self {
        Self {
            group,
            prefix_len,
            preferred: Some(preferred),
            state: AddressState::Unserved,
            epoch: Epoch(0),
            reason: Reason::Brought,
            since: at,
            index: 0,
            orphaned_at: Some(at),
            expired: false,
            pin: None,
            stranded: false,
            contested: None,
            backoff: BTreeMap::new(),
        }
    }

    /// True when its preferred host serves it.
    #[must_use]
    pub fn at_home(&self) -> bool {
        matches!((self.state, self.preferred), (AddressState::Online { host }, Some(home)) if host == home)
    }

    /// When it runs out as an orphan; none while it is at home or may stay for ever.
    #[must_use]
    pub fn orphan_deadline(&self, ttl_ms: Option<u64>) -> Option<LogTime> {
        Some(self.orphaned_at?.plus(ttl_ms?))
    }
}
