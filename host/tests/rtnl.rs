//! What a host does while another program holds RTNL, the kernel's lock of all networks.
//!
//! Apart from the other kernel tests, which would wait for that lock too: it is the machine's.
//! Where there is no root, or `cc`, `ip` or `nft` is missing, each test says SKIPPED and why.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

#[path = "kernel/netns.rs"]
mod netns;
#[path = "kernel/observer.rs"]
mod observer;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use host::address::Addresses;
use host::clock::boottime_us;
use host::driver::{
    AcquireFault, AddressDriver as _, DriverError, Incident, ServiceAddress, Taken,
};
use host::gate::{GateError, Guard};
use host::netlink_driver::{Latch, Netlink};
use netns::{DEVICE, SERVICE4, Wire, ip, services};
use observer::{Observer, after, of, unanswered, wait_until};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The lab's program that takes the lock.
const SOURCE: &str = include_str!("../../chaos/src/lab/rtnl.c");
/// A lease as in the `lan` preset, in ms.
const LEASE_MS: u64 = 270;
/// Two more addresses, one to be taken and one to be let go.
const NEW: &str = "10.9.0.102";
const OLD: &str = "10.9.0.103";
/// After a shut nothing is heard, in µs: what was under way has arrived by then.
const UNDER_WAY_US: u64 = 2_000;

/// Another hand's change is noticed and answered within this, in µs.
const NOTICED_US: u64 = 50_000;

/// Tries to have the hands wait in the one place, of which one in some three does.
const TRIES: u32 = 30;

/// One after the other: the lock is the machine's.
static TURN: Mutex<()> = Mutex::new(());

fn lay(test: &str) -> Option<(MutexGuard<'static, ()>, Wire)> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if Command::new("cc").arg("--version").output().is_err() {
        let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: needs a C compiler\n");
        return None;
    }
    Wire::lay(test).map(|wire| (turn, wire))
}

/// The lock, held; until it is dropped, or for its time.
struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Built once for each run of the tests.
fn program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (text, built) = (dir.join("rtnl.c"), dir.join("rtnl"));
        std::fs::write(&text, SOURCE).unwrap();
        let cc = Command::new("cc")
            .args(["-pthread", "-O2", "-o"])
            .args([&built, &text])
            .status();
        assert!(cc.unwrap().success());
        built
    })
}

/// Returns when the lock is held, for `ms` from then on.
fn hold(ms: u64) -> Held {
    queue(ms).await_lock()
}

/// Asks for the lock, behind who waits for it already.
fn queue(ms: u64) -> Queued {
    let mut command = Command::new(program());
    command.arg(ms.to_string()).stdout(Stdio::piped());
    Queued(command.spawn().unwrap())
}

struct Queued(Child);

impl Queued {
    fn await_lock(mut self) -> Held {
        let mut said = String::new();
        let output = self.0.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Held(self.0)
    }
}

fn service(ip: IpAddr) -> ServiceAddress {
    let prefix_len = if ip.is_ipv4() { 24 } else { 64 };
    ServiceAddress {
        ip,
        prefix_len,
        interface: DEVICE.to_owned(),
    }
}

fn all() -> Vec<IpAddr> {
    [&services()[..], &[ip(NEW), ip(OLD)]].concat()
}

fn driver(wire: &Wire, tag: &'static str, guard: Guard) -> Netlink {
    wire.host.run(move || {
        let mut driver = Netlink::open(tag, guard).unwrap();
        let managed: Vec<_> = all().into_iter().map(service).collect();
        driver.manage(&managed).unwrap();
        driver
    })
}

/// The thread that renews, as in the warden.
struct Renewing(Arc<AtomicBool>, Option<JoinHandle<()>>);

impl Renewing {
    fn start(latch: Latch) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                // What is not renewed falls silent, which is seen.
                latch.renew(after(LEASE_MS));
                latch.mend();
                let mut ready = [PollFd::from_borrowed_fd(latch.alert(), PollFlags::IN)];
                let limit = Timespec::try_from(Duration::from_millis(50)).unwrap();
                let _ = poll(&mut ready, Some(&limit));
            }
        });
        Self(stop, Some(thread))
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        let _ = self.1.take().map(JoinHandle::join);
    }
}

/// Goal: while RTNL is held what is held answers, whatever the hands wait for; what is to be let go is
/// silent at once, though it stays on its interface.
/// Method: the lock for 5 s, 18 leases, during the refresh of lives; for 2 s during an acquire and a
/// release; questions each millisecond.
#[test]
fn leases_are_renewed_while_the_hands_wait() {
    let Some((_turn, wire)) = lay("leases_are_renewed_while_the_hands_wait") else {
        return;
    };
    let mut driver = driver(&wire, "waits", Guard::Owned);
    let latch = driver.latch();
    let _renewing = Renewing::start(latch.clone());
    for ip in [&services()[..], &[ip(OLD)]].concat() {
        let until = after(LEASE_MS);
        driver.acquire_until(service(ip), 1, until).unwrap();
    }
    let observer = Observer::start(&wire, &all());
    wait_until(after(100));
    let began = boottime_us();

    // The first round refreshes the lives of all.
    let held = hold(5_000);
    let (mut driver, incidents, took) = waiting(&wire, driver, |driver| driver.tick());
    drop(held);
    assert_eq!(incidents, []);
    assert!(took > 4_500_000, "the refresh waited only {took} µs");

    // A release is ordered while they are at an acquire.
    let held = hold(2_000);
    let acquire = |driver: &mut Netlink| driver.acquire_until(service(ip(NEW)), 1, after(LEASE_MS));
    let ordered = boottime_us();
    let shutting = std::thread::spawn({
        let latch = latch.clone();
        move || {
            wait_until(after(500));
            latch.bar(ip(OLD));
            boottime_us()
        }
    });
    let (back, taken, took) = waiting(&wire, driver, acquire);
    driver = back;
    drop(held);
    let shut = shutting.join().unwrap();
    taken.unwrap();
    assert!(took > 1_500_000, "the acquire waited only {took} µs");

    let held = hold(2_000);
    let there = wire.host.run(|| Addresses::open().unwrap().list().unwrap());
    assert!(there.iter().any(|address| address.ip == ip(OLD)));
    let (driver, let_go, took) = waiting(&wire, driver, |driver| driver.release(ip(OLD)));
    drop(held);
    latch.unbar(ip(OLD));
    let_go.unwrap();
    assert!(took > 1_500_000, "the release waited only {took} µs");

    let ended = boottime_us();
    wait_until(after(50));
    let seen = observer.stop();
    let answers = |ip, span| {
        let (lost, asked) = unanswered(&seen, ip, span);
        println!("{ip}: {} of {asked} unanswered", lost.len());
        assert!(lost.is_empty() && asked > 1_000, "{ip} lost {lost:?}");
    };
    for ip in services() {
        answers(ip, began..ended);
    }
    answers(ip(OLD), began..shut - UNDER_WAY_US);
    let first = of(&seen.0, ip(NEW)).first().unwrap().at_us;
    assert!(
        first > ordered + 1_500_000,
        "served before the lock was free"
    );
    let late = of(&seen.0, ip(OLD)).into_iter();
    let late = late.filter(|seen| seen.at_us > shut + UNDER_WAY_US);
    assert_eq!(late.count(), 0, "the release did not silence it at once");
    assert_eq!(driver.held().len(), 3);
}

/// Has the hands do something in the host's namespace. Gives how long that took, in µs.
fn waiting<R: Send + 'static>(
    wire: &Wire,
    mut driver: Netlink,
    what: impl FnOnce(&mut Netlink) -> R + Send + 'static,
) -> (Netlink, R, u64) {
    let began = boottime_us();
    let (driver, result) = wire.host.run(move || {
        let result = what(&mut driver);
        (driver, result)
    });
    (driver, result, boottime_us() - began)
}

/// The hands at an acquire.
type Taking = JoinHandle<(Netlink, Result<Taken, DriverError>)>;

/// Has the hands take `NEW`, until they have opened its gate and wait for the lock to put it on. Gives who
/// holds that, and the deadline. Kernels want the lock to look for the interface, too, so it is passed on
/// to another program while the hands are at that; when they are quicker it is tried again.
fn stand_before_an_open_gate(mut driver: Netlink, latch: &Latch) -> (Held, Taking, u64) {
    let new = ip(NEW);
    for _ in 0..TRIES {
        let (mut held, deadline) = (hold(20_000), after(1_500));
        let hands = std::thread::spawn(move || {
            let result = driver.acquire_until(service(new), 1, deadline);
            (driver, result)
        });
        while boottime_us() < deadline - 500_000 && !hands.is_finished() {
            wait_until(after(100));
            if latch.all_open().contains(&new) && !hands.is_finished() {
                return (held, hands, deadline);
            }
            let next = queue(20_000);
            wait_until(after(50));
            drop(held);
            held = next.await_lock();
        }
        drop(held);
        driver = hands.join().unwrap().0;
        driver.release(new).unwrap();
    }
    panic!("the hands were always quicker");
}

/// Goal: an address that is put on after its deadline, or after a release or the node's end came, never
/// serves, however long the kernel kept the hands waiting in between.
/// Method: the hands have opened the gate, and wait for the lock to put the address on.
#[test]
fn an_address_that_waited_too_long_never_serves() {
    let Some((_turn, wire)) = lay("an_address_that_waited_too_long_never_serves") else {
        return;
    };
    let mut driver = driver(&wire, "late", Guard::Owned);
    let (latch, new) = (driver.latch(), ip(NEW));
    for case in ["deadline", "release", "end"] {
        let renewing = (case != "deadline").then(|| Renewing::start(latch.clone()));
        let (held, hands, deadline) = stand_before_an_open_gate(driver, &latch);
        let observer = Observer::start(&wire, &[new]);
        match case {
            "release" => latch.bar(new),
            "end" => assert!(latch.end()),
            _ => wait_until(deadline),
        }
        wait_until(after(100));
        assert!(!hands.is_finished(), "{case}: the hands did not wait");
        drop(held);
        let (back, refused) = hands.join().unwrap();
        driver = back;
        let Err(DriverError::AcquireFailed { cause, .. }) = refused else {
            panic!("{case}: served");
        };
        let is_right = match case {
            "deadline" => matches!(cause, AcquireFault::TooLate),
            _ => matches!(cause, AcquireFault::Gate(GateError::Shut { .. })),
        };
        assert!(is_right, "{case}: {cause}");
        latch.unbar(new);
        drop(renewing);
        let (seen, asked) = observer.stop();
        assert!(asked.len() > 50 && seen.is_empty(), "{case}: {seen:?}");
        let there = wire.host.run(|| Addresses::open().unwrap().list().unwrap());
        assert!(there.iter().all(|address| address.ip != new), "{case}");
    }
}

/// Goal: another hand in the tables silences everything at once, also while the hands wait.
/// Method: `nft flush ruleset` where tables can't be owned, and leases added by hand, with the lock held.
#[test]
fn a_touched_gate_is_shut_while_the_hands_wait() {
    let Some((_turn, wire)) = lay("a_touched_gate_is_shut_while_the_hands_wait") else {
        return;
    };
    let mut driver = driver(&wire, "touched", Guard::Watched);
    let latch = driver.latch();
    let renewing = Renewing::start(latch.clone());
    for ip in services() {
        let until = after(LEASE_MS);
        driver.acquire_until(service(ip), 1, until).unwrap();
    }
    let observer = Observer::start(&wire, &services());
    wait_until(after(100));
    let held = hold(2_000);
    // The first round refreshes the lives of all.
    let hands = std::thread::spawn(move || {
        let incidents = driver.tick();
        (driver, incidents)
    });
    wait_until(after(100));
    wire.host.shell("nft flush ruleset");
    let flushed = boottime_us();
    wait_until(after(500));
    let adding = boottime_us();
    for family in ["inet", "arp", "netdev"] {
        let opens = format!("add element {family} rais-touched leased4 {{ {SERVICE4} }}");
        wire.host.shell(&format!("nft {opens}"));
    }
    let added = boottime_us();
    wait_until(after(500));
    let until = boottime_us();
    assert!(!hands.is_finished(), "the hands did not wait");
    let on = wire.host.run(|| Addresses::open().unwrap().list().unwrap());
    drop(held);
    let (mut driver, mut incidents) = hands.join().unwrap();
    incidents.extend(driver.tick());
    let is_touch = |incident: &Incident| matches!(incident, Incident::GateTouched { .. });
    assert!(incidents.iter().any(is_touch), "{incidents:?}");
    let back = services().map(|ip| Incident::Restored { ip });
    incidents.retain(|incident| !is_touch(incident));
    assert_eq!(incidents, back);
    drop(renewing);
    let (seen, _) = observer.stop();
    for ip in services() {
        assert!(on.iter().any(|address| address.ip == ip), "{ip} was off");
        let seen = of(&seen, ip);
        for silent in [flushed + NOTICED_US..adding, added + NOTICED_US..until] {
            let wrong = seen.iter().filter(|s| silent.contains(&s.at_us));
            assert_eq!(wrong.count(), 0, "{ip}");
        }
    }
}
