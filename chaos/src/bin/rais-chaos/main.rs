//! The program behind `rais chaos …`: it stands beside `rais` and is started by it, so that nothing of
//! the simulator or the lab is linked into the daemon.
//!
//! `sim` lets storms blow on simulated arrays, `run` on real daemons. More commands are more arms here,
//! a file each.
//!
//! Exit codes are those of `rais`: 0 done, 1 something was broken, 2 wrong usage.

mod run;
mod sim;

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

const USAGE: &str = "usage: rais chaos COMMAND

  sim --seeds A..B          storms, one for each seed: how many a minute, and which break a law
  sim --seed N [--trace]    one: its hash and the end of its story, or all of it
  sim --seed N --shrink     a smaller storm that breaks the same law, and its story
      --hosts N             hosts of each array (5)
      --ms N                how long each blows, in ms of virtual time (120000)

  run --random --for 10m    random faults on real daemons, one after the other
      --seed N              which ones (drawn from the clock)
      --hosts N             3 to 9 (5)
  run SCENARIO [--long]     one of the scenarios; run --list names them
      --other PATH          another build of rais, for rolling upgrades and back (the same)
      --report out.html     a page to read: timeline, figures, each fault

A storm is some minutes of faults, drawn from its seed, on an array of the shipped control code in
virtual time. The same seed gives the same story.

A run is on daemons in network namespaces of this machine, its lab. It needs root, iproute2 and nftables;
e2fsprogs and gcc for disks, clocks and locks. After each fault all must come home and `rais audit` must find
nothing. Ctrl-C undoes what is at work, writes the report and takes the lab away.

docs/testing.md tells more.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["sim", ref words @ ..] => sim::run(words),
        ["run", ref words @ ..] => run::run(words),
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("which command?".to_owned()),
    };
    done.unwrap_or_else(|why| {
        eprintln!("rais chaos: {why}\n\n{USAGE}");
        ExitCode::from(2)
    })
}

/// Prints a line. Whoever reads no more ends the program quietly, as a pipe ends others.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is said here while a lab is up, so there is nothing to undo"
)]
fn say(line: impl Display) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
