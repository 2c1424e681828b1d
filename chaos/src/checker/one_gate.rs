//! Invariant 1: at any true instant at most one host's gate is open for an address.
//!
//! Looked at when an address begins to pass: an open gate is only ever made longer, so two can overlap
//! only from such an instant on. A gate that ran out counts as shut.

use std::net::IpAddr;

use statemachine::HostId;

/// What is wrong when the gates of `open` are open for one address, if anything.
#[must_use]
pub fn shared(ip: IpAddr, open: &[HostId]) -> Option<String> {
    let [one, other, ..] = open else {
        return None;
    };
    Some(format!("{ip} is served by h{one} and h{other}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// Goal: one is well, two are not. Method: none, one, two gates.
    #[test]
    fn two_open_gates_are_told() {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(shared(ip, &[]), None);
        assert_eq!(shared(ip, &[HostId(2)]), None);
        assert!(shared(ip, &[HostId(2), HostId(3)]).is_some());
    }
}
