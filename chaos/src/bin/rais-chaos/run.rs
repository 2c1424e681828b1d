//! `run`: faults on real daemons in a lab, and the report.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use chaos::drill::{
    Random, SCENARIOS, Scenario, Stop, Told, page, play as scenes, random, scenario,
};
use chaos::lab::array::{MAX_ARRAY, built_binary};
use chaos::lab::{self, Lab, LabSpec};

use super::say;

/// Hosts, unless it is said.
const HOSTS: u8 = 5;
/// Fewer can't lose one and still have a quorum.
const FEWEST: u8 = 3;
/// Random faults go on for so long, unless it is said.
const LASTS: Duration = Duration::from_secs(600);
/// And no longer than this: what the observer remembers is bounded.
const LONGEST: Duration = Duration::from_secs(4 * 3_600);
/// Seeds that are drawn, so that one can be typed again.
const SEEDS: u64 = 1_000_000;
/// The exit code of a program that was told to end twice.
const INTERRUPTED: i32 = 130;

/// What was asked for.
#[derive(Default)]
struct Asked {
    scenario: Option<&'static Scenario>,
    random: bool,
    list: bool,
    long: bool,
    lasts: Option<Duration>,
    seed: Option<u64>,
    hosts: Option<u8>,
    other: Option<PathBuf>,
    report: Option<PathBuf>,
}

impl Asked {
    fn of(words: &[&str]) -> Result<Self, String> {
        let mut asked = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().ok_or(format!("{word} needs a value"));
            match *word {
                "--random" => asked.random = true,
                "--list" => asked.list = true,
                "--long" => asked.long = true,
                "--for" => asked.lasts = Some(span(value()?)?),
                "--seed" => {
                    let seed = value()?;
                    asked.seed = Some(seed.parse().map_err(|_| format!("{seed} is no number"))?);
                }
                "--hosts" => asked.hosts = Some(hosts(value()?)?),
                "--other" => asked.other = Some(value()?.into()),
                "--report" => asked.report = Some(value()?.into()),
                name => {
                    let known = scenario(name).filter(|_| asked.scenario.is_none());
                    asked.scenario = Some(known.ok_or(format!(
                        "run does not know {name}; --list names the scenarios"
                    ))?);
                }
            }
        }
        Ok(asked)
    }
}

/// `90s`, `10m`, `2h`.
fn span(word: &str) -> Result<Duration, String> {
    let wrong = || format!("{word} is no time: write 90s, 10m or 2h");
    let unit = word.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        _ => return Err(wrong()),
    };
    let number: u32 = word.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    let span = Duration::from_secs(u64::from(number) * factor);
    if span.is_zero() || span > LONGEST {
        return Err(format!("--for takes up to {} h", LONGEST.as_secs() / 3_600));
    }
    Ok(span)
}

fn hosts(word: &str) -> Result<u8, String> {
    let number = word.parse().ok();
    let good = number.filter(|hosts| (FEWEST..=MAX_ARRAY).contains(hosts));
    good.ok_or(format!("--hosts takes {FEWEST} to {MAX_ARRAY}"))
}

/// Does what the words say.
pub fn run(words: &[&str]) -> Result<ExitCode, String> {
    let asked = Asked::of(words)?;
    if asked.list {
        for one in &SCENARIOS {
            say(format_args!(
                "{:>3}  {:<18} {}\n{:24}passes: {}",
                one.number, one.name, one.fault, "", one.passes
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if asked.random == asked.scenario.is_some() {
        return Err("run needs a scenario, or --random".to_owned());
    }
    Ok(match play(&asked) {
        Ok(told) => tell(&asked, &told),
        Err(why) => {
            eprintln!("rais chaos: {why}");
            ExitCode::FAILURE
        }
    })
}

fn play(asked: &Asked) -> Result<Told, String> {
    lab::available().map_err(|error| error.to_string())?;
    let stop = Stop::default();
    mind_signals(stop.clone())?;
    let told = match asked.scenario {
        Some(one) => scenes(&[one], asked.long, asked.other.as_deref(), &stop),
        None => wild(asked, &stop),
    };
    told.map_err(|error| error.to_string())
}

fn wild(asked: &Asked, stop: &Stop) -> Result<Told, chaos::drill::DrillError> {
    let seed = asked.seed.unwrap_or_else(|| lab::now().0 % SEEDS);
    let hosts = asked.hosts.unwrap_or(HOSTS);
    say(format_args!(
        "seed {seed}, {hosts} hosts; Ctrl-C ends it and takes the lab away"
    ));
    let name = "chaos".to_owned();
    let lab = Lab::up(&LabSpec { hosts, name })?;
    let wanted = Random {
        hosts,
        seed,
        lasts: asked.lasts.unwrap_or(LASTS),
        faults: u64::MAX,
        other: asked.other.clone(),
    };
    random(&lab, &wanted, stop)
}

/// The first Ctrl-C or SIGTERM is a wish, the second an order.
#[expect(
    clippy::disallowed_methods,
    reason = "an order is obeyed at once, and main is busy"
)]
fn mind_signals(stop: Stop) -> Result<(), String> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| format!("cannot wait for signals: {error}");
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(failed)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut term = signal(SignalKind::terminate()).map_err(failed)?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            for last in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = term.recv() => {}
                }
                if last {
                    eprintln!("ended; the next lab takes what is left of this one away");
                    std::process::exit(INTERRUPTED);
                }
                eprintln!("ending: undoing what is at work; once more ends at once");
                stop.tell();
            }
        });
    });
    Ok(())
}

fn tell(asked: &Asked, told: &Told) -> ExitCode {
    if let Some(path) = &asked.report {
        match std::fs::write(path, page(told, &version())) {
            Ok(()) => say(format_args!("report: {}", path.display())),
            Err(error) => {
                eprintln!("rais chaos: cannot write {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let (faults, audits, twice) = (told.struck.len(), told.audits, told.answered_by_two());
    say(format_args!(
        "{faults} faults, {audits} clean audits, {twice}"
    ));
    for one in &told.broken {
        eprintln!("broken: {one}");
    }
    ExitCode::from(u8::from(!told.broken.is_empty()))
}

/// What was under test, as it says itself.
fn version() -> String {
    let said = built_binary()
        .ok()
        .and_then(|rais| Command::new(rais).arg("--version").output().ok());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    said.filter(|text| !text.is_empty())
        .unwrap_or_else(|| "rais".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is typed is understood, and nonsense is told before a lab is made.
    /// Method: lines of the usage; lines that are wrong in one word.
    #[test]
    fn words_are_understood_and_nonsense_is_refused() {
        let asked = |line: &str| Asked::of(&line.split_whitespace().collect::<Vec<_>>());
        let wild = asked("--random --for 10m --seed 7 --hosts 3 --report out.html").ok();
        let wild = wild.map(|asked| (asked.random, asked.lasts, asked.seed, asked.hosts));
        let ten = Some(Duration::from_secs(600));
        assert_eq!(wild, Some((true, ten, Some(7), Some(3))));
        let one = |line| {
            asked(line)
                .ok()
                .and_then(|asked| Some(asked.scenario?.number))
        };
        assert_eq!([one("killed"), one("12 --long")], [Some(1), Some(12)]);
        for wrong in [
            "--for 10",
            "--for 0s",
            "--for 5h",
            "--hosts 2",
            "--seed x",
            "nonsense",
            "1 2",
            "--report",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }
}
