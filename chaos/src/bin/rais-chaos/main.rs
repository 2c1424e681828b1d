//! The program behind `rais chaos …`: it stands beside `rais` and is started by it, so that nothing of
//! the simulator is linked into the daemon.
//!
//! `sim` lets storms blow on simulated arrays. More commands are more arms here, a file each.
//!
//! Exit codes are those of `rais`: 0 done, 1 a law was broken, 2 wrong usage.

mod sim;

use std::process::ExitCode;

const USAGE: &str = "usage: rais chaos COMMAND

  sim --seeds A..B          storms, one for each seed: how many a minute, and which break a law
  sim --seed N [--trace]    one: its hash and the end of its story, or all of it
  sim --seed N --shrink     a smaller storm that breaks the same law, and its story
      --hosts N             hosts of each array (5)
      --ms N                how long each blows, in ms of virtual time (120000)

A storm is some minutes of faults, drawn from its seed, on an array of the shipped control code in
virtual time. The same seed gives the same story. docs/testing.md tells more.";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["sim", ref words @ ..] => sim::run(words),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => Err("which command?".to_owned()),
    };
    done.unwrap_or_else(|why| {
        eprintln!("rais chaos: {why}\n\n{USAGE}");
        ExitCode::from(2)
    })
}
