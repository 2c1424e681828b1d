//! A flood from many sources beside a client that behaves: nothing grows, and it is answered.
//! A process of its own, since it measures the memory of the process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::{ask, settings, words, zones};
use dns::DnsServer;

/// Datagrams of the flood; RAIS_LONG makes it ten times as many.
const DATAGRAMS: u64 = 100_000;

/// Idle connections; both ends are of this process, so they cost two descriptors each.
const IDLE: usize = 3_000;

/// What memory may grow by: limits' tables are there before, so a little for connections.
const GROWTH_KIB: u64 = 16 * 1_024;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Random names of our zone and of others, and bytes that are no query, from 250 addresses.
fn flood(server: SocketAddr, count: u64, done: &AtomicBool, sent: &AtomicU64) {
    let sockets: Vec<UdpSocket> = (1..=250_u8)
        .map(|last| UdpSocket::bind((std::net::Ipv4Addr::new(127, 9, 9, last), 0)).unwrap())
        .collect();
    let mut word = 88_172_645_463_325_252_u64;
    for n in 0..count {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        let apex = if word.is_multiple_of(3) {
            "other.test."
        } else {
            "web.example."
        };
        let mut query = ask(&format!("{word:x}.{apex}"), (word >> 32) as u16).bytes();
        if word.is_multiple_of(7) {
            let at = word as usize / 7 % query.len();
            query[at] ^= 0xFF;
        }
        // A full buffer is what the flood wants; on it goes.
        let _lost = sockets[n as usize % sockets.len()].send_to(&query, server);
        sent.store(n, Ordering::Relaxed);
    }
    done.store(true, Ordering::Release);
}

/// Goal: under a flood over UDP and of idle TCP connections memory stays bounded, and a client
/// that behaves (asks again when it hears nothing, by TCP when it is told to) gets its answer.
/// Method: 100,000 random queries of 250 sources and 3,000 idle connections; meanwhile a client
/// asks by UDP all the time; then by TCP.
#[test]
fn flood_grows_nothing_and_a_client_is_answered() {
    let server = DnsServer::bind(
        &["127.0.0.1:0".parse().unwrap()],
        Arc::new(ArcSwap::from_pointee(zones())),
        settings(),
    )
    .unwrap();
    server.set_ready(true);
    let address = server.addresses()[0];
    let count = if std::env::var_os("RAIS_LONG").is_some() {
        10 * DATAGRAMS
    } else {
        DATAGRAMS
    };
    let before = resident_kib();
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut asked, mut answered) = (0, 0);
    let idle = std::thread::scope(|scope| {
        scope.spawn(|| flood(address, count, &done, &sent));
        let idle = scope.spawn(|| {
            let connect = |_| TcpStream::connect(address);
            (0..IDLE)
                .map(connect)
                .map_while(Result::ok)
                .collect::<Vec<_>>()
        });
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(address).unwrap();
        client
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while !done.load(Ordering::Acquire) {
            asked += 1;
            client.send(&ask("h2.web.example.", 1).bytes()).unwrap();
            let mut buffer = [0; 512];
            answered += u32::from(client.recv(&mut buffer).is_ok());
        }
        idle.join().unwrap()
    });
    let grown = resident_kib().saturating_sub(before);
    let stats = server.stats();
    println!(
        "asked {asked}, answered {answered}; memory grew by {grown} KiB; {} idle connections, {} ended; {} answers limited",
        idle.len(),
        stats.get("tcp_evicted"),
        stats.get("limited"),
    );
    assert!(answered > 0, "of {asked}");
    assert!(stats.get("limited") > 0);
    assert_eq!(stats.get("panicked"), 0);
    assert!(grown < GROWTH_KIB, "{grown} KiB");
    // Where descriptors are few, the idle ones hold them all.
    drop(idle);
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    assert!(tcp(&mut stream).contains("10.77.0.102"));
}

fn tcp(stream: &mut TcpStream) -> String {
    use std::io::{Read, Write};
    let query = ask("h2.web.example.", 1).bytes();
    let mut frame = (query.len() as u16).to_be_bytes().to_vec();
    frame.extend(query);
    stream.write_all(&frame).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    words(&message)
}
