//! The warden of an earlier start, if it is still there: awaited, and ended if it hangs.
//!
//! When a node dies its warden shuts the gate within microseconds and ends within a tenth of a second. One
//! that is stopped or stuck still owns the gate's tables, and would keep the next start from them. What
//! it held is silent by then or soon: the kernel ends it.
//!
//! Limits: known by process id and start time from a file in the data directory; without the file
//! nothing is ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

/// Name of the file with the warden's process id and start time.
const FILE: &str = "warden.pid";
/// Longest that is read of it, in bytes.
const MOST: u64 = 128;
/// It may take so long to say its last word.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// And so long to end once it is killed.
const KILLED: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// Notes the warden `pid` for the next start.
///
/// # Errors
/// When the file cannot be written.
pub fn note(data_dir: &Path, pid: u32) -> io::Result<()> {
    let started = started(pid).unwrap_or_default();
    let path = data_dir.join(FILE);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // New, so that no link leads it elsewhere.
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    writeln!(file, "{pid} {started}")
}

/// What [`note`] wrote; nothing when another user did: what it names will be ended.
fn noted(path: &Path) -> io::Result<String> {
    let own = |file: &File| Ok::<_, io::Error>(file.metadata()?.uid() == geteuid().as_raw());
    let mut file = File::options()
        .read(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let mut text = String::new();
    if own(&file)? {
        Read::take(&mut file, MOST).read_to_string(&mut text)?;
    } else {
        tracing::warn!(path = %path.display(), "is another user's and not believed");
    }
    Ok(text)
}

/// Whether this host ever had a warden: what that held may still be open for a lease.
pub fn existed(data_dir: &Path) -> bool {
    data_dir.join(FILE).exists()
}

/// Waits for the warden of an earlier start, and ends it if it does not end.
pub fn await_end(data_dir: &Path) {
    let text = noted(&data_dir.join(FILE)).unwrap_or_default();
    let mut words = text.split_whitespace();
    let pid = words.next().and_then(|word| word.parse::<u32>().ok());
    let (Some(pid), Some(known)) = (pid, words.next()) else {
        return;
    };
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    // Opened first: what the start time says is then said of this process and of no later one.
    let Ok(handle) = pidfd_open(process, PidfdFlags::empty()) else {
        return;
    };
    if started(pid).as_deref() != Some(known) {
        return;
    }
    let ended = |limit| poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(limit)) == Ok(1);
    if ended(&PATIENCE) {
        return;
    }
    tracing::warn!(pid, "the warden of an earlier start hangs; it is ended");
    let killed = pidfd_send_signal(&handle, Signal::KILL);
    if killed.is_err() || !ended(&KILLED) {
        tracing::error!(pid, "and does not end; this host may find no gate");
    }
}

/// When a process started, in the kernel's own unit: the 22nd field of its `stat` (proc(5)).
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name, in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// A process that waits for its standard input, which never ends before the child is dropped.
    fn waiter() -> std::process::Child {
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Goal: a warden that hangs is ended; a process that got its number later is not.
    /// Method: a child under its own start time, and another under a wrong one.
    #[test]
    fn a_hanging_predecessor_is_ended_and_a_stranger_is_not() {
        let dir = std::env::temp_dir().join(format!("rais-predecessor-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (mut ours, mut stranger) = (waiter(), waiter());
        note(&dir, ours.id()).unwrap();
        await_end(&dir);
        assert!(!ours.wait().unwrap().success());
        std::fs::write(dir.join(FILE), format!("{} 1\n", stranger.id())).unwrap();
        await_end(&dir);
        // A link is not followed, neither to be believed nor to be written through.
        let started = started(stranger.id()).unwrap();
        std::fs::write(dir.join("forged"), format!("{} {started}\n", stranger.id())).unwrap();
        std::fs::remove_file(dir.join(FILE)).unwrap();
        std::os::unix::fs::symlink(dir.join("forged"), dir.join(FILE)).unwrap();
        await_end(&dir);
        note(&dir, std::process::id()).unwrap();
        let forged = std::fs::read_to_string(dir.join("forged")).unwrap();
        assert!(forged.starts_with(&format!("{} ", stranger.id())));
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
