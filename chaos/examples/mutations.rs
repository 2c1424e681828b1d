//! Opens each hole of `statemachine/src/mutation.rs` in turn and lets storms blow until a law is broken:
//! which one, and after how many seeds.
//!
//!   cargo xtask mutations [--seeds 10000] [--only NAME] [--gate]
//!
//! With `--gate` only invariant 1 counts: two open gates for one address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::ExitCode;

use chaos::{Hunt, Law, lab};
use statemachine::{Mutation, mutate};

/// Within so many seeds each must be caught.
const SEEDS: u64 = 10_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).map(String::as_str)
    };
    let seeds = after("--seeds").map_or(SEEDS, |text| text.parse().expect("a number of seeds"));
    let only = after("--only").map(str::to_lowercase);
    let wanted = |name: &str| {
        only.as_ref()
            .is_none_or(|only| name.to_lowercase().contains(only))
    };
    let gate = words.iter().any(|word| word == "--gate");
    let mut missed = 0;
    println!("{:<26} {:>6} {:>6}  law", "mutation", "seeds", "s");
    for mutation in Mutation::ALL {
        let name = format!("{mutation:?}");
        if !wanted(&name) {
            continue;
        }
        mutate(Some(mutation));
        let hunt = Hunt {
            first_only: true,
            only: gate.then_some(Law::OneGate),
            ..Hunt::new(0..seeds)
        };
        let began = lab::now();
        let found = hunt.run(|_, _| {});
        let took = lab::now().since(began).as_secs();
        let caught = match found.breaches.first() {
            Some((seed, breach)) => format!("{breach}, seed {seed}"),
            None => {
                missed += 1;
                "NOT CAUGHT".to_owned()
            }
        };
        println!("{name:<26} {:>6} {took:>6}  {caught}", found.storms);
    }
    mutate(None);
    println!("{missed} not caught within {seeds} seeds");
    ExitCode::from(u8::from(missed > 0))
}
