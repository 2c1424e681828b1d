//! Why the state machine refused a command.
//!
//! Part of the replicated outcome, so it is compared across hosts: values only, no source error.

use alloc::string::String;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

use crate::{Epoch, GroupName, HostId, HostName, Incarnation};

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejected {
    /// The array was founded already, or not yet.
    #[error("the log already holds an array, or none yet")]
    WrongBeginning,
    /// No such host.
    #[error("host {0} is not in the array")]
    UnknownHost(HostId),
    /// No such group.
    #[error("group {0} does not exist")]
    UnknownGroup(GroupName),
    /// No such address.
    #[error("address {0} belongs to no group")]
    UnknownAddress(IpAddr),
    /// The host is not a member of the group.
    #[error("host {host} is not a member of group {group}")]
    NotMember {
        /// Who.
        host: HostId,
        /// Which group.
        group: GroupName,
    },
    /// The name is taken.
    #[error("a host named {0} is in the array already; forget it first or choose another name")]
    NameTaken(HostName),
    /// The address is another host's, or another group's.
    #[error("address {address} is already the preferred address of host {owner} in group {group}")]
    AddressTaken {
        /// Which.
        address: IpAddr,
        /// Whose.
        owner: HostId,
        /// In which group.
        group: GroupName,
    },
    /// The zone is another group's.
    #[error("zone {zone} already belongs to group {group}")]
    ZoneTaken {
        /// Which.
        zone: String,
        /// Whose.
        group: GroupName,
    },
    /// The plan was drawn from an old view.
    #[error("plan is stale: address {address} is at epoch {current}, the plan saw {planned}")]
    StaleEpoch {
        /// Which.
        address: IpAddr,
        /// What the plan saw.
        planned: Epoch,
        /// What is.
        current: Epoch,
    },
    /// The host has moved on to another incarnation.
    #[error("plan is stale: host {host} is at incarnation {current}, the plan saw {planned}")]
    StaleIncarnation {
        /// Who.
        host: HostId,
        /// What the plan saw.
        planned: Incarnation,
        /// What is.
        current: Incarnation,
    },
    /// The generation, serial, fence or configuration that the plan saw is no longer the newest.
    #[error("plan is stale: it saw {planned}, the log is at {current}; look again and retry")]
    Stale {
        /// What the plan saw.
        planned: u64,
        /// What is.
        current: u64,
    },
    /// The command does not fit where the address or host stands.
    #[error("not possible now: {0}")]
    WrongState(String),
    /// A policy field is out of range.
    #[error("policy refused: `{field}` is out of range")]
    BadPolicy {
        /// The field.
        field: String,
    },
    /// The timing is unsafe.
    #[error("{0}")]
    BadTiming(String),
    /// The name cannot be a host's.
    #[error("`{0}` cannot be a host's name: use 1 to 63 of a-z, 0-9 and `-`, and not `ns`")]
    BadName(HostName),
    /// The token is unknown, spent, too old, or its secret is wrong: which, is not told.
    #[error(
        "join token refused: unknown, used up, expired or wrong; make a new one with `rais token create`"
    )]
    BadToken,
    /// A table is full.
    #[error("limit reached: at most {limit} {what}")]
    Full {
        /// Of what.
        what: String,
        /// How many.
        limit: u64,
    },
    /// The client sent a newer request already.
    #[error("request {serial} is older than the client's last, {last}")]
    OldSerial {
        /// This one.
        serial: u64,
        /// The last.
        last: u64,
    },
}
