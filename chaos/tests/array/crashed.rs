//! A daemon that crashes fails the run, whatever else goes on.

use chaos::drill::{Drill, DrillError, SCENARIOS, Scenario, Stop, play};
use chaos::lab::array::Array;
use chaos::lab::{Scope, Targets};
use std::process::Command;

use crate::{HOME, lab, turn};

/// Sends `signal` to the daemon of `host` behind the lab's back, and waits for its end.
fn crash(array: &Array<'_>, host: u8, signal: &str) {
    let daemon = array.daemon(host).unwrap();
    let mut kill = Command::new("kill");
    let sent = kill.args([signal, &daemon.pid().to_string()]).status();
    assert!(sent.unwrap().success() && daemon.wait_exit(HOME));
}

/// Goal: a daemon is started again only if what was done to it explains its end; a crash fails the run, with the
/// host, how it ended and what it said last. Method: one is killed by the lab, its warden is, it is ended by the
/// lab; then another one by somebody else, in three ways.
#[test]
fn a_daemon_that_ends_for_no_known_reason_is_not_started_again() {
    let _turn = turn();
    for signal in ["-ABRT", "-TERM", "-KILL"] {
        let Some(lab) = lab(3, "crashed") else { return };
        let mut array = Array::up(&lab, 3).unwrap();
        let observer = lab.observe(&Targets::new(&array.addresses())).unwrap();
        array.wait_home(&observer, HOME).unwrap();
        for whom in [Scope::Alone, Scope::Children] {
            array.kill(1, whom).unwrap();
            array.bring_home(&observer, HOME).unwrap();
        }
        array.terminate(1).unwrap();
        crash(&array, 2, signal);
        let told = array.bring_home(&observer, HOME).unwrap_err().to_string();
        assert!(
            told.starts_with("the daemon of h2 ended by itself ("),
            "{told}"
        );
        assert!(told.contains("INFO"), "the last lines of its log: {told}");
        assert!(array.start(2).is_err() && !array.crashes().is_empty());
    }
}

/// What a scenario does not see.
fn unseen(drill: &mut Drill<'_>, _: bool) -> Result<(), DrillError> {
    crash(&drill.array, 2, "-ABRT");
    Ok(())
}

/// Goal: a scenario whose own line is met is broken by a crash that it does not look for, and so is the next one.
/// Method: a scenario in which a daemon is made to crash, and one that restarts it, on one array.
#[test]
fn a_crash_that_a_scenario_does_not_look_for_breaks_it() {
    let _turn = turn();
    if lab(1, "unseen").is_none() {
        return;
    }
    let of = |name, play| Scenario {
        name,
        hosts: 3,
        disks: false,
        clocks: false,
        play,
        ..SCENARIOS[0]
    };
    let (first, then) = (of("unseen", unseen), of("killed", SCENARIOS[0].play));
    let told = play(&[&first], false, None, &Stop::default()).unwrap();
    let said = told.broken.join("\n");
    assert!(
        said.contains("the daemon of h2 ended by itself (signal: 6"),
        "{said}"
    );
    let told = play(&[&first, &then], false, None, &Stop::default()).unwrap();
    assert!(
        told.broken[0].starts_with("killed: the daemon of h2"),
        "{:?}",
        told.broken
    );
}
