//! Measures failover as a client sees it, and what an idle array costs: `bench/failover.sh`.
//!
//! A demo of real daemons (`lan` timing) is watched over HTTP and DNS every 2 ms while daemons are
//! killed outright and brought back. Time counts from just before the SIGKILL, or from the command that
//! asks for the restart, to the first right answer; so half a poll and the client's own way are in it.
//! Any address that moves without need is counted as a flap.
//!
//! Limits: one machine, so no network; the figures are those of detection, log and takeover.

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

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use array::{Array, name, service};
use serde_json::Value;

/// Between two looks at what is measured.
const POLL: Duration = Duration::from_millis(2);
/// A measurement that takes longer has failed.
const TOO_LONG: Duration = Duration::from_secs(30);
/// The idle array is watched for so long.
const IDLE: Duration = Duration::from_secs(30);
/// What a fresh start still does (votes, elections) is over after so long.
const SETTLE: Duration = Duration::from_secs(5);
/// Ticks of `/proc/PID/stat` in a second, on every Linux that we know.
const TICKS: f64 = 100.0;
/// Kills of each kind, unless the command line says otherwise.
const ROUNDS: usize = 20;

/// How long until `look` is true.
fn time(from: Instant, what: &str, mut look: impl FnMut() -> bool) -> Duration {
    loop {
        let asked = Instant::now();
        if look() {
            return from.elapsed();
        }
        assert!(from.elapsed() < TOO_LONG, "not within {TOO_LONG:?}: {what}");
        std::thread::park_timeout(POLL.saturating_sub(asked.elapsed()));
    }
}

/// One column of figures.
#[derive(Default)]
struct Column(Vec<Duration>);

impl Column {
    /// The value that `share` of all do not exceed.
    fn at(&self, share: f64) -> u128 {
        let mut all = self.0.clone();
        all.sort_unstable();
        let rank = (share * all.len() as f64).ceil() as usize;
        all[rank.clamp(1, all.len()) - 1].as_millis()
    }

    fn row(&self, what: &str) {
        let (p50, p99, max) = (self.at(0.5), self.at(0.99), self.at(1.0));
        println!("| {what} | {} | {p50} | {p99} | {max} |", self.0.len());
    }
}

/// The figures of one kind of kill.
#[derive(Default)]
struct Figures {
    served: Column,
    gone: Column,
    home: Column,
    published: Column,
    flaps: usize,
}

/// Whether every living name server's answer passes `test`.
fn everywhere(array: &Array, living: &[u8], test: impl Fn(&BTreeSet<IpAddr>) -> bool) -> bool {
    let mut servers = living.iter();
    servers.all(|host| ask::published(array.dns(*host)).is_some_and(|set| test(&set)))
}

/// Kills `victim` and brings it back.
fn round(array: &mut Array, victim: u8, figures: &mut Figures) {
    let address = service(victim);
    let living: Vec<u8> = (1..=array.hosts).filter(|host| *host != victim).collect();
    let since = newest(array, living[0]);
    let shared: &Array = array;
    let from = Instant::now();
    shared.kill(victim);
    let (served, gone) = std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            time(from, "another host answers", || {
                ask::http(address, shared.http_port()).is_some_and(|s| s.host != name(victim))
            })
        });
        let gone = time(from, "the address is gone from DNS", || {
            everywhere(shared, &living, |set| !set.contains(&address))
        });
        (served.join().unwrap(), gone)
    });
    let from = Instant::now();
    let (home, published) = std::thread::scope(|scope| {
        scope.spawn(|| shared.restart(victim));
        let home = scope.spawn(|| {
            time(from, "its own host answers", || {
                ask::http(address, shared.http_port()).is_some_and(|s| s.host == name(victim))
            })
        });
        let all: Vec<u8> = (1..=shared.hosts).collect();
        let published = time(from, "the address is published again", || {
            everywhere(shared, &all, |set| set.contains(&address))
        });
        (home.join().unwrap(), published)
    });
    figures.served.0.push(served);
    figures.gone.0.push(gone);
    figures.home.0.push(home);
    figures.published.0.push(published);
    array.whole();
    figures.flaps += flaps(array, living[0], since, address);
}

/// The log index of the newest event.
fn newest(array: &Array, asked: u8) -> u64 {
    let events = array.events(asked);
    events.last().unwrap()["index"].as_u64().unwrap()
}

/// Assignments since `since` beyond the two that a kill and a return need.
fn flaps(array: &Array, asked: u8, since: u64, address: IpAddr) -> usize {
    let assigned = |event: &&Value| {
        event["kind"] == "assigned" && event["index"].as_u64().is_some_and(|index| index > since)
    };
    let events = array.events(asked);
    let all: Vec<&Value> = events.iter().filter(assigned).collect();
    let own = |event: &&&Value| event["address"] == address.to_string();
    let needed = all.iter().filter(own).count().min(2);
    let flaps = all.len() - needed;
    if flaps > 0 {
        eprintln!("flaps: {all:#?}");
    }
    flaps
}

/// Kills followers and leaders of an array of three.
fn three_hosts(rounds: usize) {
    let mut array = Array::start(3);
    let (mut followers, mut leaders) = (Figures::default(), Figures::default());
    for number in 0..rounds {
        let (follower, _) = array.follower_and_leader();
        round(&mut array, follower, &mut followers);
        let leader = array.leader(1);
        round(&mut array, leader, &mut leaders);
        eprint!("\rthree hosts: {} of {rounds} rounds", number + 1);
    }
    eprintln!();
    println!("\n| three hosts, ms | n | p50 | p99 | max |\n| --- | --- | --- | --- | --- |");
    for (who, figures) in [("follower", &followers), ("leader", &leaders)] {
        let row = |column: &Column, what: &str| column.row(&format!("{who} {what}"));
        row(&figures.served, "killed: address answered by another host");
        row(&figures.gone, "killed: address gone from all name servers");
        row(&figures.home, "restarted: answered at home again");
        row(&figures.published, "restarted: published everywhere again");
        println!("\nflaps ({who}s): {}\n", figures.flaps);
    }
}

/// Kills a follower of five, then the leader.
fn five_hosts(rounds: usize) {
    let mut array = Array::start(5);
    let (mut one, mut both, mut zone) = <(Column, Column, Column)>::default();
    for number in 0..rounds {
        let (follower, leader) = array.follower_and_leader();
        let elsewhere = |dead: &[u8], host: u8| {
            ask::http(service(host), array.http_port())
                .is_some_and(|served| !dead.iter().any(|host| served.host == name(*host)))
        };
        let from = Instant::now();
        array.kill(follower);
        let took = time(from, "the first is replaced", || {
            elsewhere(&[follower], follower)
        });
        one.0.push(took);
        let dead = [follower, leader];
        let living: Vec<u8> = (1..=5).filter(|host| !dead.contains(host)).collect();
        let expected: BTreeSet<IpAddr> = living.iter().map(|host| service(*host)).collect();
        let from = Instant::now();
        array.kill(leader);
        both.0.push(time(from, "three serve everything", || {
            (1..=5).all(|host| elsewhere(&dead, host))
        }));
        zone.0.push(time(from, "three are published", || {
            let serials: BTreeSet<_> = living.iter().map(|h| ask::serial(array.dns(*h))).collect();
            serials.len() == 1 && everywhere(&array, &living, |set| *set == expected)
        }));
        let most = (1..=5).map(|host| ask::http(service(host), array.http_port()).unwrap().host);
        let mut most: Vec<String> = most.collect();
        most.sort_unstable();
        let spread = most.chunk_by(|a, b| a == b).all(|held| held.len() <= 2);
        assert!(spread, "not spread: {most:?}");
        for host in dead {
            array.restart(host);
        }
        array.whole();
        eprint!("\rfive hosts: {} of {rounds} rounds", number + 1);
    }
    eprintln!();
    println!("\n| five hosts, ms | n | p50 | p99 | max |\n| --- | --- | --- | --- | --- |");
    one.row("a follower killed: its address answered by another host");
    both.row("then the leader: all five addresses answered by the three");
    zone.row("then the leader: one serial and the three at all name servers");
}

/// Processor time of a process so far, in s.
fn used(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    // utime and stime are fields 14 and 15; what is left begins with the third.
    let ticks = |at: usize| fields[at - 3].parse::<f64>().unwrap();
    (ticks(14) + ticks(15)) / TICKS
}

/// Resident memory of a process, in MiB.
fn resident(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// Lets time go by.
fn pause(span: Duration) {
    let end = Instant::now() + span;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Three daemons without a demo, whose live view asks them four times a second.
fn idle() {
    let mut array = Array::start(3);
    array.end();
    let start = |host: u8| {
        let mut command = Command::new(array.dir.join("rais"));
        command
            .args(["node", "--config"])
            .arg(array.data(host).join("rais.toml"));
        // A daemon with this ends when its standard input does, and so with this program.
        command.env("RAIS_STOP_WITH_STDIN", "1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let mut daemons: Vec<Child> = (1..=3).map(start).collect();
    let from = Instant::now();
    time(from, "the array is whole", || array.is_whole(1));
    pause(SETTLE);
    let leader = array.leader(1);
    let before: Vec<f64> = daemons.iter().map(|daemon| used(daemon.id())).collect();
    pause(IDLE);
    println!("\n| idle array of three | CPU, % of a core | resident, MiB |\n| --- | --- | --- |");
    for (number, (daemon, before)) in daemons.iter().zip(before).enumerate() {
        let share = (used(daemon.id()) - before) / IDLE.as_secs_f64() * 100.0;
        let host = u8::try_from(number + 1).unwrap();
        let role = if host == leader { ", leads" } else { "" };
        println!(
            "| h{host}{role} | {share:.2} | {:.1} |",
            resident(daemon.id())
        );
    }
    for daemon in &mut daemons {
        drop(daemon.stdin.take());
    }
    for mut daemon in daemons {
        daemon.wait().unwrap();
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let rounds = words
        .next()
        .map_or(ROUNDS, |word| word.parse().expect("a number of rounds"));
    idle();
    three_hosts(rounds);
    five_hosts(rounds.div_ceil(2));
}
