//! What a usual query costs without the network: found, judged by the rate limit, answered in
//! place. Prints nanoseconds of this thread's CPU for each kind.
//!
//! `cargo run --release -p dns --example hotpath`
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::net::IpAddr;

use dns::hot::{HotPath, Moment};
use dns::limit::{Limiter, RateLimit};
use dns::{ZoneInput, Zones};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: u64 = 5_000_000;

/// Nanoseconds that this thread has run.
fn cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn query(name: &[u8]) -> Vec<u8> {
    let mut query = b"\0\0\x01\0\0\x01\0\0\0\0\0\x01".to_vec();
    query.extend(name);
    query.extend(b"\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0");
    query
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let zones = Zones::project(vec![ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial: 1,
        published: (1..=16_u8)
            .map(|n| (format!("h{n}"), IpAddr::from([10, 77, 0, n])))
            .collect(),
        nameservers: vec![("h1".into(), vec![[127, 0, 0, 1].into()])],
    }]);
    let rates = RateLimit {
        answers: u32::MAX,
        negative: u32::MAX,
        errors: u32::MAX,
        ..RateLimit::default()
    };
    let mut limiter = Limiter::new(rates, 7);
    let mut hot = HotPath::default();
    let mut buffer = [0_u8; 4_096];
    for (what, name) in [
        ("apex, 16 addresses", &b"\x03web\x07example\0"[..]),
        ("host name", b"\x03h16\x03web\x07example\0"),
        ("NXDOMAIN", b"\x06nope42\x03web\x07example\0"),
        ("REFUSED", b"\x03www\x05other\x04test\0"),
    ] {
        let query = query(name);
        let started = cpu_ns();
        for turn in 0..ROUNDS {
            let client = IpAddr::from(
                0x0A00_0000_u32
                    .wrapping_add(turn as u32 % 65_536)
                    .to_be_bytes(),
            );
            if let Some(room) = buffer.get_mut(..query.len()) {
                room.copy_from_slice(&query);
            }
            let moment = Moment {
                client,
                turn,
                jar: None,
            };
            let judge = |bucket| limiter.judge(client, bucket, turn);
            let answered = hot.answer(&zones, moment, &mut buffer, query.len(), judge);
            std::hint::black_box(answered.ok_or("not the hot path")?);
        }
        let took = (cpu_ns() - started) as f64 / ROUNDS as f64;
        println!("{what}: {took:.0} ns");
    }
    Ok(())
}
