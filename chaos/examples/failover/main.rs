//! rais and keepalived in the same lab, under the same observer and the same faults, in one run: how
//! long an address is not answered, how long two hosts answer it, and who else suffers.
//!
//!     bench/failover-lab.sh [RUNS [PICTURE]]     as root; RUNS is 10; takes some nine minutes then
//!
//! Three hosts each; every address is asked for each 5 ms. A round hits rais with each fault, then
//! keepalived with advertisements each 100 ms (rais' heartbeat), then with each 1 s (its default);
//! RUNS rounds, each at another phase of the heartbeats. Prints a Markdown table on standard output
//! and its progress on standard error; PICTURE is an SVG file to write.
//! `target/PROFILE/rais` must have been built before; keepalived is the Debian package.

mod figures;
mod keepalived;
mod picture;
mod rais;
mod table;

use figures::{Figures, Kind, Series, Who};
use std::error::Error;
use std::fs;
use std::process::Command;

const RUNS: u32 = 10;
const MOST_RUNS: u32 = 1_000;

/// What goes wrong in here, also on threads.
pub type Wrong = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Wrong> {
    let mut arguments = std::env::args().skip(1);
    let runs: u32 = arguments.next().map_or(Ok(RUNS), |runs| runs.parse())?;
    let picture = arguments.next();
    let runs = runs.clamp(1, MOST_RUNS);
    if let Err(error) = Command::new("keepalived").arg("--version").output() {
        return Err(format!("keepalived: {error}; install the package keepalived").into());
    }
    let before = load();
    let lab = rais::lab()?;
    let mut array = rais::Hit::up(&lab)?;
    let mut all: Vec<Series> = Vec::new();
    for run in 0..runs {
        eprintln!("round {} of {runs}: rais", run + 1);
        for kind in Kind::ALL {
            array.hit(kind, run)?;
        }
        for who in [Who::Keepalived100ms, Who::Keepalived1s] {
            eprintln!("round {} of {runs}: {}", run + 1, who.name());
            for (kind, figures) in keepalived::round(who, run)? {
                add(&mut all, who, kind, figures);
            }
        }
    }
    let (figures, restless) = array.figures()?;
    for (kind, figures) in figures {
        add(&mut all, Who::Rais, kind, figures);
    }
    println!(
        "{runs} runs of each fault. Load of the machine before: {before}; after: {}.\n",
        load()
    );
    println!("{}", table::of(&all));
    println!("Gaps of rais' addresses while no fault was at work: {restless}.");
    if let Some(path) = picture {
        fs::write(&path, picture::of(&all)).map_err(|error| format!("write {path}: {error}"))?;
    }
    Ok(())
}

fn add(all: &mut Vec<Series>, who: Who, kind: Kind, figures: Figures) {
    let of = |series: &&mut Series| (series.who, series.kind) == (who, kind);
    match all.iter_mut().find(of) {
        Some(series) => series.runs.push(figures),
        None => all.push(Series {
            who,
            kind,
            runs: vec![figures],
        }),
    }
}

/// The load averages: a figure of a busy machine must say so.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
