//! Invariant 2: at most one host answers ARP or ND for an address, and none announces it whose own
//! gate is shut.
//!
//! A host answers for what is on its interface and passes its gate; it announces when an address has
//! just come there.

use std::net::IpAddr;

use control::Instant;
use statemachine::HostId;

/// What is wrong with an announcement at `now` by a host whose gate is open until `until`, if anything.
#[must_use]
pub fn announced(id: HostId, ip: IpAddr, until: Option<Instant>, now: Instant) -> Option<String> {
    let open = until.is_some_and(|until| until > now);
    (!open).then(|| format!("h{id} announces {ip} behind a shut gate"))
}
