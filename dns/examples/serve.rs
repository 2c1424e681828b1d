//! Serves the zone of peers.md (16 addresses, 16 names) until it is ended: for `dnsperf`.
//!
//! `cargo run --release -p dns --example serve -- 127.0.0.1:5300`
#![allow(clippy::print_stdout)]

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use dns::{DnsServer, ZoneInput, Zones};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: SocketAddr = match std::env::args().nth(1) {
        Some(address) => address.parse()?,
        None => SocketAddr::from(([127, 0, 0, 1], 5_300)),
    };
    let zones = Zones::project(vec![ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        serial: 1,
        published: (1..=16_u8)
            .map(|n| (format!("h{n}"), IpAddr::from([10, 77, 0, n])))
            .collect(),
        nameservers: vec![("h1".into(), vec![listen.ip()])],
    }]);
    let runtime = tokio::runtime::Runtime::new()?;
    let server = DnsServer::bind(
        &[listen],
        Arc::new(ArcSwap::from_pointee(zones)),
        runtime.handle(),
    )?;
    server.set_ready(true);
    println!("serving web.example. on {:?}", server.addresses());
    runtime.block_on(std::future::pending::<()>());
    Ok(())
}
