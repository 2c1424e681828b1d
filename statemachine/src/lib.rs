//! What the array agreed on: its state, the commands that change it, `apply` and `audit`.
//!
//! Pure and `no_std`: no clock, socket, disk or randomness. An entry of the log is replayed on every
//! host and after every restart, so `apply` is total: it refuses, it never panics.
//!
//! One file for each family (host, group, address, zone, policy); one door each way (`apply`, `codec`).
//! Absences: nothing here reads the time (an entry carries it), nothing here decides what should
//! happen (that is `control`), nothing here knows Raft.
#![no_std]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

extern crate alloc;

mod address;
mod apply;
mod audit;
pub mod codec;
mod command;
mod effect;
mod group;
mod host;
mod ids;
mod mutation;
mod policy;
mod rejected;
mod settle;
mod state;
mod timing;
mod zone;

pub use address::{Address, AddressState, Backoff};
pub use apply::{Applied, apply, note_blank, note_membership};
pub use audit::{Violation, audit};
pub use command::{
    AddressCommand, ArrayCommand, Command, Entry, GroupCommand, HostCommand, MemberSpec, Origin,
    PreferredAddress, Reason, TokenCommand,
};
pub use effect::{Effect, Happening};
pub use group::{Group, Member};
pub use host::{Host, HostState};
pub use ids::{ArrayId, Boot, Epoch, GroupName, HostId, HostName, Incarnation, LogTime, TokenId};
#[cfg(feature = "mutations")]
pub use mutation::mutate;
pub use mutation::{Mutation, mutated};
pub use policy::{
    AllDown, LoadKind, LoadSpec, Network, Placement, Policy, QuorumLoss, Rebalance, Scripts,
    SnmpSecurity, SnmpTarget, Stale, TestKind, TestSpec, Transfer, Traps, Webhook,
};
pub use rejected::Rejected;
pub use state::{Membership, Session, State, Token};
pub use timing::{
    GRAIN_MS, MAX_MS, MIN_LEASE_MS, SPARE_MS, Timing, TimingFault, UnsafeTiming, usable_ms,
};
pub use zone::{Absence, Zone, absence, is_at_fault, truly_served};

/// Most hosts that one array may hold; bounds every table that has a row for each host.
pub const MAX_HOSTS: usize = 128;
/// Most service groups of one array.
pub const MAX_GROUPS: usize = 256;
/// Most preferred addresses that one host may bring, over all its groups.
pub const MAX_PREFERRED: usize = 64;
/// Most commands in one entry. A failover of a host that held every address needs one for each.
pub const MAX_COMMANDS: usize = 1024;
/// Most join tokens that are open at once.
pub const MAX_TOKENS: usize = 64;
/// Clients whose last answer is remembered for deduplication; the longest unused goes first.
pub const MAX_SESSIONS: usize = 256;
