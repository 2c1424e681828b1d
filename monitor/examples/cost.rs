//! What 200 test objects at 1 s cost: `cargo run --release -p monitor --example cost [SECONDS] [https]`.
//!
//! 100 `tcp` and 100 `http` tests of a service in this process, or 200 `https` tests. Prints the processor time of the
//! monitor's thread alone, in percent of a core, and the memory of the whole process.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/tls.rs"]
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use common::state_of;
use control::Instant;
use monitor::watch::Monitor;
use statemachine::{HostId, Policy, TestKind, TestSpec};

/// Objects that are looked at each second.
const OBJECTS: usize = 200;
/// The name in the certificate.
const NAME: &str = "www.example";
/// Runs that may wait to be counted.
const QUEUE: usize = 4_096;

fn now() -> Instant {
    Instant(host::clock::boottime_us())
}

/// Answers whoever asks, and tells of each.
fn serve(served: SyncSender<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut question = [0; 1024];
            if stream.read(&mut question).is_ok_and(|length| length > 0) {
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
            served.send(()).unwrap();
        }
    });
    address
}

fn plain(n: u64, address: SocketAddr) -> TestKind {
    match n.is_multiple_of(2) {
        true => TestKind::Tcp {
            target: address.to_string(),
        },
        false => TestKind::Http {
            url: format!("http://{address}/health"),
            expect_status: 200,
            expect_body: None,
        },
    }
}

fn secure(address: SocketAddr, ca: &Path) -> TestKind {
    TestKind::Https {
        url: format!("https://{address}/health"),
        host: Some(NAME.to_owned()),
        ca: Some(ca.display().to_string()),
        verify: true,
        expect_status: 200,
        expect_body: None,
    }
}

fn tests(kind: impl Fn(u64) -> TestKind) -> Vec<TestSpec> {
    // Intervals that differ by a millisecond, or equal tests would be one object.
    let test = |n| TestSpec {
        name: n_name(n),
        kind: kind(n),
        interval_ms: 900 + n,
        timeout_ms: 500,
        rise: 2,
        fall: 2,
    };
    (0..OBJECTS as u64).map(test).collect()
}

fn n_name(n: u64) -> String {
    format!("test{n}")
}

/// Ticks of 10 ms that the thread named so has used.
fn ticks(name: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let stats = tasks.map(|task| std::fs::read_to_string(task.path().join("stat")).unwrap());
    let own = stats.filter(|stat| stat.contains(&format!("({name})")));
    let sum = |stat: String| -> u64 {
        let rest = stat.rsplit(')').next().unwrap().to_owned();
        let fields: Vec<u64> = rest
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        // After state: ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime;
        // tpgid may be negative, and is then left out above.
        let at = fields.len() - (50 - 13);
        fields[at] + fields[at + 1]
    };
    own.map(sum).sum()
}

fn main() {
    let seconds = std::env::args().nth(1);
    let seconds: usize = seconds.and_then(|s| s.parse().ok()).unwrap_or(20);
    let (served, runs) = sync_channel(QUEUE);
    let mut policy = Policy::new("web", "web.example.");
    let told = served.clone();
    let ca = std::env::temp_dir().join(format!("rais-cost-{}.pem", std::process::id()));
    policy.tests = match std::env::args().nth(2).as_deref() {
        Some("https") => {
            let authority = tls::Authority::new("cost");
            std::fs::write(&ca, authority.pem()).unwrap();
            let config = authority.sign(NAME, |_| {});
            let address = tls::serve(config, move || told.send(()).unwrap());
            tests(|_| secure(address, &ca))
        }
        _ => {
            let address = serve(served);
            tests(|n| plain(n, address))
        }
    };
    let tell = |_, verdict, _| println!("verdict: {verdict:?}");
    let (monitor, _thread) = Monitor::start(HostId(1), now, None, Box::new(tell)).unwrap();
    monitor.follow(Arc::new(state_of(policy)));
    let await_seconds = |seconds: usize| (0..OBJECTS * seconds).for_each(|_| runs.recv().unwrap());
    await_seconds(2);
    let (before, began) = (ticks("monitor"), now());
    await_seconds(seconds);
    let (used, took_ms) = (ticks("monitor") - before, now().ms_since(began));
    println!("{} runs in {took_ms} ms", OBJECTS * seconds);
    println!("{:.2} % of a core", used as f64 * 1000.0 / took_ms as f64);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|line| line.starts_with("VmRSS")) {
        println!("{line}");
    }
    let _none = std::fs::remove_file(&ca);
}
