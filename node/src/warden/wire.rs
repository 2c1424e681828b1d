//! What node and warden say to each other: one message for each packet of their socket.
//!
//! The socket and its packets are `host::line`'s, which the runner shares.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use control::{HostAction, HostEvent, Vow};
use serde::{Deserialize, Serialize};
use statemachine::{Boot, GroupName, HostId};

/// Addresses in one [`Order::Manage`]: at most 90 bytes each.
pub const MANAGED_AT_ONCE: usize = 512;
/// Where a last word goes: every control address of the largest array.
pub const MAX_LISTENERS: usize = 1_024;
/// Longest line of the log, in bytes; what is longer is cut.
pub const MAX_LINE: usize = 2_048;

/// From the node. The first is `Begin`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Lay the gate.
    Begin(Begin),
    /// Work for the driver; a list of addresses comes as `Manage`.
    Act(HostAction),
    /// These are the addresses that this host could carry, a part of them at a time.
    Manage {
        /// Address, length of its prefix in bits, and group.
        addresses: Vec<(IpAddr, u8, GroupName)>,
        /// The list goes on in the next packet.
        more: bool,
    },
    /// These want to hear the last word.
    Listeners(Vec<SocketAddr>),
    /// Where each group's addresses go, from now on.
    Interfaces(BTreeMap<String, String>),
}

/// Whom the warden serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// Names the tables of the gate.
    pub tag: String,
    /// Where each group's addresses go.
    pub interfaces: BTreeMap<String, String>,
    /// This host.
    pub host: HostId,
    /// This start of its daemon.
    pub boot: Boot,
}

/// From the warden. The first but for lines of the log is `Ready` or `NoGate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The gate stands, shut for every address.
    Ready {
        /// By what the last word will be known.
        vow: Vow,
        /// The gate, in words.
        gate: String,
    },
    /// There is no gate, and so no service; the warden ends.
    NoGate {
        /// Why.
        reason: String,
        /// Another process has it: a warden of an earlier start that the kernel still holds up, most likely.
        /// A later start may find it free.
        taken: bool,
    },
    /// A renewal was made.
    Renewed,
    /// What became of an order, or happened without one.
    Host(HostEvent),
    /// For the log.
    Line {
        /// 0 error, 1 warning, 2 information, 3 below.
        level: u8,
        /// What.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use host::line::{decode, encode};
    use proptest::prelude::*;

    /// Goal: the longest messages that either side makes fit a packet.
    #[test]
    fn the_longest_orders_fit_a_packet() {
        let address = (IpAddr::from([0xffu8; 16]), 128, GroupName("g".repeat(63)));
        let order = Order::Manage {
            addresses: vec![address; MANAGED_AT_ONCE],
            more: true,
        };
        assert_eq!(decode(&encode(&order).unwrap()), Some(order));
        let listener = SocketAddr::from(([0xffu8; 16], u16::MAX));
        let order = Order::Listeners(vec![listener; MAX_LISTENERS]);
        assert_eq!(decode(&encode(&order).unwrap()), Some(order));
    }

    proptest! {
        /// Goal: whatever comes on the socket never panics.
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode::<Order>(&bytes);
            let _ = decode::<Told>(&bytes);
        }
    }
}
