//! What a request is for, and who may send it.
//!
//! The kind decides the size limit, who may ask, and which connection carries it. Numbers on the
//! wire are for ever; a new kind takes a new number.

use statemachine::HostId;

/// Which of Raft's calls a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RaftClass {
    /// Entries for the log.
    Append,
    /// The leader's sign of life.
    Heartbeat,
    /// A vote.
    Vote,
    /// A vote asked for as a trial.
    PreVote,
    /// Handing over the leadership.
    Transfer,
    /// A piece of a snapshot.
    Snapshot,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A call of Raft. Hosts only.
    Raft {
        /// Which one.
        class: RaftClass,
    },
    /// A short question between hosts that safety waits for (FenceStatus, polls). Hosts only.
    Query,
    /// A request of the CLI or API, or one forwarded to the leader. Hosts only.
    Client,
    /// A request whose answer is a stream of frames. Hosts only.
    Stream,
    /// A joiner's request for a certificate, also when a host forwards it. Anyone.
    Join,
    /// Makes a session for sealed datagrams. Hosts only; answered by the transport.
    Session,
    /// Are you there? Anyone; answered by the transport.
    Ping,
}

/// Who sent a request, as its certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A host of this array, or its operator who can read its key.
    Host(HostId),
    /// Somebody without a certificate. May only join.
    Joiner,
}

impl Caller {
    /// May this caller send such a request?
    pub fn may(self, kind: Kind) -> bool {
        match self {
            Self::Host(_) => true,
            Self::Joiner => matches!(kind, Kind::Join | Kind::Ping),
        }
    }
}

impl core::fmt::Display for Caller {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Host(host) => write!(out, "host {host}"),
            Self::Joiner => out.write_str("a joiner"),
        }
    }
}

/// The connections to one host, by what must not wait for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneName {
    /// Votes, heartbeats, questions: short, always open, carries the session.
    Urgent,
    /// Entries of the log.
    Log,
    /// Requests forwarded to the leader.
    Client,
    /// Snapshots.
    Bulk,
}

impl LaneName {
    pub(super) const ALL: [Self; 4] = [Self::Urgent, Self::Log, Self::Client, Self::Bulk];
}

impl Kind {
    /// Every kind with its number on the wire.
    pub(super) const WIRE: [(Self, u8); 12] = [
        (Self::Ping, 0x01),
        (Self::Join, 0x02),
        (Self::Session, 0x03),
        (Self::Client, 0x04),
        (Self::Stream, 0x05),
        (Self::Query, 0x06),
        (
            Self::Raft {
                class: RaftClass::Append,
            },
            0x10,
        ),
        (
            Self::Raft {
                class: RaftClass::Heartbeat,
            },
            0x11,
        ),
        (
            Self::Raft {
                class: RaftClass::Vote,
            },
            0x12,
        ),
        (
            Self::Raft {
                class: RaftClass::PreVote,
            },
            0x13,
        ),
        (
            Self::Raft {
                class: RaftClass::Transfer,
            },
            0x14,
        ),
        (
            Self::Raft {
                class: RaftClass::Snapshot,
            },
            0x15,
        ),
    ];

    pub(super) fn lane(self) -> LaneName {
        match self {
            Self::Raft {
                class: RaftClass::Snapshot,
            } => LaneName::Bulk,
            Self::Raft {
                class: RaftClass::Append,
            } => LaneName::Log,
            Self::Client | Self::Stream | Self::Join => LaneName::Client,
            Self::Raft { .. } | Self::Query | Self::Session | Self::Ping => LaneName::Urgent,
        }
    }
}
