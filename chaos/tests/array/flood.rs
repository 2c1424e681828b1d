//! A flood of queries and idle connections on one host's name server: its leases don't notice.

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{At, Lab, Targets, now, wait_until};
use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::{HOME, lab, turn};

/// How long the flood lasts.
const FLOOD: Duration = Duration::from_secs(10);
/// Client networks that it seems to come from, a /24 each.
const NETWORKS: u8 = 250;
/// Idle TCP connections, over all of them.
const CONNECTIONS: usize = 10_000;
/// What the daemon's memory may grow by.
const GROWTH_KIB: u64 = 16 * 1024;
/// What the zone's apex is called in the lab.
const ZONE: &[u8] = b"\x03web\x07example\x00";

/// An address of a client network, reached through the client of the lab.
fn source(network: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, network, 1)
}

/// Gives the client all source addresses, and the host a way back to them.
fn widen(lab: &Lab, host: u8) {
    let mut batch = String::new();
    for network in 0..NETWORKS {
        let _ = writeln!(batch, "address add {}/32 dev lo", source(network));
    }
    let file = lab.logs().join("sources");
    std::fs::write(&file, batch).unwrap();
    let client = lab.client();
    client.ip(&["link", "set", "lo", "up"]).unwrap();
    client.ip(&["-batch", file.to_str().unwrap()]).unwrap();
    let back = ["route", "add", "198.18.0.0/15", "via", "10.77.0.200"];
    lab.host(host).unwrap().ip(&back).unwrap();
}

/// A query for the name that `labels` (wire form) puts below the zone.
fn query(number: u16, labels: &[u8], rtype: u16) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(labels);
    bytes.extend(ZONE);
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

/// Random names and types, and bytes that are no query, as fast as the socket takes them.
fn flood(server: SocketAddr, end: At, sent: &AtomicU64) {
    let bind = |network| UdpSocket::bind((source(network), 0)).unwrap();
    let sockets: Vec<UdpSocket> = (0..NETWORKS).map(bind).collect();
    let (mut word, mut count) = (88_172_645_463_325_252_u64, 0);
    while now() < end {
        for socket in &sockets {
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            let label = format!("{word:016x}");
            let labels = [&[16], label.as_bytes()].concat();
            let mut query = query(word as u16, &labels, (word >> 32) as u16);
            if word.is_multiple_of(7) {
                let at = word as usize / 7 % query.len();
                query[at] ^= 0xFF;
            }
            // A full buffer is what the flood wants; on it goes.
            let _lost = socket.send_to(&query, server);
            count += 1;
        }
    }
    sent.store(count, Ordering::Relaxed);
}

/// Opens connections that say nothing.
fn sit(server: SocketAddr) -> Vec<TcpStream> {
    let from = |n: usize| SocketAddr::from((source((n % usize::from(NETWORKS)) as u8), 0));
    let open = |n| connect(from(n), server).unwrap_or_else(|error| panic!("number {n}: {error}"));
    (0..CONNECTIONS).map(open).collect()
}

/// A connection from an address of choice; std has no way to say where from.
fn connect(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    Ok(socket.into())
}

/// A client that behaves: asks for the zone's addresses ten times a second, three times as `dig` does,
/// and by TCP when it is told to. How often it asked, and how often in vain.
fn behave(server: SocketAddr, end: At) -> (u32, u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let patience = Duration::from_millis(300);
    socket.set_read_timeout(Some(patience)).unwrap();
    let (mut asked, mut vain) = (0_u32, 0);
    while now() < end {
        let begun = now();
        asked += 1;
        let ask = query(asked as u16, &[], 1);
        let answered = (0..3).any(|_| {
            socket.send_to(&ask, server).unwrap();
            let mut buffer = [0; 1_500];
            match socket.recv(&mut buffer) {
                Ok(length) if buffer[2] & 2 != 0 => length > 2 && by_tcp(server, &ask),
                Ok(_) => buffer[..2] == ask[..2] && buffer[7] > 0,
                Err(_) => false,
            }
        });
        vain += u32::from(!answered);
        wait_until(begun.after(Duration::from_millis(100)));
    }
    (asked, vain)
}

fn by_tcp(server: SocketAddr, ask: &[u8]) -> bool {
    let exchange = || -> std::io::Result<bool> {
        let patience = Duration::from_secs(1);
        let mut stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(&[&(ask.len() as u16).to_be_bytes(), ask].concat())?;
        let mut head = [0; 14];
        stream.read_exact(&mut head)?;
        Ok(head[9] > 0)
    };
    exchange().unwrap_or(false)
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Goal: whoever floods the name server of a host costs it no lease, no memory, and a client that
/// behaves no answer. Method: three hosts; the leader's name server is asked random things from 250
/// networks at full speed for 10 s after 10,000 connections that say nothing; each address is watched.
#[test]
fn a_flood_of_queries_costs_no_lease_and_no_client_an_answer() {
    let _turn = turn();
    let Some(lab) = lab(3, "flood") else { return };
    let array = Array::up(&lab, 3).unwrap();
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let host = array.leader().unwrap();
    widen(&lab, host);
    let limit = rustix::process::Rlimit {
        current: Some(12_000),
        maximum: Some(12_000),
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let server = SocketAddr::from((Ipv4Addr::new(10, 77, 0, host), 53));
    let events = array.follow(host).unwrap();
    let pid = array.daemon(host).unwrap().pid();
    let before = resident_kib(pid);
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    let client = lab.client();
    let idle = client.inside(move || sit(server)).unwrap();
    let end = now().after(FLOOD);
    let sent = &*Box::leak(Box::new(AtomicU64::new(0)));
    let (most, done) = (AtomicU64::new(before), AtomicBool::new(false));
    let (asked, vain) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| client.inside(move || flood(server, end, sent)).unwrap());
        let good = scope.spawn(|| client.inside(move || behave(server, end)).unwrap());
        let watch = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(resident_kib(pid), Ordering::Relaxed);
                wait_until(now().after(Duration::from_millis(50)));
            }
        });
        flood.join().unwrap();
        let result = good.join().unwrap();
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap();
        result
    });
    let report = observer.stop().unwrap();
    let fenced: Vec<_> = events.so_far();
    let fenced: Vec<_> = fenced
        .iter()
        .filter(|e| e["kind"] == "hostFencing")
        .collect();
    let grown = most.load(Ordering::Relaxed).saturating_sub(before);
    println!(
        "{} queries, {} connections; {asked} asked, {vain} in vain; memory {before} KiB and {grown} more",
        sent.load(Ordering::Relaxed),
        idle.len()
    );
    assert!(fenced.is_empty(), "{fenced:?}");
    for address in home_addresses(host) {
        let seen = report.address(address).unwrap();
        let gaps: Vec<_> = seen.gaps.iter().filter(|gap| !gap.open).collect();
        assert!(gaps.is_empty(), "{address}: {gaps:?}");
    }
    // A debug build cannot read as fast as the flood comes; what the queue has no room for is lost.
    assert!(asked > 10 && vain * 2 <= asked, "{vain} of {asked} in vain");
    assert!(grown < GROWTH_KIB, "{grown} KiB more");
}
