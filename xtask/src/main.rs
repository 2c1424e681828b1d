//! Chores of the project, in Rust so that they need nothing but cargo: `cargo xtask CHORE`.

mod lab;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask CHORE

  tidy    check the house rules on the tree (docs/testing.md lists them)
  lab     hosts, a client and switches in network namespaces: up, list, sh, down (root)";

fn main() -> ExitCode {
    let chores: Vec<String> = std::env::args().skip(1).collect();
    match chores.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy(),
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
