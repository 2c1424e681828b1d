//! What a service address does to the rest of the host: nothing.

use std::net::IpAddr;

use host::driver::{AddressDriver as _, Incident, ServiceAddress};
use host::gate::Guard;
use host::netlink_driver::Netlink;

use crate::driver::{driver, keep, take};
use crate::netns::{
    CLIENT4, CLIENT6, DEVICE, HOST4, HOST6, SERVICE4, SERVICE6, Wire, ip, services,
};
use crate::observer::{Observer, after, unanswered, wait_until};

/// The lines of `ip ...` that are not about a service address.
fn others(wire: &Wire, line: &str) -> String {
    let shown = wire.host.shell(line);
    let own = |line: &&str| !line.contains(SERVICE4) && !line.contains(SERVICE6);
    shown
        .lines()
        .filter(own)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// All routes of the host but those to service addresses, and what it would send from.
fn routing(wire: &Wire) -> String {
    let lines = [
        "ip -4 route show table all".to_owned(),
        "ip -6 route show table all".to_owned(),
        format!("ip route get {CLIENT4}"),
        format!("ip route get {CLIENT6}"),
        "ip route get 192.0.2.1".to_owned(),
        "ip route get 2001:db8::1".to_owned(),
    ];
    let shown: String = lines.iter().map(|line| others(wire, line)).collect();
    // Work in progress of the kernel, and use counts.
    shown
        .split_whitespace()
        .filter(|word| *word != "cache")
        .collect::<Vec<_>>()
        .join(" ")
}

fn primary(wire: &Wire, ip: &str) -> bool {
    let shown = wire
        .host
        .shell(&format!("ip address show dev {DEVICE} to {ip}"));
    assert!(shown.contains(ip), "{ip} is gone");
    !shown.contains("secondary")
}

/// Goal: routes, sources and addresses of the host are the same before, while and after it holds
/// service addresses of its own subnet, also when its own address goes and comes meanwhile.
/// Method: all routes and chosen sources at each step; the host's address removed and added as DHCP
/// does; a refresh of lives in between.
#[test]
fn service_addresses_change_nothing_else_on_the_host() {
    let Some(wire) = Wire::lay("service_addresses_change_nothing_else") else {
        return;
    };
    wire.host
        .shell(&format!("ip route add default via {CLIENT4}"));
    wire.host
        .shell(&format!("ip -6 route add default via {CLIENT6}"));
    let mut driver = driver(&wire, "harmless", Guard::Owned);
    let before = routing(&wire);
    take(&mut driver, 1, 5_000);
    assert_eq!(keep(&mut driver, 600), []);
    assert_eq!(routing(&wire), before);
    assert!(primary(&wire, HOST4));
    // DHCP begins anew: ours must neither go with it nor become what it hangs on.
    wire.host
        .shell(&format!("ip address del {HOST4}/24 dev {DEVICE}"));
    assert_eq!(driver.tick(), []);
    wire.host
        .shell(&format!("ip address add {HOST4}/24 dev {DEVICE}"));
    wire.host
        .shell(&format!("ip address del {HOST6}/64 dev {DEVICE}"));
    wire.host
        .shell(&format!("ip address add {HOST6}/64 dev {DEVICE} nodad"));
    wire.host
        .shell(&format!("ip route replace default via {CLIENT4}"));
    wire.host
        .shell(&format!("ip -6 route replace default via {CLIENT6}"));
    assert_eq!(keep(&mut driver, 60), []);
    assert_eq!(routing(&wire), before);
    assert!(primary(&wire, HOST4));
    for ip in services() {
        driver.release(ip).unwrap();
    }
    assert_eq!(routing(&wire), before);
    assert!(primary(&wire, HOST4) && primary(&wire, HOST6));
}

/// Goal: a second entry of a held address, added by hand, goes within a tick, and ours stays.
/// Method: the address with the subnet's length beside ours, and on another interface.
#[test]
fn twin_of_a_held_address_goes_and_ours_stays() {
    let Some(wire) = Wire::lay("twin_of_a_held_address_goes") else {
        return;
    };
    let mut driver = driver(&wire, "twins", Guard::Owned);
    take(&mut driver, 1, 5_000);
    assert_eq!(driver.tick(), []);
    for (twin, device) in [
        (format!("{SERVICE4}/24"), DEVICE),
        (format!("{SERVICE6}/128"), "lo"),
    ] {
        wire.host
            .shell(&format!("ip address add {twin} dev {device}"));
        let gone = ip(twin.split('/').next().unwrap());
        assert_eq!(driver.tick(), [Incident::Removed { ip: gone }]);
        assert_eq!(driver.tick(), []);
        let shown = wire.host.shell(&format!("ip address show to {gone}"));
        assert_eq!(shown.matches(&gone.to_string()).count(), 1, "{shown}");
        assert!(shown.contains(DEVICE), "{shown}");
    }
}

fn lone(text: &str, prefix_len: u8) -> ServiceAddress {
    ServiceAddress {
        ip: ip(text),
        prefix_len,
        interface: DEVICE.to_owned(),
    }
}

/// A driver that manages `addresses`, and holds them.
fn holder(wire: &Wire, tag: &'static str, addresses: Vec<ServiceAddress>) -> Netlink {
    wire.host.run(move || {
        let mut driver = Netlink::open(tag, Guard::Owned).unwrap();
        driver.manage(&addresses).unwrap();
        for address in addresses {
            driver.acquire_until(address, 1, after(5_000)).unwrap();
        }
        driver
    })
}

/// Goal: a route that a router advertised keeps its life.
/// Method: a route with an expiry to the subnet of a v6 service address, before and after.
#[test]
fn route_of_a_router_advertisement_keeps_its_life() {
    let Some(wire) = Wire::lay("route_of_a_router_advertisement_keeps_its_life") else {
        return;
    };
    wire.host.shell(&format!(
        "ip -6 route add fd05::/64 dev {DEVICE} proto ra metric 256 expires 1000"
    ));
    let mut driver = holder(&wire, "advertised", vec![lone("fd05::100", 64)]);
    assert_eq!(keep(&mut driver, 600), []);
    driver.release(ip("fd05::100")).unwrap();
    let shown = wire.host.shell("ip -6 route show fd05::/64");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let expires = words.iter().position(|word| *word == "expires").unwrap();
    let left: u32 = words[expires + 1].trim_end_matches("sec").parse().unwrap();
    assert!(left > 900, "{shown}");
}

/// Goal: where service addresses are the only ones of their subnet they bring its route, and one
/// that goes takes neither another nor the host's with it.
/// Method: two of a subnet of their own under questions, and an address of the host that comes
/// later; the first is released, then the second.
#[test]
fn first_address_of_a_subnet_takes_no_other_with_it() {
    let Some(wire) = Wire::lay("first_address_of_a_subnet_takes_no_other_with_it") else {
        return;
    };
    wire.host.run(|| {
        for name in ["all", DEVICE] {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/promote_secondaries");
            std::fs::write(path, "0").unwrap();
        }
    });
    let (one, two): (IpAddr, IpAddr) = (ip("10.8.0.100"), ip("10.8.0.101"));
    let both = vec![
        lone("10.8.0.100", 24),
        lone("10.8.0.101", 24),
        lone("fd08::100", 64),
    ];
    let mut driver = holder(&wire, "lone", both);
    wire.host
        .shell(&format!("ip address add 10.8.0.1/24 dev {DEVICE}"));
    let shown = wire.host.shell("ip route show");
    assert!(shown.contains("10.8.0.0/24"), "{shown}");
    assert!(wire.host.shell("ip -6 route show").contains("fd08::/64"));
    // So that answers find their way back.
    wire.client
        .shell(&format!("ip address add 10.8.0.9/24 dev {DEVICE}"));
    let observer = Observer::start(&wire, &[two]);
    wait_until(after(50));
    let began = host::clock::boottime_us();
    driver.release(one).unwrap();
    assert_eq!(keep(&mut driver, 100), []);
    let ended = host::clock::boottime_us();
    let (lost, asked) = unanswered(&observer.stop(), two, began..ended - 5_000);
    assert!(lost.is_empty() && asked > 10, "lost {lost:?} of {asked}");
    assert!(primary(&wire, "10.8.0.101"));
    driver.release(two).unwrap();
    assert!(primary(&wire, "10.8.0.1"));
    assert!(wire.host.shell("ip route show").contains("10.8.0.0/24"));
    driver.release(ip("fd08::100")).unwrap();
    assert_eq!(driver.held(), []);
}
