//! Why there is no gate, or why it did not do what it was asked.

use std::io;
use std::net::IpAddr;

use thiserror::Error;

/// Why this host has no gate.
#[derive(Debug, Error)]
pub enum NoGate {
    /// The kernel was built without nf_tables, or its module can't be loaded.
    #[error("the kernel has no nf_tables: load the module `nf_tables`, or use another kernel")]
    NoNftables,
    /// This process may not change packet filters.
    #[error("no permission for packet filters: give the daemon CAP_NET_ADMIN and CAP_NET_RAW")]
    NoPermission,
    /// Another process holds a gate in this network namespace.
    #[error(
        "another daemon holds the table `{table}` here: one host of an array for each network \
         namespace; stop the other one"
    )]
    InUse {
        /// Its table.
        table: String,
    },
    /// The tag can't be part of a table's name.
    #[error("`{tag}` is no tag for a table: 1 to 24 of a-z, 0-9 and `-`")]
    BadTag {
        /// What was given.
        tag: String,
    },
    /// The kernel refused something else.
    #[error("could not {action} of the gate: {source}")]
    System {
        /// The step that failed.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Why the gate did not do what it was asked.
#[derive(Debug, Error)]
pub enum GateError {
    /// Less than the shortest time-out is left of the lease.
    #[error("the lease of {ip} is over: the gate stays closed")]
    TooLate {
        /// The address.
        ip: IpAddr,
    },
    /// Since it was ordered, or opened, the gate was shut: by a release, the end of a lease that was renewed too
    /// late, another hand, sleep or the node's end.
    #[error("the gate of {ip} was shut meanwhile")]
    Shut {
        /// The address.
        ip: IpAddr,
    },
    /// The address is not one that the gate guards, so that opening it would mean nothing.
    #[error("{ip} is not a managed address of this host")]
    NotManaged {
        /// The address.
        ip: IpAddr,
    },
    /// The kernel refused.
    #[error("could not {action}: {source}")]
    System {
        /// The step that failed.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl GateError {
    pub(super) fn system(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }
}
