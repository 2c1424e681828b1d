//! A wall clock of its own for a daemon, which can be stepped while it runs; also for the end-to-end tests.
//!
//! Linux has no namespace for the wall clock, and stepping the machine's would hurt everybody on it. So
//! a small library (`wall.c`, built with `cc` when a lab wants it) is loaded before libc and adds what a
//! file says, which it maps: a step takes effect at the next look. Monotonic clocks stay true, as they
//! do when an operator or NTP steps a real one.
//!
//! Limits: needs `cc`; what asks the kernel without libc sees the true clock.

use super::command;
use super::error::LabError;
use super::net::host_name;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The library's text.
const SOURCE: &str = include_str!("wall.c");
/// Where the library looks for its file.
const VARIABLE: &str = "RAIS_LAB_WALL";

/// The file that says how wrong the clock of `host` is.
pub(super) fn file(lab: &Path, host: u8) -> PathBuf {
    lab.join(format!("{}-wall", host_name(host)))
}

/// Builds the library in a directory, once for all hosts.
///
/// # Errors
/// There is no `cc`, or what it said.
pub fn build(dir: &Path) -> Result<PathBuf, LabError> {
    command::compile(dir, ("wall", SOURCE), "wall.so", &["-shared", "-fPIC"])
}

/// What a program needs in its environment to have the clock of `file`, which is right to begin with.
///
/// # Errors
/// The file can't be written.
pub fn environment(library: &Path, file: &Path) -> Result<[(&'static str, OsString); 2], LabError> {
    if !file.exists() {
        step(file, 0)?;
    }
    Ok([("LD_PRELOAD", library.into()), (VARIABLE, file.into())])
}

/// Makes the clock of `file` wrong by `by_s` seconds.
///
/// # Errors
/// The file can't be written.
pub fn step(file: &Path, by_s: i64) -> Result<(), LabError> {
    // In place: the library has mapped this very file.
    let mut options = File::options();
    let open = options.create(true).write(true).truncate(false).open(file);
    let written = open.and_then(|mut open| open.write_all(&by_s.to_ne_bytes()));
    written.map_err(|e| LabError::system(format!("write {}", file.display()), e))
}
