//! Invariant 5: a host is declared down only after every promised lease of it has ended: its gate is
//! shut for each address, and it counts on no lease unless it knows that it is fenced.

use std::net::IpAddr;

use statemachine::HostId;

/// What is true of a host at the instant at which it is first declared down.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fallen {
    /// An address that its gate lets pass.
    pub open: Option<IpAddr>,
    /// It runs, counts on a lease, and has not applied its fence.
    pub unaware: bool,
}

/// What is wrong with declaring it down, if anything.
#[must_use]
pub fn too_early(id: HostId, fallen: Fallen) -> Option<String> {
    if let Some(ip) = fallen.open {
        return Some(format!("h{id} is declared down and serves {ip}"));
    }
    let unaware = format!("h{id} is declared down, has a lease, and does not know of its fence");
    fallen.unaware.then_some(unaware)
}
