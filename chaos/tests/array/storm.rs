//! Random faults one after the other: 40, with `RAIS_LONG=1` a thousand. `RAIS_SEED` and `RAIS_FAULTS`
//! choose. `rais chaos run --random` does the same, and draws a picture.

use chaos::drill::{Random, Stop, random};
use chaos::lab::now;
use std::time::Duration;

use crate::{HOSTS, is_long, lab, turn};

const FAULTS: u64 = 40;
const LONG_FAULTS: u64 = 1_000;
/// Faults are counted, not timed: some 4 s each, loaded machines more.
const LASTS: Duration = Duration::from_secs(4 * 3_600);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("a number"))
}

/// Goal: no address is ever answered by two hosts, whatever goes wrong, and all come home again.
/// Method: five hosts, random faults one after the other, each probe of each address looked at, an audit
/// after each.
#[test]
fn random_faults_never_give_an_address_two_owners_and_all_come_home() {
    let _turn = turn();
    let Some(lab) = lab(HOSTS, "storm") else {
        return;
    };
    let usual = if is_long() { LONG_FAULTS } else { FAULTS };
    let faults = number("RAIS_FAULTS").unwrap_or(usual);
    let seed = number("RAIS_SEED").unwrap_or_else(|| now().0 % 1_000_000);
    println!("RAIS_SEED={seed} RAIS_FAULTS={faults}");
    let wanted = Random {
        hosts: HOSTS,
        seed,
        lasts: LASTS,
        faults,
        other: None,
    };
    let told = random(&lab, &wanted, &Stop::default()).unwrap();
    assert!(
        told.broken.is_empty(),
        "RAIS_SEED={seed}:\n{}",
        told.broken.join("\n")
    );
    assert!(!told.struck.is_empty(), "nothing was struck");
}
