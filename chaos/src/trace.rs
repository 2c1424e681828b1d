//! What happened, line by line, and a hash of it: same seed, same trace.
//!
//! Only the last lines are kept of a long run; the hash covers all.

use std::collections::VecDeque;

/// Lines that are kept: enough for any story, and to see what led to a violation.
const KEPT: usize = 20_000;

/// The trace of one world.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    dropped: usize,
    hash: u64,
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            lines: VecDeque::new(),
            dropped: 0,
            hash: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Trace {
    pub(crate) fn say(&mut self, at_us: u64, text: &str) {
        let line = format!("{:>6} {text}", at_us / 1000);
        // FNV-1a, 64 bits.
        for byte in line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
            self.dropped += 1;
        }
        self.lines.push_back(line);
    }

    /// How many lines were said.
    #[must_use]
    pub fn len(&self) -> usize {
        self.dropped + self.lines.len()
    }

    /// True before the first line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The lines from the `from`-th on, as far as they are kept.
    pub fn since(&self, from: usize) -> impl Iterator<Item = &str> {
        let skip = from.saturating_sub(self.dropped);
        self.lines.iter().skip(skip).map(String::as_str)
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &str> {
        self.since(self.len().saturating_sub(count))
    }

    /// A hash of all lines.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }
}
