//! What `rais-chaos` does when nobody reads what it prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Goal: `rais chaos sim … | head` ends quietly, as other programs do.
/// Method: a story of thousands of lines, of which one is read before the pipe is closed.
#[test]
fn a_pipe_that_is_closed_ends_the_story_quietly() {
    let mut told = Command::new(env!("CARGO_BIN_EXE_rais-chaos"))
        .args(["sim", "--seed", "1", "--trace"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = BufReader::new(told.stdout.take().unwrap());
    output.read_line(&mut line).unwrap();
    assert!(!line.is_empty());
    drop(output);
    let ended = told.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.success() && said.is_empty(),
        "{}: {said}",
        ended.status
    );
}
