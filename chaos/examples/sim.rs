//! Simulated storms: many seeds, or one with its story.
//!
//!   cargo xtask sim --seeds 0..1000           how many a minute, and which break a law
//!   cargo xtask sim --seed 7 [--trace]        one: its hash, and what happened
//!   cargo xtask sim --seed 7 --shrink         a smaller storm that breaks the same law, and its story
//!
//! Each takes `--hosts N` (5) and `--ms N` (120000).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use chaos::{Hunt, Storm, lab, shrink};

/// Lines of a story that are shown without `--trace`.
const SHOWN: usize = 40;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).map(String::as_str)
    };
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let mut hunt = Hunt::new(0..0);
    if let Some(hosts) = after("--hosts") {
        hunt.hosts = hosts.parse().expect("a number of hosts");
    }
    if let Some(ms) = after("--ms") {
        hunt.blows_ms = ms.parse().expect("a number of ms");
    }
    if let Some((from, to)) = after("--seeds").and_then(|range| range.split_once("..")) {
        hunt.seeds = from.parse().expect("a seed")..to.parse().expect("a seed");
        return many(&hunt);
    }
    let Some(seed) = after("--seed") else {
        eprintln!("sim: --seeds A..B or --seed N");
        return ExitCode::from(2);
    };
    let storm = hunt.storm(seed.parse().expect("a seed"));
    one(&storm, has("--trace"), has("--shrink"))
}

fn many(hunt: &Hunt) -> ExitCode {
    let began = lab::now();
    let found = hunt.run(|seed, breach| println!("seed {seed}: {breach}"));
    let took = lab::now().since(began).as_secs_f64();
    let rate = found.storms as f64 / took * 60.0;
    println!(
        "{} storms of {} hosts and {} s each: {} broke a law; {took:.0} s, {rate:.0} a minute",
        found.storms,
        hunt.hosts,
        hunt.blows_ms / 1000,
        found.breaches.len(),
    );
    ExitCode::from(u8::from(!found.breaches.is_empty()))
}

fn one(storm: &Storm, trace: bool, smaller: bool) -> ExitCode {
    let mut outcome = storm.run();
    let breach = outcome.broken.clone();
    if let Some(breach) = breach.as_ref().filter(|_| smaller) {
        let small = shrink(storm, breach.law, breach.at_ms);
        println!(
            "{} of {} faults are left:",
            small.blows.len(),
            storm.blows.len()
        );
        for blow in &small.blows {
            println!("{:>6} {:?}", blow.at_ms, blow.fault);
        }
        outcome = small.run();
    }
    let shown = if trace || smaller { usize::MAX } else { SHOWN };
    outcome
        .world
        .trace()
        .last(shown)
        .for_each(|line| println!("{line}"));
    let (lines, hash) = (outcome.world.trace().len(), outcome.world.trace().hash());
    println!(
        "{lines} lines, hash {hash:016x}, {} faults",
        storm.blows.len()
    );
    match outcome.broken {
        Some(breach) => {
            println!("broken: {breach}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
