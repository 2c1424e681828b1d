//! The wish of somebody outside that a drill should end: looked at in each pause, so that what is at
//! work is undone first.

use crate::lab::{now, wait_until};
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Longest time in which it is not looked at, in ms.
const LOOK: u64 = 50;

/// A wish that may come at any time. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Says it.
    pub fn tell(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was said.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Prints a line for people. Whoever reads no more wants no more.
    pub(super) fn say(&self, line: impl Display) {
        if writeln!(std::io::stdout(), "{line}").is_err() {
            self.tell();
        }
    }

    /// Waits for `ms`, or until it is said.
    pub fn pause(&self, ms: u64) {
        let end = now().after(Duration::from_millis(ms));
        while now() < end && !self.is_told() {
            wait_until(end.min(now().after(Duration::from_millis(LOOK))));
        }
    }
}
