//! Faults on an array of real daemons, one after the other, with an audit after each: behind
//! `rais chaos run` and the tests of the scenarios, so that both do the same.
//!
//! A drill is an array in a lab under an observer that never looks away. A *strike* is a fault and its
//! undoing; then all must come home and `rais audit` must find nothing. What must hold over the whole
//! drill is in `Told::broken`: no probe answered by two hosts, no announcement of an address that
//! another host serves, no gap above [`GAP`] but where the fault hides the address.
//!
//! Limits: times are those of this machine; pass lines in ms are held by the best of [`TRIES`], and not at
//! all where other programs keep it busy: there [`GAP`] is the line.

mod blow;
mod flood;
mod page;
mod picture;
mod random;
mod scenario;
mod scenes;
mod stop;

pub use blow::Blow;
pub use page::page;
pub use picture::strips;
pub use random::{Random, random};
pub use scenario::{SCENARIOS, Scenario, play, scenario};
pub use stop::Stop;

use crate::lab::array::{Array, ArrayError, ArraySpec, home_addresses};
use crate::lab::{At, Fault, Gap, Lab, LabError, Observer, Report, Targets, now};
use std::time::Duration;

/// A probe, each 5 ms, may be lost on a machine with other things to do; a lease that ends costs an acquire
/// after an election or a heartbeat, and so far more.
const LOST_PROBE: Duration = Duration::from_millis(20);
/// After the undo everything is at home again by then; a debug build on two loaded cores.
pub const HOME: Duration = Duration::from_secs(20);
/// Longest gap of an address that another host can serve: R is 0.6 s, an election comes on top.
pub const GAP: Duration = Duration::from_secs(3);
/// Where two hosts answered in last-resort mode, one does so long after the heal.
pub const RESOLVED: Duration = Duration::from_secs(1);
/// A pass line is held by the best of so many: others share this machine.
pub const TRIES: u32 = 3;
/// Once home, an audit finds nothing by then.
const AUDIT: Duration = Duration::from_secs(10);

/// Why a drill ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The array or the lab said no.
    #[error(transparent)]
    Array(#[from] ArrayError),
    /// A pass line was not met.
    #[error("{0}")]
    Broken(String),
    /// Somebody asked for it.
    #[error("stopped before its end")]
    Stopped,
}

impl From<LabError> for DrillError {
    fn from(error: LabError) -> Self {
        Self::Array(error.into())
    }
}

/// A fault that was at work.
#[derive(Clone, Debug)]
pub struct Struck {
    /// What it was, in words.
    pub what: String,
    /// Whom it hit; empty: the networks.
    pub hosts: Vec<u8>,
    /// An address may be out of reach for as long as it lasts.
    pub hides: bool,
    /// Two hosts may answer until [`RESOLVED`] after its undo: outside the promise, as documented.
    pub doubles: bool,
    /// When it began.
    pub began: At,
    /// When it was undone.
    pub undone: At,
    /// When all was at home again and audited.
    pub ended: At,
}

/// What a drill was, for people.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was done, in words.
    pub title: String,
    /// As many hosts.
    pub hosts: u8,
    /// The faults, in order.
    pub struck: Vec<Struck>,
    /// Audits that found nothing.
    pub audits: usize,
    /// Figures that were measured on the way.
    pub figures: Vec<String>,
    /// What the observer saw.
    pub report: Report,
    /// What must not be; nothing: it passed.
    pub broken: Vec<String>,
}

impl Told {
    /// How many probes two hosts answered, in words. Where that was to be shown it says so; elsewhere it is
    /// in [`Told::broken`].
    #[must_use]
    pub fn answered_by_two(&self) -> String {
        let probes = self.report.dual_probes();
        let shown = self.struck.iter().any(|one| one.doubles);
        let note = if shown && probes > 0 {
            " (UNSAFE, as documented of last_resort)"
        } else {
            ""
        };
        format!("{probes} probes answered by two hosts{note}")
    }
}

/// An array under drill.
pub struct Drill<'lab> {
    lab: &'lab Lab,
    /// The array.
    pub array: Array<'lab>,
    observer: Observer,
    stop: Stop,
    struck: Vec<Struck>,
    audits: usize,
    figures: Vec<String>,
    /// Another build, to be upgraded to and back.
    other: Option<std::path::PathBuf>,
    is_upgraded: bool,
}

impl<'lab> Drill<'lab> {
    /// An array as `spec` says, all at home, observed.
    ///
    /// # Errors
    /// It does not come up.
    pub fn begin(lab: &'lab Lab, spec: ArraySpec, stop: &Stop) -> Result<Self, DrillError> {
        let array = Array::up_as(lab, spec)?;
        let observer = lab.observe(&Targets::new(&array.addresses()))?;
        array.wait_home(&observer, HOME)?;
        Ok(Self {
            lab,
            array,
            observer,
            stop: stop.clone(),
            struck: Vec::new(),
            audits: 0,
            figures: Vec::new(),
            other: None,
            is_upgraded: false,
        })
    }

    /// Upgrades go to this build of `rais`, and back.
    pub fn with_other(&mut self, other: Option<std::path::PathBuf>) {
        self.other = other;
    }

    /// Applies a fault, undoes it, and brings all home: `work` does the first two.
    ///
    /// # Errors
    /// What `work` said; something does not come home; the audit finds something.
    fn strike(
        &mut self,
        blow: &str,
        hosts: &[u8],
        hides: bool,
        work: impl FnOnce(&mut Self) -> Result<(), DrillError>,
    ) -> Result<Struck, DrillError> {
        if self.stop.is_told() {
            return Err(DrillError::Stopped);
        }
        self.array.revive()?;
        self.array.explain_no_more();
        let began = now();
        let worked = work(self);
        let undone = now();
        let home = worked.and_then(|()| self.settle());
        let struck = Struck {
            what: blow.to_owned(),
            hosts: hosts.to_vec(),
            hides,
            doubles: false,
            began,
            undone,
            ended: now(),
        };
        self.struck.push(struck.clone());
        let (number, took) = (self.struck.len(), struck.ended.since(undone));
        match &home {
            Ok(()) => self.stop.say(format_args!(
                "{number:>4}  {blow}: home and audited after {took:.1?}"
            )),
            Err(error) => self.stop.say(format_args!("{number:>4}  {blow}: {error}")),
        }
        home.map(|()| struck)
    }

    /// As [`Drill::strike`], where two hosts answer and that is what is to be shown.
    fn strike_unsafely(
        &mut self,
        blow: &str,
        hosts: &[u8],
        work: impl FnOnce(&mut Self) -> Result<(), DrillError>,
    ) -> Result<Struck, DrillError> {
        let before = self.struck.len();
        let done = self.strike(blow, hosts, true, work);
        let new = self.struck.iter_mut().skip(before);
        new.for_each(|struck| struck.doubles = true);
        done
    }

    /// Faults of the lab, all at once, for `ms`. Gives when all were at work.
    fn during(
        &mut self,
        faults: &[Fault],
        ms: u64,
        blow: &str,
        hosts: &[u8],
    ) -> Result<At, DrillError> {
        let mut at = now();
        self.strike(blow, hosts, false, |drill| {
            at = drill.hold(faults, ms)?;
            Ok(())
        })?;
        Ok(at)
    }

    /// Applies `faults`, waits, undoes them. Gives when all were at work.
    fn hold(&mut self, faults: &[Fault], ms: u64) -> Result<At, DrillError> {
        let mut injected = Vec::new();
        for fault in faults {
            injected.push(self.array.inject(fault)?);
        }
        let at = now();
        self.stop.pause(ms);
        for one in injected {
            one.undo()?;
        }
        Ok(at)
    }

    /// Waits until all is home and an audit finds nothing.
    fn settle(&mut self) -> Result<(), DrillError> {
        self.array.bring_home(&self.observer, HOME)?;
        let end = now().after(AUDIT);
        loop {
            let found = self.array.audit();
            match found {
                Ok(broken) if broken.is_empty() => break,
                Ok(broken) if now() >= end => {
                    let broken = broken.join("; ");
                    return Err(DrillError::Broken(format!("the audit finds {broken}")));
                }
                Err(error) if now() >= end => return Err(error.into()),
                _ => self.stop.pause(50),
            }
        }
        self.audits += 1;
        Ok(())
    }

    /// Somebody who leads, and a host that does not.
    ///
    /// # Errors
    /// Nobody leads.
    fn leader_and_owner(&self) -> Result<(u8, u8), DrillError> {
        let leader = self.array.leader();
        let leader = leader.ok_or_else(|| DrillError::Broken("nobody leads".to_owned()))?;
        Ok((leader, leader % self.array.hosts() + 1))
    }

    /// The longest time without an answer of an address at home on `host`, from `at` on.
    fn gap(&self, host: u8, at: At) -> Duration {
        let seen = self.observer.so_far();
        let gaps = home_addresses(host)
            .into_iter()
            .filter_map(|address| seen.address(address)?.gap_after(at));
        gaps.map(|gap| gap.length()).max().unwrap_or_default()
    }

    /// How long after `at` all addresses at home on `host` were answered by others; [`GAP`] if never.
    fn taken(&self, host: u8, at: At) -> Duration {
        let (seen, name) = (self.observer.so_far(), format!("h{host}"));
        let of = |address| {
            let mut later = seen.address(address)?.tenures.iter();
            let other = later.find(|one| one.host != name && one.from > at)?;
            Some(other.from.since(at))
        };
        let all = home_addresses(host).map(|address| of(address).unwrap_or(GAP));
        all.into_iter().max().unwrap_or_default()
    }

    /// How long after `at` the last answer of `host` came, before others took its addresses.
    fn last_answer(&self, host: u8, at: At) -> Duration {
        let seen = self.observer.so_far();
        let name = format!("h{host}");
        let of = |address| {
            let tenures = &seen.address(address)?.tenures;
            let own = tenures
                .iter()
                .filter(|one| one.host == name && one.from <= at && one.to >= at);
            own.map(|one| one.to.since(at)).max()
        };
        home_addresses(host)
            .into_iter()
            .filter_map(of)
            .max()
            .unwrap_or_default()
    }

    /// Breaks off if any address at home on one of `hosts` had a gap since `at`, but for a probe that was lost.
    fn no_gap(&self, hosts: impl IntoIterator<Item = u8>, at: At) -> Result<(), DrillError> {
        for host in hosts {
            let gap = self.gap(host, at);
            if gap > LOST_PROBE {
                return Err(DrillError::Broken(format!(
                    "h{host} was silent for {gap:?}"
                )));
            }
        }
        Ok(())
    }

    /// Holds a pass line: the best of [`TRIES`] is within it, and all are within [`GAP`]. On a machine that
    /// is busy with other things only [`GAP`] counts, and the figure says so.
    fn line(
        &mut self,
        what: &str,
        line: Duration,
        mut once: impl FnMut(&mut Self) -> Result<Duration, DrillError>,
    ) -> Result<(), DrillError> {
        let mut all = Vec::new();
        let mut busy = false;
        for _ in 0..TRIES {
            busy = is_busy();
            let took = once(self)?;
            all.push(took);
            if took <= line || took > GAP || busy {
                break;
            }
        }
        let note = if busy {
            " on a quiet machine; this one is busy"
        } else {
            ""
        };
        let figure = format!("{what} {all:.2?}, wanted {line:.1?}{note}");
        self.note(figure.clone());
        let most = if busy { GAP } else { line };
        match all.last() {
            Some(last) if *last <= most => Ok(()),
            _ => Err(DrillError::Broken(figure)),
        }
    }

    /// Prints a figure and keeps it for the report.
    fn note(&mut self, figure: String) {
        self.stop.say(format_args!("      {figure}"));
        self.figures.push(figure);
    }

    /// Ends the drill and tells it. `broken` is what was noticed on the way.
    ///
    /// # Errors
    /// The observer failed.
    pub fn end(self, title: &str, mut broken: Vec<String>) -> Result<Told, DrillError> {
        let crashes = self.array.crashes().into_iter();
        let told = |one: &String| broken.iter().any(|before| before.contains(one));
        broken.extend(crashes.filter(|one| !told(one)).collect::<Vec<_>>());
        let report = self.observer.stop()?;
        broken.extend(complaints(&report, &self.struck));
        Ok(Told {
            title: title.to_owned(),
            hosts: self.array.hosts(),
            struck: self.struck,
            audits: self.audits,
            figures: self.figures,
            report,
            broken,
        })
    }
}

/// Whether more programs want to run than twice the cores: five daemons and an observer are below that.
fn is_busy() -> bool {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    load.is_some_and(|load| load > 2.0 * cores as f64)
}

/// What must not be, each with the fault that it fell into.
fn complaints(report: &Report, struck: &[Struck]) -> Vec<String> {
    let hit = |from: At, to: At| {
        let all = struck.iter().enumerate();
        all.filter(move |(_, one)| one.began <= to && from <= one.ended)
    };
    let during = |from, to| {
        let words = hit(from, to).map(|(n, one)| format!("{} {}", n + 1, one.what));
        words.collect::<Vec<_>>().join(", ")
    };
    let may_double = |from: At, to: At| {
        hit(from, to).any(|(_, one)| one.doubles && to <= one.undone.after(RESOLVED))
    };
    let is_hidden = |gap: &Gap| hit(gap.from, gap.to).any(|(_, one)| one.hides);
    let mut said = Vec::new();
    for one in &report.addresses {
        let duals = one.seen.duals.iter();
        for dual in duals.filter(|dual| !may_double(dual.from, dual.to)) {
            let (hosts, when) = (dual.hosts.join(" and "), during(dual.from, dual.to));
            said.push(format!(
                "TWO OWNERS of {}: {hosts} during {when}",
                one.address
            ));
        }
        let long = one
            .seen
            .gaps
            .iter()
            .filter(|gap| gap.length() > GAP && !is_hidden(gap));
        said.extend(long.map(|gap| {
            let (length, when) = (gap.length(), during(gap.from, gap.to));
            format!("{} was silent for {length:.1?} during {when}", one.address)
        }));
    }
    let claims = report.trespasses();
    said.extend(
        claims
            .filter(|claim| !may_double(claim.at, claim.at))
            .map(|claim| {
                let when = during(claim.at, claim.at);
                format!(
                    "{} announced {}, which another host served, during {when}",
                    claim.host, claim.address
                )
            }),
    );
    said
}
