//! The files that people write: a host's `rais.toml`, a group's policy, the array's timing.
//!
//! One door for each: text in, either a value that needs no further check or every mistake with
//! its line, column and remedy ([`Diagnostics`]). Nothing here touches a socket or the array, so
//! `rais check` works anywhere; only [`load_host`] and its kin read a file.
//!
//! Limits: a file has at most 1 MiB; what only the running system knows (does the interface
//! exist, is the zone taken) is checked by the daemon.

mod diagnostic;
mod dns_key;
mod dns_limits;
mod host;
mod host_read;
mod objects;
mod policy_read;
mod policy_write;
mod prefix;
mod scalar;
mod secret;
mod section;
mod timing;
mod trap_keys;
mod traps;

#[cfg(test)]
mod documents;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod mistakes;

use std::io::Read as _;
use std::path::Path;

use statemachine::{Policy, Timing};
use toml::de::DeTable;

pub use diagnostic::{Diagnostic, Diagnostics, MAX_DIAGNOSTICS};
pub use dns_key::DnsKey;
pub use dns_limits::DnsLimits;
pub use host::{
    DEFAULT_ADMIN, DEFAULT_LOOPBACK_HTTP_PORT, Driver, HostConfig, LogConfig, LogFormat, LogLevel,
    MemberConfig,
};
pub use policy_write::{policy_diff, policy_to_toml};
pub use prefix::Prefix;
pub use scalar::{
    Complaint, Millis, complaint, duration, group_name, host_name, socket, zone_name,
};
pub use timing::{PRESETS, preset_name, timing_diff, timing_to_toml};
pub use trap_keys::{Auth, HookKey, TrapKeys, TrapUser};
pub use traps::WebUrl;

use diagnostic::Report;
use section::Section;

/// Largest configuration file: about a thousand times a long one, and it bounds what a mistaken
/// path (a core dump, a device) costs.
pub const MAX_FILE: usize = 1024 * 1024;

/// Any of the files, as [`check`] told it by its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    /// A host's `rais.toml`.
    Host(Box<HostConfig>),
    /// A group's policy.
    Policy(Box<Policy>),
    /// The array's timing.
    Timing(Timing),
}

/// Reads a host configuration from `text`; `file` is the name that messages show.
///
/// # Errors
/// Every mistake in it.
pub fn parse_host(file: &str, text: &str) -> Result<HostConfig, Diagnostics> {
    parse(file, text, &host_read::ROOT, host_read::read)
}

/// Reads a group's policy from `text`; `file` is the name that messages show.
///
/// # Errors
/// Every mistake in it.
pub fn parse_policy(file: &str, text: &str) -> Result<Policy, Diagnostics> {
    parse(file, text, &policy_read::ROOT, policy_read::read)
}

/// Reads the array's timing from `text`; `file` is the name that messages show.
///
/// # Errors
/// Every mistake in it, unsafe numbers with the arithmetic.
pub fn parse_timing(file: &str, text: &str) -> Result<Timing, Diagnostics> {
    parse(file, text, &timing::ROOT, timing::read)
}

/// Reads whichever of the files `text` is.
///
/// # Errors
/// Every mistake in it, or that it is none of them.
pub fn check(file: &str, text: &str) -> Result<ConfigFile, Diagnostics> {
    match guess(text) {
        Guess::Host => parse_host(file, text).map(|host| ConfigFile::Host(Box::new(host))),
        Guess::Policy => {
            parse_policy(file, text).map(|policy| ConfigFile::Policy(Box::new(policy)))
        }
        Guess::Timing => parse_timing(file, text).map(ConfigFile::Timing),
        Guess::Neither => Err(Diagnostics::unreadable(
            file,
            "this is neither a host configuration nor a group policy nor a timing",
            "a host's rais.toml has `data_dir` and [control], a group's policy has `zone`, a timing `preset` or `heartbeat`",
        )),
    }
}

/// [`parse_host`] of a file on disk, and of the files with secrets that it names.
///
/// # Errors
/// Every mistake in it, or why it can't be read.
pub fn load_host(path: &Path) -> Result<HostConfig, Diagnostics> {
    host_with_secrets(&path.display().to_string(), &read_file(path)?)
}

fn host_with_secrets(file: &str, text: &str) -> Result<HostConfig, Diagnostics> {
    parse(file, text, &host_read::ROOT, |root, report| {
        let config = host_read::read(root, report);
        dns_key::check_files(root, report);
        trap_keys::check_files(root, report);
        config
    })
}

/// [`parse_policy`] of a file on disk.
///
/// # Errors
/// Every mistake in it, or why it can't be read.
pub fn load_policy(path: &Path) -> Result<Policy, Diagnostics> {
    parse_policy(&path.display().to_string(), &read_file(path)?)
}

/// [`parse_timing`] of a file on disk.
///
/// # Errors
/// Every mistake in it, or why it can't be read.
pub fn load_timing(path: &Path) -> Result<Timing, Diagnostics> {
    parse_timing(&path.display().to_string(), &read_file(path)?)
}

/// [`check`] of a file on disk, and of the files with secrets that it names.
///
/// # Errors
/// Every mistake in it, or why it can't be read.
pub fn check_file(path: &Path) -> Result<ConfigFile, Diagnostics> {
    let (file, text) = (path.display().to_string(), read_file(path)?);
    match check(&file, &text)? {
        ConfigFile::Host(_) => {
            let host = host_with_secrets(&file, &text)?;
            Ok(ConfigFile::Host(Box::new(host)))
        }
        other => Ok(other),
    }
}

/// The file's text, if it is at most [`MAX_FILE`] bytes of UTF-8.
fn read_file(path: &Path) -> Result<String, Diagnostics> {
    let name = path.display().to_string();
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes));
    if let Err(error) = read {
        return Err(Diagnostics::unreadable(
            &name,
            format!("can't read the file: {error}"),
            "check the path and its permissions",
        ));
    }
    decode(&name, bytes)
}

fn decode(name: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    if bytes.len() > MAX_FILE {
        return Err(too_large(name));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let mut report = Report::new(&text);
        report.add(
            at..at + 1,
            "the file is not UTF-8 text",
            "save it as UTF-8; is this the right file?",
        );
        report.finish(name)
    })
}

fn too_large(name: &str) -> Diagnostics {
    Diagnostics::unreadable(
        name,
        "the file is larger than 1 MiB",
        "is this the right file?",
    )
}

/// Parses the TOML and hands its root to `read`.
fn parse<T>(
    file: &str,
    text: &str,
    known: &[&str],
    read: impl Fn(&Section<'_, '_>, &mut Report<'_>) -> Option<T>,
) -> Result<T, Diagnostics> {
    if text.len() > MAX_FILE {
        return Err(too_large(file));
    }
    let mut report = Report::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        report.add(
            span,
            format!("not valid TOML: {}", error.message().replace('\n', " ")),
            "mend the syntax here",
        );
    }
    if !report.is_clean() {
        // What the parser guessed after a syntax error would only add phantom mistakes.
        return Err(report.finish(file));
    }
    let root = Section::open(
        root.get_ref(),
        0..0,
        "the top of the file",
        known,
        &[],
        &mut report,
    );
    match read(&root, &mut report) {
        Some(value) if report.is_clean() => Ok(value),
        _ => Err(report.finish(file)),
    }
}

enum Guess {
    Host,
    Policy,
    Timing,
    Neither,
}

/// Which file this is meant to be, by the keys at its top: each kind's own keys vote.
fn guess(text: &str) -> Guess {
    if text.len() > MAX_FILE {
        return Guess::Host;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let votes = |own: &[&str]| {
        own.iter()
            .filter(|key| root.get_ref().get(**key).is_some())
            .count()
    };
    let host = votes(&[
        "data_dir", "control", "admin", "dns", "observer", "member", "driver", "loopback", "log",
        "programs",
    ]);
    let policy = votes(&policy_read::ROOT) - votes(&["name"]);
    if votes(&timing::ROOT) > host.max(policy) {
        return Guess::Timing;
    }
    match host.cmp(&policy) {
        std::cmp::Ordering::Greater => Guess::Host,
        std::cmp::Ordering::Less => Guess::Policy,
        // A syntax error in the first line hides the keys; it is the same in both kinds.
        std::cmp::Ordering::Equal if !errors.is_empty() => Guess::Host,
        std::cmp::Ordering::Equal => Guess::Neither,
    }
}
