//! A process that must live: found by its pid file, watched by a pidfd, so its death is seen at once.
//!
//! Limits: a pid file that is out of date may name another process; the first look then passes. A
//! process that only forks itself anew is found again at the next interval.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::life::Life;
use super::tcp::short;
use super::{Found, file};
use crate::judge::Reading;

/// A pid file is a number and a line end; more is not read.
const MAX_FILE: u64 = 64;

/// Whether the process of `pid_file` lives.
pub(super) fn test(pid_file: &str) -> Found {
    match find(pid_file) {
        Ok(life) => Found {
            outcome: Ok(Reading::Passed),
            life: Some(life),
        },
        Err(why) => Err(why).into(),
    }
}

fn find(pid_file: &str) -> Result<Life, String> {
    let bytes = file::read(pid_file, MAX_FILE);
    let bytes = bytes.map_err(|error| format!("{pid_file}: {}", short(&error)))?;
    let text = String::from_utf8_lossy(&bytes);
    let number = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<i32>().ok());
    let pid = number.filter(|number| *number > 0).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| format!("{pid_file} holds no process id"))?;
    let raw = pid.as_raw_nonzero().get();
    let end = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(end) => end,
        Err(Errno::SRCH) => return Err(format!("process {raw} of {pid_file} is not there")),
        Err(error) => return Err(format!("process {raw}: {}", short(&error.into()))),
    };
    // A process that has ended and was not collected yet is there, and dead.
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&now)) {
        Ok(0) => Ok(Life::Process { pid: raw, end }),
        _ => Err(format!("process {raw} of {pid_file} has ended")),
    }
}
