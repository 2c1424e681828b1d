//! Serves the zone of peers.md (16 addresses, 16 names) until it is ended: for `dnsperf`.
//!
//! `cargo run --release -p dns --example serve -- 127.0.0.1:5300 [ANSWERS_PER_SECOND]`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use dns::{DnsServer, RateLimit, Settings, ZoneInput, Zones};

fn wall_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_micros() as u64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = match arguments.next() {
        Some(address) => address.parse()?,
        None => SocketAddr::from(([127, 0, 0, 1], 5_300)),
    };
    let mut settings = Settings::new(*b"no secret at all", wall_us);
    if let Some(rate) = arguments.next() {
        let rate = rate.parse()?;
        settings.rate = Some(RateLimit {
            answers: rate,
            negative: rate,
            errors: rate,
            ..RateLimit::default()
        });
    }
    let zones = Zones::project(vec![ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial: 1,
        published: (1..=16_u8)
            .map(|n| (format!("h{n}"), IpAddr::from([10, 77, 0, n])))
            .collect(),
        nameservers: vec![("h1".into(), vec![listen.ip()])],
    }]);
    let server = DnsServer::bind(&[listen], Arc::new(ArcSwap::from_pointee(zones)), settings)?;
    server.set_ready(true);
    println!("serving web.example. on {:?}", server.addresses());
    loop {
        std::thread::park();
    }
}
