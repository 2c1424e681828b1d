//! Inputs that can't become names: what is left out, what is refused, and what stays served.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{answer_to, ask, words};
use dns::{Transport, Zone, ZoneError, ZoneInput, Zones};

fn input(name: &str, hosts: &[&str]) -> ZoneInput {
    ZoneInput {
        name: name.into(),
        ttl_s: 5,
        withheld: false,
        serial: 1,
        published: hosts
            .iter()
            .zip(1..)
            .map(|(host, last)| ((*host).to_owned(), [10, 0, 0, last].into()))
            .collect(),
        nameservers: Vec::new(),
    }
}

fn told(zones: &Zones, name: &str, rtype: u16) -> String {
    let bytes = ask(name, rtype).bytes();
    words(&answer_to(Some(zones), &bytes, Transport::Udp).unwrap())
}

/// Goal: a host whose name is reserved or illegal loses its name, not its traffic.
/// Method: hosts `ns`, `a.NS`, an over-long one, a forgotten one and a good one.
#[test]
fn host_that_cannot_be_named_stays_in_the_apex() {
    let long = "x".repeat(64);
    let zones = Zones::project(vec![input("web.example", &["ns", "a.NS", &long, "", "ok"])]);
    assert_eq!(
        told(&zones, "web.example.", 1).matches("A 10.0.0.").count(),
        5
    );
    assert_eq!(
        told(&zones, "ok.web.example.", 1),
        "NoError aa an[A 10.0.0.5]"
    );
    assert!(told(&zones, "ns.web.example.", 1).starts_with("NXDomain"));
    assert_eq!(zones.all()[0].left_out(), ["ns", "a.NS", &long]);
}

/// Goal: name servers that nobody can reach are not named, and a zone without any is whole.
/// Method: one server on a wildcard, one without addresses, one twice.
#[test]
fn unreachable_name_servers_are_not_named() {
    let mut with = input("web.example.", &["h1"]);
    with.nameservers = vec![
        ("h1".into(), vec!["0.0.0.0".parse().unwrap()]),
        ("h2".into(), vec![]),
        ("h3".into(), vec![[10, 1, 0, 3].into()]),
        ("H3".into(), vec![[10, 1, 0, 3].into()]),
    ];
    let zones = Zones::project(vec![with, input("none.example.", &["h1"])]);
    assert_eq!(
        told(&zones, "web.example.", 2),
        "NoError aa an[NS h3.ns.web.example.] ar[A 10.1.0.3]"
    );
    assert_eq!(
        told(&zones, "none.example.", 2),
        "NoError aa ns[SOA none.example. 1]"
    );
}

/// Goal: one group's bad zone costs no other group its zone, and says what to do.
/// Method: a bad, an over-long, a good and a second zone of the same name in other case.
#[test]
fn bad_zone_is_refused_alone() {
    let long = format!(
        "{}.example.",
        ["y".repeat(60), "y".repeat(60), "y".repeat(60)].join(".")
    );
    let longest = format!(
        "{}.",
        ["y".repeat(61), "y".repeat(61), "y".repeat(62)].join(".")
    );
    let names = [
        "web..example.",
        &long,
        "web.example.",
        "WEB.Example",
        ".",
        &longest,
    ];
    let zones = Zones::project(names.iter().map(|name| input(name, &["h1"])).collect());
    assert_eq!(zones.all().len(), 2);
    assert!(told(&zones, "web.example.", 1).contains("10.0.0.1"));
    assert!(told(&zones, &format!("h1.{longest}"), 1).contains("10.0.0.1"));
    let kinds: Vec<bool> = zones
        .refused()
        .iter()
        .map(|why| matches!(why, ZoneError::Duplicate { .. }))
        .collect();
    assert_eq!(kinds, [false, false, true, false]);
    let text = Zone::project(&input("", &[])).unwrap_err().to_string();
    assert!(text.contains("as in web.example."), "{text}");
}
