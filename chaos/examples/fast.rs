//! `fast` timing in the lab: is a host taken for dead for nothing, and how long is a silent one missed?
//!
//!     cargo run --release -p chaos --example fast -- [MINUTES [RUNS]]     as root; 10 and 20
//!
//! Three hosts, `rais init --timing fast`. First the array is left alone for MINUTES, then for as
//! long again beside a `cargo build` of everything that starts anew and anew (in a target directory of
//! its own, which goes afterwards); each event `hostFencing` and each missed probe counts. Then a host
//! is cut off RUNS times. `target/PROFILE/rais` must have been built before.

use chaos::lab::array::{Array, ArraySpec, home_addresses};
use chaos::lab::{
    At, Fault, Gap, Injected, Lab, LabError, LabSpec, Network, Observer, Targets, now, wait_until,
};
use std::error::Error;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const HOSTS: u8 = 3;
const MINUTES: u64 = 10;
const MOST_MINUTES: u64 = 600;
const RUNS: u32 = 20;
const MOST_RUNS: u32 = 1_000;
const HOME: Duration = Duration::from_secs(30);
/// How long a host stays cut off.
const CUT: Duration = Duration::from_millis(1_000);
/// At rest before the next fault.
const REST: Duration = Duration::from_millis(700);
/// Between two looks at whether the build has ended.
const LOOK: Duration = Duration::from_millis(200);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let minutes: u64 = arguments.next().map_or(Ok(MINUTES), |n| n.parse())?;
    let runs: u32 = arguments.next().map_or(Ok(RUNS), |n| n.parse())?;
    let span = Duration::from_secs(60 * minutes.clamp(1, MOST_MINUTES));
    let lab = Lab::up(&LabSpec {
        hosts: HOSTS,
        name: "fast".to_owned(),
    })?;
    let mut spec = ArraySpec::new(HOSTS);
    spec.timing = "fast";
    let mut array = Array::up_as(&lab, spec)?;

    println!("| {span:?} of | false failovers | gaps | worst gap, ms | load |");
    println!("| --- | --- | --- | --- | --- |");
    quiet(&lab, &array, "an idle array", span, false)?;
    quiet(&lab, &array, "a cargo build beside it", span, true)?;

    let observer = lab.observe(&Targets::new(&array.addresses()))?;
    array.bring_home(&observer, HOME)?;
    let mut cuts = Vec::new();
    for run in 0..runs.clamp(1, MOST_RUNS) {
        wait_until(now().after(REST + Duration::from_millis(7) * (run % 10)));
        cuts.push(cut(&lab, &mut array, &observer)?);
    }
    let report = observer.stop()?;
    let worst = |(host, from, to): &(u8, At, At)| {
        let seen = home_addresses(*host);
        let seen = seen.iter().filter_map(|address| report.address(*address));
        let gaps = seen.flat_map(|seen| &seen.gaps);
        let within = gaps.filter(|gap| gap.to > *from && gap.from < *to);
        within
            .map(Gap::length)
            .max()
            .unwrap_or_default()
            .as_millis()
    };
    let mut gaps: Vec<u128> = cuts.iter().map(worst).collect();
    gaps.sort_unstable();
    let rank = |percent: usize| (gaps.len() * percent).div_ceil(100).saturating_sub(1);
    let [p50, p99, max] = [50, 99, 100].map(|p| gaps.get(rank(p)).copied().unwrap_or_default());
    println!(
        "\nHost gone silent, {} times: gap p50 {p50} ms, p99 {p99} ms, most {max} ms;",
        gaps.len()
    );
    println!(
        "probes with two owners: {}. Load now: {}.",
        report.dual_probes(),
        load()
    );
    Ok(())
}

/// Looks at the array for `span` and prints a row.
fn quiet(
    lab: &Lab,
    array: &Array<'_>,
    name: &str,
    span: Duration,
    builds: bool,
) -> Result<(), Box<dyn Error>> {
    let observer = lab.observe(&Targets::new(&array.addresses()))?;
    array.wait_home(&observer, HOME)?;
    drop(observer);
    let events = array.follow(1)?;
    let observer = lab.observe(&Targets::new(&array.addresses()))?;
    let end = now().after(span);
    let target = lab.logs().join("build");
    while builds && now() < end {
        build(&target, end)?;
    }
    wait_until(end);
    let (events, report) = (events.so_far(), observer.stop()?);
    let false_ones = events.iter().filter(|event| event["kind"] == "hostFencing");
    let gaps = report.addresses.iter().flat_map(|one| &one.seen.gaps);
    let gaps: Vec<&Gap> = gaps.filter(|gap| !gap.open || gap.lost > 1).collect();
    let worst = gaps.iter().map(|gap| gap.length().as_millis()).max();
    let (false_ones, worst) = (false_ones.count(), worst.unwrap_or_default());
    println!(
        "| {name} | {false_ones} | {} | {worst} | {} |",
        gaps.len(),
        load()
    );
    Ok(())
}

/// One build from nothing in `target`, ended at `end`.
fn build(target: &std::path::Path, end: At) -> Result<(), Box<dyn Error>> {
    let _ = fs::remove_dir_all(target);
    let mut build: Child = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--offline",
            "--workspace",
            "--target-dir",
        ])
        .arg(target)
        .stdout(Stdio::null())
        .spawn()?;
    while now() < end {
        if let Some(status) = build.try_wait()? {
            if status.success() {
                return Ok(());
            }
            return Err(format!("cargo build beside the array failed: {status}").into());
        }
        // A poll of another process: there is no event to await.
        wait_until(now().after(LOOK));
    }
    let _ = build.kill();
    build.wait()?;
    Ok(())
}

fn cut(
    lab: &Lab,
    array: &mut Array<'_>,
    observer: &Observer,
) -> Result<(u8, At, At), Box<dyn Error>> {
    let host = array.leader().unwrap_or(1) % HOSTS + 1;
    let from = now();
    let cut = |network| lab.inject(&Fault::Partition { host, network });
    let both: Result<Vec<Injected>, LabError> = Network::ALL.into_iter().map(cut).collect();
    wait_until(from.after(CUT));
    let to = now();
    for one in both? {
        one.undo()?;
    }
    array.bring_home(observer, HOME)?;
    Ok((host, from, to))
}

/// The load averages: a figure of a busy machine must say so.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
