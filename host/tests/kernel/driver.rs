//! The driver: gate, address, announcement and their repair, as a client on the wire sees them.

use std::io::Read as _;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use host::address::Addresses;
use host::clock::boottime_us;
use host::driver::{
    AcquireFault, AddressDriver as _, DriverError, Held, Incident, ServiceAddress, TICK_MS, Taken,
};
use host::gate::Guard;
use host::netlink_driver::Netlink;

use crate::netns::{DEVICE, SERVICE4, SERVICE6, Wire, ip, services};
use crate::observer::{Kind, Observer, after, of, unanswered, wait_until};

/// The kernel routes to a new v6 address from a work queue, a moment after it said that it is there.
const V6_SETTLES_MS: u64 = 10;

pub fn service(ip: IpAddr) -> ServiceAddress {
    let prefix_len = if ip.is_ipv4() { 24 } else { 64 };
    ServiceAddress {
        ip,
        prefix_len,
        interface: DEVICE.to_owned(),
    }
}

/// A driver in the host's namespace that manages the service addresses.
pub fn driver(wire: &Wire, tag: &'static str, guard: Guard) -> Netlink {
    wire.host.run(move || {
        let mut driver = Netlink::open(tag, guard).unwrap();
        driver.manage(&services().map(service)).unwrap();
        driver
    })
}

pub fn held(epoch: u64) -> Vec<Held> {
    services().map(|ip| Held { ip, epoch }).to_vec()
}

pub fn take(driver: &mut Netlink, epoch: u64, ms: u64) {
    for ip in services() {
        driver.acquire_until(service(ip), epoch, after(ms)).unwrap();
    }
}

/// Lets go of everything, and ends connections where the driver's thread would be.
pub fn let_go(wire: &Wire, mut driver: Netlink) -> Netlink {
    wire.host.run(move || {
        for ip in services() {
            driver.release(ip).unwrap();
        }
        driver
    })
}

/// Renews and ticks for `ms`, and collects what happened.
pub fn keep(driver: &mut Netlink, ms: u64) -> Vec<Incident> {
    let (end, mut incidents) = (after(ms), Vec::new());
    while boottime_us() < end {
        assert!(driver.latch().renew(after(300)));
        incidents.extend(driver.tick());
        wait_until(after(TICK_MS).min(end));
    }
    incidents
}

/// Goal: from order to answer and from order to silence; connections end with the address.
/// Method: take, keep and release under questions, with a TCP connection open.
#[test]
fn address_is_taken_announced_kept_and_let_go() {
    let Some(wire) = Wire::lay("address_is_taken_announced_kept_and_let_go") else {
        return;
    };
    let mut driver = driver(&wire, "life", Guard::Owned);
    assert_eq!(driver.held(), []);
    let observer = Observer::start(&wire, &services());
    wait_until(after(30));
    let ordered = boottime_us();
    take(&mut driver, 5, 300);
    let taken = boottime_us();
    let settled = taken + V6_SETTLES_MS * 1000;
    println!("2 acquires took {} µs", taken - ordered);
    assert_eq!(driver.held(), held(5));
    let mut servers: Vec<TcpStream> = services()
        .into_iter()
        .map(|ip| connect(&wire, ip))
        .collect();
    assert_eq!(keep(&mut driver, 700), []);
    let ending = boottime_us();
    let driver = let_go(&wire, driver);
    let ended = boottime_us();
    println!("2 releases took {} µs", ended - ending);
    for server in &mut servers {
        let error = server
            .read(&mut [0])
            .expect_err("the connection must have ended");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
    }
    assert_eq!(driver.held(), []);
    wait_until(after(30));
    let seen = observer.stop();
    for ip in services() {
        let (lost, asked) = unanswered(&seen, ip, settled..ending - 3_000);
        assert!(
            lost.is_empty() && asked > 100,
            "{ip} lost {lost:?} of {asked}"
        );
        let outside: Vec<_> = of(&seen.0, ip)
            .into_iter()
            .filter(|s| s.at_us < ordered || s.at_us > ended + 1_000)
            .collect();
        assert!(outside.is_empty(), "{ip}: {outside:?}");
        let first = of(&seen.0, ip)
            .into_iter()
            .find(|s| s.kind == Kind::Claim)
            .unwrap();
        assert!(
            first.at_us < taken + 5_000,
            "{ip} was announced {} µs late",
            first.at_us - taken
        );
    }
}

/// The host's end of a TCP connection from the client to `ip`; the client's end stays open.
pub fn connect(wire: &Wire, ip: IpAddr) -> TcpStream {
    let listener = wire.host.run(move || TcpListener::bind((ip, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let client = wire
        .client
        .run(move || TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap());
    let server = listener.accept().unwrap().0;
    server
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // Until the test's process ends.
    std::mem::forget(client);
    server
}

/// Goal: a stray address goes, a deleted one comes back, each within a tick.
/// Method: `ip address` by hand, before and after the driver holds them.
#[test]
fn kernel_is_mended_after_changes_by_hand() {
    let Some(wire) = Wire::lay("kernel_is_mended_after_changes_by_hand") else {
        return;
    };
    let mut driver = driver(&wire, "mends", Guard::Owned);
    let add = |text: &str, bits| {
        wire.host
            .shell(&format!("ip address add {text}/{bits} dev {DEVICE}"));
    };
    add(SERVICE4, 24);
    add(SERVICE6, 64);
    let mut gone = driver.tick();
    gone.sort_by_key(|incident| format!("{incident:?}"));
    assert_eq!(gone, services().map(|ip| Incident::Removed { ip }));
    take(&mut driver, 2, 5_000);
    assert_eq!(driver.tick(), []);
    // The subnet is the host's own, so they stand alone.
    for (text, bits) in [(SERVICE4, 32), (SERVICE6, 128)] {
        wire.host
            .shell(&format!("ip address del {text}/{bits} dev {DEVICE}"));
    }
    assert_eq!(driver.held(), []);
    assert_eq!(
        driver.tick(),
        services().map(|ip| Incident::Restored { ip })
    );
    assert_eq!(driver.held(), held(2));
    // The host's own addresses are none of its business, even by order.
    driver.release(ip(crate::netns::HOST4)).unwrap();
    let lives = wire.host.run(|| Addresses::open().unwrap().list().unwrap());
    let life = |text| lives.iter().find(|a| a.ip == ip(text)).unwrap().valid_s;
    assert_eq!(life(crate::netns::HOST4), None);
    let lives_on = |s| (60..=66).contains(&s);
    assert!(life(SERVICE4).is_some_and(lives_on) && life(SERVICE6).is_some_and(lives_on));
    let shown = wire.host.shell(&format!("ip address show dev {DEVICE}"));
    assert!(
        shown.contains("eth0:rais") && shown.contains("deprecated"),
        "{shown}"
    );
}

/// Goal: a gate that is opened by hand costs the addresses at once, and is laid again.
/// Method: `nft flush ruleset` where tables can't be owned; then a tick.
#[test]
fn flushed_gate_takes_the_addresses_off_and_comes_back() {
    let Some(wire) = Wire::lay("flushed_gate_takes_the_addresses_off") else {
        return;
    };
    let mut driver = driver(&wire, "flushed", Guard::Watched);
    take(&mut driver, 3, 5_000);
    wire.host.shell("nft flush ruleset");
    let began = boottime_us();
    let incidents = driver.tick();
    println!(
        "gate and 2 addresses mended in {} µs",
        boottime_us() - began
    );
    assert!(
        matches!(incidents[0], Incident::GateTouched { .. }),
        "{incidents:?}"
    );
    assert_eq!(
        incidents[1..],
        services().map(|ip| Incident::Restored { ip })
    );
    assert_eq!(driver.held(), held(3));
    assert_eq!(driver.tick(), []);
    // Without a lease to live on they stay off.
    let mut short = driver_again(driver, &wire);
    let deadline = after(80);
    for ip in services() {
        short.acquire_until(service(ip), 4, deadline).unwrap();
    }
    wire.host.shell("nft flush ruleset");
    wait_until(deadline);
    let incidents = short.tick();
    assert!(
        matches!(incidents[..], [Incident::GateTouched { .. }]),
        "{incidents:?}"
    );
    assert_eq!(short.held(), []);
}

/// The next start of the same host, with nothing held.
fn driver_again(mut driver: Netlink, wire: &Wire) -> Netlink {
    for ip in services() {
        driver.release(ip).unwrap();
    }
    drop(driver);
    self::driver(wire, "flushed", Guard::Watched)
}

/// Goal: a lease that ends is silence, and a new lease brings the addresses back.
/// Method: take, wait past the end, tick; then renew with a fresh deadline.
#[test]
fn lapsed_addresses_go_and_return_with_a_new_lease() {
    let Some(wire) = Wire::lay("lapsed_addresses_go_and_return") else {
        return;
    };
    let mut driver = driver(&wire, "lapses", Guard::Owned);
    let deadline = after(60);
    for ip in services() {
        driver.acquire_until(service(ip), 6, deadline).unwrap();
    }
    wait_until(deadline + 10_000);
    assert_eq!(driver.held(), []);
    let lapsed = services().map(|ip| Incident::Lapsed { ip });
    assert!(driver.latch().renew(after(5_000)));
    let incidents = driver.tick();
    assert_eq!(incidents[..2], lapsed);
    assert_eq!(
        incidents[2..],
        services().map(|ip| Incident::Restored { ip })
    );
    assert_eq!(driver.held(), held(6));
    // An order that waited too long is refused, and one of before.
    let late = driver.acquire_until(service(ip(SERVICE4)), 5, after(100));
    let stale = AcquireFault::StaleEpoch {
        held: 6,
        offered: 5,
    }
    .to_string();
    assert!(late.unwrap_err().to_string().ends_with(&stale));
}

/// Goal: what can't be taken is refused with the reason, and leaves nothing behind.
/// Method: a deadline in the past, an unknown interface, an address that is not managed, and one
/// that the client has.
#[test]
fn what_can_not_be_taken_is_refused_and_leaves_nothing() {
    let Some(wire) = Wire::lay("what_can_not_be_taken_is_refused") else {
        return;
    };
    let mut driver = wire.host.run(|| {
        let mut driver = Netlink::open("refuses", Guard::Owned).unwrap();
        driver.manage(&services().map(service)).unwrap();
        driver
    });
    let cause = |result: Result<Taken, DriverError>| match result {
        Err(DriverError::AcquireFailed { cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    let past = driver.acquire_until(service(ip(SERVICE4)), 1, boottime_us() - 1);
    assert!(matches!(cause(past), AcquireFault::TooLate));
    let mut nowhere = service(ip(SERVICE4));
    nowhere.interface = "eth9".to_owned();
    let nowhere = driver.acquire_until(nowhere, 1, after(5_000));
    assert!(matches!(cause(nowhere), AcquireFault::NoInterface { .. }));
    let foreign = driver.acquire_until(service(ip("10.9.0.201")), 1, after(5_000));
    assert!(matches!(cause(foreign), AcquireFault::Unmanaged));
    wire.client
        .shell(&format!("ip address add {SERVICE4}/24 dev {DEVICE}"));
    wire.client
        .shell(&format!("ip address add {SERVICE6}/64 dev {DEVICE} nodad"));
    for taken in services() {
        let wire = &wire;
        let (back, refused) = wire.host.run(move || {
            let refused = driver.ask_link(&service(taken));
            (driver, refused)
        });
        driver = back;
        assert!(
            matches!(
                refused,
                Err(DriverError::AcquireFailed {
                    cause: AcquireFault::Conflict { .. },
                    ..
                })
            ),
            "{taken}"
        );
    }
    assert_eq!(driver.held(), []);
    assert_eq!(driver.tick(), []);
    driver.leave().unwrap();
    assert!(!wire.host.shell("nft list ruleset").contains("rais"));
}

/// Goal: a restart of the daemon costs no packet.
/// Method: drop the driver under questions; the next one gets the same orders.
#[test]
fn restart_adopts_what_is_held_without_a_lost_packet() {
    let Some(wire) = Wire::lay("restart_adopts_what_is_held") else {
        return;
    };
    let mut first = driver(&wire, "restart", Guard::Owned);
    take(&mut first, 8, 1_000);
    let observer = Observer::start(&wire, &services());
    wait_until(after(V6_SETTLES_MS));
    let began = boottime_us();
    wait_until(after(20));
    drop(first);
    wait_until(after(20));
    let mut second = driver(&wire, "restart", Guard::Owned);
    assert_eq!(second.held(), held(8));
    assert_eq!(second.tick(), []);
    take(&mut second, 8, 1_000);
    assert_eq!(keep(&mut second, 60), []);
    let ended = boottime_us();
    let seen = observer.stop();
    for ip in services() {
        let (lost, asked) = unanswered(&seen, ip, began..ended - 5_000);
        assert!(
            lost.is_empty() && asked > 10,
            "{ip} lost {lost:?} of {asked}"
        );
    }
}

/// Goal: an interface that is not there takes nothing from the others; what is announced stays gated.
/// Method: a second interface that is named and missing, then made, then removed and made again.
#[test]
fn an_interface_that_is_missing_costs_the_others_nothing() {
    let Some(wire) = Wire::lay("an_interface_that_is_missing_costs_the_others_nothing") else {
        return;
    };
    let mut driver = driver(&wire, "missing", Guard::Owned);
    let elsewhere = ServiceAddress {
        ip: ip("10.8.0.100"),
        prefix_len: 24,
        interface: "later0".to_owned(),
    };
    let [v4, v6] = services().map(service);
    driver.manage(&[v4, v6, elsewhere.clone()]).unwrap();
    take(&mut driver, 5, 300);
    assert_eq!(keep(&mut driver, 500), []);
    assert_eq!(driver.held(), held(5));
    let refused = driver.acquire_until(elsewhere.clone(), 1, after(300));
    assert!(
        matches!(
            &refused,
            Err(DriverError::AcquireFailed {
                cause: AcquireFault::NoInterface { .. },
                ..
            })
        ),
        "{refused:?}"
    );
    for _ in 0..2 {
        wire.host
            .shell("ip link add later0 type veth peer name later1");
        wire.host.shell("ip link set later0 up");
        assert_eq!(keep(&mut driver, 150), []);
        let rules = wire.host.shell("nft list ruleset");
        assert!(rules.contains("device \"later0\""), "{rules}");
        assert_eq!(driver.held(), held(5));
        wire.host.shell("ip link del later0");
    }
}

/// Goal: what is held and is to be guarded no longer goes, and is said to be lost: nobody ordered it.
/// Method: one of two that are held is left out of what is guarded.
#[test]
fn what_is_guarded_no_longer_goes_and_is_said_to_be_lost() {
    let Some(wire) = Wire::lay("what_is_guarded_no_longer_goes") else {
        return;
    };
    let mut driver = driver(&wire, "unguarded", Guard::Owned);
    take(&mut driver, 7, 2_000);
    assert_eq!(driver.tick(), []);
    let [v4, v6] = services();
    driver.manage(&[service(v4)]).unwrap();
    let incidents = driver.tick();
    assert!(
        matches!(&incidents[..], [Incident::Lost { ip, epoch: 7, .. }] if *ip == v6),
        "{incidents:?}"
    );
    assert_eq!(driver.held(), [Held { ip: v4, epoch: 7 }]);
}

/// Goal: what cannot be served any more is given up and said, so that another host can serve it.
/// Method: the interface is deleted under what is held, both families.
#[test]
fn an_interface_that_goes_costs_its_addresses_and_says_so() {
    let Some(wire) = Wire::lay("an_interface_that_goes_costs_its_addresses") else {
        return;
    };
    let mut driver = driver(&wire, "gone", Guard::Owned);
    take(&mut driver, 7, 2_000);
    assert_eq!(driver.tick(), []);
    wire.host.shell(&format!("ip link del {DEVICE}"));
    let incidents = keep(&mut driver, 700);
    let lost: Vec<(IpAddr, u64)> = incidents
        .iter()
        .filter_map(|incident| match incident {
            Incident::Lost { ip, epoch, .. } => Some((*ip, *epoch)),
            _ => None,
        })
        .collect();
    assert_eq!(lost, services().map(|ip| (ip, 7)), "{incidents:?}");
    assert_eq!(driver.held(), []);
}
