//! A holder that is killed while it holds addresses, and the next start of the same host: in time it
//! goes on without a break, late it finds silence.
//!
//! The holder is a child process: this test binary again. It tells each deadline before it acts on
//! it, so the last one that was told is the latest that can count.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use host::clock::boottime_us;
use host::driver::{AcquireFault, AddressDriver as _, Held, Incident};
use host::gate::Guard;
use host::netlink_driver::Netlink;

use crate::driver::{driver, held, keep, service, take};
use crate::netns::{SERVICE4, Wire, ip, services};
use crate::observer::{Observer, after, of, unanswered, wait_until};

/// Says to this binary that it is the child.
const CHILD: &str = "RAIS_TEST_STEADY_HOLDER";
/// Lease of the child, in ms: as in the `lan` preset.
const LEASE_MS: u64 = 270;
/// Epoch under which it holds.
const EPOCH: u64 = 7;
/// What an end may be late by, in µs.
const LATE_US: u64 = 10_000;

/// Not a test of its own: the child's program. It is killed.
#[test]
fn steady_holder() {
    let Ok(tag) = std::env::var(CHILD) else {
        return;
    };
    let mut driver = Netlink::open(&tag, Guard::Owned).unwrap();
    driver.manage(&services().map(service)).unwrap();
    let tell = || {
        let deadline = after(LEASE_MS);
        writeln!(std::io::stdout(), "\ndeadline {deadline}").unwrap();
        deadline
    };
    for ip in services() {
        driver.acquire_until(service(ip), EPOCH, tell()).unwrap();
    }
    loop {
        driver.latch().renew(tell());
        driver.tick();
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// Lets a child hold the addresses for a while and kills it. Gives when, and the last deadline.
fn hold_and_die(wire: &Wire, tag: &'static str) -> (u64, u64) {
    let mut child = wire.host.run(move || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "restarted::steady_holder", "--nocapture"])
            .env(CHILD, tag)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    });
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let deadline = |line: String| Some(line.strip_prefix("deadline ")?.parse::<u64>().unwrap());
    let told = lines.by_ref().map_while(Result::ok).filter_map(deadline);
    let early = told.take(12).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = boottime_us();
    let late = lines.map_while(Result::ok).filter_map(deadline).last();
    (killed, late.unwrap_or(early))
}

/// Goal: a start within the lease goes on under the same or a newer epoch without a lost packet.
/// Method: SIGKILL under questions; the next start gets the orders again.
#[test]
fn start_within_the_lease_of_a_killed_one_loses_no_packet() {
    let Some(wire) = Wire::lay("start_within_the_lease_of_a_killed_one") else {
        return;
    };
    for epoch in [EPOCH, EPOCH + 1] {
        let observer = Observer::start(&wire, &services());
        let (killed, deadline) = hold_and_die(&wire, "adopts");
        let mut next = driver(&wire, "adopts", Guard::Owned);
        assert_eq!(
            next.held(),
            held(EPOCH),
            "{} µs left",
            deadline - boottime_us()
        );
        assert_eq!(next.tick(), []);
        take(&mut next, epoch, LEASE_MS);
        assert_eq!(next.held(), held(epoch));
        // Far beyond the lease of the killed one.
        assert_eq!(keep(&mut next, 2 * LEASE_MS), []);
        let ended = boottime_us();
        let seen = observer.stop();
        for ip in services() {
            let (lost, asked) = unanswered(&seen, ip, killed - 20_000..ended - 5_000);
            assert!(
                lost.is_empty() && asked > 100,
                "{ip} lost {lost:?} of {asked}"
            );
            next.release(ip).unwrap();
        }
    }
}

/// Goal: a start that gets no order leaves what it finds until its lease ends, refuses an older
/// order for it, and then removes it; nothing is heard after the deadline.
/// Method: SIGKILL, a start within the lease that only ticks.
#[test]
fn start_without_orders_lets_the_lease_of_a_killed_one_end() {
    let Some(wire) = Wire::lay("start_without_orders_lets_the_lease_end") else {
        return;
    };
    let observer = Observer::start(&wire, &services());
    let (_, deadline) = hold_and_die(&wire, "leaves");
    let mut next = driver(&wire, "leaves", Guard::Owned);
    let ip4 = ip(SERVICE4);
    let older = next
        .acquire_until(service(ip4), EPOCH - 1, after(50))
        .unwrap_err();
    let stale = AcquireFault::StaleEpoch {
        held: EPOCH,
        offered: EPOCH - 1,
    };
    assert!(older.to_string().ends_with(&stale.to_string()), "{older}");
    assert_eq!(next.held(), held(EPOCH), "a refused order costs nothing");
    let mut removed = Vec::<IpAddr>::new();
    while boottime_us() < deadline + LATE_US {
        for incident in next.tick() {
            match incident {
                Incident::Removed { ip } => removed.push(ip),
                other => panic!("{other:?}"),
            }
        }
        wait_until(after(5));
    }
    removed.sort_unstable();
    assert_eq!(removed, services());
    assert_eq!(next.held(), Vec::<Held>::new());
    wait_until(after(50));
    silent_after(observer, deadline);
}

/// Goal: between the end of the lease and a late start nothing is heard, nor from that start.
/// Method: SIGKILL, a start long after the deadline; then an order, which it obeys.
#[test]
fn late_start_finds_silence_and_removes_what_is_left() {
    let Some(wire) = Wire::lay("late_start_finds_silence") else {
        return;
    };
    let observer = Observer::start(&wire, &services());
    let (_, deadline) = hold_and_die(&wire, "late");
    wait_until(deadline + 5 * LATE_US);
    let mut next = driver(&wire, "late", Guard::Owned);
    assert_eq!(next.held(), []);
    assert_eq!(next.tick(), [], "`manage` removed them");
    let shown = wire.host.shell("ip address show");
    assert!(!shown.contains(SERVICE4), "{shown}");
    silent_after(observer, deadline);
    take(&mut next, EPOCH, LEASE_MS);
    assert_eq!(next.held(), held(EPOCH));
}

fn silent_after(observer: Observer, deadline: u64) {
    let (seen, _) = observer.stop();
    for ip in services() {
        let seen = of(&seen, ip);
        let late: Vec<_> = seen
            .iter()
            .filter(|s| s.at_us > deadline + LATE_US)
            .collect();
        assert!(late.is_empty(), "{ip} after its deadline: {late:?}");
        let last = seen.iter().map(|s| s.at_us).max().unwrap();
        println!(
            "{ip}: last heard {} µs before its deadline",
            deadline.saturating_sub(last)
        );
    }
}

/// Goal: a machine that slept is silent with the first call after it wakes, and what has a lease
/// that lives comes back with the tick.
/// Method: the driver is told that it slept, with and without a lease that lives.
#[test]
fn machine_that_slept_is_silent_until_its_lease_is_known_to_live() {
    let Some(wire) = Wire::lay("machine_that_slept_is_silent") else {
        return;
    };
    let mut driver = driver(&wire, "slept", Guard::Owned);
    let deadline = after(400);
    for ip in services() {
        driver.acquire_until(service(ip), 1, deadline).unwrap();
    }
    let observer = Observer::start(&wire, &services());
    wait_until(after(30));
    driver.latch().woke(60_000);
    let shut = boottime_us();
    assert_eq!(driver.held(), []);
    wait_until(after(40));
    let ticked = boottime_us();
    let mut told = vec![Incident::Slept { ms: 60_000 }];
    told.extend(services().map(|ip| Incident::Restored { ip }));
    assert_eq!(driver.tick(), told);
    assert_eq!(driver.held(), held(1));
    driver.latch().woke(1);
    wait_until(deadline);
    assert_eq!(driver.tick(), [Incident::Slept { ms: 1 }]);
    assert_eq!(driver.held(), [], "the lease is over");
    let (seen, _) = observer.stop();
    for ip in services() {
        let seen = of(&seen, ip);
        assert!(seen.iter().any(|s| s.at_us < shut), "{ip}");
        let wrong: Vec<_> = seen
            .iter()
            .filter(|s| (shut + 1_000..ticked).contains(&s.at_us))
            .collect();
        assert!(wrong.is_empty(), "{ip}: {wrong:?}");
    }
}
