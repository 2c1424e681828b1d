//! Random faults one after the other: 40, with `RAIS_LONG=1` a thousand. `RAIS_SEED` and `RAIS_FAULTS`
//! choose. A seed gives the same faults but for those that are aimed at whoever leads then, and never
//! the same scheduling.

use chaos::Rng;
use chaos::lab::array::{Array, ArraySpec};
use chaos::lab::{At, Gap, Report, Targets, disks_available, now};
use std::io::Write;

use crate::blow::Blow;
use crate::{GAP, HOME, HOSTS, is_long, lab, pause, turn};

const FAULTS: u64 = 40;
const LONG_FAULTS: u64 = 1_000;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// A fault that was at work.
struct Struck {
    blow: Blow,
    began: At,
    /// All at home again, as the observer saw it.
    ended: At,
}

/// What a dual answer or a long gap says, with the fault that it fell into.
fn complaints(report: &Report, struck: &[Struck]) -> Vec<String> {
    let during = |from: At, to: At| {
        let all = struck.iter().enumerate();
        let hit = all.filter(move |(_, one)| one.began <= to && from <= one.ended);
        hit.map(|(n, one)| format!("fault {n} at {}: {:?}", one.began, one.blow))
            .collect::<Vec<_>>()
    };
    let hidden = |gap: &Gap| {
        let mut hit = struck
            .iter()
            .filter(|one| one.began <= gap.to && gap.from <= one.ended);
        hit.any(|one| one.blow.hides())
    };
    let mut said = Vec::new();
    for one in &report.addresses {
        for dual in &one.seen.duals {
            said.push(format!(
                "TWO OWNERS of {}: {dual:?}, {:?}",
                one.address,
                during(dual.from, dual.to)
            ));
        }
        let long = one
            .seen
            .gaps
            .iter()
            .filter(|gap| gap.length() > GAP && !hidden(gap));
        said.extend(long.map(|gap| {
            let (length, faults) = (gap.length(), during(gap.from, gap.to));
            format!(
                "gap {length:?} of {} at {}, {faults:?}",
                one.address, gap.from
            )
        }));
    }
    said
}

/// Disks that freeze, or a loud word that there are none: those faults then fall out.
fn spec() -> ArraySpec {
    let mut spec = ArraySpec::new(HOSTS);
    match disks_available() {
        Ok(()) => spec.disks = true,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "\n!!! NO DISK IS FROZEN in chaos/tests/array: {error}\n"
            );
        }
    }
    spec
}

/// Goal: no address is ever answered by two hosts, whatever goes wrong, and all come home again.
/// Method: five hosts, random faults one after the other, each probe of each address looked at.
#[test]
fn random_faults_never_give_an_address_two_owners_and_all_come_home() {
    let _turn = turn();
    let Some(lab) = lab(HOSTS, "storm") else {
        return;
    };
    let usual = if is_long() { LONG_FAULTS } else { FAULTS };
    let faults = number("RAIS_FAULTS").unwrap_or(usual);
    let seed = number("RAIS_SEED").unwrap_or_else(|| now().0 % 1_000_000);
    println!("RAIS_SEED={seed} RAIS_FAULTS={faults}");
    let mut rng = Rng::new(seed);
    let spec = spec();
    let disks = spec.disks;
    let mut array = Array::up_as(&lab, spec).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let (mut struck, mut late) = (Vec::new(), None);
    for fault in 0..faults {
        array.revive().unwrap();
        let leader = array.leader().unwrap_or(1);
        let blow = Blow::draw(&mut rng, leader);
        if matches!(blow, Blow::Freeze { .. }) && !disks {
            continue;
        }
        let began = now();
        println!("{fault} at {began}: {blow:?}, leader h{leader}");
        blow.strike(&mut array, &lab);
        let undone = now();
        let home = array.bring_home(&observer, HOME);
        let ended = now();
        println!("   home after {:?}", ended.since(undone));
        struck.push(Struck { blow, began, ended });
        if let Err(error) = home {
            late = Some(format!("fault {fault}: {error}"));
            break;
        }
        // A planned move back home ends after the answer does.
        pause(rng.between((100, 400)));
    }
    let report = observer.stop().unwrap();
    let mut said = complaints(&report, &struck);
    said.extend(late);
    println!("longest time between two probes: {} us", report.coarsest_us);
    if said.is_empty() {
        return;
    }
    let teller = array.leader().unwrap_or(1);
    for asked in ["status", "events"] {
        println!(
            "{}",
            array
                .rais(teller, &[asked])
                .unwrap_or_else(|e| e.to_string())
        );
    }
    panic!("RAIS_SEED={seed}:\n{}", said.join("\n"));
}
