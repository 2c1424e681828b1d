//! `rais chaos …`: hands over to `rais-chaos`, which stands beside `rais`, as `git` and `cargo` do with
//! commands that are not their own.
//!
//! The simulator and the lab are no part of the daemon: a server does without them, and nothing of them
//! is linked into what serves addresses.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::CliError;

/// The program that does the work.
const PROGRAM: &str = "rais-chaos";

/// Becomes `rais-chaos` with these words; comes back only when that fails.
pub(super) fn hand_over(words: &[OsString]) -> CliError {
    let beside = std::env::current_exe().map(|rais| rais.with_file_name(PROGRAM));
    let error = match &beside {
        Ok(program) => Command::new(program).args(words).exec(),
        Err(_) => std::io::ErrorKind::NotFound.into(),
    };
    let program = beside.unwrap_or_else(|_| PROGRAM.into());
    CliError::failed(
        format!("cannot start {}: {error}", program.display()),
        format!("put {PROGRAM} beside rais; in a checkout: cargo build --release -p chaos"),
    )
}
