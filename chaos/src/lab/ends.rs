//! How daemons end, and which ends are explained. Whoever ends a daemon on purpose, or does something that
//! may end one, says so first; any other end is a crash, and fails the run.
//!
//! An explanation is narrow: the signal that the lab sent, or what a daemon says last when it ends for
//! that reason. So a daemon that crashes under a fault which might have ended it is told as well.
//!
//! Explanations hold until `Array::explain_no_more`, which a drill says before each fault: a daemon whose
//! predecessor hangs may need some starts, and one that is at home may be about to end.

use super::array::ArrayError;
use super::fault::Fault;
use super::process::{Process, Scope};
use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Lines of a log that are shown of a daemon that crashed.
const SHOWN: usize = 20;
/// The reason is among so many last lines: a leader without a warden hands over before it ends.
const LAST: usize = 40;
/// What a thread of Rust's says when it dies, also one whose process goes on.
const PANICKED: &str = "panicked at";

/// A way to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By our SIGKILL.
    Killed,
    /// With success, after our SIGTERM.
    Asked,
    /// Its warden is gone, so it can hold no address.
    Warden,
    /// Its warden makes no renewals: it is stopped, or not let work.
    Hung,
    /// The warden of its predecessor still has the gate.
    Gate,
    /// Its disk failed it.
    Disk,
}

impl End {
    /// Whether a daemon that ended with `status` and these last words ended so.
    fn is(self, status: ExitStatus, words: &str) -> bool {
        let reason: &[&str] = match self {
            Self::Killed => return status.signal() == Some(Signal::KILL.as_raw()),
            Self::Asked => return status.success(),
            Self::Warden => &["the warden has ended"],
            Self::Hung => &["the warden makes no renewals"],
            Self::Gate => &["another daemon holds the table"],
            Self::Disk => &["Raft has stopped", "No space left", "is the disk full"],
        };
        status.code() == Some(1) && reason.iter().any(|one| words.contains(one))
    }
}

/// What explains ends of the daemons of an array, by host.
#[derive(Debug, Default)]
pub(super) struct Ends(Mutex<Vec<(u8, End)>>);

impl Ends {
    /// Whatever of `ends` happens to `host` from now on is explained.
    fn allow(&self, host: u8, ends: &[End]) {
        self.lock().extend(ends.iter().map(|end| (host, *end)));
    }

    /// SIGKILL of some of the daemon's family.
    pub(super) fn allow_kill(&self, host: u8, whom: Scope) {
        let ends: &[End] = match whom {
            Scope::Children => &[End::Warden, End::Gate],
            Scope::Alone | Scope::Family => &[End::Killed, End::Gate],
        };
        self.allow(host, ends);
    }

    /// SIGSTOP, or no time on a processor: a daemon and its warden that missed each other may part.
    pub(super) fn allow_stop(&self, host: u8) {
        self.allow(host, &[End::Hung, End::Gate]);
    }

    /// SIGTERM.
    pub(super) fn allow_end(&self, host: u8) {
        self.allow(host, &[End::Asked]);
    }

    /// What `fault` may do to daemons.
    pub(super) fn allow_fault(&self, fault: &Fault) {
        match fault {
            Fault::Kill { process, scope } => {
                let host = process.host();
                host.into_iter()
                    .for_each(|host| self.allow_kill(host, *scope));
            }
            Fault::Stop { process, .. } => {
                process
                    .host()
                    .into_iter()
                    .for_each(|host| self.allow_stop(host));
            }
            Fault::Freeze { host } | Fault::Full { host } => self.allow(*host, &[End::Disk]),
            _ => {}
        }
    }

    /// The daemon of `host` is a new one: what the lab did once explains nothing more.
    pub(super) fn begun(&self, host: u8) {
        let once = |end: End| matches!(end, End::Killed | End::Asked);
        self.lock().retain(|(of, end)| *of != host || !once(*end));
    }

    /// Nothing is explained any more.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    /// Judges the daemon of `host` if it has ended.
    ///
    /// # Errors
    /// [`ArrayError::Crashed`] if nothing explains it.
    pub(super) fn judge(&self, host: u8, daemon: &Process) -> Result<(), ArrayError> {
        let Some(status) = daemon.exit_status() else {
            return Ok(());
        };
        let said = daemon.said();
        let last = |count: usize| {
            let lines: Vec<&str> = said.lines().rev().take(count).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        let words = last(LAST);
        let allowed = self.lock();
        let mut ends = allowed.iter().filter(|(of, _)| *of == host);
        if ends.any(|(_, end)| end.is(status, &words)) && !said.contains(PANICKED) {
            return Ok(());
        }
        let (status, said) = (status.to_string(), last(SHOWN));
        Err(ArrayError::Crashed { host, status, said })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(u8, End)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line in which a daemon, its warden or its runner tells of a panic, if there is one.
pub(super) fn panic_of(daemon: &Process) -> Option<String> {
    let said = daemon.said();
    let line = said.lines().find(|line| line.contains(PANICKED));
    line.map(str::to_owned)
}
