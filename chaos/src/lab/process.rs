//! A program in a namespace of the lab, and the signals that a test may send it.
//!
//! Signals go by our own handle only: while the child is not reaped, its id is not given out again.
//! `Family` means the process with all its descendants: stopped from the head down, since a
//! supervisor that is left alive restarts its child; killed from the leaves up, since a child may
//! mourn its parent by cleaning up (keepalived's did, in one run of three).

use super::clock::{self, At, timespec};
use super::error::LabError;
use super::names;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The process alone: its children live on.
    Alone,
    /// Its descendants and not itself; itself if it has none.
    Children,
    /// The process and all its descendants, as when a machine dies.
    Family,
}

/// A running program. Clones share it; with the last one it is killed.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: String,
    name: String,
    pid: u32,
    log: PathBuf,
    /// Where its own lines begin in the log, which those before it wrote as well.
    log_from: u64,
    child: Mutex<Child>,
}

impl Process {
    pub(super) fn new(
        host: &str,
        name: &str,
        child: Child,
        (log, log_from): (PathBuf, u64),
    ) -> Self {
        Self(Arc::new(Inner {
            host: host.to_owned(),
            name: name.to_owned(),
            pid: child.id(),
            log,
            log_from,
            child: Mutex::new(child),
        }))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The file that both its outputs go to.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.0.log
    }

    /// The number of its host, if it runs on one.
    pub(super) fn host(&self) -> Option<u8> {
        self.0.host.strip_prefix('h')?.parse().ok()
    }

    /// What it and its children have written to its log.
    pub(super) fn said(&self) -> String {
        let mut said = Vec::new();
        let _ = File::open(&self.0.log).and_then(|mut log| {
            log.seek(SeekFrom::Start(self.0.log_from))?;
            log.read_to_end(&mut said)
        });
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Whether it still runs (or is stopped).
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.0.lock().try_wait(), Ok(None))
    }

    /// How it ended; none while it runs.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.0.lock().try_wait().ok().flatten()
    }

    /// Kills it (SIGKILL). A family is stopped first, so that no one of it sees another die.
    /// Gives when the last signal was sent.
    ///
    /// # Errors
    /// It has ended before.
    pub fn kill(&self, scope: Scope) -> Result<At, LabError> {
        let dies = scope != Scope::Children || names::family(self.0.pid).len() < 2;
        if scope == Scope::Family {
            self.signal(scope, Signal::STOP)?;
        }
        let at = self.signal(scope, Signal::KILL)?;
        if dies {
            let _ = self.0.lock().wait();
        }
        Ok(at)
    }

    /// Stops it (SIGSTOP), as a scheduler that forgets it would. Gives when.
    ///
    /// # Errors
    /// It has ended.
    pub fn stop(&self, scope: Scope) -> Result<At, LabError> {
        self.signal(scope, Signal::STOP)
    }

    /// Lets it go on (SIGCONT). Gives when.
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&self, scope: Scope) -> Result<At, LabError> {
        self.signal(scope, Signal::CONT)
    }

    /// Has it read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// It has ended.
    pub fn hang_up(&self) -> Result<At, LabError> {
        self.signal(Scope::Alone, Signal::HUP)
    }

    /// Asks it to end (SIGTERM). Gives when; [`Process::wait_exit`] awaits it.
    ///
    /// # Errors
    /// It has ended before.
    pub fn terminate(&self) -> Result<At, LabError> {
        self.signal(Scope::Alone, Signal::TERM)
    }

    /// Waits until it ends, at most for `limit`. Gives whether it did.
    #[must_use]
    pub fn wait_exit(&self, limit: Duration) -> bool {
        if !self.is_running() {
            return true;
        }
        let Some(pid) = pid_of(self.0.pid) else {
            return true;
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return !self.is_running();
        };
        let mut polled = [PollFd::new(&handle, PollFlags::IN)];
        let _ = poll(&mut polled, Some(&timespec(limit)));
        !self.is_running()
    }

    fn signal(&self, scope: Scope, signal: Signal) -> Result<At, LabError> {
        let mut child = self.0.lock();
        // Not reaped yet, so the id is still this child's.
        if !matches!(child.try_wait(), Ok(None)) {
            return Err(LabError::Ended {
                process: self.to_string(),
                log: self.0.log.clone(),
            });
        }
        send(self.0.pid, scope, signal);
        drop(child);
        Ok(clock::now())
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.0.name, self.0.host)
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut child = self.lock();
        if matches!(child.try_wait(), Ok(None)) {
            send(self.pid, Scope::Family, Signal::STOP);
            send(self.pid, Scope::Family, Signal::KILL);
            let _ = child.wait();
        }
    }
}

fn send(pid: u32, scope: Scope, signal: Signal) {
    let whom = match scope {
        Scope::Alone => vec![pid],
        Scope::Family => names::family(pid),
        Scope::Children => {
            let mut family = names::family(pid);
            if family.len() > 1 {
                family.remove(0);
            }
            family
        }
    };
    // Children die before their parents: a stopped group that loses its head is sent SIGCONT by the
    // kernel, and whoever asked to be told of its parent's death would clean up.
    let kills = signal == Signal::KILL;
    let (up, down) = (
        whom.iter().rev().filter(|_| kills),
        whom.iter().filter(|_| !kills),
    );
    for pid in up.chain(down).copied().filter_map(pid_of) {
        // A descendant may have ended since it was listed.
        let _ = kill_process(pid, signal);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Kills the processes `pids` of a namespace that is torn down, never this one.
pub(super) fn kill_left(pids: &[u32]) {
    let others = pids.iter().filter(|pid| **pid != std::process::id());
    for pid in others.copied().filter_map(pid_of) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn sleeper() -> Process {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        Process::new("here", "sleep", child, (PathBuf::from("none"), 0))
    }

    /// Goal: a process ends when killed, says so from then on, and is never signalled again.
    /// Method: stop, resume, kill, then another signal.
    #[test]
    fn killed_process_is_gone_and_takes_no_more_signals() {
        let process = sleeper();
        process.stop(Scope::Alone).unwrap();
        process.resume(Scope::Family).unwrap();
        assert!(process.is_running() && !process.wait_exit(Duration::ZERO));
        process.kill(Scope::Family).unwrap();
        assert!(process.wait_exit(Duration::from_secs(5)));
        let refused = process.stop(Scope::Alone).unwrap_err().to_string();
        assert!(refused.starts_with("sleep on here has ended"), "{refused}");
    }

    /// Goal: nothing outlives its handles.
    /// Method: drop the last one, look for the process.
    #[test]
    fn last_handle_takes_its_process_along() {
        let process = sleeper();
        let (clone, pid) = (process.clone(), process.pid());
        drop(process);
        assert!(clone.is_running());
        drop(clone);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
