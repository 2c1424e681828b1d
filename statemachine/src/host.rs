//! Hosts of the array: who they are, and whether the log holds them up, fenced or down.

use alloc::{collections::BTreeSet, vec::Vec};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

use crate::{Boot, HostId, HostName, Incarnation, MemberSpec};

/// A host, as the array agreed on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its id.
    pub id: HostId,
    /// Its name, unique in the array.
    pub name: HostName,
    /// Its control addresses; the first is its id address.
    pub control: Vec<SocketAddr>,
    /// Where it serves DNS; empty when it does not.
    pub dns: Vec<SocketAddr>,
    /// True: it votes and serves DNS but is never given an address.
    pub observer: bool,
    /// The groups that its own configuration names.
    pub members: Vec<MemberSpec>,
    /// Grows each time it is declared up.
    pub incarnation: Incarnation,
    /// The start of its daemon that the current incarnation belongs to.
    pub boot: Boot,
    /// Up, fencing or down.
    pub state: HostState,
    /// Index of the last entry that took an address or its standing from it. A voter acknowledges
    /// its heartbeats only when it has applied that entry (lease.md, step 2).
    pub taken_at: u64,
    /// Its control networks on which the leader does not hear it, as positions in `control`.
    pub unheard: BTreeSet<u8>,
}

/// Whether a host may hold addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostState {
    /// It may.
    Up,
    /// Voters no longer acknowledge it; its leases run out.
    Fencing {
        /// Index of the entry that fenced it; names the fence.
        index: u64,
    },
    /// It holds nothing.
    Down {
        /// Index of the entry that declared it down (or let it join).
        index: u64,
    },
}

impl Host {
    /// A host of this name, of which nothing else is known.
    #[must_use]
    pub fn new(id: HostId, name: impl Into<HostName>, state: HostState) -> Self {
        Self {
            id,
            name: name.into(),
            control: Vec::new(),
            dns: Vec::new(),
            observer: false,
            members: Vec::new(),
            incarnation: Incarnation(0),
            boot: Boot(0),
            state,
            taken_at: 0,
            unheard: BTreeSet::new(),
        }
    }

    /// True when the host may hold and get addresses.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == HostState::Up
    }

    /// True when the log holds the host down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, HostState::Down { .. })
    }

    /// Index of the entry that fenced it; none when it is not fenced.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        match self.state {
            HostState::Fencing { index } => Some(index),
            HostState::Up | HostState::Down { .. } => None,
        }
    }
}
