//! The gate alone: the address stays on the interface all the time, so that only the gate decides.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use host::clock::boottime_us;
use host::gate::{Change, GateError, Guard, KernelGate, NoGate};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::netns::{DEVICE, SERVICE4, SERVICE6, Wire, ip, services};
use crate::observer::{Kind, Observer, Seen, after, of, unanswered, wait_until};

/// What an end may be late by, in µs: the promise of the protocol.
const LATE_US: u64 = 10_000;

/// A gate in the host's namespace that guards the service addresses.
fn gate(wire: &Wire, tag: &'static str, guard: Guard) -> KernelGate {
    wire.host.run(move || {
        let mut gate = KernelGate::open(tag, guard).unwrap();
        let devices = BTreeSet::from([DEVICE.to_owned()]);
        gate.manage(&BTreeSet::from(services()), &devices).unwrap();
        gate
    })
}

/// The service addresses on the interface, behind the kernel's back so to say.
fn on_interface(wire: &Wire) {
    wire.host
        .shell(&format!("ip address add {SERVICE4}/24 dev {DEVICE}"));
    wire.host
        .shell(&format!("ip address add {SERVICE6}/64 dev {DEVICE} nodad"));
}

/// Goal: a closed gate hides an address that is on the interface: no ARP, no NA, no answer.
/// Method: 200 rounds of questions to closed addresses, then open, then 100 more.
#[test]
fn closed_gate_is_silent_and_open_gate_answers() {
    let Some(wire) = Wire::lay("closed_gate_is_silent_and_open_gate_answers") else {
        return;
    };
    let mut gate = gate(&wire, "closed", Guard::Owned);
    on_interface(&wire);
    let observer = Observer::start(&wire, &services());
    wait_until(after(200));
    let opened = boottime_us();
    for service in services() {
        gate.open_until(service, 7, after(5_000)).unwrap();
    }
    wait_until(after(100));
    let closed = boottime_us();
    for service in services() {
        gate.close(service).unwrap();
    }
    let closed_by = boottime_us();
    wait_until(after(50));
    let (seen, _) = observer.stop();
    for service in services() {
        let seen = of(&seen, service);
        let early: Vec<_> = seen
            .iter()
            .filter(|s| s.at_us < opened || s.at_us > closed_by + 1000)
            .collect();
        assert!(early.is_empty(), "{service} was not silent: {early:?}");
        let (claims, echoes): (Vec<&Seen>, Vec<&Seen>) =
            seen.iter().partition(|s| s.kind == Kind::Claim);
        assert!(
            claims.len() > 10 && echoes.len() > 10,
            "{service}: {claims:?} {echoes:?}"
        );
    }
    assert!(closed > opened);
    println!("{}", gate.describe());
}

/// Goal: programs that send from a closed address, or past the kernel's ARP, stay unheard.
/// Method: a UDP socket bound to each address and an announcement by AF_PACKET, closed and open.
#[test]
fn closed_gate_lets_nothing_out() {
    let Some(wire) = Wire::lay("closed_gate_lets_nothing_out") else {
        return;
    };
    let mut gate = gate(&wire, "out", Guard::Owned);
    on_interface(&wire);
    let interface = wire.at_host;
    let speak = move || {
        let announcer = host::announce::Announcer::open().unwrap();
        for (service, client) in services().into_iter().zip(["10.9.0.9:99", "[fd09::9]:99"]) {
            let socket = std::net::UdpSocket::bind((service, 0)).unwrap();
            for _ in 0..20 {
                let _ = socket.send_to(b"x", client);
                let _ = announcer.announce(&interface, service);
            }
        }
    };
    let observer = Observer::start(&wire, &services());
    wire.host.run(speak);
    wait_until(after(20));
    let opened = boottime_us();
    for service in services() {
        gate.open_until(service, 1, after(5_000)).unwrap();
    }
    wire.host.run(speak);
    wait_until(after(20));
    let (seen, _) = observer.stop();
    for service in services() {
        let (early, late): (Vec<_>, Vec<_>) = of(&seen, service)
            .into_iter()
            .partition(|s| s.at_us < opened);
        assert!(
            early.is_empty(),
            "{service} spoke through a closed gate: {early:?}"
        );
        assert!(
            late.iter().filter(|s| s.kind == Kind::Packet).count() >= 20,
            "{service}"
        );
        assert!(late.iter().any(|s| s.kind == Kind::Claim), "{service}");
    }
}

/// Goal: an open gate closes by itself, at its deadline and never 10 ms after.
/// Method: arms of several lengths, ended by nobody; the last frame of each against its deadline.
#[test]
fn gate_ends_at_its_deadline() {
    let Some(wire) = Wire::lay("gate_ends_at_its_deadline") else {
        return;
    };
    let mut gate = gate(&wire, "ends", Guard::Owned);
    on_interface(&wire);
    let mut ends = Vec::new();
    for length in [30, 80, 150, 270, 64, 97] {
        let observer = Observer::start(&wire, &services());
        let deadline = after(length);
        for service in services() {
            gate.open_until(service, 1, deadline).unwrap();
        }
        wait_until(deadline + 3 * LATE_US);
        let (seen, _) = observer.stop();
        for service in services() {
            let last = of(&seen, service).iter().map(|s| s.at_us).max().unwrap();
            ends.push(last.cast_signed() - deadline.cast_signed());
        }
    }
    println!("last frame after the deadline, in µs: {ends:?}");
    assert!(
        ends.iter().all(|end| *end <= LATE_US.cast_signed()),
        "{ends:?}"
    );
    // And not needlessly early: jiffies, plus the time between two questions on a busy machine.
    assert!(
        ends.iter().filter(|end| **end > -12_000).count() > ends.len() / 2,
        "{ends:?}"
    );
}

/// Goal: renewing an open gate loses not one packet.
/// Method: a lease of 300 ms, renewed as often as can be for 3 s; every echo request is answered.
#[test]
fn renewal_loses_no_packet() {
    let Some(wire) = Wire::lay("renewal_loses_no_packet") else {
        return;
    };
    let mut gate = gate(&wire, "renews", Guard::Owned);
    on_interface(&wire);
    for service in services() {
        gate.open_until(service, 3, after(300)).unwrap();
    }
    let observer = Observer::start(&wire, &services());
    let began = after(10);
    let leases = services().map(|service| (service, 3));
    let mut took = Vec::new();
    while boottime_us() < began + 3_000_000 {
        let at = boottime_us();
        assert!(gate.renew(&leases, after(300)).unwrap().is_empty());
        took.push(boottime_us() - at);
        std::thread::park_timeout(Duration::from_millis(2));
    }
    let ended = boottime_us();
    let seen = observer.stop();
    took.sort_unstable();
    println!(
        "{} renewals of 2 addresses in µs: p50 {} p99 {}",
        took.len(),
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
    for service in services() {
        let (lost, asked) = unanswered(&seen, service, began..ended - 5_000);
        assert!(lost.is_empty(), "{service} lost {lost:?} of {asked}");
        assert!(asked > 500, "{asked}");
    }
}

/// Goal: who slept through the deadline can't revive its lease.
/// Method: arm, wait for the end, renew with a fresh deadline; then the silence.
#[test]
fn renewal_of_an_ended_lease_is_refused_and_opens_nothing() {
    let Some(wire) = Wire::lay("renewal_of_an_ended_lease") else {
        return;
    };
    let mut gate = gate(&wire, "sleeper", Guard::Owned);
    on_interface(&wire);
    let deadline = after(40);
    for service in services() {
        gate.open_until(service, 1, deadline).unwrap();
    }
    // One of the two is kept alive, so that one transaction meets a live and a dead one.
    gate.renew(&[(ip(SERVICE4), 1)], after(5_000)).unwrap();
    wait_until(deadline + LATE_US);
    let observer = Observer::start(&wire, &services());
    let lapsed = gate
        .renew(&services().map(|service| (service, 1)), after(500))
        .unwrap();
    assert_eq!(lapsed, [ip(SERVICE6)]);
    wait_until(after(60));
    let (seen, _) = observer.stop();
    assert!(of(&seen, ip(SERVICE6)).is_empty(), "revived: {seen:?}");
    assert!(
        !of(&seen, ip(SERVICE4)).is_empty(),
        "the live one must go on"
    );
    let leases = gate.leases().unwrap();
    assert_eq!(
        leases.iter().map(|l| (l.ip, l.epoch)).collect::<Vec<_>>(),
        [(ip(SERVICE4), 1)]
    );
}

/// Goal: hundreds of addresses are renewed in a few transactions, and one that has ended spoils it
/// for no other.
/// Method: 300 v4 and 300 v6 addresses, one of them closed; all renewed.
#[test]
fn many_leases_are_renewed_together_and_apart_from_the_dead() {
    let Some(wire) = Wire::lay("many_leases_are_renewed_together") else {
        return;
    };
    let many = (0..300_u32).flat_map(|n| {
        let v4 = Ipv4Addr::from_bits(0x0a09_6400 + n);
        let v6 = Ipv6Addr::from_bits((0xfd09_u128 << 112) + 0x1000 + u128::from(n));
        [IpAddr::V4(v4), IpAddr::V6(v6)]
    });
    let many: BTreeSet<IpAddr> = many.collect();
    let mut gate = gate(&wire, "many", Guard::Owned);
    gate.manage(&many, &BTreeSet::from([DEVICE.to_owned()]))
        .unwrap();
    let deadline = after(60_000);
    for ip in &many {
        gate.open_until(*ip, 1, deadline).unwrap();
    }
    let armed = boottime_us() - (deadline - 60_000_000);
    let dead = ip("10.9.100.77");
    let began = boottime_us();
    // The second time it is closed already: no error, and no undone transaction either.
    gate.close(dead).unwrap();
    gate.close(dead).unwrap();
    let closed = boottime_us() - began;
    let leases: Vec<_> = many.iter().map(|ip| (*ip, 1)).collect();
    let began = boottime_us();
    assert_eq!(gate.renew(&leases, after(70_000)).unwrap(), [dead]);
    let took = boottime_us() - began;
    println!("600 arms took {armed} µs, 2 closings {closed} µs, one renewal of all {took} µs");
    let live = gate.leases().unwrap();
    assert_eq!(live.len(), 599);
    assert!(
        live.iter()
            .all(|lease| lease.left_ms > 60_000 && lease.epoch == 1)
    );
}

/// Goal: an order that comes too late opens nothing; nor does one for a foreign address.
/// Method: deadlines in the past, 9 ms ahead, and an address that is not managed.
#[test]
fn late_or_foreign_orders_open_nothing() {
    let Some(wire) = Wire::lay("late_or_foreign_orders_open_nothing") else {
        return;
    };
    let mut gate = gate(&wire, "late", Guard::Owned);
    for deadline in [0, boottime_us() - 1, after(9)] {
        let refused = gate.open_until(ip(SERVICE4), 1, deadline);
        assert!(
            matches!(refused, Err(GateError::TooLate { .. })),
            "{refused:?}"
        );
    }
    let refused = gate.open_until(ip("10.9.0.200"), 1, after(100));
    assert!(
        matches!(refused, Err(GateError::NotManaged { .. })),
        "{refused:?}"
    );
    assert_eq!(gate.leases().unwrap(), []);
    // A renewal whose deadline is over closes what is open.
    gate.open_until(ip(SERVICE4), 1, after(1_000)).unwrap();
    assert_eq!(
        gate.renew(&[(ip(SERVICE4), 1)], after(5)).unwrap(),
        [ip(SERVICE4)]
    );
    assert_eq!(gate.leases().unwrap(), []);
}

/// Goal: the next start adopts tables and leases without a lost packet, and closes what it doesn't
/// know.
/// Method: drop the gate and open it again under questions; then manage one address less.
#[test]
fn next_start_adopts_the_leases_without_a_hole() {
    let Some(wire) = Wire::lay("next_start_adopts_the_leases") else {
        return;
    };
    let mut first = gate(&wire, "adopts", Guard::Owned);
    on_interface(&wire);
    for service in services() {
        first.open_until(service, 9, after(2_000)).unwrap();
    }
    let observer = Observer::start(&wire, &services());
    // The client and the host get to know each other's MAC first.
    wait_until(after(10));
    let began = boottime_us();
    wait_until(after(20));
    drop(first);
    wait_until(after(20));
    let mut second = gate(&wire, "adopts", Guard::Owned);
    let leases = second.leases().unwrap();
    assert_eq!(leases.iter().map(|l| l.epoch).collect::<Vec<_>>(), [9, 9]);
    let lapsed = second.renew(&services().map(|s| (s, 9)), after(2_000));
    assert!(lapsed.unwrap().is_empty());
    wait_until(after(20));
    let ended = boottime_us();
    let seen = observer.stop();
    for service in services() {
        let (lost, asked) = unanswered(&seen, service, began..ended - 5_000);
        assert!(lost.is_empty() && asked > 5, "{service} lost {lost:?}");
    }
    second
        .manage(
            &BTreeSet::from([ip(SERVICE6)]),
            &BTreeSet::from([DEVICE.to_owned()]),
        )
        .unwrap();
    assert_eq!(
        second
            .leases()
            .unwrap()
            .iter()
            .map(|l| l.ip)
            .collect::<Vec<_>>(),
        [ip(SERVICE6)]
    );
}

/// Goal: a second daemon in the namespace is refused, and the dead one's place is free.
/// Method: open twice with other tags and with the same one, then after the first is gone.
#[test]
fn second_daemon_in_the_namespace_is_refused() {
    let Some(wire) = Wire::lay("second_daemon_in_the_namespace_is_refused") else {
        return;
    };
    let first = gate(&wire, "one", Guard::Owned);
    if !first.is_owned() {
        return;
    }
    for tag in ["one", "two"] {
        let refused = wire.host.run(move || KernelGate::open(tag, Guard::Owned));
        assert!(matches!(refused, Err(NoGate::InUse { .. })), "{refused:?}");
    }
    drop(first);
    let second = gate(&wire, "two", Guard::Owned);
    second.remove().unwrap();
    let listed = wire.host.shell("nft list tables");
    assert!(
        !listed.contains("rais-two") && listed.contains("rais-one"),
        "{listed}"
    );
    let bad = wire.host.run(|| KernelGate::open("No tag", Guard::Owned));
    assert!(matches!(bad, Err(NoGate::BadTag { .. })), "{bad:?}");
}

/// Goal: `nft flush ruleset` by hand can't open an owned gate, and is noticed within 100 ms where
/// tables can't be owned.
/// Method: the command itself, under both guards.
#[test]
fn flushed_ruleset_is_without_effect_or_noticed() {
    let Some(wire) = Wire::lay("flushed_ruleset_is_without_effect_or_noticed") else {
        return;
    };
    let owned = gate(&wire, "flush", Guard::Owned);
    if owned.is_owned() {
        wire.host.shell("nft flush ruleset");
        assert!(wire.host.shell("nft list tables").contains("rais-flush"));
    }
    owned.remove().unwrap();
    let watched = gate(&wire, "flush", Guard::Watched);
    assert!(!watched.is_owned());
    let (mut watched, watch) = wire.host.run(move || {
        let watch = watched.watch().unwrap();
        (watched, watch)
    });
    watched.open_until(ip(SERVICE4), 1, after(5_000)).unwrap();
    assert_eq!(watch.look().unwrap(), None, "our own change is no news");
    let began = boottime_us();
    wire.host.shell("nft flush ruleset");
    let mut change = None;
    while change.is_none() && boottime_us() < began + 5_000_000 {
        watch.wait(Duration::from_millis(100)).unwrap();
        change = watch.look().unwrap();
    }
    let took = boottime_us() - began;
    assert!(matches!(change, Some(Change::Foreign { .. })), "{change:?}");
    println!("flush noticed {took} µs after its command began");
    assert!(
        took < 100_000,
        "noticed after {took} µs, the program's own start included"
    );
    watched.restore().unwrap();
    let listed = wire.host.shell("nft list ruleset");
    for part in [
        "table inet rais-flush",
        "table arp rais-flush",
        "table netdev rais-flush",
        SERVICE4,
    ] {
        assert!(listed.contains(part), "{part} is not back: {listed}");
    }
    assert_eq!(watched.leases().unwrap(), []);
}

/// Goal: a daemon without the capability is told so, and nothing is changed.
/// Method: a thread without CAP_NET_ADMIN (a process without root has none anyway) probes.
#[test]
fn missing_capability_is_named() {
    let told = std::thread::spawn(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::NET_ADMIN;
        set_capabilities(None, sets).unwrap();
        KernelGate::probe()
    });
    let refused = told.join().unwrap().unwrap_err();
    assert!(
        matches!(refused, NoGate::NoPermission | NoGate::NoNftables),
        "{refused}"
    );
}
