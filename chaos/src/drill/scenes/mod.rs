//! What the scenarios do. Who owns and who leads is asked anew each time; hosts are numbers.

mod cuts;
mod local;
mod lost;
mod planned;
mod resort;
mod upgrade;

pub(super) use cuts::{healed, loss, partitions, unheard_by_leader};
pub(super) use local::{clocks, disk_full, flooded, hands, leader_paused, netlink_held};
pub(super) use lost::{
    deaf_owner, killed, leader_in_fence, networks, stopped, voter_in_fence, voters_replaced,
};
pub(super) use planned::{drains, restarts, roll, upgrade};
pub(super) use resort::last_resort;
pub(super) use upgrade::upgraded;

use super::{Drill, DrillError};
use crate::lab::{At, Fault, Network, Scope};
use std::time::Duration;

/// L of the timing `lan`: an owner that nobody hears is silent by then, and this much later at most.
pub(super) const LEASE_MS: u64 = 300;
const LEASE: Duration = Duration::from_millis(LEASE_MS);
const LATE: Duration = Duration::from_millis(10);
/// R of the timing `lan`: max(D, L) + 300 ms.
const TAKEN: Duration = Duration::from_millis(600);
/// Longest election of the timing `lan`: a follower waits its longest time-out twice.
const ELECTION: Duration = Duration::from_millis(600);
/// All begin anew: an election, whose longest time-out is 300 ms at `lan`, and a lease.
const RESTARTED: Duration = Duration::from_millis(300 + LEASE_MS + START_MS);
/// Five daemons of a debug build end and start so slowly on two cores (330 to 820 ms; of a release build 230 to
/// 320 ms, both beside builds).
const START_MS: u64 = if cfg!(debug_assertions) { 600 } else { 0 };
/// What was done by hand is mended by then.
const MENDED: Duration = Duration::from_millis(100);
/// Moments into a fence at which somebody is killed, in ms.
const INTO_A_FENCE: [u64; 4] = [0, 10, 20, 60];
/// Events come this much later than what they tell of, in ms.
const TOLD: u64 = 300;

type Done = Result<(), DrillError>;

fn broken<T>(what: impl Into<String>) -> Result<T, DrillError> {
    Err(DrillError::Broken(what.into()))
}

/// SIGCONT; it may have ended instead: a daemon without its warden does.
pub(super) fn wake(drill: &Drill<'_>, host: u8) -> Done {
    if drill.array.daemon(host).is_ok() {
        drill.array.resume(host)?;
    }
    Ok(())
}

/// SIGSTOP for `ms`.
pub(super) fn stop_for(drill: &Drill<'_>, host: u8, whom: Scope, ms: u64) -> Done {
    drill.array.stop(host, whom)?;
    drill.stop.pause(ms);
    wake(drill, host)
}

/// Control traffic from some hosts to others is lost, on both networks.
fn unheard(from: &[u8], to: &[u8]) -> Vec<Fault> {
    lost(from, to, false)
}

/// As [`unheard`]; or heartbeats and their answers alone.
fn lost(from: &[u8], to: &[u8], datagrams: bool) -> Vec<Fault> {
    let (from, to) = (from.to_vec(), to.to_vec());
    let of = |network| Fault::Control {
        from: from.clone(),
        to: to.clone(),
        datagrams,
        network,
    };
    Network::ALL.map(of).to_vec()
}

/// No control traffic between two sides, either way.
fn split(side: &[u8], other: &[u8]) -> Vec<Fault> {
    [unheard(side, other), unheard(other, side)].concat()
}

fn beside(drill: &Drill<'_>, hosts: &[u8]) -> Vec<u8> {
    let all = 1..=drill.array.hosts();
    all.filter(|host| !hosts.contains(host)).collect()
}

/// The host was silent once its lease had ended, counted from `at`.
fn silent(drill: &Drill<'_>, host: u8, at: At) -> Done {
    let last = drill.last_answer(host, at);
    if last <= LEASE + LATE {
        return Ok(());
    }
    broken(format!("h{host} still answered {last:.0?} after it"))
}

/// Does `work`, and gives the names of those whose fences were told meanwhile.
fn fences(
    drill: &mut Drill<'_>,
    teller: u8,
    work: impl FnOnce(&mut Drill<'_>) -> Done,
) -> Result<Vec<String>, DrillError> {
    let events = drill.array.follow(teller)?;
    work(drill)?;
    drill.stop.pause(TOLD);
    let fences = events
        .so_far()
        .into_iter()
        .filter(|one| one["kind"] == "hostFencing");
    Ok(fences
        .map(|one| one["host"].as_str().unwrap_or("?").to_owned())
        .collect())
}
