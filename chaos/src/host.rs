//! One simulated host: the shipped core, its Raft, its disk, its kernel, and what may be wrong with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use control::{Core, EntryId, HostAction, Instant, LocalGroup, Message};
use statemachine::{Boot, GroupName, HostId, State};

use crate::Clock;
use crate::kernel::Kernel;
use crate::record::{Packet, Peer};
use crate::reference::Start;

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
    /// The last word of a start of a host's daemon arrives.
    Word { host: HostId, boot: u64 },
    /// A Raft packet arrives.
    Packet { from: HostId, packet: Box<Packet> },
    /// The disk has everything up to this index, if its term still is the same.
    Flushed { index: u64, term: u64 },
    /// The state machine may go on.
    Apply,
    /// Raft says how it stands.
    Status,
    /// The driver did what it was told.
    Done(Box<HostAction>),
    /// Tests and loads say this.
    Measured(GroupName, LocalGroup),
    /// Raft sends to its followers.
    Beat,
}

impl Due {
    /// Comes from outside the host: it outlives the daemon that it was meant for, and may be lost.
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(
            self,
            Self::Datagram { .. } | Self::Packet { .. } | Self::Word { .. }
        )
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
    /// Entries that its core was told of and that are not on disk yet.
    pub(crate) undurable: BTreeSet<u64>,
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
    /// Its Raft sends heartbeats.
    pub(crate) beats: bool,
    /// Raft's word to its core is on its way.
    pub(crate) telling: bool,
    /// What its core was told of Raft last: term, leader, whether it leads, configuration.
    pub(crate) standing: Option<(u64, Option<HostId>, bool, Option<EntryId>)>,
    /// How long the driver takes for one action, in microseconds.
    pub(crate) driver_us: (u64, u64),
    /// How long a flush takes, in microseconds.
    pub(crate) flush_us: (u64, u64),
    /// The next renewal of the gate is stopped halfway for so long, in microseconds.
    pub(crate) trap: Option<u64>,
    /// When it will be woken next.
    pub(crate) wake_at: u64,
    /// The deadline that its core said last.
    pub(crate) deadline: Option<Instant>,
    /// Since when its lease has been valid.
    pub(crate) leased_since: Option<u64>,
    /// When its daemon started.
    pub(crate) started_at: u64,
    /// When its daemon was started, stopped, continued or slowed last.
    pub(crate) disturbed_at: u64,
    /// When an entry about its standing came into somebody's log, or out of it.
    pub(crate) touched_at: u64,
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
            undurable: BTreeSet::new(),
            state: Arc::default(),
            saved: Arc::default(),
            kernel: Kernel::default(),
            busy: BTreeMap::new(),
            groups: BTreeMap::new(),
            acquire_fails: false,
            apply_us: APPLY_US,
            beats: false,
            telling: false,
            standing: None,
            driver_us: DRIVER_US,
            flush_us: FLUSH_US,
            trap: None,
            wake_at: u64::MAX,
            deadline: None,
            leased_since: None,
            started_at: 0,
            disturbed_at: 0,
            touched_at: 0,
        }
    }

    pub(crate) fn runs(&self) -> bool {
        self.core.is_some() && !self.paused
    }

    /// Neither its disk nor its driver is slow.
    pub(crate) fn is_quick(&self) -> bool {
        self.apply_us.1 <= APPLY_US.1
            && self.flush_us.1 <= FLUSH_US.1
            && self.driver_us.1 <= DRIVER_US.1
    }

    /// The start that runs; none while its daemon is dead.
    pub(crate) fn start(&self) -> Option<Start<'_>> {
        let (boot, raft) = (Boot(self.boot), self.core.as_ref()?.raft());
        let me = self.state.hosts.get(&self.id);
        let ahead = self.raft.tail(self.state.index, usize::MAX);
        let fenced = ahead.iter().any(|r| r.taken_from().contains(&self.id));
        Some(Start {
            host: self.id,
            boot,
            raft,
            is_up: me.is_some_and(|me| me.is_up() && me.boot == boot) && !fenced,
        })
    }

    pub(crate) fn now(&self, true_us: u64) -> Instant {
        self.clock.shows(true_us)
    }
}

/// How long an apply takes on a healthy host, in microseconds.
pub(crate) const APPLY_US: (u64, u64) = (100, 1_500);
/// How long the driver of a healthy host takes for one action, in microseconds.
pub(crate) const DRIVER_US: (u64, u64) = (1_000, 5_000);
/// How long a flush takes on a healthy host, in microseconds.
pub(crate) const FLUSH_US: (u64, u64) = (200, 1_000);

/// The host of that id.
pub(crate) fn of(hosts: &[SimHost], id: HostId) -> Option<&SimHost> {
    let at = usize::try_from(id.0.checked_sub(1)?).ok()?;
    hosts.get(at)
}
