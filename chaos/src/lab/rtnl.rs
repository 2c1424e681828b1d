//! RTNL, the kernel's lock on all networks of a machine, in the hand of another program for some time.
//!
//! Whoever changes links or addresses waits for it. A small program (`rtnl.c`, built with `cc` when a lab
//! wants it) takes it for an exact time and says when it has it. To delete an interface with tens of
//! thousands of addresses holds it for 0.1 s only, and to add them takes seconds.
//!
//! It ends after its time, or with its handle: the kernel takes the lock from a program that is killed.
//!
//! Limits: needs `cc`, userfaultfd and a kernel that reads `ETHTOOL_GFEATURES` under the lock (all do). The
//! lock is the machine's: whoever changes a network meanwhile waits, other labs too.

use super::Lab;
use super::command;
use super::error::LabError;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};

/// The program's text.
const SOURCE: &str = include_str!("rtnl.c");
/// Longest time, in ms: who runs a lab may not be alone on the machine.
pub(super) const LONGEST_MS: u64 = 30_000;

/// The lock, held. Dropping it lets go.
#[derive(Debug)]
pub(super) struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Lab {
    /// Has another program take RTNL for `ms`. Returns when it has it.
    pub(super) fn hold_rtnl(&self, ms: u64) -> Result<Held, LabError> {
        let text = ("rtnl", SOURCE);
        let program = command::compile(self.logs(), text, "rtnl", &["-pthread"])?;
        let typed = format!("{} {ms}", program.display());
        let mut command = self.client().command(&program);
        command.arg(ms.to_string()).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|source| LabError::Start {
            command: typed.clone(),
            source,
        })?;
        let mut held = Held(child);
        let mut said = String::new();
        if let Some(out) = held.0.stdout.take() {
            let _ = BufReader::new(out).read_line(&mut said);
        }
        if said == "held\n" {
            return Ok(held);
        }
        // It has ended, so this does too.
        let mut stderr = String::new();
        if let Some(mut err) = held.0.stderr.take() {
            let _ = err.read_to_string(&mut stderr);
        }
        Err(LabError::Command {
            command: typed,
            status: "did not take the lock".to_owned(),
            stderr: stderr.trim().to_owned(),
        })
    }
}
