//! How long from the swap of the zones to the first answer that has the change, over UDP on
//! loopback: the host that is taken out is asked for until it is gone. Prints the median and p99.
//!
//! `cargo run --release -p dns --example propagation -- [ROUNDS]`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dns::{DnsServer, Settings, ZoneInput, Zones};

fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}

/// Sixteen hosts, the last of them only in every other version.
fn input(serial: u32) -> Vec<ZoneInput> {
    let hosts = if serial.is_multiple_of(2) { 16 } else { 15 };
    vec![ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial,
        published: (1..=hosts)
            .map(|n: u8| (format!("h{n}"), IpAddr::from([10, 77, 0, n])))
            .collect(),
        nameservers: vec![("h1".into(), vec![[127, 0, 0, 1].into()])],
    }]
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds: u32 = match std::env::args().nth(1) {
        Some(rounds) => rounds.parse()?,
        None => 1_000,
    };
    let zones = Arc::new(ArcSwap::from_pointee(Zones::project(input(0))));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut settings = Settings::new(*b"no secret at all", wall_us);
    settings.rate = None;
    let server = DnsServer::bind(&[listen], zones.clone(), settings)?;
    server.set_ready(true);
    let address = server.addresses().first().ok_or("no address")?;
    let socket = UdpSocket::bind(listen)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let query = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x03h16\x03web\x07example\0\0\x01\0\x01";
    let mut took: Vec<Duration> = Vec::new();
    for serial in 1..=rounds {
        let started = Instant::now();
        zones.store(Arc::new(Zones::project(input(serial))));
        let wanted = if serial.is_multiple_of(2) { 0 } else { 3 };
        loop {
            socket.send(query)?;
            let mut answer = [0_u8; 512];
            socket.recv(&mut answer)?;
            if answer[3] & 0x0F == wanted {
                break;
            }
        }
        took.push(started.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len() - 1));
    println!(
        "projection, swap and first changed answer over {rounds} changes: median {:?}, p99 {:?}",
        at(50).unwrap_or(&Duration::ZERO),
        at(99).unwrap_or(&Duration::ZERO)
    );
    Ok(())
}
