//! The life of an array that loses hosts one at a time: up, killed, served elsewhere, back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;

use serde_json::Value;

use crate::array::{Array, WHOLE_S, name, service, until};
use crate::ask::{self, Served, ZONE};

/// A failover on a loaded machine in a debug build, in s. The figures are the benchmark's business.
const FAILOVER_S: u64 = 20;

/// Waits until all `living` name servers give one serial and exactly `expected`.
pub fn published_everywhere(array: &Array, living: &[u8], expected: &[u8]) {
    let expected: BTreeSet<IpAddr> = expected.iter().map(|host| service(*host)).collect();
    let what = format!("name servers {living:?} publish {expected:?} under one serial");
    until(&what, FAILOVER_S, || {
        let serials: BTreeSet<_> = living
            .iter()
            .map(|host| ask::serial(array.dns(*host)))
            .collect();
        let same = living
            .iter()
            .all(|host| ask::published(array.dns(*host)).as_ref() == Some(&expected));
        (same && serials.len() == 1 && !serials.contains(&None)).then_some(())
    });
}

/// Waits until `address` is answered by another host than `not`.
pub fn served_elsewhere(array: &Array, address: IpAddr, not: &[u8]) -> Served {
    until(
        &format!("{address} is answered by another than {not:?}"),
        FAILOVER_S,
        || {
            let served = ask::http(address, array.http_port())?;
            (!not.iter().any(|host| served.host == name(*host))).then_some(served)
        },
    )
}

/// Waits until `address` is answered by `host`.
pub fn served_by(array: &Array, address: IpAddr, host: u8) -> Served {
    until(
        &format!("{address} is answered by h{host}"),
        FAILOVER_S,
        || ask::http(address, array.http_port()).filter(|served| served.host == name(host)),
    )
}

/// Goal: a demo comes up whole, and what its doors say agrees.
/// Method: HTTP at each preferred address, hand-made DNS queries and `dig` at each name server.
#[test]
fn a_new_array_serves_and_publishes_every_address_from_its_preferred_host() {
    let array = Array::start(3);
    for host in 1..=3 {
        let served = ask::http(service(host), array.http_port()).unwrap();
        assert_eq!(
            (served.host, served.address),
            (name(host), service(host).to_string())
        );
        assert!(served.epoch > 0);
        let own = ask::addresses(array.dns(1), &format!("{}.{ZONE}", name(host))).unwrap();
        assert_eq!(own.addresses, [service(host)]);
    }
    published_everywhere(&array, &[1, 2, 3], &[1, 2, 3]);
    let missing = ask::addresses(array.dns(1), &format!("nobody.{ZONE}")).unwrap();
    assert_eq!((missing.rcode, missing.authoritative), (3, true));
    let port = array.dns_port.to_string();
    let dig = Command::new("dig")
        .args(["@127.77.0.2", "-p", &port, ZONE, "+short"])
        .output()
        .unwrap();
    let said = String::from_utf8(dig.stdout).unwrap();
    let dug: BTreeSet<IpAddr> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(dug, (1..=3).map(service).collect());
}

/// Goal: clients that take the first address are spread over the hosts.
/// Method: the order of thirty answers of one name server.
#[test]
fn answers_for_the_apex_rotate() {
    let array = Array::start(3);
    let mut firsts: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for _ in 0..30 {
        let answer = ask::addresses(array.dns(1), ZONE).unwrap();
        assert_eq!(answer.addresses.len(), 3);
        *firsts.entry(answer.addresses[0]).or_default() += 1;
    }
    assert_eq!(firsts.len(), 3, "an address never comes first: {firsts:?}");
    assert!(
        firsts.values().all(|times| *times >= 5),
        "not spread: {firsts:?}"
    );
}

/// Kills `victim` and checks that service goes on, then brings it back and checks that it is home.
fn killed_and_back(array: &mut Array, victim: u8) {
    let address = service(victim);
    let living: Vec<u8> = (1..=3).filter(|host| *host != victim).collect();
    let before = ask::http(address, array.http_port()).unwrap();
    let last = array.events(living[0]).last().unwrap()["index"]
        .as_u64()
        .unwrap();
    array.kill(victim);
    let taken = served_elsewhere(array, address, &[victim]);
    assert!(taken.epoch > before.epoch, "{taken:?} after {before:?}");
    published_everywhere(array, &living, &living);
    for host in &living {
        assert_eq!(
            ask::http(service(*host), array.http_port()).unwrap().host,
            name(*host)
        );
    }
    array.restart(victim);
    let home = served_by(array, address, victim);
    assert!(home.epoch > taken.epoch, "{home:?} after {taken:?}");
    published_everywhere(array, &[1, 2, 3], &[1, 2, 3]);
    array.whole();
    only_moved(&array.events(living[0]), last, address);
}

/// Nothing moved after log index `since` but `address`, and that there and back.
fn only_moved(events: &[Value], since: u64, address: IpAddr) {
    let moves = |event: &&Value| {
        event["index"].as_u64().unwrap() > since
            && ["assigned", "release"].contains(&event["kind"].as_str().unwrap())
    };
    let moved: Vec<&Value> = events.iter().filter(moves).collect();
    let flaps = moved
        .iter()
        .filter(|event| event["address"] != address.to_string())
        .count();
    assert_eq!(
        flaps, 0,
        "an address moved that had no reason to: {moved:#?}"
    );
    let assigned = moved
        .iter()
        .filter(|event| event["kind"] == "assigned")
        .count();
    assert_eq!(
        assigned, 2,
        "{address} moved more than there and back: {moved:#?}"
    );
}

/// Goal: a killed host costs its address an interruption, and nothing else anything.
/// Method: SIGKILL of a follower; then it is started again.
#[test]
fn a_killed_follower_is_replaced_and_gets_its_address_back() {
    let mut array = Array::start(3);
    let (follower, _) = array.follower_and_leader();
    killed_and_back(&mut array, follower);
}

/// Goal: the same when the one that decides is the one that dies.
/// Method: SIGKILL of the leader; then it is started again.
#[test]
fn a_killed_leader_is_replaced_and_gets_its_address_back() {
    let mut array = Array::start(3);
    let leader = array.leader(1);
    killed_and_back(&mut array, leader);
}

/// Goal: an array of five survives two, and those that live share the work.
/// Method: SIGKILL of a follower, then of the leader; then the load of each living host is counted.
#[test]
fn of_five_hosts_three_serve_everything_in_equal_parts() {
    let mut array = Array::start(5);
    let (follower, leader) = array.follower_and_leader();
    array.kill(follower);
    served_elsewhere(&array, service(follower), &[follower]);
    array.kill(leader);
    let dead = [follower, leader];
    let living: Vec<u8> = (1..=5).filter(|host| !dead.contains(host)).collect();
    let mut load: BTreeMap<String, u32> = BTreeMap::new();
    for host in 1..=5 {
        let served = served_elsewhere(&array, service(host), &dead);
        *load.entry(served.host).or_default() += 1;
    }
    assert!(load.values().all(|held| *held <= 2), "not spread: {load:?}");
    published_everywhere(&array, &living, &living);
    for host in dead {
        array.restart(host);
    }
    for host in 1..=5 {
        served_by(&array, service(host), host);
    }
    published_everywhere(&array, &[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]);
    array.whole();
}

/// Goal: Ctrl-C leaves nothing behind, and the same directory goes on where it was.
/// Method: ends the demo, looks for its daemons, starts it again.
#[test]
fn an_ended_demo_leaves_no_daemon_and_can_go_on() {
    let mut array = Array::start(3);
    let daemons: Vec<u32> = (1..=3).map(|host| array.daemon(host)).collect();
    let before = array.json(1, &["status"]);
    array.end();
    for daemon in daemons {
        let line = std::fs::read_to_string(format!("/proc/{daemon}/cmdline")).unwrap_or_default();
        assert!(
            !line.contains(&array.dir.display().to_string()),
            "{daemon} still runs: {line}"
        );
    }
    assert_eq!(ask::http(service(1), array.http_port()), None);
    array.resume();
    array.whole();
    let after = until("the array answers", WHOLE_S, || {
        array.try_json(1, &["status"])
    });
    assert_eq!(after["array"], before["array"]);
}
