//! Runs the programs of the lab: `ip`, `nft`, `bridge`, and those for disks. Never through a shell.
//!
//! Whole batches go to one process over its standard input, since a process costs 1-3 ms here.
//! Every failure names the command, the line of a batch that failed, and what the program said.

use super::error::LabError;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs that a lab needs, with their Debian packages.
pub(super) const PROGRAMS: [(&str, &str); 3] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("nft", "nftables"),
];

/// The programs that disks, clocks and locks of the lab need besides.
const OTHER_PROGRAMS: [(&str, &str); 5] = [
    ("cc", "gcc"),
    ("fsfreeze", "util-linux"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("umount", "mount"),
];

/// Runs `program` with `arguments` and gives what it printed.
pub(super) fn run(program: &'static str, arguments: &[&str]) -> Result<String, LabError> {
    run_with(program, arguments, None)
}

/// Writes the C program `text` to `dir`, as `name` with `.c`, and builds `to` there of it.
pub(super) fn compile(
    dir: &Path,
    (name, text): (&str, &str),
    to: &str,
    flags: &[&str],
) -> Result<PathBuf, LabError> {
    let (source, built) = (dir.join(format!("{name}.c")), dir.join(to));
    let failed = |e| LabError::system(format!("write {}", source.display()), e);
    let written = fs::create_dir_all(dir).and_then(|()| fs::write(&source, text));
    written.map_err(failed)?;
    let (from, to) = (source.display().to_string(), built.display().to_string());
    run("cc", &[flags, &["-O2", "-o", &to, &from]].concat())?;
    Ok(built)
}

/// Runs `lines` through `ip -batch`, inside `space` if there is one.
pub(super) fn ip_batch(space: Option<&str>, lines: &[String]) -> Result<(), LabError> {
    let mut arguments = Vec::new();
    if let Some(space) = space {
        arguments.extend(["-n", space]);
    }
    arguments.extend(["-batch", "-"]);
    let mut script = lines.join("\n");
    script.push('\n');
    run_with("ip", &arguments, Some(&script)).map(drop)
}

/// Gives `script` to `nft` inside the namespace `space`.
pub(super) fn nft(space: &str, script: &str) -> Result<(), LabError> {
    let arguments = ["netns", "exec", space, "nft", "-f", "-"];
    run_with("ip", &arguments, Some(script)).map(drop)
}

fn run_with(
    program: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<String, LabError> {
    let command = format!("{program} {}", arguments.join(" "));
    let start = |source: std::io::Error| start_error(program, &command, source);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(input.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // Should the program end early, its own words say more than the broken pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let failed = input.and_then(|script| failed_line(script, &stderr));
    Err(LabError::Command {
        command: match failed {
            Some(line) => format!("{command}: {line}"),
            None => command,
        },
        status: output.status.to_string(),
        stderr,
    })
}

fn start_error(program: &'static str, command: &str, source: std::io::Error) -> LabError {
    let mut known = PROGRAMS.iter().chain(&OTHER_PROGRAMS);
    let known = known.find(|(name, _)| *name == program);
    match known {
        Some((program, package)) if source.kind() == ErrorKind::NotFound => {
            LabError::Missing { program, package }
        }
        _ => LabError::Start {
            command: command.to_owned(),
            source,
        },
    }
}

/// The line of a batch that `ip` complains about with `Command failed -:LINE`.
fn failed_line<'a>(script: &'a str, stderr: &str) -> Option<&'a str> {
    let (_, rest) = stderr.split_once("Command failed -:")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    script.lines().nth(number.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a failing batch names its line, a missing program its package.
    /// Method: what `ip -batch` prints, and the error of a program that is not there.
    #[test]
    fn failures_name_the_line_and_the_package() {
        let script = "link add a\nlink add b\nlink add c\n";
        let said = "Error: argument.\nCommand failed -:2";
        assert_eq!(failed_line(script, said), Some("link add b"));
        assert_eq!(failed_line(script, "no such thing"), None);
        let absent = std::io::Error::from(ErrorKind::NotFound);
        let text = start_error("nft", "nft -f -", absent).to_string();
        assert_eq!(text, "`nft` is missing: install the package nftables");
    }
}
