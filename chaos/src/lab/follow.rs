//! Follows the events of an array as one host tells them, so that a fault can be placed at a step of
//! the array's own work: just after a fence begins, say.
//!
//! It is `rais events --follow --json` with its output read by a thread: what it prints is here within
//! a millisecond or two, while asking again and again would cost a process each time.
//!
//! Limits: events that wait to be read are bounded; above, the newest are lost.

use super::array::{Array, ArrayError};
use super::clock::{self, At};
use super::error::LabError;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

/// Most events that wait to be looked at.
const MAX_WAITING: usize = 10_000;

/// A stream of events. Ends with its daemon; dropping it ends it.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    told: Receiver<(At, Value)>,
}

impl Array<'_> {
    /// The events that happen from now on, as `host` tells them.
    ///
    /// # Errors
    /// The host does not answer, or the system says no.
    pub fn follow(&self, host: u8) -> Result<Follower, ArrayError> {
        let since = self.newest_event(host)?.to_string();
        let mut command = self.command(host)?;
        command.args(["events", "--follow", "--json", "--since", &since]);
        command.arg("--data-dir").arg(self.data(host));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let start = |source| LabError::system("start `rais events`", source);
        let mut child = child.map_err(start)?;
        let (tell, told) = sync_channel(MAX_WAITING);
        let output = child.stdout.take();
        thread::spawn(move || {
            let lines = output.into_iter().flat_map(|o| BufReader::new(o).lines());
            for line in lines.map_while(Result::ok) {
                let at = clock::now();
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = tell.try_send((at, event));
                }
            }
        });
        Ok(Follower { child, told })
    }
}

impl Follower {
    /// Waits at most for `limit` for the next event of `kind` (`hostFencing`). Gives when it was
    /// read, and the event. Events before it are passed over.
    #[must_use]
    pub fn wait(&self, kind: &str, limit: Duration) -> Option<(At, Value)> {
        let end = clock::now().after(limit);
        loop {
            let left = end.since(clock::now());
            let (at, event) = self.told.recv_timeout(left).ok()?;
            if event["kind"] == kind {
                return Some((at, event));
            }
        }
    }

    /// All events so far that nobody waited for.
    #[must_use]
    pub fn so_far(&self) -> Vec<Value> {
        self.told.try_iter().map(|(_, event)| event).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
