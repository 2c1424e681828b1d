//! rais in the lab: one array for the whole bench, hit, undone, at home again, hit anew.

use crate::Wrong;
use crate::figures::{Figures, Kind};
use chaos::lab::array::{Array, ArrayError, home_addresses};
use chaos::lab::{
    At, Fault, Gap, Injected, Lab, LabError, LabSpec, Network, Observer, Report, Scope, Targets,
    host_name, now, wait_until,
};
use std::time::Duration;

const HOSTS: u8 = 3;
/// How long a fault lasts: longer than any take-over.
const LASTS: Duration = Duration::from_millis(2_000);
/// Everything is at home again after an undo.
const HOME: Duration = Duration::from_secs(30);
/// At rest before the next fault.
const REST: Duration = Duration::from_millis(700);
/// Each run's fault comes so much later in the heartbeat than the one before.
const PHASE: Duration = Duration::from_millis(37);
/// Phases are told apart up to this many: longer waits would only take time.
const PHASES: u32 = 10;

/// One run: who was hit, and when it was hit and at home again.
struct Run {
    kind: Kind,
    host: u8,
    began: At,
    undone: At,
    /// At home again and at rest.
    over: At,
}

/// An array that is hit.
pub struct Hit<'lab> {
    lab: &'lab Lab,
    array: Array<'lab>,
    observer: Observer,
    runs: Vec<Run>,
}

pub fn lab() -> Result<Lab, LabError> {
    Lab::up(&LabSpec {
        hosts: HOSTS,
        name: "failover".to_owned(),
    })
}

impl<'lab> Hit<'lab> {
    pub fn up(lab: &'lab Lab) -> Result<Self, Wrong> {
        let array = Array::up(lab, HOSTS)?;
        let observer = lab.observe(&Targets::new(&array.addresses()))?;
        array.wait_home(&observer, HOME)?;
        Ok(Self {
            lab,
            array,
            observer,
            runs: Vec::new(),
        })
    }

    /// One run of `kind`.
    pub fn hit(&mut self, kind: Kind, run: u32) -> Result<(), ArrayError> {
        wait_until(now().after(REST + PHASE * (run % PHASES)));
        let host = self.victim(kind)?;
        self.array.explain_no_more();
        let began = now();
        let injected = self.begin(kind, host)?;
        wait_until(began.after(LASTS));
        let undone = now();
        for one in injected {
            one.undo()?;
        }
        if kind == Kind::Move {
            // It may have gone home by itself already; then the move says so.
            move_all(&self.array, host, host)?;
        }
        self.array.bring_home(&self.observer, HOME)?;
        wait_until(now().after(REST));
        self.runs.push(Run {
            kind,
            host,
            began,
            undone,
            over: now(),
        });
        Ok(())
    }

    fn victim(&self, kind: Kind) -> Result<u8, ArrayError> {
        let known = |array: &Array<'_>| array.leader().is_some();
        self.array.until(HOME, "a host knows the leader", known)?;
        let leader = self.array.leader().unwrap_or(1);
        Ok(if kind.is_of_leader() {
            leader
        } else {
            leader % HOSTS + 1
        })
    }

    fn begin(&self, kind: Kind, host: u8) -> Result<Vec<Injected>, ArrayError> {
        let array = &self.array;
        match kind {
            Kind::KillDaemon => array.kill(host, Scope::Alone).map(drop_at)?,
            Kind::Kill | Kind::KillLeader => array.kill(host, Scope::Family).map(drop_at)?,
            Kind::Terminate => array.terminate(host).map(drop_at)?,
            Kind::Move => move_all(array, host, host % HOSTS + 1)?,
            Kind::Stop => {
                let process = array.daemon(host)?;
                let scope = Scope::Family;
                return Ok(vec![array.inject(&Fault::Stop { process, scope })?]);
            }
            Kind::Partition | Kind::PartitionLeader => {
                let cut = |network| self.lab.inject(&Fault::Partition { host, network });
                let both: Result<Vec<_>, LabError> = Network::ALL.into_iter().map(cut).collect();
                return Ok(both?);
            }
        }
        Ok(Vec::new())
    }

    /// Ends the observation: each run's figures, and how many gaps fell into no run.
    pub fn figures(self) -> Result<(Vec<(Kind, Figures)>, usize), LabError> {
        let report = self.observer.stop()?;
        let figures = self.runs.iter().map(|run| (run.kind, of(&report, run)));
        let gaps = report.addresses.iter().flat_map(|one| &one.seen.gaps);
        let in_a_run = |gap: &&Gap| {
            let mut runs = self.runs.iter();
            runs.any(|run| run.began < gap.to && gap.from < run.over)
        };
        let restless = gaps.filter(|gap| !gap.open).filter(|gap| !in_a_run(gap));
        let restless = restless.count();
        Ok((figures.collect(), restless))
    }
}

/// When it was is of no use here.
fn drop_at(_: At) {}

fn move_all(array: &Array<'_>, home: u8, to: u8) -> Result<(), ArrayError> {
    for address in home_addresses(home) {
        array.rais(
            home,
            &["move", &address.to_string(), "--to", &host_name(to)],
        )?;
    }
    Ok(())
}

fn of(report: &Report, run: &Run) -> Figures {
    let hit = home_addresses(run.host);
    let (mine, others): (Vec<_>, Vec<_>) = report
        .addresses
        .iter()
        .partition(|one| hit.contains(&one.address));
    let within = |gap: &&Gap, end: At| !gap.open && gap.to > run.began && gap.from < end;
    let gaps = mine.iter().flat_map(|one| &one.seen.gaps);
    let gap = gaps
        .filter(|gap| within(gap, run.undone))
        .map(Gap::length)
        .max();
    let others = others.iter().flat_map(|one| &one.seen.gaps);
    let others = others.filter(|gap| within(gap, run.over)).count();
    let duals = report.addresses.iter().flat_map(|one| &one.seen.duals);
    let duals = duals.filter(|dual| dual.to >= run.began && dual.from < run.over);
    // A single dual probe counts as one millisecond: it must not read as none.
    let dual = duals
        .map(|dual| millis(dual.to.since(dual.from)).max(1))
        .sum();
    Figures {
        gap: gap.map_or(0, millis),
        dual,
        dual_on: false,
        others: Some(others),
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
