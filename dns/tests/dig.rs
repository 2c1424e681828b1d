//! A person with `dig`. A process of its own: a child that is being started holds our sockets
//! for an instant, and tests beside it that bind an address again would meet them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::Command;
use std::sync::Arc;

use arc_swap::ArcSwap;
use common::{settings, zones};
use dns::DnsServer;

/// Goal: a person with `dig` sees what they expect.
/// Method: real dig, where it is installed: UDP, TCP, NXDOMAIN, ANY, AXFR.
#[test]
fn dig_reads_our_answers() {
    let shared = Arc::new(ArcSwap::from_pointee(zones()));
    let listen = ["127.0.0.1:0".parse().unwrap()];
    let server = DnsServer::bind(&listen, shared, settings()).unwrap();
    server.set_ready(true);
    let address = server.addresses()[0];
    let dig = |arguments: &[&str]| {
        let output = Command::new("dig")
            .args([
                "+norec",
                "+time=5",
                "+tries=1",
                "-p",
                &address.port().to_string(),
            ])
            .arg(format!("@{}", address.ip()))
            .args(arguments)
            .output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let Ok(short) = dig(&["+short", "web.example."]) else {
        eprintln!("dig is not installed: skipped");
        return;
    };
    let mut lines: Vec<&str> = short.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["10.77.0.101", "10.77.0.102"]);
    for (arguments, expected) in [
        (
            &["+tcp", "+short", "web.example.", "AAAA"][..],
            "fd00:77::101",
        ),
        (
            &["+short", "web.example.", "SOA"],
            "hostmaster.web.example. 17 60 10 604800 5",
        ),
        (&["nope.web.example."], "status: NXDOMAIN"),
        (&["web.example.", "MX"], "AUTHORITY: 1"),
        (&["web.example.", "ANY", "+notcp"], "ANSWER: 2"),
        (
            &["+edns=1", "+noednsnegotiation", "web.example."],
            "status: BADVERS",
        ),
        (&["web.example.", "AXFR"], "Transfer failed"),
        (&["+short", "big.example."], "10.78.0.199"),
    ] {
        let seen = dig(arguments).unwrap();
        assert!(seen.contains(expected), "{arguments:?}\n{seen}");
        assert!(
            !seen.contains("WARNING") || arguments[0].starts_with("+edns"),
            "{seen}"
        );
    }
}
