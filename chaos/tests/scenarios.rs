//! The scenarios on real daemons in the lab, a few on each array; docs/testing.md has the table. Root only;
//! says so and passes otherwise.
//!
//! The binary `rais` must have been built before, with the same profile. `RAIS_LONG=1` makes them longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chaos::drill::{Stop, play, scenario};
use std::io::Write;
use std::sync::{Mutex, PoisonError};

/// One array at a time: a starved daemon is rightly taken for a dead one.
static TURN: Mutex<()> = Mutex::new(());

fn is_long() -> bool {
    std::env::var_os("RAIS_LONG").is_some()
}

/// Plays `names` on one array: every pass line is met, no address is answered by two hosts.
fn pass(names: &[&str]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = chaos::lab::disks_available() {
        // Past the capture of the test harness: a test that tests nothing says so.
        let _ = writeln!(
            std::io::stderr(),
            "\n!!! SKIPPED chaos/tests/scenarios.rs: {error}\n"
        );
        return;
    }
    let all: Vec<_> = names.iter().map(|name| scenario(name).unwrap()).collect();
    let told = play(&all, is_long(), None, &Stop::default()).unwrap();
    assert!(told.broken.is_empty(), "{}", told.broken.join("\n"));
    assert!(told.audits >= names.len() && told.audits == told.struck.len());
}

/// Goal: an owner that dies, stands still or goes deaf is silent in time, and others take over in time.
/// Method: scenarios 1, 2, 3 and 13.
#[test]
fn a_lost_owner_is_silent_before_another_takes_over() {
    pass(&["killed", "stopped", "deaf-owner", "networks"]);
}

/// Goal: whoever dies while a fence goes on, it ends and nothing is served twice.
/// Method: scenarios 5 and 9.
#[test]
fn a_fence_ends_whoever_dies_meanwhile() {
    pass(&["voter-in-fence", "leader-in-fence"]);
}

/// Goal: a network in pieces costs those their leases that reach no quorum, and no one else.
/// Method: scenarios 4, 7, 10 and 11.
#[test]
fn a_network_in_pieces_costs_only_who_reaches_no_quorum() {
    pass(&["unheard-by-leader", "healed", "partitions", "loss"]);
}

/// Goal: clocks, hands, other programs, strangers and full disks move nothing that can stay.
/// Method: scenarios 8, 12, 14, 15, 18 and 19.
#[test]
fn what_is_done_to_one_host_is_noticed_by_no_other() {
    pass(&[
        "leader-paused",
        "clocks",
        "hands",
        "netlink-held",
        "disk-full",
        "flood",
    ]);
}

/// Goal: what operators plan goes on under faults, and costs hand-overs only.
/// Method: scenarios 16, 20 and 21.
#[test]
fn planned_work_costs_hand_overs_only() {
    pass(&["restarts", "upgrade", "drains"]);
}

/// Goal: without a quorum a group that asks for it is served, and two answer only where it is documented.
/// Method: scenario 22.
#[test]
fn the_last_resort_doubles_nothing_but_what_nothing_joins() {
    pass(&["last-resort"]);
}

/// Goal: the word of voters that were replaced counts nothing.
/// Method: scenario 6, on eight hosts; long tier only.
#[test]
fn voters_that_were_replaced_count_nothing() {
    if is_long() {
        pass(&["voters-replaced"]);
    } else {
        println!("eight hosts: only with RAIS_LONG=1");
    }
}
