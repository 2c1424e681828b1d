//! Storms of random faults on a simulated array: every law holds while they blow, and some time after
//! each the array is at its equilibrium.
//!
//! `RAIS_LONG=1` runs many more. `RAIS_SEEDS=FROM..TO cargo test -p chaos --release --test random`
//! runs others; a failing one is printed with the end of its trace.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use chaos::Storm;

/// Seeds of a normal run: what a debug build does in some ten seconds.
const SEEDS: u64 = 60;
/// Seeds of a long run.
const LONG_SEEDS: u64 = 1_000;
/// Lines of the trace that are shown of a failing seed.
const SHOWN: usize = 40;

fn seeds() -> std::ops::Range<u64> {
    let long = std::env::var_os("RAIS_LONG").is_some();
    let asked = std::env::var("RAIS_SEEDS").ok();
    let asked = asked
        .as_deref()
        .and_then(|text| text.split_once(".."))
        .map(|(from, to)| from.parse().unwrap()..to.parse().unwrap());
    asked.unwrap_or(0..if long { LONG_SEEDS } else { SEEDS })
}

/// A short storm: 3 to 5 hosts, 30 s.
fn storm(seed: u64) -> Storm {
    Storm::of(seed, 3 + seed % 3, 30_000)
}

/// Goal: no storm breaks a law, and the array recovers from each.
/// Method: kills, restarts, pauses, cuts, bad weather, slow disks, operators; all checkers.
#[test]
fn no_storm_breaks_a_law_and_the_array_recovers_from_each() {
    let mut failed = Vec::new();
    for seed in seeds() {
        let outcome = storm(seed).run();
        if let Some(broken) = outcome.broken {
            println!("seed {seed}: {broken}");
            if failed.is_empty() {
                let trace = outcome.world.trace();
                trace.last(SHOWN).for_each(|line| println!("{line}"));
            }
            failed.push(seed);
        }
    }
    assert!(
        failed.is_empty(),
        "{} seeds failed: {failed:?}",
        failed.len()
    );
}

/// Goal: a seed can be replayed. Method: the same storm twice, another once; lean and not.
#[test]
fn the_same_seed_gives_the_same_trace() {
    let hash = |seed| {
        let outcome = Storm::of(seed, 5, 8_000).run();
        (outcome.world.trace().hash(), outcome.world.trace().len())
    };
    assert_eq!(hash(7), hash(7));
    assert_eq!(hash(16), hash(16));
    assert_ne!(hash(7), hash(8));
}
