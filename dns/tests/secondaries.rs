//! Existing name servers follow: BIND, Knot, NSD and PowerDNS as secondaries of our server, with
//! NOTIFY, IXFR and TSIG, over restarts of either side. 60 changes each; 1,000 with RAIS_LONG=1.
//!
//! Needs the Debian packages bind9, knot, nsd, pdns-server, pdns-backend-sqlite3 and sqlite3; says
//! which is missing. A process of its own, since it starts children: see dig.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod program;
mod secondary;

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::settings;
use dns::tsig::{Algorithm, Key, Keys};
use dns::{DnsServer, Primary, Secondaries, ZoneInput, Zones};
use secondary::{KEY, Kind, SECRET, SECRET_BYTES, Secondary};
use statemachine::Network;

/// One change may take so long to be followed: several refreshes of 60 s would be cheating.
const PATIENCE: Duration = Duration::from_secs(20);

/// One kind after the other: with two cores they would only measure each other.
static TURN: Mutex<()> = Mutex::new(());

/// Our server and what it serves.
struct Rais {
    shared: Arc<ArcSwap<Zones>>,
    primary: Arc<Primary>,
    server: Option<DnsServer>,
    address: SocketAddr,
    serial: u32,
    follow: Secondaries,
}

impl Rais {
    fn start(serial: u32) -> Rais {
        let mut rais = Rais {
            shared: Arc::default(),
            primary: Arc::default(),
            server: None,
            address: "127.0.0.1:0".parse().unwrap(),
            serial,
            follow: Secondaries::default(),
        };
        rais.resume();
        rais
    }

    /// Starts it again, without any memory of what was.
    fn resume(&mut self) {
        self.shared = Arc::default();
        let key = Key::new(KEY, Algorithm::HmacSha256, SECRET_BYTES).unwrap();
        self.primary = Arc::new(Primary::new(Keys::new(vec![key])));
        let (shared, primary) = (self.shared.clone(), self.primary.clone());
        let server = DnsServer::bind_primary(&[self.address], shared, primary, settings()).unwrap();
        self.address = server.addresses()[0];
        self.publish();
        server.set_ready(true);
        self.server = Some(server);
    }

    fn stop(&mut self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(self.server.take().unwrap().shutdown());
    }

    fn followed_by(&mut self, secondary: SocketAddr, signed: bool) {
        self.follow = Secondaries {
            zone: "web.example.".into(),
            notify: vec![secondary],
            allow: vec![Network {
                ip: "127.0.0.0".parse().unwrap(),
                prefix_len: 8,
            }],
            key: signed.then(|| KEY.to_owned()),
            rank: 0,
        };
        self.publish();
    }

    fn change(&mut self) -> u32 {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        self.publish();
        self.serial
    }

    fn publish(&self) {
        let zones = Arc::new(Zones::project(vec![input(self.serial)]));
        self.shared.store(zones.clone());
        self.primary.take_in(vec![self.follow.clone()], &zones);
    }

    fn count(&self, name: &str) -> u64 {
        self.server.as_ref().unwrap().stats().get(name)
    }
}

/// The addresses that version `serial` publishes: another set each time, of one to seven.
fn published(serial: u32) -> Vec<(String, IpAddr)> {
    let is_in = |host: &u32| *host == serial % 7 || (serial / 3 + host).is_multiple_of(2);
    let address = |host: u32| IpAddr::from([10, 77, 0, 100 + host as u8]);
    (0..7)
        .filter(is_in)
        .map(|host| (format!("h{host}"), address(host)))
        .collect()
}

fn input(serial: u32) -> ZoneInput {
    ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        serial,
        withheld: false,
        published: published(serial),
        nameservers: vec![("h1".into(), vec!["127.0.0.1".parse().unwrap()])],
    }
}

/// Waits until the addresses are those of this version. NSD's old process answers some queries
/// after its new one has answered the first.
fn assert_follows(rais: &Rais, secondary: &Secondary) {
    let addresses = published(rais.serial);
    let expected: Vec<String> = addresses.iter().map(|(_, ip)| ip.to_string()).collect();
    let seen = || secondary.addresses_of("web.example.");
    for _ in 0..100 {
        if seen() == expected {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(seen(), expected, "serial {}", rais.serial);
}

/// How many changes are followed one by one. PowerDNS looks for work once a second.
fn changes(kind: Kind) -> u32 {
    match (std::env::var_os("RAIS_LONG"), kind) {
        (Some(_), _) => 1_000,
        (None, Kind::PowerDns) => 15,
        (None, _) => 60,
    }
}

/// p50, p99 and the most, in ms.
fn figures(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |percent: usize| {
        times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
    };
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    )
}

/// Every change is awaited, so no version can be skipped; four times on the way one of the two is
/// started again, in turn, with changes while it is away. Last a burst, of which the newest counts.
fn follows(kind: Kind, signed: bool, changes: u32) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !kind.is_installed() {
        return;
    }
    // The serials wrap on the way.
    let mut rais = Rais::start(u32::MAX - changes / 2);
    let mut secondary = Secondary::new(kind, rais.address, signed);
    rais.followed_by(secondary.address(), signed);
    secondary.start();
    secondary.reaches(rais.serial, PATIENCE);
    assert_follows(&rais, &secondary);
    let (mut times, mut restarts, mut ixfr) = (Vec::new(), Vec::new(), 0_i64);
    for change in 1..=changes {
        let serial = rais.change();
        times.push(secondary.reaches(serial, PATIENCE));
        assert_follows(&rais, &secondary);
        if change.is_multiple_of((changes / 4).max(1)) {
            assert_acknowledged(&rais);
            ixfr += rais.count("ixfr") as i64;
            restarts.push(match restarts.len() % 2 {
                0 => restart_secondary(&mut rais, &mut secondary),
                _ => restart_primary(&mut rais, &secondary),
            });
            ixfr -= rais.count("ixfr") as i64;
        }
    }
    ixfr += rais.count("ixfr") as i64;
    println!(
        "{kind:?}, signed {signed}: {changes} changes, {}; {ixfr} IXFR; after restarts of secondary and primary in turn {restarts:?} ms",
        figures(times)
    );
    assert!(
        ixfr >= i64::from(changes),
        "{kind:?} followed by whole zones"
    );
    burst(&mut rais, &secondary);
}

/// The secondary is away for five changes; how long it takes to follow after its start, in ms.
fn restart_secondary(rais: &mut Rais, secondary: &mut Secondary) -> u128 {
    secondary.stop();
    for _ in 0..5 {
        rais.change();
    }
    secondary.start();
    let back = secondary.reaches(rais.serial, PATIENCE);
    assert_follows(rais, secondary);
    back.as_millis()
}

/// The primary comes back with another version and no memory of those before.
fn restart_primary(rais: &mut Rais, secondary: &Secondary) -> u128 {
    rais.stop();
    rais.serial = rais.serial.checked_add(1).unwrap_or(1);
    rais.resume();
    let back = secondary.reaches(rais.serial, PATIENCE);
    assert_follows(rais, secondary);
    back.as_millis()
}

/// The newest NOTIFY was answered, and the answer was signed as it should be.
fn assert_acknowledged(rais: &Rais) {
    let told = || rais.primary.followed()[0].told.values().next().cloned();
    for _ in 0..200 {
        if told().is_some_and(|told| told.acknowledged == Some(rais.serial)) {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("{} is not acknowledged: {:?}", rais.serial, told());
}

/// Many changes at once: the newest is reached.
fn burst(rais: &mut Rais, secondary: &Secondary) {
    for _ in 0..50 {
        rais.change();
    }
    secondary.reaches(rais.serial, PATIENCE);
    assert_follows(rais, secondary);
}

/// Goal: BIND follows every change, with TSIG and IXFR, over the wrap of serials and restarts.
/// Method: `follows`.
#[test]
fn bind_follows() {
    follows(Kind::Bind, true, changes(Kind::Bind));
}

/// Goal: Knot follows.
/// Method: `follows`.
#[test]
fn knot_follows() {
    follows(Kind::Knot, true, changes(Kind::Knot));
}

/// Goal: NSD follows.
/// Method: `follows`.
#[test]
fn nsd_follows() {
    follows(Kind::Nsd, true, changes(Kind::Nsd));
}

/// Goal: PowerDNS follows.
/// Method: `follows`.
#[test]
fn powerdns_follows() {
    follows(Kind::PowerDns, true, changes(Kind::PowerDns));
}

/// Goal: the allow-list alone is enough where no key is named.
/// Method: `follows` with a few changes, unsigned.
#[test]
fn all_follow_without_a_key() {
    for kind in [Kind::Bind, Kind::Knot, Kind::Nsd, Kind::PowerDns] {
        follows(kind, false, 5);
    }
}

/// What dig prints of a zone but for comments and signatures, one line a record.
fn dig(server: SocketAddr, key: bool, rtype: &str) -> Option<Vec<String>> {
    let mut dig = Command::new("dig");
    dig.args(["+tcp", "+time=5", "+tries=1", "+nocookie"]);
    dig.arg(format!("@{}", server.ip()));
    dig.args(["-p", &server.port().to_string()]);
    if key {
        dig.args(["-y", &format!("hmac-sha256:{KEY}:{SECRET}")]);
    }
    let output = dig.args(["web.example.", rtype]).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Couldn't verify"), "{text}");
    let records = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with(';'));
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(
        records
            .filter(|line| !line.contains("TSIG"))
            .map(words)
            .collect(),
    )
}

/// Goal: a person who runs `dig AXFR` or `dig IXFR=n` sees of us what they see of NSD.
/// Method: NSD follows five changes and keeps them; both are asked, ours with the key.
#[test]
fn dig_shows_what_it_shows_of_nsd() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !Kind::Nsd.is_installed() {
        return;
    }
    let mut rais = Rais::start(17);
    let mut nsd = Secondary::new(Kind::Nsd, rais.address, true);
    rais.followed_by(nsd.address(), true);
    nsd.start();
    nsd.reaches(17, PATIENCE);
    for _ in 0..5 {
        let serial = rais.change();
        nsd.reaches(serial, PATIENCE);
        assert_follows(&rais, &nsd);
    }
    let Some(mut ours) = dig(rais.address, true, "AXFR") else {
        eprintln!("dig is not installed (package bind9-dnsutils): skipped");
        return;
    };
    let mut theirs = dig(nsd.address(), false, "AXFR").unwrap();
    assert_eq!((ours.first(), ours.last()), (theirs.first(), theirs.last()));
    assert!(ours[0].contains(" SOA ") && ours.len() > 8, "{ours:#?}");
    // Which record comes when is nobody's promise.
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    for since in [22, 21, 19, 17, 23] {
        let asked = format!("IXFR={since}");
        let ours = dig(rais.address, true, &asked).unwrap();
        let theirs = dig(nsd.address(), false, &asked).unwrap();
        assert_eq!(ours, theirs, "{asked}");
    }
    // Without the key dig is refused, as NSD refuses it.
    assert_eq!(
        dig(rais.address, false, "AXFR").unwrap(),
        Vec::<String>::new()
    );
}
