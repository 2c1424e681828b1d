//! Invariant 10: a host is declared up only while it holds nothing.

use std::net::IpAddr;

use statemachine::HostId;

/// What is wrong with declaring a host up whose gate lets `open` pass, if anything.
#[must_use]
pub fn holds(id: HostId, open: Option<IpAddr>) -> Option<String> {
    open.map(|ip| format!("h{id} is declared up and serves {ip}"))
}
