//! Invariant 1: at any true instant at most one host's gate is open for an address.
//!
//! Looked at when an address comes onto an interface: an open gate is only ever made longer, so two
//! can overlap only from such an instant on. A gate that ran out counts as shut.

use std::net::IpAddr;

use statemachine::HostId;

use crate::host::SimHost;

/// Who else serves the address that `id` has just begun to serve, if anybody.
pub(crate) fn others(hosts: &[SimHost], id: HostId, ip: IpAddr, now_us: u64) -> Option<String> {
    let other = hosts
        .iter()
        .filter(|host| host.id != id)
        .find(|host| host.kernel.is_open(ip, host.now(now_us)))?;
    Some(format!("{ip} is served by h{id} and h{}", other.id))
}
