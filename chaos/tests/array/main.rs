//! A real array in the lab: at rest, under random faults (`storm`), and under faults that must cost
//! nothing (`calm`). Each answer to each address is watched all the time: no probe may ever be
//! answered by two hosts. Root only; says so and passes otherwise.
//!
//! The binary `rais` must have been built before, with the same profile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod calm;
mod crashed;
mod flood;
mod guides;
mod nginx;
mod noticed;
mod storm;
mod watched;

use chaos::lab::array::{Array, home_addresses};
use chaos::lab::{Fault, Lab, LabSpec, Network, Observer, Scope, Targets, now, wait_until};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One array at a time: a starved daemon is rightly taken for a dead one.
static TURN: Mutex<()> = Mutex::new(());

const HOSTS: u8 = 5;
/// After the undo everything is at home again by then; a debug build on two loaded cores.
const HOME: Duration = Duration::from_secs(20);
/// Longest gap of an address that another host can serve: R is 0.6 s, an election comes on top.
const GAP: Duration = Duration::from_secs(3);
/// One host after the other is asked for so long whether it answers.
const LOOK: Duration = Duration::from_millis(10);
/// How long the idle array is looked at.
const IDLE: Duration = Duration::from_secs(5);

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_long() -> bool {
    std::env::var_os("RAIS_LONG").is_some()
}

fn lab(hosts: u8, name: &str) -> Option<Lab> {
    if let Err(error) = chaos::lab::available() {
        // Past the capture of the test harness: a test that tests nothing says so.
        let _ = writeln!(
            std::io::stderr(),
            "\n!!! SKIPPED chaos/tests/array: {error}\n"
        );
        return None;
    }
    let name = name.to_owned();
    Some(Lab::up(&LabSpec { hosts, name }).unwrap())
}

/// Waits until each address of host `number` is answered by one of `hosts`.
fn await_served(
    array: &Array<'_>,
    observer: &Observer,
    number: u8,
    hosts: &[u8],
    within: Duration,
) {
    let by = |address| {
        let mut hosts = hosts.iter();
        hosts.any(|host| observer.wait(address, &[*host], LOOK))
    };
    let all = |_: &Array<'_>| home_addresses(number).into_iter().all(by);
    let what = format!("h{number}'s addresses are served by one of {hosts:?}");
    array.until(within, &what, all).unwrap();
}

/// Goal: an array at rest serves every address without a break, and has nothing to tell.
/// Method: three hosts, five seconds, no fault.
#[test]
fn an_idle_array_misses_no_probe_and_has_no_event() {
    let _turn = turn();
    let Some(lab) = lab(3, "idle") else { return };
    let array = Array::up(&lab, 3).unwrap();
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let newest = array.newest_event(1).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    wait_until(now().after(IDLE));
    let report = observer.stop().unwrap();
    let events = array.events(1).unwrap();
    assert_eq!(array.newest_event(1).unwrap(), newest, "{events}");
    for one in &report.addresses {
        let (probes, answered) = (one.seen.probes, one.seen.answered);
        assert!(probes > 500, "{probes} probes of {}", one.address);
        let gaps = &one.seen.gaps;
        // The newest question of all may still be on its way to its answer.
        assert!(
            gaps.iter().all(|gap| gap.open && gap.lost <= 1),
            "{} {gaps:?}",
            one.address
        );
        assert!(answered + 1 >= probes, "{}", one.address);
    }
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
}

/// Goal: the parts of a failover that the array shows add up to the gap that a client sees.
/// Method: a follower cut off silently; the sum counts from its last heartbeat (at most 100 ms before
/// the cut) to when the leader knows of the new holder.
#[test]
fn the_phases_of_a_failover_add_up_to_the_gap() {
    let _turn = turn();
    let Some(lab) = lab(3, "phases") else { return };
    let array = Array::up(&lab, 3).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let leader = array.leader().unwrap();
    let (host, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let address = home_addresses(host)[0];
    let cut = Network::ALL.map(|network| {
        let fault = Fault::Partition { host, network };
        (lab.inject(&fault).unwrap(), now())
    });
    let taken = observer.wait(address, &[leader], GAP) || observer.wait(address, &[other], GAP);
    assert!(taken, "nobody takes {address} over");
    let failover = |array: &Array<'_>| -> Option<u64> {
        let status = array.status(leader).ok()?;
        let all = status["groups"][0]["addresses"].as_array()?.clone();
        let mut own = all
            .iter()
            .filter(|one| one["address"] == address.to_string());
        own.next()?["failover"]["ms"].as_u64()
    };
    let known = |array: &Array<'_>| failover(array).is_some();
    array.until(HOME, "the failover is shown", known).unwrap();
    let sum = failover(&array).unwrap();
    let at = cut[0].1;
    for (one, _) in cut {
        one.undo().unwrap();
    }
    array.wait_home(&observer, HOME).unwrap();
    let report = observer.stop().unwrap();
    let gap = report.address(address).unwrap().gap_after(at).unwrap();
    let gap = u64::try_from(gap.length().as_millis()).unwrap();
    println!("gap {gap} ms, phases {sum} ms");
    // A probe each 5 ms, and whatever a loaded machine adds to the report.
    assert!(
        gap <= sum + 20 && sum <= gap + 100 + 150,
        "gap {gap} ms, phases {sum} ms"
    );
}

fn pause(ms: u64) {
    wait_until(now().after(Duration::from_millis(ms)));
}

/// Goal: it is the gate that keeps the promise, and the observer would see it broken.
/// Method: a daemon is killed and root takes its gate away, which is outside of the promise: its
/// kernel answers beside the new owner. Of a living daemon the gate could not be taken: it is owned.
#[test]
fn without_the_gate_a_dead_host_is_seen_to_answer_beside_the_new_owner() {
    let _turn = turn();
    let Some(lab) = lab(3, "open") else { return };
    let mut array = Array::up(&lab, 3).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let host = array.leader().unwrap() % 3 + 1;
    array.kill(host, Scope::Family).unwrap();
    // The tables are their owner's until the kernel has taken its last socket away.
    let flushed = |_: &Array<'_>| {
        drop(lab.inject(&Fault::FlushRules { host }).unwrap());
        let mut list = lab.host(host).unwrap().command("nft");
        let tables = list.args(["list", "tables"]).output().unwrap();
        tables.stdout.is_empty()
    };
    array
        .until(HOME, "the gate is taken away", flushed)
        .unwrap();
    wait_until(now().after(GAP));
    array.start(host).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let report = observer.stop().unwrap();
    for address in home_addresses(host) {
        let seen = report.address(address).unwrap();
        assert!(!seen.duals.is_empty(), "{address}: {:?}", seen.tenures);
    }
    let others = report.addresses.iter();
    let mut others = others.filter(|one| !home_addresses(host).contains(&one.address));
    assert!(
        others.all(|one| one.seen.duals.is_empty()),
        "{}",
        report.json()
    );
}
