//! keepalived in the lab, under the observer: gap and dual ownership of each fault, as a table.
//!
//!     cargo run --release -p chaos --example keepalived -- [RUNS]     as root; RUNS is 3
//!
//! Three hosts, one address, VRRPv3, advertisements each 1 s (the default) and each 0.1 s. Each run
//! has a lab of its own and faults at another phase of the advertisements. "Dual" is told for the
//! time of the fault and for the time after it was undone (the old owner comes back).
//! Needs the package keepalived. Takes some six minutes with 3 runs.

use chaos::lab::{
    Fault, Gap, Injected, Lab, LabError, LabSpec, MAX_HOSTS, Network, Observer, Process, Report,
    Scope, Targets, now, wait_until,
};
use std::error::Error;
use std::fs;
use std::net::IpAddr;
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
const AFTER: Duration = Duration::from_secs(3);

#[derive(Clone, Copy)]
enum Kind {
    Kill,
    Stop,
    Terminate,
    Partition,
    Carrier,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Kill, "kill -9"),
    (Kind::Stop, "SIGSTOP"),
    (Kind::Terminate, "SIGTERM"),
    (Kind::Partition, "silent partition"),
    (Kind::Carrier, "carrier lost"),
];

/// Two owners up to this close to the undo: nothing but the undo ended it.
const AT_THE_END: Duration = Duration::from_millis(50);

/// What one run showed, in milliseconds.
#[derive(Debug)]
struct Figures {
    gap: u128,
    open: bool,
    dual: u128,
    dual_after: u128,
    /// Whether the dual time reached to the end of the look.
    dual_on: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runs: u32 = std::env::args().nth(1).map_or(Ok(3), |runs| runs.parse())?;
    // How long the fault lasts: longer than any take-over.
    let adverts = [(1_000, 7_000), (100, 3_000)];
    let mut rows = Vec::new();
    for (advert, lasts) in
        adverts.map(|(a, l)| (Duration::from_millis(a), Duration::from_millis(l)))
    {
        for (kind, name) in KINDS {
            let mut figures = Vec::new();
            for run in 0..runs {
                let one = watch_one(kind, advert, lasts, run)?;
                eprintln!("advert {advert:?}, {name}: {one:?}");
                figures.push(one);
            }
            rows.push(row(name, advert, lasts, &figures));
        }
    }
    println!(
        "| fault at the master | advert | gap, ms | two owners during the fault, ms | two owners after it, ms |"
    );
    println!("| --- | --- | --- | --- | --- |");
    for row in rows {
        println!("{row}");
    }
    Ok(())
}

fn row(name: &str, advert: Duration, lasts: Duration, figures: &[Figures]) -> String {
    let list = |value: &dyn Fn(&Figures) -> String| {
        let all: Vec<String> = figures.iter().map(value).collect();
        all.join(", ")
    };
    let on = |ms: u128, on: bool| format!("{ms}{}", if on { " and on" } else { "" });
    let gap = list(&|f| on(f.gap, f.open));
    let dual = list(&|f| on(f.dual, f.dual_on));
    let after = list(&|f| f.dual_after.to_string());
    let looked = lasts.as_secs();
    format!("| {name} | {advert:?} | {gap} | {dual} (looked {looked} s) | {after} |")
}

fn watch_one(kind: Kind, advert: Duration, lasts: Duration, run: u32) -> Result<Figures, LabError> {
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
        wait_until(undone.after(AFTER));
    }
    let report = observer.stop()?;
    Ok(figures(&report, address, began, undone))
}

fn figures(
    report: &Report,
    address: IpAddr,
    began: chaos::lab::At,
    undone: chaos::lab::At,
) -> Figures {
    let seen = report.address(address).cloned().unwrap_or_default();
    // Duals are told apart by the undo; one that reaches over it is cut there.
    let during = seen
        .duals
        .iter()
        .filter(|dual| dual.to >= began && dual.from < undone);
    let last = during.clone().next_back();
    let after = seen.duals.iter().filter(|dual| dual.to >= undone);
    let during = during.map(|dual| dual.to.min(undone).since(dual.from).as_millis());
    let after = after.map(|dual| dual.to.since(dual.from.max(undone)).as_millis());
    let gap = seen
        .gaps
        .iter()
        .filter(|gap| gap.to > began && gap.from < undone);
    let gap = gap.copied().max_by_key(Gap::length);
    Figures {
        gap: gap.map_or(0, |gap| gap.length().as_millis()),
        open: gap.is_some_and(|gap| gap.open),
        dual: during.sum(),
        dual_after: after.sum(),
        dual_on: last.is_some_and(|dual| undone.since(dual.to) < AT_THE_END),
    }
}

/// Applies the fault to the master: host 1, whose daemon is `process`.
fn begin(lab: &Lab, kind: Kind, process: Process) -> Result<Option<Injected>, LabError> {
    let (host, network, scope) = (1, Network::Lan, Scope::Family);
    let fault = match kind {
        Kind::Kill => Fault::Kill { process, scope },
        Kind::Stop => Fault::Stop { process, scope },
        Kind::Partition => Fault::Partition { host, network },
        Kind::Carrier => Fault::Carrier { host, network },
        Kind::Terminate => {
            process.terminate()?;
            let _ = process.wait_exit(FIRST_OWNER);
            return Ok(None);
        }
    };
    let injected = lab.inject(&fault)?;
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
