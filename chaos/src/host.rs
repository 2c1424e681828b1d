//! One simulated host: the shipped core, its Raft, its disk, its kernel, and what may be wrong with it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use control::{Core, HostAction, Instant, LocalGroup, Message};
use statemachine::{GroupName, HostId, State};

use crate::Clock;
use crate::kernel::Kernel;
use crate::record::{Packet, Peer};

/// Most happenings that wait for a stopped host; a socket buffer is no longer either. What is beyond
/// is lost, but for the host's own doings, which are few.
pub(crate) const BACKLOG: usize = 512;

/// What may be due at a host.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// Its core asked to be called.
    Wake,
    /// A datagram arrives.
    Datagram { from: HostId, message: Message },
    /// A Raft packet arrives.
    Packet { from: HostId, packet: Packet },
    /// The disk has everything up to this index, if its term still is the same.
    Flushed { index: u64, term: u64 },
    /// The state machine may go on.
    Apply,
    /// The driver did what it was told.
    Done(HostAction),
    /// Tests and loads say this.
    Measured(GroupName, LocalGroup),
    /// Raft sends to its followers.
    Beat,
}

impl Due {
    /// Comes from outside the host: it outlives the daemon that it was meant for, and may be lost.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self, Self::Datagram { .. } | Self::Packet { .. })
    }
}

/// A host.
pub(crate) struct SimHost {
    pub(crate) id: HostId,
    pub(crate) clock: Clock,
    pub(crate) boot: u64,
    /// None while its daemon is dead.
    pub(crate) core: Option<Core>,
    pub(crate) paused: bool,
    pub(crate) backlog: VecDeque<Due>,
    pub(crate) raft: Peer,
    /// The state as applied in memory.
    pub(crate) state: Arc<State>,
    /// The state as it is on disk.
    pub(crate) saved: Arc<State>,
    pub(crate) kernel: Kernel,
    /// When the driver is done with what it was told so far, by address.
    pub(crate) busy: BTreeMap<IpAddr, u64>,
    pub(crate) groups: BTreeMap<GroupName, LocalGroup>,
    pub(crate) acquire_fails: bool,
    /// How long an apply takes, in microseconds.
    pub(crate) apply_us: (u64, u64),
    /// What its core was told of Raft last: term, leader, whether it leads, configuration.
    pub(crate) standing: Option<(u64, Option<HostId>, bool, Option<u64>)>,
    /// When it will be woken next.
    pub(crate) wake_at: u64,
}

impl SimHost {
    pub(crate) fn new(id: HostId, clock: Clock) -> Self {
        Self {
            id,
            clock,
            boot: 0,
            core: None,
            paused: false,
            backlog: VecDeque::new(),
            raft: Peer::default(),
            state: Arc::default(),
            saved: Arc::default(),
            kernel: Kernel::default(),
            busy: BTreeMap::new(),
            groups: BTreeMap::new(),
            acquire_fails: false,
            apply_us: APPLY_US,
            standing: None,
            wake_at: u64::MAX,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.core.is_some() && !self.paused
    }

    pub(crate) fn now(&self, true_us: u64) -> Instant {
        self.clock.shows(true_us)
    }
}

/// How long an apply takes on a healthy host, in microseconds.
pub(crate) const APPLY_US: (u64, u64) = (100, 1_500);
