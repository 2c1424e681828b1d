//! What a host notices of itself: at once where the kernel tells, and at no cost for leases however much hangs.

use std::collections::BTreeSet;
use std::time::Duration;

use chaos::lab::array::Array;
use chaos::lab::{Fault, Gap, Network, Targets, now};
use serde_json::Value;

use crate::watched::{Folder, apply};
use crate::{GAP, HOME, await_served, lab, turn};

/// Looks of this test are so rare that what is noticed was told by the kernel.
const RARE: &str = "interval = \"1m\"\ntimeout = \"500ms\"\nrise = 1\nfall = 9\n";
/// Groups with hanging tests, and tests in each: a thousand, and a group may have 256.
const GROUPS: usize = 4;
const TESTS: usize = 250;
/// All are found to hang by then.
const HANGING: Duration = Duration::from_secs(90);

/// Every test of `host`: what it found.
fn found(array: &Array<'_>, host: u8) -> Vec<String> {
    let tests = array.rais(host, &["tests", "--json"]).unwrap_or_default();
    let tests: Value = serde_json::from_str(&tests).unwrap_or_default();
    let lines = tests["tests"].as_array().cloned().unwrap_or_default();
    let found = |line: &Value| line["found"].as_str().unwrap_or_default().to_owned();
    lines.iter().map(found).collect()
}

/// Goal: a host whose service interface loses its carrier lets go at once, not at the next look, and takes
/// its addresses back when the carrier is there. Method: a look each minute, and a switch port that goes down.
#[test]
fn a_lost_carrier_costs_an_address_no_interval() {
    let _turn = turn();
    let Some(lab) = lab(3, "carrier") else { return };
    let (array, folder) = (Array::up(&lab, 3).unwrap(), Folder::new());
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&observer, HOME).unwrap();
    let interface = Network::Lan.interface();
    apply(
        &array,
        &folder,
        &format!("[[test]]\nname = \"nic\"\ninterface = {{ name = \"{interface}\" }}\n{RARE}"),
    );
    let passed = |array: &Array<'_>| found(array, 2) == ["passed"];
    array
        .until(HOME, "the interface was looked at", passed)
        .unwrap();
    let lost = now();
    let cut = lab.inject(&Fault::Carrier {
        host: 2,
        network: Network::Lan,
    });
    let cut = cut.unwrap();
    await_served(&array, &observer, 2, &[1, 3], GAP);
    let took = now().since(lost);
    println!("served elsewhere {took:?} after the carrier went");
    let status = array.status(1).unwrap();
    let members = status["groups"][0]["members"].as_array().unwrap();
    let failing = members
        .iter()
        .find(|member| member["host"] == "h2")
        .unwrap();
    let why = failing["failing"].as_str().unwrap_or_default();
    assert!(why.contains("has no carrier"), "{failing}");
    cut.undo().unwrap();
    let report = observer.stop().unwrap();
    assert_eq!(report.dual_probes(), 0, "{}", report.json());
}

/// The process that runs programs for `daemon`.
fn runner(daemon: u32) -> u32 {
    let children = format!("/proc/{daemon}/task/{daemon}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let is_runner = |pid: &u32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.contains("runner")
    };
    let mut pids = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    pids.find(is_runner).unwrap()
}

/// The children of `parent` in each state, as the kernel's letters have it, and its descriptors.
fn left_of(parent: u32) -> (BTreeSet<char>, usize, usize) {
    let children = format!("/proc/{parent}/task/{parent}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let state = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')').next()?.trim().chars().next()
    };
    let states = children.split_whitespace().filter_map(state).collect();
    let descriptors = std::fs::read_dir(format!("/proc/{parent}/fd")).unwrap();
    (
        states,
        children.split_whitespace().count(),
        descriptors.count(),
    )
}

/// Goal: a thousand tests that hang on one host cost no lease and no probe, and leave no zombie and no
/// descriptor. Method: four groups that h1 joins while it runs, each with 250 tests that never end.
#[test]
fn a_thousand_hanging_tests_cost_no_lease() {
    let _turn = turn();
    let Some(lab) = lab(3, "thousand") else {
        return;
    };
    let (array, folder) = (Array::up(&lab, 3).unwrap(), Folder::new());
    let settle = lab.observe(&Targets::new(&array.addresses())).unwrap();
    array.wait_home(&settle, HOME).unwrap();
    drop(settle);
    let runner = runner(array.daemon(1).unwrap().pid());
    let (_, _, descriptors) = left_of(runner);
    let events = array.follow(2).unwrap();
    let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
    let mut members = String::new();
    for group in 0..GROUPS {
        let test = |n: usize| {
            format!(
                "[[test]]\nname = \"t{n}\"\nexec = {{ command = [\"/bin/sleep\", \"{}\"] }}\n\
                 interval = \"10s\"\ntimeout = \"9s\"\n",
                1_000 + group * TESTS + n
            )
        };
        let tests: String = (0..TESTS).map(test).collect();
        let policy = format!("name = \"g{group}\"\nzone = \"g{group}.example.\"\n{tests}");
        let file = folder.file(&format!("g{group}.toml"), &policy);
        // A starved machine elects now and then, and says so.
        let applied = |array: &Array<'_>| array.rais(1, &["group", "apply", &file]).is_ok();
        array.until(HOME, "the policy is applied", applied).unwrap();
        members += &format!("[[member]]\ngroup = \"g{group}\"\ninterface = \"eth0\"\n");
    }
    array.reload_with(1, &members).unwrap();
    let hang = |found: &String| {
        found.contains("no answer within") || found.contains("did not end in time")
    };
    let (mut most, mut hanging) = (0, 0);
    let end = now().after(HANGING);
    while hanging < GROUPS * TESTS {
        assert!(now() < end, "{hanging} tests hang, {most} programs at once");
        most = most.max(left_of(runner).1);
        hanging = found(&array, 1).iter().filter(|found| hang(found)).count();
    }
    println!("{most} programs at once");
    // A starved machine is slow to start them.
    assert!(most > TESTS, "{most} programs at once");
    let report = observer.stop().unwrap();
    for one in &report.addresses {
        let fine = |gap: &&Gap| gap.open && gap.lost <= 1;
        assert!(
            one.seen.gaps.iter().all(|gap| fine(&gap)),
            "{} {:?}",
            one.address,
            one.seen.gaps
        );
    }
    let fenced = events
        .so_far()
        .into_iter()
        .filter(|event| event["kind"] == "hostFencing");
    assert_eq!(fenced.collect::<Vec<_>>(), Vec::<Value>::new());
    for group in 0..GROUPS {
        let name = format!("g{group}");
        let deleted = |array: &Array<'_>| array.rais(1, &["group", "delete", &name]).is_ok();
        array.until(HOME, "the group is deleted", deleted).unwrap();
    }
    let ended = |_: &Array<'_>| left_of(runner) == (BTreeSet::new(), 0, descriptors);
    array
        .until(HOME, "no program, no zombie, no descriptor is left", ended)
        .unwrap();
}
