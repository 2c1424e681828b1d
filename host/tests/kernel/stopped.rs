//! A holder that is stopped (SIGSTOP) at any point falls silent at its deadline.
//!
//! The holder is a child process: this test binary again, which takes, renews and lets go of the
//! addresses, and tells each deadline before it acts on it. So a frame is right only if some deadline
//! that was told before it, plus the 10 ms of the promise, lies after it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use host::clock::boottime_us;
use host::driver::AddressDriver as _;
use host::gate::Guard;
use host::netlink_driver::Netlink;
use rustix::process::{Pid, Signal, kill_process};

use crate::driver::service;
use crate::netns::{Wire, services};
use crate::observer::{Observer, after, wait_until};

/// Says to this binary that it is the child.
const CHILD: &str = "RAIS_TEST_HOLDER";
/// Lease of the child, in ms, near the `fast` preset's.
const LEASE_MS: u64 = 60;
/// What an end may be late by, in µs.
const LATE_US: u64 = 10_000;

/// Not a test of its own: the child's program. It ends when its input does.
#[test]
fn holder() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut driver = Netlink::open("stopped", Guard::Owned).unwrap();
    driver.manage(&services().map(service)).unwrap();
    let tell = || {
        let deadline = after(LEASE_MS);
        writeln!(std::io::stdout(), "\ndeadline {deadline}").unwrap();
        deadline
    };
    // As in the warden: one thread renews, the other takes and lets go.
    let latch = driver.latch();
    std::thread::spawn(move || {
        loop {
            latch.renew(tell());
            latch.mend();
            std::thread::park_timeout(Duration::from_millis(2));
        }
    });
    for epoch in 1.. {
        for ip in services() {
            // Refused when a stop came in between: that is the point.
            let _ = driver.acquire_until(service(ip), epoch, tell());
        }
        for _ in 0..5 {
            driver.tick();
            std::thread::park_timeout(Duration::from_millis(2));
        }
        let latch = driver.latch();
        for ip in services() {
            latch.bar(ip);
            driver.release(ip).unwrap();
            latch.unbar(ip);
        }
    }
}

fn start(wire: &Wire) -> Child {
    wire.host.run(|| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stopped::holder", "--nocapture"])
            .env(CHILD, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    })
}

/// Goal: whenever the holder is stopped, nothing is heard of it 10 ms after its deadline.
/// Method: 50 stops (3,000 with RAIS_LONG) at random points of take, renew and let go, each until
/// well after the deadline, half of them interrupted for an instant; every frame of the run is checked.
#[test]
fn stopped_holder_is_silent_after_its_deadline() {
    let Some(wire) = Wire::lay("stopped_holder_is_silent_after_its_deadline") else {
        return;
    };
    let stops = if std::env::var_os("RAIS_LONG").is_some() {
        3_000
    } else {
        50
    };
    let mut child = start(&wire);
    let output = BufReader::new(child.stdout.take().unwrap());
    let (tell, told) = sync_channel(100_000);
    std::thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if let Some(deadline) = line.strip_prefix("deadline ") {
                let _ = tell.send(deadline.parse::<u64>().unwrap());
            }
        }
    });
    let observer = Observer::start(&wire, &services());
    let pid = Pid::from_child(&child);
    let (mut deadlines, mut chance) = (Vec::new(), 0x9e37_79b9_7f4a_7c15_u64);
    for _ in 0..stops {
        // It is at work: some deadlines from now.
        for _ in 0..8 {
            deadlines.push(told.recv_timeout(Duration::from_secs(10)).unwrap());
        }
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        wait_until(boottime_us() + (chance >> 33) % 20_000);
        kill_process(pid, Signal::STOP).unwrap();
        if chance & (1 << 40) != 0 {
            // Away for a while between clock and kernel, and away again before it looks.
            wait_until(boottime_us() + (chance >> 41) % 80_000);
            kill_process(pid, Signal::CONT).unwrap();
            wait_until(boottime_us() + (chance >> 20) % 150);
            kill_process(pid, Signal::STOP).unwrap();
        }
        wait_until(after(LEASE_MS) + LATE_US + 20_000);
        kill_process(pid, Signal::CONT).unwrap();
        // Nothing may wait in the pipe: a holder that waits to tell is not at work.
        deadlines.extend(told.try_iter());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    deadlines.extend(told.iter());
    wait_until(after(LEASE_MS) + LATE_US);
    let (seen, _) = observer.stop();
    let lease_us = LEASE_MS * 1000;
    deadlines.sort_unstable();
    // Right is a frame between the telling of some deadline and 10 ms after it.
    let covered = |at: u64| {
        let next = deadlines.partition_point(|deadline| deadline + LATE_US < at);
        let next = deadlines.get(next);
        next.is_some_and(|deadline| deadline - lease_us <= at)
    };
    let wrong: Vec<_> = seen.iter().filter(|s| !covered(s.at_us)).collect();
    println!(
        "{stops} stops, {} deadlines, {} frames, {} wrong",
        deadlines.len(),
        seen.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(
        seen.len() > 10 * stops,
        "hardly anything was heard: {}",
        seen.len()
    );
}
