//! The probes against real sockets and processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use common::state_of;
use control::{Instant, LocalGroup};
use monitor::judge::{Look, ObjectId, Outcome, Reading, Run, Task};
use monitor::probe::Prober;
use monitor::watch::Monitor;
use statemachine::{HostId, LoadKind, Policy, TestKind, TestSpec};
use tokio::task::LocalSet;

/// Answers every client with the same bytes.
fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut question = [0; 1_024];
            let _asked = stream.read(&mut question);
            let _gone = stream.write_all(bytes);
        }
    });
    address
}

fn look(look: Look) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let run = Run {
            object: ObjectId(1),
            run: 1,
            task: Task {
                look,
                of: Vec::new(),
            },
            timeout_ms: 400,
        };
        let found = Rc::new(Prober::default()).perform(run);
        match tokio::time::timeout(Duration::from_millis(400), found).await {
            Ok(found) => found.outcome,
            Err(_) => Err("no answer".to_owned()),
        }
    })
}

fn http(address: SocketAddr, text: Option<&str>) -> Outcome {
    look(Look::Test(TestKind::Http {
        url: format!("http://{address}/health?full=1"),
        expect_status: 200,
        expect_body: text.map(str::to_owned),
    }))
}

fn load(address: SocketAddr, field: &str) -> Outcome {
    look(Look::Load(LoadKind::Http {
        url: format!("http://{address}/load"),
        field: field.to_owned(),
        capacity: 100,
    }))
}

/// Goal: `http` judges by status and body, whole or in chunks, and says what was wrong.
#[test]
fn an_http_test_judges_by_status_and_body() {
    let good = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall good\n");
    assert_eq!(http(good, None), Ok(Reading::Passed));
    assert_eq!(http(good, Some("good")), Ok(Reading::Passed));
    let words = http(good, Some("bad")).unwrap_err();
    assert_eq!(words, "status 200, but the body lacks the text asked for");
    let chunks =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nall \r\n4\r\ngood\r\n0\r\n\r\n";
    assert_eq!(
        http(answering(chunks), Some("all good")),
        Ok(Reading::Passed)
    );
    let plain = b"HTTP/1.0 200 OK\r\n\r\nno length, all good";
    assert_eq!(
        http(answering(plain), Some("all good")),
        Ok(Reading::Passed)
    );
    let busy = answering(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(http(busy, None), Err("status 503 instead of 200".into()));
    let other = answering(b"220 mail ESMTP\r\n\r\n");
    assert_eq!(http(other, None), Err("its answer is not HTTP".into()));
    assert_eq!(
        http(answering(b""), None),
        Err("it hung up without an answer".into())
    );
}

/// Goal: a server that accepts and says nothing is no answer, and a closed port is one at once.
#[test]
fn a_silent_server_and_a_closed_port_fail() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    assert_eq!(http(address, None), Err("no answer".into()));
    let tcp = |address: SocketAddr| {
        let target = address.to_string();
        look(Look::Test(TestKind::Tcp { target }))
    };
    assert_eq!(tcp(address), Ok(Reading::Passed));
    drop(silent);
    let refused = tcp(address).unwrap_err();
    assert_eq!(
        refused,
        format!("cannot connect to {address}: connection refused")
    );
}

/// Goal: a load is read from a JSON document by its path.
#[test]
fn a_load_is_a_number_in_a_document() {
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n{\"load\": {\"now\": [7, 41.6]}, \"name\": \"x\"}";
    let address = answering(body);
    let read = |load| {
        Ok(Reading::Load {
            load,
            capacity: 100,
        })
    };
    assert_eq!(load(address, "load.now.0"), read(7));
    assert_eq!(load(address, "load.now.1"), read(42));
    assert_eq!(load(address, "name"), Err("no number at `name`".into()));
    assert!(
        load(answering(b"HTTP/1.1 200 OK\r\n\r\nnope"), "x")
            .unwrap_err()
            .starts_with("not JSON")
    );
}

/// Goal: `dns` passes on a record, for v6 too, and tells any other answer in words.
#[test]
fn a_dns_test_wants_a_record() {
    // By the first letter of the name: a has an address, s has a v6 address only, x is no name.
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = server.recv_from(&mut packet) {
            let v6 = packet[length - 3] == 28;
            let (code, count) = match packet[13] {
                b'a' => (0, 1),
                b's' => (0, u8::from(v6)),
                _ => (3, 0),
            };
            packet[2] |= 0x80;
            packet[3] = code;
            packet[7] = count;
            let _gone = server.send_to(&packet[..length], client);
        }
    });
    let ask = |name: &str| {
        look(Look::Test(TestKind::Dns {
            server: address.to_string(),
            query: name.to_owned(),
        }))
    };
    assert_eq!(ask("a.example."), Ok(Reading::Passed));
    assert_eq!(ask("six.example"), Ok(Reading::Passed));
    let words = ask("x.example.").unwrap_err();
    assert_eq!(words, format!("{address} says NXDOMAIN for x.example."));
}

/// Goal: an interface that is there and up passes, any other is named.
#[test]
fn an_interface_is_looked_at() {
    let test = |name: &str| {
        let (name, gateway) = (name.to_owned(), None::<IpAddr>);
        look(Look::Test(TestKind::Interface { name, gateway }))
    };
    assert_eq!(test("lo"), Ok(Reading::Passed));
    assert_eq!(test("eth77"), Err("there is no interface eth77".into()));
}

/// Goal: the end of a watched process is told at once, not at the next interval, and without `fall`.
/// Method: an interval of 2 s, and a process that is killed right after the first look.
#[test]
fn the_end_of_a_process_is_seen_at_once() {
    let mut child = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let file = std::env::temp_dir().join(format!("rais-pid-{}", std::process::id()));
    std::fs::write(&file, format!("{}\n", child.id())).unwrap();
    let mut policy = Policy::new("web", "web.example.");
    policy.tests = vec![TestSpec {
        name: "daemon".into(),
        kind: TestKind::Process {
            pid_file: file.display().to_string(),
        },
        interval_ms: 2_000,
        timeout_ms: 500,
        rise: 2,
        fall: 9,
    }];
    let (news, heard) = sync_channel::<(LocalGroup, Option<String>)>(64);
    let tell = move |_, verdict, why| {
        let _ended = news.send((verdict, why));
    };
    let now = || Instant(host::clock::boottime_us());
    let (monitor, _thread) = Monitor::start(HostId(1), now, None, Box::new(tell)).unwrap();
    monitor.follow(Arc::new(state_of(policy)));
    let patience = Duration::from_secs(20);
    let (first, _) = heard.recv_timeout(patience).unwrap();
    assert!(first.healthy);
    // Until it was looked at: what a person would ask.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    while runtime
        .block_on(monitor.shown())
        .first()
        .is_none_or(|test| test.found.is_none())
    {
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let killed = Instant(host::clock::boottime_us());
    child.kill().unwrap();
    let (verdict, why) = heard.recv_timeout(patience).unwrap();
    let took = Instant(host::clock::boottime_us()).ms_since(killed);
    assert!(!verdict.healthy && took < 1_500, "{took} ms");
    let expected = format!("test daemon: process {} has ended", child.id());
    assert_eq!(why, Some(expected));
    let _reaped = child.wait();
    std::fs::remove_file(&file).unwrap();
}
