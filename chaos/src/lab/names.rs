//! Names of a lab's namespaces: they carry who made them, so that left-overs can be told.
//!
//! `raislab-PID-START-COUNT-NAME-WHO`, START being the start time of process PID: a process id is
//! given out again one day, the pair is not. A lab that outlives its maker (`cargo xtask lab up`)
//! has `kept` in front of the PID and is never swept.

use super::error::LabError;
use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// What every name begins with.
const PREFIX: &str = "raislab-";
/// What stands before the process id of a lab that outlives its maker.
const KEPT: &str = "kept";
/// Where iproute2 keeps the namespaces.
const SPACES: &str = "/run/netns";
/// Longest part of a name that the caller chooses.
const MAX_NAME: usize = 16;
/// Position of the start time in /proc/PID/stat, counted behind the command's `)`.
const STAT_START: usize = 19;
/// Position of the parent's process id, counted likewise.
const STAT_PARENT: usize = 1;

/// Labs of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new name for a lab of this process: the part before `-WHO`.
pub(super) fn new_base(name: &str, kept: bool) -> Result<String, LabError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
        return Err(LabError::Range {
            what: format!("the lab's name is `{name}`"),
            allowed: format!("1 to {MAX_NAME} of a-z and 0-9"),
        });
    }
    let pid = std::process::id();
    let start = stat_field(pid, STAT_START).unwrap_or(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let kept = if kept { KEPT } else { "" };
    Ok(format!("{PREFIX}{kept}{pid}-{start:x}-{count}-{name}"))
}

/// All namespaces of labs on this machine.
pub(super) fn spaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir(SPACES) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ours: Vec<String> = names.filter(|name| name.starts_with(PREFIX)).collect();
    ours.sort();
    ours
}

/// The labs that are up on this machine, each by the part before `-WHO`.
pub(super) fn bases() -> BTreeSet<String> {
    let base = |space: String| Some(space.rsplit_once('-')?.0.to_owned());
    spaces().into_iter().filter_map(base).collect()
}

/// Whether the maker of `space` is gone, and the lab was not meant to outlive it.
pub(super) fn is_orphan(space: &str) -> bool {
    let Some((pid, start)) = maker(space) else {
        return false;
    };
    stat_field(pid, STAT_START) != Some(start)
}

/// The process that made `space`; none if the lab outlives it or the name is not one of ours.
fn maker(space: &str) -> Option<(u32, u64)> {
    let mut parts = space.strip_prefix(PREFIX)?.split('-');
    let pid = parts.next()?.parse().ok()?;
    let start = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((pid, start))
}

/// `pid` and all its descendants, parents before their children.
pub(super) fn family(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let Ok(entries) = fs::read_dir("/proc") else {
        return found;
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let parent = |pid| Some((pid, u32::try_from(stat_field(pid, STAT_PARENT)?).ok()?));
    let parents: Vec<(u32, u32)> = pids.filter_map(parent).collect();
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        let children = parents.iter().filter(|(_, parent)| *parent == of);
        found.extend(children.map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// A number from /proc/PID/stat, counted behind the command's name, which may hold anything.
fn stat_field(pid: u32, position: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind) = stat.rsplit_once(") ")?;
    behind.split(' ').nth(position)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only left-overs of dead makers are swept.
    /// Method: a lab of this process, of one that is no more, a kept one and a stranger's.
    #[test]
    fn a_lab_is_an_orphan_only_when_its_maker_is_gone() {
        let own = new_base("a", false).unwrap();
        assert!(!is_orphan(&format!("{own}-h1")), "{own}");
        let kept = new_base("a", true).unwrap();
        assert!(!is_orphan(&format!("{kept}-h1")), "{kept}");
        // Same process id, other start: the number was given out again.
        let pid = std::process::id();
        assert!(is_orphan(&format!("raislab-{pid}-1-0-a-h1")));
        assert!(!is_orphan("raislab-x") && !is_orphan("other-1-1-0-a-h1"));
    }

    /// Goal: names never collide within a process and hold nothing that `ip` would misread.
    /// Method: two of the same name; names with blanks, slashes and too many letters.
    #[test]
    fn names_are_unique_and_plain() {
        assert_ne!(new_base("a", false).unwrap(), new_base("a", false).unwrap());
        for bad in ["", "a b", "../a", "a-b", "abcdefghijklmnopq"] {
            assert!(new_base(bad, false).is_err(), "{bad}");
        }
    }

    /// Goal: a family holds the process itself first.
    /// Method: that of the test's own process.
    #[test]
    fn family_begins_with_its_head() {
        assert_eq!(family(std::process::id())[0], std::process::id());
    }
}
