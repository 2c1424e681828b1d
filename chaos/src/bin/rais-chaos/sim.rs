//! `sim`: storms on simulated arrays, many or one.

use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;

use chaos::{Hunt, Storm, lab, shrink};

use super::say;

/// Lines of a story that are shown without `--trace`.
const SHOWN: usize = 40;

/// What was asked for.
#[derive(Default)]
struct Asked {
    seeds: Option<Range<u64>>,
    seed: Option<u64>,
    hosts: Option<u64>,
    ms: Option<u64>,
    trace: bool,
    shrink: bool,
}

/// Does what the words say.
pub fn run(words: &[&str]) -> Result<ExitCode, String> {
    let asked = Asked::of(words)?;
    let mut hunt = Hunt::new(asked.seeds.clone().unwrap_or_default());
    hunt.hosts = asked.hosts.unwrap_or(hunt.hosts);
    hunt.blows_ms = asked.ms.unwrap_or(hunt.blows_ms);
    match (asked.seed, asked.seeds) {
        (Some(seed), None) => Ok(one(&hunt.storm(seed), asked.trace, asked.shrink)),
        (None, Some(_)) => Ok(many(&hunt)),
        _ => Err("sim needs --seeds A..B or --seed N".into()),
    }
}

impl Asked {
    fn of(words: &[&str]) -> Result<Self, String> {
        let mut asked = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().ok_or(format!("{word} needs a value"));
            match *word {
                "--seeds" => asked.seeds = Some(range(value()?)?),
                "--seed" => asked.seed = Some(number(value()?)?),
                "--hosts" => asked.hosts = Some(hosts(value()?)?),
                "--ms" => asked.ms = Some(number(value()?)?),
                "--trace" => asked.trace = true,
                "--shrink" => asked.shrink = true,
                other => return Err(format!("sim does not know {other}")),
            }
        }
        Ok(asked)
    }
}

fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn range(word: &str) -> Result<Range<u64>, String> {
    let (from, to) = word
        .split_once("..")
        .ok_or(format!("{word} is no range: A..B"))?;
    Ok(number(from)?..number(to)?)
}

fn hosts(word: &str) -> Result<u64, String> {
    let hosts = number(word)?;
    match hosts {
        1..=chaos::MOST_HOSTS => Ok(hosts),
        _ => Err(format!("--hosts takes 1 to {}", chaos::MOST_HOSTS)),
    }
}

fn many(hunt: &Hunt) -> ExitCode {
    let began = lab::now();
    let found = hunt.run(|seed, breach| say(format_args!("seed {seed}: {breach}")));
    let took = lab::now().since(began).as_secs_f64();
    let rate = found.storms as f64 / took * 60.0;
    say(format_args!(
        "{} storms of {} hosts and {} s each: {} broke a law; {took:.0} s, {rate:.0} a minute",
        found.storms,
        hunt.hosts,
        hunt.blows_ms / 1000,
        found.breaches.len(),
    ));
    ExitCode::from(u8::from(!found.breaches.is_empty()))
}

fn one(storm: &Storm, trace: bool, smaller: bool) -> ExitCode {
    let mut outcome = storm.run();
    let breach = outcome.broken.clone();
    if let Some(breach) = breach.as_ref().filter(|_| smaller) {
        let small = shrink(storm, breach.law, breach.at_ms);
        let (left, all) = (small.blows.len(), storm.blows.len());
        say(format_args!("{left} of {all} faults are left:"));
        for blow in &small.blows {
            say(format_args!("{:>6} {:?}", blow.at_ms, blow.fault));
        }
        outcome = small.run();
    }
    let told = outcome.world.trace();
    let shown = if trace || smaller { usize::MAX } else { SHOWN };
    told.last(shown).for_each(say);
    let (lines, hash) = (told.len(), told.hash());
    say(format_args!(
        "{lines} lines, hash {hash:016x}, {} faults",
        storm.blows.len()
    ));
    match outcome.broken {
        Some(breach) => {
            say(format_args!("broken: {breach}"));
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}
