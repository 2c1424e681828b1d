//! Chores of the project, in Rust so that they need nothing but cargo: `cargo xtask CHORE`.

mod lab;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHORE

  tidy    check the house rules on the tree (docs/testing.md lists them)
  sim     storms on a simulated array: --seeds A..B, or --seed N with --trace or --shrink
  mutations
          open each known hole: which law tells of it, after how many seeds
  lab     hosts, a client and switches in network namespaces: up, list, sh, down (root)";

fn main() -> ExitCode {
    let chores: Vec<String> = std::env::args().skip(1).collect();
    match chores.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
        ["sim", ref words @ ..] => chaos(&["--bin", "rais-chaos", "--", "sim"], words),
        ["mutations", ref words @ ..] => {
            let mutations = ["--features", "mutations", "--example", "mutations", "--"];
            chaos(&mutations, words)
        }
        ["lab", ref words @ ..] => lab::run(Path::new(xtask::root()), words),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs a program of `chaos`, optimized. Not linked into this binary: the holes of `mutations` would be
/// compiled into every crate that is built with it.
fn chaos(program: &[&str], words: &[&str]) -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let ran = std::process::Command::new(cargo)
        .current_dir(xtask::root())
        .args(["run", "--release", "--quiet", "--package", "chaos"])
        .args(program)
        .args(words)
        .status();
    match ran {
        Ok(status) => ExitCode::from(u8::from(!status.success())),
        Err(error) => {
            eprintln!("could not start cargo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tidy() -> ExitCode {
    match xtask::tidy::check(xtask::root()) {
        Ok(report) if report.violations.is_empty() => {
            println!("tidy: {} files, nothing to mend", report.files);
            ExitCode::SUCCESS
        }
        Ok(report) => {
            for violation in &report.violations {
                eprintln!("{violation}");
            }
            eprintln!("tidy: {} to mend", report.violations.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            let root = Path::new(xtask::root()).display();
            eprintln!("tidy: could not read the tree at {root}: {error}");
            ExitCode::FAILURE
        }
    }
}
