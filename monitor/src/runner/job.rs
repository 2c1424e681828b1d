//! One program at work: started in a group of its own, read as it speaks, ended as a whole.

use std::io::{ErrorKind, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;

use control::Instant;
use host::steady;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{
    Pid, PidfdFlags, Rlimit, Signal, WaitOptions, WaitStatus, kill_process_group, pidfd_open,
    waitpid,
};

use super::path::check_path;
use super::wire::{Command, Ended, How, MAX_OUTPUT, Purpose, User};

/// Where programs find others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Read at once, in bytes.
const CHUNK: usize = 4 * 1024;
/// Reads of one look: a program that never stops talking does not keep the runner.
const READS: usize = 16;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Job {
    id: u64,
    purpose: Purpose,
    pid: Pid,
    /// Readable when it has ended.
    pub(super) end: OwnedFd,
    /// What it says; gone when it has closed its outputs.
    pub(super) voice: Option<PipeReader>,
    output: Vec<u8>,
    /// When it is ended.
    pub(super) until: Instant,
    timed_out: bool,
}

impl Job {
    /// Starts one.
    pub(super) fn start(
        command: &Command,
        user: Option<User>,
        files: Rlimit,
    ) -> Result<Self, String> {
        let (program, arguments) = command.words.split_first().ok_or("there is no program")?;
        // What was looked at is what is started: a link may lead elsewhere a moment later.
        let real =
            check_path(Path::new(program)).map_err(|refused| format!("refused: {refused}"))?;
        let failed = |what: &str, error: std::io::Error| format!("cannot {what}: {error}");
        let (voice, mouth) = std::io::pipe().map_err(|error| failed("make a pipe", error))?;
        let second = mouth
            .try_clone()
            .map_err(|error| failed("make a pipe", error))?;
        fcntl_setfl(&voice, OFlags::NONBLOCK)
            .map_err(|error| failed("make a pipe", error.into()))?;
        let mut start = std::process::Command::new(real);
        start
            .arg0(program)
            .args(arguments)
            .env_clear()
            .env("PATH", PATH)
            .envs(command.environment.iter().map(|(key, value)| (key, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(mouth)
            .stderr(second)
            .process_group(0);
        if let Some(user) = user {
            start.uid(user.uid).gid(user.gid);
        }
        steady::allow_files(&mut start, files);
        let child = start
            .spawn()
            .map_err(|error| failed(&format!("start {program}"), error))?;
        let pid = Pid::from_child(&child);
        // It cannot be gone: nobody else waits for it.
        let end = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(end) => end,
            Err(error) => {
                let _killed = kill_process_group(pid, Signal::KILL);
                let _reaped = waitpid(Some(pid), WaitOptions::empty());
                return Err(failed("watch it", error.into()));
            }
        };
        Ok(Self {
            id: command.id,
            purpose: command.purpose,
            pid,
            end,
            voice: Some(voice),
            output: Vec::new(),
            until: command.until,
            timed_out: false,
        })
    }

    /// Its number in the system.
    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it and all in its group. Its end is seen as any other.
    pub(super) fn kill(&mut self) {
        self.timed_out = true;
        self.kill_group();
    }

    fn kill_group(&self) {
        // Nobody left is as good.
        let _gone = kill_process_group(self.pid, Signal::KILL);
    }

    /// Reads what it says. True when it will say no more.
    pub(super) fn listen(&mut self) -> bool {
        let Some(voice) = &mut self.voice else {
            return true;
        };
        let mut part = [0; CHUNK];
        for _ in 0..READS {
            match voice.read(&mut part) {
                Ok(0) => return true,
                Ok(read) => {
                    let room = MAX_OUTPUT.saturating_sub(self.output.len()).min(read);
                    self.output
                        .extend_from_slice(part.get(..room).unwrap_or_default());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != ErrorKind::WouldBlock,
            }
        }
        false
    }

    /// It has ended: collects it, and what is left of it. `status` is known when somebody collected it.
    pub(super) fn close(mut self, status: Option<WaitStatus>) -> Ended {
        // While it is not collected its number is its own, and so is its group's.
        if self.purpose == Purpose::Look || self.timed_out {
            self.kill_group();
        }
        let collected = || waitpid(Some(self.pid), WaitOptions::empty()).ok().flatten();
        let status = status.or_else(|| collected().map(|(_, status)| status));
        self.listen();
        let how = match status {
            _ if self.timed_out => How::TimedOut,
            Some(status) => match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => How::Exited(code),
                (None, Some(signal)) => How::Signalled(signal),
                (None, None) => How::Exited(-1),
            },
            None => How::Exited(-1),
        };
        Ended {
            id: self.id,
            how,
            output: String::from_utf8_lossy(&self.output).into_owned(),
        }
    }
}
