//! The map of a lab: who sits where, with which address, and the commands that build it.
//!
//! ```text
//!   h1 .. hN      eth0 -- lan (bridge)      10.77.0.I  fd00:77::I   service and control
//!                 eth1 -- control (bridge)  10.78.0.I  fd00:78::I   control only
//!   client        eth0 -- lan               10.77.0.200  fd00:77::200
//!   observer      eth0 -- lan               10.77.0.224-239  fd00:77::ffff:0-f
//!   wires         lan, control -- port `wire` of either bridge, idle but for bad wires (`wire`)
//! ```
//! Duplicate address detection is off in every namespace, so that addresses work at once; bridges
//! learn and flood, without spanning tree or multicast snooping, as a dumb switch does. The
//! observer has a namespace of its own so that its answers never mend the client's neighbour cache.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Most hosts of a lab: their answers fit in the observer's bit set with room for strangers.
pub const MAX_HOSTS: u8 = 16;
/// Probe source addresses of the observer: an answer names its probe modulo this. At one probe
/// each 5 ms an answer may be 80 ms late before it is counted for the wrong probe.
pub(super) const NONCES: u8 = 16;
/// Last byte of the first probe source address (v4).
pub(super) const FIRST_NONCE: u8 = 224;
/// Port of the array's control traffic, TCP and UDP.
pub(super) const CONTROL_PORT: u16 = 7400;
/// The bridge in a switch's namespace.
pub(super) const BRIDGE: &str = "br0";
/// The port of a switch at whose other end bad wires are.
pub(super) const WIRE: &str = "wire";
/// The namespace of those other ends, which have the names of their networks.
pub(super) const WIRES: &str = "wires";
/// Longest frame: 1,500 bytes and their head.
pub(super) const MAX_FRAME: usize = 1_514;

/// One of the two networks of a lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// `10.77.0.0/24`, `fd00:77::/64`: clients, service addresses, first control network.
    Lan,
    /// `10.78.0.0/24`, `fd00:78::/64`: second control network, hosts only.
    Control,
}

impl Network {
    /// Both, in the order of the hosts' interfaces.
    pub const ALL: [Network; 2] = [Network::Lan, Network::Control];

    /// Its name, which is also that of its switch's namespace.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Network::Lan => "lan",
            Network::Control => "control",
        }
    }

    /// The interface of a host on it.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Network::Lan => "eth0",
            Network::Control => "eth1",
        }
    }

    const fn subnet(self) -> u8 {
        match self {
            Network::Lan => 77,
            Network::Control => 78,
        }
    }

    /// The v4 address on it whose last byte is `last`. Its prefix length is 24.
    #[must_use]
    pub const fn v4(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.subnet(), 0, last)
    }

    /// The v6 address on it that reads as the v4 one: `v6(200)` is `fd00:77::200`. Prefix 64.
    #[must_use]
    pub const fn v6(self, last: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, as_read(self.subnet()), 0, 0, 0, 0, 0, as_read(last))
    }
}

/// The number whose hexadecimal digits read as the decimal digits of `number`.
const fn as_read(number: u8) -> u16 {
    let number = number as u16;
    (number / 100 % 10) << 8 | (number / 10 % 10) << 4 | (number % 10)
}

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The Ethernet address of host `host` on `network`. Locally administered, the same in each lab.
#[must_use]
pub const fn host_mac(network: Network, host: u8) -> Mac {
    [2, 0, network.subnet(), 0, 0, host]
}

/// The client's Ethernet address.
pub(super) const CLIENT_MAC: Mac = [2, 0, 77, 0, 1, 200];
/// The observer's Ethernet address.
pub(super) const OBSERVER_MAC: Mac = [2, 0, 77, 0, 1, 224];
/// Last byte of the client's address.
pub(super) const CLIENT: u8 = 200;

/// The observer's source addresses of probes with number `nonce`.
pub(super) const fn nonce_v4(nonce: u8) -> Ipv4Addr {
    Network::Lan.v4(FIRST_NONCE + nonce % NONCES)
}

/// As [`nonce_v4`]; outside of what [`Network::v6`] gives.
pub(super) const fn nonce_v6(nonce: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x77, 0, 0, 0, 0, 0xffff, (nonce % NONCES) as u16)
}

/// The name of host `host`: also that of its switch ports and the end of its namespace's.
#[must_use]
pub fn host_name(host: u8) -> String {
    format!("h{host}")
}

pub(super) fn show_mac(mac: Mac) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// `ip` lines, to run in the switch's namespace: the bridge, and a port for each host and guest.
pub(super) fn switch_lines(base: &str, network: Network, hosts: u8) -> Vec<String> {
    let mut lines = vec![
        format!("link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"),
        format!("link set {BRIDGE} up"),
    ];
    let hosts = (1..=hosts).map(|host| {
        let (mac, interface) = (host_mac(network, host), network.interface());
        (host_name(host), interface, mac)
    });
    let guests = [
        ("client".to_owned(), "eth0", CLIENT_MAC),
        ("observer".to_owned(), "eth0", OBSERVER_MAC),
    ];
    let guests = guests.into_iter().filter(|_| network == Network::Lan);
    for (port, interface, mac) in hosts.chain(guests) {
        let mac = show_mac(mac);
        // Both ends are made where they belong: the machine's own namespace never sees them.
        lines.push(format!(
            "link add {port} type veth peer name {interface} address {mac} netns {base}-{port}"
        ));
        lines.push(format!("link set {port} master {BRIDGE} up"));
    }
    lines.extend(wire_lines(base, network));
    lines
}

/// The port to bad wires: it learns nothing and is sent nothing, so it is idle until rules send frames
/// down it. Large segments are cut to frames on their way there.
fn wire_lines(base: &str, network: Network) -> [String; 4] {
    let other = network.name();
    [
        format!("link add {WIRE} type veth peer name {other} netns {base}-{WIRES}"),
        format!("link set {WIRE} gso_max_segs 1"),
        format!("link set {WIRE} master {BRIDGE} up"),
        format!(
            "link set {WIRE} type bridge_slave learning off flood off mcast_flood off bcast_flood off"
        ),
    ]
}

/// `ip` lines, to run in the namespace of the wires.
pub(super) fn wires_lines() -> [String; 2] {
    Network::ALL.map(|network| format!("link set {} addrgenmode none up", network.name()))
}

/// `ip` lines, to run in the namespace of host `host`.
pub(super) fn host_lines(host: u8) -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned()];
    for network in Network::ALL {
        lines.push(format!("link set {} up", network.interface()));
        lines.extend(address_lines(network, host));
    }
    lines
}

/// `ip` lines that give a host its own addresses on `network`. May be run again.
pub(super) fn address_lines(network: Network, host: u8) -> [String; 2] {
    let interface = network.interface();
    let (v4, v6) = (network.v4(host), network.v6(host));
    [
        format!("addr replace {v4}/24 dev {interface}"),
        format!("addr replace {v6}/64 dev {interface} nodad"),
    ]
}

/// `ip` lines, to run in the client's namespace.
pub(super) fn client_lines() -> Vec<String> {
    let (v4, v6) = (Network::Lan.v4(CLIENT), Network::Lan.v6(CLIENT));
    vec![
        "link set lo up".to_owned(),
        "link set eth0 up".to_owned(),
        format!("addr add {v4}/24 dev eth0"),
        format!("addr add {v6}/64 dev eth0 nodad"),
    ]
}

/// `ip` lines, to run in the observer's namespace.
pub(super) fn observer_lines() -> Vec<String> {
    let mut lines = vec!["link set lo up".to_owned(), "link set eth0 up".to_owned()];
    for nonce in 0..NONCES {
        lines.push(format!("addr add {}/24 dev eth0", nonce_v4(nonce)));
        lines.push(format!("addr add {}/64 dev eth0 nodad", nonce_v6(nonce)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: v4 and v6 addresses of one host read alike, on both networks.
    /// Method: a host with one digit, one with two, and the client.
    #[test]
    fn addresses_of_both_families_read_alike() {
        let lan = |last| {
            (
                Network::Lan.v4(last).to_string(),
                Network::Lan.v6(last).to_string(),
            )
        };
        assert_eq!(lan(3), ("10.77.0.3".into(), "fd00:77::3".into()));
        assert_eq!(lan(16), ("10.77.0.16".into(), "fd00:77::16".into()));
        assert_eq!(lan(200), ("10.77.0.200".into(), "fd00:77::200".into()));
        assert_eq!(Network::Control.v6(5).to_string(), "fd00:78::5");
    }

    /// Goal: no veth is ever made in the machine's namespace, and only the LAN has guests.
    /// Method: read the lines of both switches.
    #[test]
    fn each_port_names_the_namespace_of_its_other_end() {
        let lan = switch_lines("b", Network::Lan, 2);
        let ends = lan.iter().filter(|line| line.contains("type veth"));
        assert!(ends.clone().all(|line| line.contains(" netns b-")));
        assert_eq!(ends.count(), 4 + 1);
        let control = switch_lines("b", Network::Control, 2);
        assert!(!control.iter().any(|line| line.contains("client")));
        assert!(control[2].contains("eth1 address 02:00:4e:00:00:01 netns b-h1"));
    }
}
