//! What an applied entry made happen: facts for events, traps and logs, and a wake-up for whoever
//! derives work from the state. A lost effect costs latency only (docs/adr/0004).

use alloc::collections::BTreeSet;
use alloc::string::String;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

use crate::{Epoch, GroupName, HostId, Reason};

/// One thing that happened, with whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// What.
    pub what: Happening,
    /// The group, if one is concerned.
    pub group: Option<GroupName>,
    /// The address, if one is concerned.
    pub address: Option<IpAddr>,
    /// The host, if one is concerned.
    pub host: Option<HostId>,
    /// The rule behind it, if there is one.
    pub reason: Option<Reason>,
}

/// What happened. The first eleven are the traps of failover.md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Happening {
    /// A host serves an address.
    Acquire {
        /// Under which epoch.
        epoch: Epoch,
        /// How long it took on the host, without the announcement, in ms.
        acquire_ms: u64,
        /// How long the first announcement took, in ms.
        announce_ms: u64,
    },
    /// A host could not take an address.
    AcquireFail {
        /// What it said.
        error: String,
    },
    /// Another machine claims an address that a host serves.
    Contested {
        /// Its MAC.
        by: String,
    },
    /// A host let go of an address.
    Release,
    /// A host let go, but its script failed.
    ReleaseFail {
        /// What it said.
        error: String,
    },
    /// A member's tests fail.
    TestFailed {
        /// Which test, and why; empty when it did not say.
        error: String,
    },
    /// Nobody can serve an address.
    CannotAssign,
    /// A host is down; its leases have run out.
    HostDown {
        /// How long the fence took, in ms.
        fence_ms: u64,
    },
    /// A host is up.
    HostUp,
    /// Another host leads.
    LeaderChanged {
        /// Its term.
        term: u64,
    },
    /// An orphan ran out.
    OrphanExpired,
    /// The zone says something else.
    ZoneChanged {
        /// The new serial.
        serial: u32,
        /// The addresses that it names.
        published: BTreeSet<IpAddr>,
        /// Time to live of its records, in seconds.
        ttl_s: u32,
    },
    /// A member's tests pass again.
    TestPassed,
    /// A host was told to take an address.
    Assigned {
        /// Under which epoch.
        epoch: Epoch,
    },
    /// A host was told to let go of an address.
    ReleaseAsked,
    /// A host is silent; voters no longer acknowledge it.
    HostFencing {
        /// For how long it was silent, in ms.
        silent_ms: u64,
    },
    /// A fence was lifted.
    HostUnfenced,
    /// The leader no longer hears a host on one of its control networks, but on another.
    NetworkLost {
        /// The host's address there.
        control: SocketAddr,
    },
    /// It hears it there again.
    NetworkFound {
        /// The host's address there.
        control: SocketAddr,
    },
    /// A host joined.
    HostJoined,
    /// A host was removed for good.
    HostForgotten,
    /// A host's configuration was taken over.
    HostConfigured,
    /// A group's policy was applied.
    GroupApplied,
    /// A group was deleted.
    GroupDeleted,
    /// A member is quiesced.
    Quiesced {
        /// And gives away what it holds.
        drain: bool,
    },
    /// A member is no longer quiesced.
    Resumed,
    /// An operator moved an address.
    Moved,
    /// The timing changed.
    Retimed,
    /// A join token was opened.
    TokenCreated,
    /// No host counts with a former timing any more.
    TimingSettled,
}

impl Happening {
    /// The kind of an event: the trap names of failover.md and their kin, in camelCase.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Acquire { .. } => "acquire",
            Self::AcquireFail { .. } => "acquireFail",
            Self::Release => "release",
            Self::ReleaseFail { .. } => "releaseFail",
            Self::TestFailed { .. } => "testFailed",
            Self::CannotAssign => "cannotAssign",
            Self::HostDown { .. } => "hostDown",
            Self::HostUp => "hostUp",
            Self::LeaderChanged { .. } => "leaderChanged",
            Self::OrphanExpired => "orphanExpired",
            Self::ZoneChanged { .. } => "zoneChanged",
            Self::TestPassed => "testPassed",
            Self::Contested { .. } => "contested",
            Self::Assigned { .. } => "assigned",
            Self::ReleaseAsked => "releaseAsked",
            Self::HostFencing { .. } => "hostFencing",
            Self::HostUnfenced => "hostUnfenced",
            Self::NetworkLost { .. } => "networkLost",
            Self::NetworkFound { .. } => "networkFound",
            Self::HostJoined => "hostJoined",
            Self::HostForgotten => "hostForgotten",
            Self::HostConfigured => "hostConfigured",
            Self::GroupApplied => "groupApplied",
            Self::GroupDeleted => "groupDeleted",
            Self::Quiesced { .. } => "quiesced",
            Self::Resumed => "resumed",
            Self::Moved => "moved",
            Self::Retimed => "retimed",
            Self::TokenCreated => "tokenCreated",
            Self::TimingSettled => "timingSettled",
        }
    }
}

impl Effect {
    /// A fact that concerns nobody in particular; the setters below name whom.
    #[must_use]
    pub fn new(what: Happening) -> Self {
        Self {
            what,
            group: None,
            address: None,
            host: None,
            reason: None,
        }
    }

    /// Names the group.
    #[must_use]
    pub fn group(mut self, group: &GroupName) -> Self {
        self.group = Some(group.clone());
        self
    }

    /// Names the address.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// Names the host.
    #[must_use]
    pub fn host(mut self, host: HostId) -> Self {
        self.host = Some(host);
        self
    }

    /// Names the rule.
    #[must_use]
    pub fn reason(mut self, reason: Reason) -> Self {
        self.reason = Some(reason);
        self
    }
}
