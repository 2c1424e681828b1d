//! A rais array in the lab, under the observer: gap and dual ownership of each fault, as a table.
//!
//!     cargo run --release -p chaos --example failover -- [RUNS]     as root; RUNS is 10
//!
//! Three hosts, `lan` timing, a v4 and a v6 address each; both are watched each 5 ms. The runs of one
//! fault share an array: it is hit, undone, comes home, and is hit again at another phase of the
//! heartbeats. "At once" is the time of the fault; "on return" the gap when it was undone and the
//! addresses went home. `target/PROFILE/rais` must have been built before.

use chaos::lab::array::{Array, ArrayError, home_addresses};
use chaos::lab::{
    At, Fault, Gap, Injected, Lab, LabError, LabSpec, Network, Report, Targets, now, wait_until,
};
use std::error::Error;
use std::time::Duration;

const HOSTS: u8 = 3;
const RUNS: u32 = 10;
/// How long a fault lasts: longer than any take-over.
const LASTS: Duration = Duration::from_millis(2_000);
/// Everything is at home again after an undo.
const HOME: Duration = Duration::from_secs(30);
/// At rest before the next fault.
const REST: Duration = Duration::from_millis(700);
/// Each run's fault comes so much later in the heartbeat than the one before.
const PHASE: Duration = Duration::from_millis(37);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Stop,
    Partition,
    KillLeader,
    StopLeader,
    Move,
    Terminate,
}

const KINDS: [(Kind, &str); 7] = [
    (Kind::Kill, "kill -9 of a follower"),
    (Kind::Stop, "SIGSTOP of a follower"),
    (
        Kind::Partition,
        "silent partition of a follower, both networks",
    ),
    (Kind::KillLeader, "kill -9 of the leader"),
    (Kind::StopLeader, "SIGSTOP of the leader"),
    (Kind::Move, "planned `rais move`"),
    (Kind::Terminate, "SIGTERM of a follower"),
];

/// One run: who was hit, and when it was hit, undone, and at home.
struct Run {
    host: u8,
    began: At,
    undone: At,
    home: At,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runs: u32 = std::env::args().nth(1).map_or(Ok(RUNS), |n| n.parse())?;
    println!(
        "| fault | gap at once, ms: p50 | max | gap on return, ms: p50 | max | two owners, ms | gaps of others |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for (kind, name) in KINDS {
        let (report, runs) = watch(kind, runs)?;
        println!("{}", row(name, &report, &runs));
    }
    Ok(())
}

fn watch(kind: Kind, count: u32) -> Result<(Report, Vec<Run>), ArrayError> {
    let lab = Lab::up(&LabSpec {
        hosts: HOSTS,
        name: "failover".to_owned(),
    })?;
    let mut array = Array::up(&lab, HOSTS)?;
    let observer = lab.observe(&Targets::new(&array.addresses()))?;
    array.wait_home(&observer, HOME)?;
    let mut runs = Vec::new();
    for run in 0..count {
        wait_until(now().after(REST + PHASE * run));
        let host = victim(&array, kind)?;
        let began = now();
        let injected = begin(&lab, &array, kind, host)?;
        wait_until(began.after(LASTS));
        let undone = now();
        for one in injected {
            one.undo()?;
        }
        undo(&mut array, kind, host)?;
        let home = array.wait_home(&observer, HOME)?;
        runs.push(Run {
            host,
            began,
            undone,
            home,
        });
    }
    wait_until(now().after(REST));
    Ok((observer.stop()?, runs))
}

fn victim(array: &Array<'_>, kind: Kind) -> Result<u8, ArrayError> {
    let Some(leader) = array.leader() else {
        let what = "a host that knows the leader".to_owned();
        let limit = Duration::ZERO;
        return Err(ArrayError::Late { what, limit });
    };
    let is_leader = matches!(kind, Kind::KillLeader | Kind::StopLeader);
    Ok(if is_leader {
        leader
    } else {
        leader % HOSTS + 1
    })
}

fn begin(lab: &Lab, array: &Array<'_>, kind: Kind, host: u8) -> Result<Vec<Injected>, ArrayError> {
    match kind {
        Kind::Kill | Kind::KillLeader => array.kill(host, chaos::lab::Scope::Family).map(drop)?,
        Kind::Stop | Kind::StopLeader => array.stop(host, chaos::lab::Scope::Family).map(drop)?,
        Kind::Terminate => array.terminate(host).map(drop)?,
        Kind::Move => move_all(array, host, host % HOSTS + 1)?,
        Kind::Partition => {
            let cut = |network| lab.inject(&Fault::Partition { host, network });
            let both: Result<Vec<_>, LabError> = Network::ALL.into_iter().map(cut).collect();
            return Ok(both?);
        }
    }
    Ok(Vec::new())
}

fn undo(array: &mut Array<'_>, kind: Kind, host: u8) -> Result<(), ArrayError> {
    match kind {
        Kind::Kill | Kind::KillLeader | Kind::Terminate => array.start(host),
        Kind::Stop | Kind::StopLeader => array.resume(host).map(drop),
        // It may have gone home by itself already; then the move says so.
        Kind::Move => move_all(array, host, host),
        Kind::Partition => Ok(()),
    }
}

fn move_all(array: &Array<'_>, home: u8, to: u8) -> Result<(), ArrayError> {
    for address in home_addresses(home) {
        let (address, to) = (address.to_string(), chaos::lab::host_name(to));
        array.rais(home, &["move", &address, "--to", &to])?;
    }
    Ok(())
}

fn row(name: &str, report: &Report, runs: &[Run]) -> String {
    let worst = |run: &Run, from: At, to: At| {
        let seen = home_addresses(run.host);
        let seen = seen.iter().filter_map(|address| report.address(*address));
        let gaps = seen.flat_map(|seen| &seen.gaps);
        let within = gaps.filter(|gap| gap.to > from && gap.from < to);
        within
            .map(Gap::length)
            .max()
            .unwrap_or_default()
            .as_millis()
    };
    let at_once: Vec<u128> = runs.iter().map(|r| worst(r, r.began, r.undone)).collect();
    let on_return = |r: &Run| worst(r, r.undone, r.home.after(REST));
    let on_return: Vec<u128> = runs.iter().map(on_return).collect();
    let addresses = report.addresses.iter();
    let duals = addresses.clone().flat_map(|one| &one.seen.duals);
    // A single dual probe counts as one millisecond: it must not read as none.
    let dual: u128 = duals.map(|d| d.to.since(d.from).as_millis().max(1)).sum();
    let of_others = addresses.flat_map(|one| {
        let gaps = one.seen.gaps.iter().filter(|gap| !gap.open);
        gaps.filter(|gap| {
            let mut hit = runs
                .iter()
                .filter(|r| home_addresses(r.host).contains(&one.address));
            !hit.any(|r| r.began < gap.to && gap.from < r.home.after(REST))
        })
    });
    let [p50, max] = percentiles(at_once);
    let [p50_return, max_return] = percentiles(on_return);
    let others = of_others.count();
    format!("| {name} | {p50} | {max} | {p50_return} | {max_return} | {dual} | {others} |")
}

/// The median and the most.
fn percentiles(mut all: Vec<u128>) -> [u128; 2] {
    all.sort_unstable();
    let middle = all.get(all.len().saturating_sub(1) / 2);
    [middle, all.last()].map(|one| one.copied().unwrap_or_default())
}
