//! From the commit that takes a host down to answers without it, on every node: `bench/propagation.sh`.
//!
//! Every name server of a demo is asked for the zone each 0.3 ms while hosts are quiesced and resumed,
//! and then killed outright. Both take effect as they are applied, without a second commit, so the first
//! name server to change is the one that committed; a thread waiting for each prints how much later
//! the others follow. What the first one needs itself is `dns --example propagation`.
//!
//! Limits: one machine, so no network between the hosts; a look each 0.3 ms is in each figure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    dead_code
)]

#[path = "../e2e/array.rs"]
mod array;
#[path = "../e2e/ask.rs"]
mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use array::{Array, name};

/// Between two questions to one name server.
const LOOK: Duration = Duration::from_micros(300);
/// Client networks that ask in turn: each stays below the rate limit.
const NETWORKS: u8 = 60;
/// A change that takes longer has failed.
const TOO_LONG: Duration = Duration::from_secs(10);
/// Changes by command, unless the command line says otherwise; a fifth as many hosts are killed.
const ROUNDS: usize = 100;
/// What the zone has: `web.example. A`, asked with the number 0.
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x03web\x07example\0\0\x01\0\x01";

/// A name server's answer got another number of addresses, or is the first.
struct Changed {
    host: u8,
    at: Instant,
    addresses: u16,
}

/// Ends the followers when the measurement ends, or fails.
struct End<'s>(&'s AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks host `host`'s name server until told to stop, and tells of each change.
fn follow(host: u8, server: SocketAddr, stop: &AtomicBool, tell: &Sender<Changed>) {
    let from = |network| Ipv4Addr::new(127, 100 + host, network, 1);
    let sockets: Vec<UdpSocket> = (0..NETWORKS)
        .map(|network| {
            let socket = UdpSocket::bind((from(network), 0)).unwrap();
            socket.connect(server).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            socket
        })
        .collect();
    let mut known = None;
    let mut asked = 0_u16;
    let mut turns = sockets.iter().cycle();
    while !stop.load(Ordering::Relaxed) {
        let socket = turns.next().unwrap();
        asked = asked.wrapping_add(1);
        let mut question = QUESTION.to_vec();
        question[..2].copy_from_slice(&asked.to_be_bytes());
        let mut answer = [0; 512];
        let answered = socket
            .send(&question)
            .and_then(|_| socket.recv(&mut answer));
        let at = Instant::now();
        // A killed host's name server, or an answer to an earlier question.
        if answered.is_err() || answer[..2] != asked.to_be_bytes() {
            std::thread::park_timeout(LOOK);
            continue;
        }
        assert_eq!(answer[2] & 0x02, 0, "limited: ask from more networks");
        let addresses = u16::from_be_bytes([answer[6], answer[7]]);
        if known != Some(addresses) {
            let _over = tell.send(Changed {
                host,
                at,
                addresses,
            });
        }
        known = Some(addresses);
        std::thread::park_timeout(LOOK);
    }
}

/// Does `change`, and waits until each of `hosts` answers with `addresses`; how long after the first,
/// for each other.
fn later(
    changes: &Receiver<Changed>,
    hosts: &[u8],
    addresses: u16,
    change: impl FnOnce(),
) -> Vec<Duration> {
    let begun = Instant::now();
    let end = begun + TOO_LONG;
    change();
    let mut seen = BTreeMap::new();
    while seen.len() < hosts.len() {
        let left = end.saturating_duration_since(Instant::now());
        let changed = changes.recv_timeout(left).expect("a change was not seen");
        let meant = changed.at >= begun && changed.addresses == addresses;
        if meant && hosts.contains(&changed.host) {
            seen.entry(changed.host).or_insert(changed.at);
        }
    }
    let first = *seen.values().min().unwrap();
    let mut after: Vec<Duration> = seen.values().map(|at| *at - first).collect();
    after.sort_unstable();
    after.split_off(1)
}

/// One line of the table: every other name server's delay, and the last one's of each change.
fn row(what: &str, changes: &[Vec<Duration>]) {
    let at = |mut all: Vec<Duration>, share: f64| {
        all.sort_unstable();
        let rank = (share * all.len() as f64).ceil() as usize;
        all[rank.clamp(1, all.len()) - 1].as_secs_f64() * 1e3
    };
    let last: Vec<Duration> = changes
        .iter()
        .filter_map(|one| one.last())
        .copied()
        .collect();
    println!(
        "| {what} | {} | {:.2} | {:.2} | {:.2} | {:.2} |",
        changes.len(),
        at(changes.concat(), 0.5),
        at(last.clone(), 0.5),
        at(last.clone(), 0.99),
        at(last, 1.0),
    );
}

fn measure(hosts: u8, rounds: usize) {
    let mut array = Array::start(hosts);
    let all: Vec<u8> = (1..=hosts).collect();
    let (stop, (tell, changes)) = (AtomicBool::new(false), channel());
    std::thread::scope(|scope| {
        let _end = End(&stop);
        for host in &all {
            let (host, server, stop, tell) = (*host, array.dns(*host), &stop, tell.clone());
            scope.spawn(move || follow(host, server, stop, &tell));
        }
        // Who has not seen the zone yet would not notice the first change.
        let mut begun = BTreeSet::new();
        while begun.len() < all.len() {
            let first = changes.recv_timeout(TOO_LONG);
            begun.insert(first.expect("a name server is silent").host);
        }
        let full = u16::from(hosts);
        let mut by_command = Vec::new();
        for round in 0..rounds {
            let asked = all[round % all.len()];
            for (verb, addresses) in [("quiesce", full - 1), ("resume", full)] {
                let delays = later(&changes, &all, addresses, || {
                    array.rais(asked, &[verb, &name(hosts)]).good();
                });
                if verb == "quiesce" {
                    by_command.push(delays);
                }
            }
        }
        row(&format!("{hosts} hosts, one quiesced"), &by_command);
        let mut by_death = Vec::new();
        for _ in 0..rounds / 5 {
            let (victim, _) = array.follower_and_leader();
            let living: Vec<u8> = all.iter().copied().filter(|host| *host != victim).collect();
            let kill = || array.kill(victim);
            by_death.push(later(&changes, &living, full - 1, kill));
            array.restart(victim);
            array.whole();
        }
        row(&format!("{hosts} hosts, one killed"), &by_death);
    });
}

fn main() {
    let mut words = std::env::args().skip(1);
    let rounds = words
        .next()
        .map_or(ROUNDS, |word| word.parse().expect("a number of rounds"));
    println!(
        "| ms after the first name server | n | each other: p50 | the last: p50 | p99 | max |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    measure(3, rounds);
    measure(5, rounds);
}
