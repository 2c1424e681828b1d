//! What the link and its clients see: claims of others, neighbour caches, connections of before.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::announce::{Mac, announcement, claim, probe_frame};
use host::claims::Claims;
use host::clock::boottime_us;
use host::driver::{AddressDriver as _, Incident, TICK_MS};
use host::gate::Guard;
use host::netlink_driver::Netlink;
use host::packet::{ALL, Listener, Sender};

use crate::driver::{driver, keep, let_go, service, take};
use crate::netns::{DEVICE, SERVICE4, Wire, ip, services};
use crate::observer::{after, wait_until};

/// Some machine that is no host of the array.
const FOREIGN: Mac = [2, 0, 0, 0, 0, 0x99];

fn words(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Sends frames from the client's side.
fn send(wire: &Wire, frames: Vec<Vec<u8>>) {
    let index = wire.at_client.index;
    wire.client.run(move || {
        let sender = Sender::open().unwrap();
        for frame in frames {
            // The queue of the device may be full: then the flood is so much smaller.
            let _ = sender.send(index, &frame);
        }
    });
}

fn claims() -> Vec<Vec<u8>> {
    let claims = services()
        .into_iter()
        .flat_map(|ip| announcement(FOREIGN, ip));
    claims.collect()
}

fn conflicts() -> Vec<Incident> {
    services()
        .map(|ip| Incident::Conflict {
            ip,
            mac: words(FOREIGN),
            interface: DEVICE.to_owned(),
        })
        .to_vec()
}

/// Goal: a foreign claim of a held address is told once and answered with one frame; what claims
/// nothing, or claims what is not held, is not.
/// Method: claims, probes and claims of others from the client's side, while held and after.
#[test]
fn foreign_claim_is_told_and_answered_once_per_interval() {
    let Some(wire) = Wire::lay("foreign_claim_is_told_and_answered_once") else {
        return;
    };
    let mut driver = driver(&wire, "claims", Guard::Owned);
    take(&mut driver, 1, 5_000);
    // Until the burst of announcements is over, so that the answer is alone.
    assert_eq!(keep(&mut driver, 600), []);
    let harmless = services().map(|ip| probe_frame(FOREIGN, ip)).to_vec();
    send(&wire, harmless);
    let others = ["10.9.0.101", "fd09::1:100", "10.9.0.1"];
    send(
        &wire,
        others
            .iter()
            .flat_map(|o| announcement(FOREIGN, ip(o)))
            .collect(),
    );
    let own = wire.at_host.mac.unwrap();
    send(
        &wire,
        services()
            .into_iter()
            .flat_map(|ip| announcement(own, ip))
            .collect(),
    );
    assert_eq!(driver.tick(), []);
    let index = wire.at_client.index;
    let heard = wire.client.run(move || Listener::open(index, ALL).unwrap());
    send(&wire, claims());
    assert_eq!(driver.tick(), conflicts());
    send(&wire, claims());
    assert_eq!(keep(&mut driver, 100), []);
    let mut answers = Vec::new();
    let mut buffer = [0; 256];
    while let Some(frame) = heard
        .receive(&mut buffer, Duration::from_millis(20))
        .unwrap()
    {
        answers.extend(
            services()
                .into_iter()
                .find(|ip| claim(frame, *ip) == Some(own)),
        );
    }
    assert_eq!(answers, services(), "one announcement for each");
    for ip in services() {
        driver.release(ip).unwrap();
    }
    // The next holder's announcement is none of our business, though we took it before.
    send(&wire, claims());
    assert_eq!(driver.tick(), []);
    // A start of its own, since the lease of before goes on for seconds.
    drop(driver);
    let mut driver = self::driver(&wire, "claims", Guard::Owned);
    let deadline = after(60);
    for ip in services() {
        driver.acquire_until(service(ip), 3, deadline).unwrap();
    }
    assert_eq!(driver.tick(), []);
    send(&wire, claims());
    wait_until(deadline + 10_000);
    let lapsed = services().map(|ip| Incident::Lapsed { ip });
    assert_eq!(driver.tick(), lapsed, "read after the lease");
}

/// Goal: a storm of claims delays no renewal.
/// Method: 20,000 frames, claims of held addresses and others, while a lease of 300 ms is renewed;
/// the longest tick and renewal.
#[test]
fn storm_of_claims_delays_no_renewal() {
    let Some(wire) = Wire::lay("storm_of_claims_delays_no_renewal") else {
        return;
    };
    let mut driver = driver(&wire, "storm", Guard::Owned);
    take(&mut driver, 1, 300);
    assert_eq!(keep(&mut driver, 60), []);
    let quiet = longest(&mut driver, 300, &mut Vec::new());
    let mut frames = claims();
    frames.extend(announcement(FOREIGN, ip("10.9.0.101")));
    let (index, mut incidents) = (wire.at_client.index, Vec::new());
    let sender = wire.client.run(|| Sender::open().unwrap());
    let end = after(400);
    let (storm, sent) = std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            let mut sent = 0;
            while boottime_us() < end && sent < 20_000 {
                for frame in &frames {
                    sent += u32::from(sender.send(index, frame).is_ok());
                }
            }
            sent
        });
        (
            longest(&mut driver, 400, &mut incidents),
            flood.join().unwrap(),
        )
    });
    println!("longest tick and renewal: quiet {quiet} µs, with {sent} frames {storm} µs");
    assert_eq!(incidents, conflicts());
    assert!(sent > 1_000, "{sent}");
    assert!(storm < 100_000, "{storm} µs");
}

/// The longest tick with a renewal within `ms`, in µs.
fn longest(driver: &mut Netlink, ms: u64, incidents: &mut Vec<Incident>) -> u64 {
    let (end, mut longest) = (after(ms), 0);
    while boottime_us() < end {
        let began = boottime_us();
        assert!(driver.latch().renew(after(300)));
        incidents.extend(driver.tick());
        longest = longest.max(boottime_us() - began);
        wait_until(after(TICK_MS));
    }
    longest
}

/// Goal: each form of announcement alone turns a client's fresh neighbour entry, at once.
/// Method: an entry REACHABLE with the old MAC; one frame; the client's next packet arrives at the
/// new one. Then the same by an acquire.
#[test]
fn client_reaches_the_new_holder_without_waiting_for_its_cache() {
    let Some(wire) = Wire::lay("client_reaches_the_new_holder") else {
        return;
    };
    let mut driver = driver(&wire, "cache", Guard::Owned);
    take(&mut driver, 1, 10_000);
    wait_until(after(20));
    for service in services() {
        let socket = wire
            .host
            .run(move || UdpSocket::bind((service, 0)).unwrap());
        let at = socket.local_addr().unwrap();
        let index = wire.at_host.index;
        let sender = wire.host.run(|| Sender::open().unwrap());
        let speak = |frame: &[u8]| sender.send(index, frame).unwrap();
        for frame in announcement(wire.at_host.mac.unwrap(), service) {
            let took = turned(&wire, &socket, at, || speak(&frame));
            println!("{service}: by one frame in {took} µs");
        }
    }
    for ip in services() {
        driver.release(ip).unwrap();
    }
    for ip in services() {
        stale_entry(&wire, ip);
        let began = boottime_us();
        driver.acquire_until(service(ip), 2, after(10_000)).unwrap();
        let to = words(wire.at_host.mac.unwrap());
        while !entry(&wire, ip).contains(&to) {
            assert!(boottime_us() < began + 5_000_000, "{}", entry(&wire, ip));
        }
        println!(
            "{ip}: acquired and known to the client in {} µs",
            boottime_us() - began
        );
    }
}

fn entry(wire: &Wire, ip: IpAddr) -> String {
    wire.client
        .shell(&format!("ip neigh show {ip} dev {DEVICE}"))
}

/// The client believes, freshly, that another machine has `ip`.
fn stale_entry(wire: &Wire, ip: IpAddr) {
    let old = words(FOREIGN);
    wire.client.shell(&format!(
        "ip neigh replace {ip} lladdr {old} nud reachable dev {DEVICE}"
    ));
    assert!(entry(wire, ip).contains(&old));
}

/// How long after `tell` a packet of the client arrives, in µs; it is sent each millisecond.
fn turned(wire: &Wire, socket: &UdpSocket, at: SocketAddr, tell: impl Fn()) -> u64 {
    stale_entry(wire, at.ip());
    let client = wire
        .client
        .run(move || UdpSocket::bind((if at.is_ipv4() { "0.0.0.0" } else { "::" }, 0)).unwrap());
    socket
        .set_read_timeout(Some(Duration::from_millis(30)))
        .unwrap();
    client.send_to(b"before", at).unwrap();
    let lost = socket.recv(&mut [0; 16]);
    assert!(lost.is_err(), "the old MAC is nobody's");
    tell();
    let began = boottime_us();
    socket
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    loop {
        client.send_to(b"after", at).unwrap();
        if socket.recv(&mut [0; 16]).is_ok() {
            let took = boottime_us() - began;
            assert!(took < 20_000, "{at} was reached after {took} µs");
            // Nothing of this round is left for the next.
            while socket.recv(&mut [0; 16]).is_ok() {}
            return took;
        }
        assert!(
            boottime_us() < began + 2_000_000,
            "{at} is not reached: {}",
            entry(wire, at.ip())
        );
    }
}

/// A connection from the client, and both its ends.
fn dial(wire: &Wire, ip: IpAddr) -> (TcpStream, TcpStream) {
    let listener = wire.host.run(move || TcpListener::bind((ip, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let client = wire
        .client
        .run(move || TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap());
    (client, listener.accept().unwrap().0)
}

/// Goal: a client that only reads learns within 100 ms that its server's host is another now.
/// Method: connections, listed, then lost with their holder; the address is taken anew without a
/// tickle (the client reads on in vain) and then with one (ECONNRESET).
#[test]
fn tickled_client_notices_the_new_holder_and_others_do_not() {
    let Some(wire) = Wire::lay("tickled_client_notices_the_new_holder") else {
        return;
    };
    let mut driver = driver(&wire, "tickles", Guard::Owned);
    take(&mut driver, 1, 10_000);
    wait_until(after(20));
    let ends: Vec<_> = services().into_iter().map(|ip| dial(&wire, ip)).collect();
    let (driver, listed) = wire.host.run(move || {
        let listed = driver.connections();
        (driver, listed)
    });
    let both = |(client, server): &(TcpStream, TcpStream)| {
        (server.local_addr().unwrap(), client.local_addr().unwrap())
    };
    let found: Vec<_> = listed.iter().map(|c| (c.local, c.peer)).collect();
    assert_eq!(found, ends.iter().map(both).collect::<Vec<_>>());
    // Ends the connections here; the gate keeps the client from hearing of it.
    let mut driver = let_go(&wire, driver);
    take(&mut driver, 2, 10_000);
    assert_eq!(keep(&mut driver, 40), []);
    let read = |client: &mut TcpStream, ms| {
        client
            .set_read_timeout(Some(Duration::from_millis(ms)))
            .unwrap();
        loop {
            match client.read(&mut [0]).unwrap_err().kind() {
                ErrorKind::Interrupted => {}
                kind => return kind,
            }
        }
    };
    let mut clients: Vec<_> = ends.into_iter().map(|(client, _)| client).collect();
    for client in &mut clients {
        assert_eq!(read(client, 150), ErrorKind::WouldBlock, "nobody told it");
    }
    let began = boottime_us();
    driver.tickle(&listed);
    assert_eq!(driver.tick(), []);
    for client in &mut clients {
        assert_eq!(read(client, 5_000), ErrorKind::ConnectionReset);
    }
    let took = boottime_us() - began;
    println!("2 clients noticed in {took} µs");
    assert!(took < 100_000, "{took} µs");
}

/// Goal: an address that is not held is not tickled from.
/// Method: the connection's address is released; ticks; the client hears nothing.
#[test]
fn nothing_is_tickled_from_an_address_that_is_not_held() {
    let Some(wire) = Wire::lay("nothing_is_tickled_from_an_address_that_is_not_held") else {
        return;
    };
    let mut driver = driver(&wire, "silent", Guard::Owned);
    take(&mut driver, 1, 10_000);
    wait_until(after(20));
    let (client, server) = dial(&wire, ip(SERVICE4));
    let connection = host::driver::Connection {
        local: server.local_addr().unwrap(),
        peer: client.local_addr().unwrap(),
    };
    driver.release(ip(SERVICE4)).unwrap();
    let index = wire.at_client.index;
    let heard = wire.client.run(move || Listener::open(index, ALL).unwrap());
    driver.tickle(&[connection]);
    assert_eq!(keep(&mut driver, 60), []);
    let mut buffer = [0; 256];
    while let Some(frame) = heard
        .receive(&mut buffer, Duration::from_millis(20))
        .unwrap()
    {
        let from_it = frame[12..14] == [0x08, 0x00] && frame[26..30] == [10, 9, 0, 100];
        assert!(!from_it, "{frame:02x?}");
    }
}

/// Goal: to listen costs next to nothing while nobody claims anything.
/// Method: 10,000 looks at a quiet link with two addresses heeded; their mean.
#[test]
fn listening_to_a_quiet_link_costs_microseconds() {
    let Some(wire) = Wire::lay("listening_to_a_quiet_link_costs_microseconds") else {
        return;
    };
    let index = wire.at_host.index;
    let claims = wire.host.run(move || {
        let mut claims = Claims::default();
        claims
            .prepare(&BTreeSet::from([DEVICE.to_owned()]))
            .unwrap();
        let held = services().map(|ip| (ip, DEVICE.to_owned(), index));
        claims.heed(BTreeSet::from(held)).unwrap();
        claims
    });
    let began = boottime_us();
    for _ in 0..10_000 {
        assert!(claims.hear().unwrap().is_empty());
    }
    let mean_ns = (boottime_us() - began) / 10;
    println!("a look at a quiet link: {mean_ns} ns");
    assert!(mean_ns < 100_000, "{mean_ns}");
}

/// Goal: to ask the link before an acquire costs its patience, 30 ms, and not much more.
/// Method: ten acquires of each address without asking, and after it; their medians.
#[test]
fn probe_costs_its_patience_and_not_much_more() {
    let Some(wire) = Wire::lay("probe_costs_its_patience") else {
        return;
    };
    let median = |asks: bool| {
        wire.host.run(move || {
            let mut driver = Netlink::open("patience", Guard::Owned).unwrap();
            driver.manage(&services().map(service)).unwrap();
            let mut took = Vec::new();
            for epoch in 1..=10 {
                for ip in services() {
                    let began = boottime_us();
                    if asks {
                        driver.ask_link(&service(ip)).unwrap();
                    }
                    driver
                        .acquire_until(service(ip), epoch, after(5_000))
                        .unwrap();
                    took.push(boottime_us() - began);
                    driver.release(ip).unwrap();
                }
            }
            took.sort_unstable();
            took[took.len() / 2]
        })
    };
    let (without, with) = (median(false), median(true));
    println!("an acquire takes {without} µs, with a question before it {with} µs");
    assert!((30_000..150_000).contains(&with), "{with}");
}
