//! keepalived in the lab: a lab for each run, one address, VRRPv3, the faults of one round side by
//! side (a daemon that sends ten frames a second leaves the machine idle).

use crate::Wrong;
use crate::figures::{Figures, Kind, Who};
use chaos::lab::{
    At, Fault, Gap, Injected, Lab, LabError, LabSpec, MAX_HOSTS, Network, Observer, Process,
    Report, Scope, Targets, now, wait_until,
};
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

const HOSTS: u8 = 3;
/// Host N has ten less for each N: 140, 130, 120, so that the back-up's skew is half an interval.
const PRIORITY: u8 = 150;
/// Last byte of the address that moves.
const VIP: u8 = 101;
/// A first owner comes after three advertisements and a bit.
const FIRST_OWNER: Duration = Duration::from_secs(15);
/// Runs of one fault differ in phase by this part of the advertisement interval.
const PHASES: u32 = 7;
/// After the undo: the time in which an old owner steps down.
const AFTER: Duration = Duration::from_millis(1_500);
/// Two owners up to this close to the end: nothing but the end of the look ended it.
const AT_THE_END: Duration = Duration::from_millis(50);

/// One run of each fault that keepalived has.
pub fn round(who: Who, run: u32) -> Result<Vec<(Kind, Figures)>, Wrong> {
    // How long the fault lasts: longer than any take-over, as with rais.
    let (advert, lasts) = match who {
        Who::Keepalived1s => (1_000, 5_000),
        Who::Rais | Who::Keepalived100ms => (100, 2_000),
    };
    let (advert, lasts) = (Duration::from_millis(advert), Duration::from_millis(lasts));
    thread::scope(|scope| {
        let kinds = Kind::OF_KEEPALIVED;
        let start = |kind| (kind, scope.spawn(move || one_run(kind, advert, lasts, run)));
        let running = kinds.map(start);
        let end = |(kind, thread): (Kind, thread::ScopedJoinHandle<'_, _>)| {
            let ended: Result<Figures, LabError> =
                thread.join().map_err(|_| "a run of keepalived panicked")?;
            Ok((kind, ended?))
        };
        running.into_iter().map(end).collect()
    })
}

fn one_run(kind: Kind, advert: Duration, lasts: Duration, run: u32) -> Result<Figures, LabError> {
    let lab = Lab::up(&LabSpec {
        hosts: HOSTS,
        name: "keepalived".to_owned(),
    })?;
    let address: IpAddr = Network::Lan.v4(VIP).into();
    let observer = lab.observe(&Targets::new(&[address]))?;
    // All of them live as long as their handles.
    let daemons = start(&lab, advert)?;
    let Some(master) = daemons.first().cloned() else {
        return Err(LabError::Range {
            what: "a lab without hosts".to_owned(),
            allowed: format!("1 to {MAX_HOSTS}"),
        });
    };
    settle(&observer, address)?;
    let phase = advert * (run % PHASES) / PHASES + advert;
    wait_until(now().after(phase));

    let began = now();
    let injected = begin(&lab, kind, master)?;
    wait_until(began.after(lasts));
    let undone = now();
    if let Some(injected) = injected {
        injected.undo()?;
    }
    wait_until(undone.after(AFTER));
    Ok(figures(&observer.stop()?, address, began, undone))
}

fn figures(report: &Report, address: IpAddr, began: At, undone: At) -> Figures {
    let seen = report.address(address).cloned().unwrap_or_default();
    let gaps = seen.gaps.iter();
    let gaps = gaps.filter(|gap| gap.to > began && gap.from < undone);
    let gap = gaps.map(Gap::length).max();
    let duals = seen.duals.iter().filter(|dual| dual.to >= began);
    let dual = duals
        .clone()
        .map(|dual| dual.to.since(dual.from.max(began)));
    let last = duals.clone().next_back();
    Figures {
        gap: gap.map_or(0, millis),
        // A single dual probe counts as one millisecond: it must not read as none.
        dual: dual.map(|span| millis(span).max(1)).sum(),
        dual_on: last.is_some_and(|dual| report.ended.since(dual.to) < AT_THE_END),
        others: None,
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Applies the fault to the master: host 1, whose daemon is `process`.
fn begin(lab: &Lab, kind: Kind, process: Process) -> Result<Option<Injected>, LabError> {
    let (host, network) = (1, Network::Lan);
    let kill = |process, scope| lab.inject(&Fault::Kill { process, scope });
    let injected = match kind {
        Kind::KillDaemon => kill(process, Scope::Alone)?,
        Kind::Kill | Kind::KillLeader => kill(process, Scope::Family)?,
        Kind::Stop => {
            let scope = Scope::Family;
            lab.inject(&Fault::Stop { process, scope })?
        }
        Kind::Partition | Kind::PartitionLeader => {
            lab.inject(&Fault::Partition { host, network })?
        }
        Kind::Terminate | Kind::Move => {
            process.terminate()?;
            let _ = process.wait_exit(FIRST_OWNER);
            return Ok(None);
        }
    };
    Ok(Some(injected))
}

/// Waits for host 1 to be the only owner.
fn settle(observer: &Observer, address: IpAddr) -> Result<(), LabError> {
    if observer.wait(address, &[1], FIRST_OWNER) {
        return Ok(());
    }
    Err(LabError::Range {
        what: format!("keepalived did not bring up {address} on h1 in {FIRST_OWNER:?}"),
        allowed: "a look at its log, in the lab's".to_owned(),
    })
}

/// One keepalived on each host, host 1 first.
fn start(lab: &Lab, advert: Duration) -> Result<Vec<Process>, LabError> {
    let make = |source| LabError::System {
        what: format!("write to {}", lab.logs().display()),
        source,
    };
    fs::create_dir_all(lab.logs()).map_err(make)?;
    let mut daemons = Vec::new();
    for (number, host) in (1_u8..).zip(lab.hosts()) {
        let file = |end: &str| lab.logs().join(format!("{}.{end}", host.label()));
        let text = configuration(host.label(), PRIORITY - 10 * number, advert);
        fs::write(file("conf"), text).map_err(make)?;
        let mut command = host.command("keepalived");
        command.args(["-n", "-l", "-P", "-f"]).arg(file("conf"));
        command.arg("-p").arg(file("pid"));
        command.arg("-r").arg(file("vrrp.pid"));
        daemons.push(host.spawn("keepalived", &mut command)?);
    }
    Ok(daemons)
}

fn configuration(name: &str, priority: u8, advert: Duration) -> String {
    let (advert, vip) = (advert.as_secs_f64(), Network::Lan.v4(VIP));
    format!(
        "global_defs {{\n  router_id {name}\n  vrrp_version 3\n}}\n\
         vrrp_instance service {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 51\n  \
         priority {priority}\n  advert_int {advert}\n  virtual_ipaddress {{\n    {vip}/24 dev eth0\n  \
         }}\n}}\n"
    )
}
