//! The node's side: starts the warden, gives it orders, hears what became of them.
//!
//! It gets one end of a line and nothing else; when the node ends, however it ends, that line closes.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Child;

use control::{HostAction, Instant, Vow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use statemachine::GroupName;

use super::line::{self, Cut, Line, decode, encode};
use super::wire::{Begin, MANAGED_AT_ONCE, MAX_LISTENERS, Order, Told};

/// The warden may take so long to lay the gate: an earlier one may still be at its last word.
const BEGIN_S: u32 = 10;
/// How long a warden may take to let go of everything and say so, once its node wants to end.
const END_S: u32 = 3;

/// Renewals that were ordered and not made yet.
#[derive(Clone, Copy, Debug, Default)]
struct Unanswered {
    renewals: u32,
    waited_ms: u64,
    looked: Instant,
}

impl Unanswered {
    fn answered(&mut self) {
        self.renewals = self.renewals.saturating_sub(1);
        self.waited_ms = 0;
    }

    /// For how long the oldest waits. Time in which this process itself was away does not count: the
    /// warden may have been away with it.
    fn look(&mut self, now: Instant, pace_ms: u64) -> u64 {
        let since = now.ms_since(self.looked).min(pace_ms);
        self.looked = now;
        self.waited_ms = match self.renewals {
            0 => 0,
            _ => self.waited_ms + since,
        };
        self.waited_ms
    }
}

/// Why there is no warden.
#[derive(Debug, thiserror::Error)]
pub enum NoWarden {
    /// The program could not be started again.
    #[error("cannot start the warden: {0}")]
    Start(std::io::Error),
    /// It ended at once, or said nothing.
    #[error("the warden ended or did not answer within {BEGIN_S} s; the log says why")]
    Silent,
    /// There is no gate.
    #[error("{0}")]
    NoGate(String),
    /// Another process has the gate, which may be free at the next start.
    #[error("{0}")]
    Taken(String),
}

/// A warden at work.
#[derive(Debug)]
pub struct Warden {
    line: Line,
    child: Child,
    listeners: Vec<SocketAddr>,
    unanswered: Unanswered,
}

impl Warden {
    /// Starts one, which waits for [`Warden::begin`]. Before this process gives up what the warden needs.
    ///
    /// # Errors
    /// [`NoWarden`].
    pub fn start() -> Result<Self, NoWarden> {
        let (line, child) = line::start(line::SELF, "warden").map_err(NoWarden::Start)?;
        Ok(Self {
            line,
            child,
            listeners: Vec::new(),
            unanswered: Unanswered::default(),
        })
    }

    /// Has it lay the gate. Gives by what its last word will be known, and the gate in words.
    ///
    /// # Errors
    /// [`NoWarden`]; end it then.
    pub fn begin(&mut self, begin: Begin) -> Result<(Vow, String), NoWarden> {
        self.order(&Order::Begin(begin))
            .map_err(|_| NoWarden::Silent)?;
        loop {
            match self.hear().map_err(|Cut| NoWarden::Silent)? {
                Some(Told::Ready { vow, gate }) => return Ok((vow, gate)),
                Some(Told::NoGate { reason, taken }) => {
                    return Err(match taken {
                        true => NoWarden::Taken(reason),
                        false => NoWarden::NoGate(reason),
                    });
                }
                Some(Told::Line { level, text }) => log(level, &text),
                Some(_) => {}
                None => self.await_packet()?,
            }
        }
    }

    fn await_packet(&self) -> Result<(), NoWarden> {
        let mut ready = [PollFd::new(&self.line, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: BEGIN_S.into(),
            tv_nsec: 0,
        };
        match poll(&mut ready, Some(&limit)) {
            Ok(0) => Err(NoWarden::Silent),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(NoWarden::Start(error.into())),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What to poll for: readable when it tells something or has ended, writable when it took orders.
    #[must_use]
    pub fn descriptor(&self) -> RawFd {
        self.line.as_raw_fd()
    }

    /// Hands it work.
    ///
    /// # Errors
    /// [`Cut`]: it has ended, or is stuck. What it holds ends with the lease.
    pub fn act(&mut self, action: HostAction) -> Result<(), Cut> {
        match action {
            HostAction::Manage { addresses } => self.manage(&addresses),
            other => {
                self.unanswered.renewals += u32::from(matches!(other, HostAction::Renew { .. }));
                self.order(&Order::Act(other))
            }
        }
    }

    fn manage(&mut self, addresses: &[(IpAddr, u8, GroupName)]) -> Result<(), Cut> {
        let mut parts = addresses.chunks(MANAGED_AT_ONCE).peekable();
        if parts.peek().is_none() {
            let addresses = Vec::new();
            let more = false;
            return self.order(&Order::Manage { addresses, more });
        }
        while let Some(part) = parts.next() {
            let addresses = part.to_vec();
            let more = parts.peek().is_some();
            self.order(&Order::Manage { addresses, more })?;
        }
        Ok(())
    }

    /// Says who wants to hear the last word, if that changed.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn listeners(&mut self, mut listeners: Vec<SocketAddr>) -> Result<(), Cut> {
        listeners.truncate(MAX_LISTENERS);
        if listeners == self.listeners {
            return Ok(());
        }
        self.listeners.clone_from(&listeners);
        self.order(&Order::Listeners(listeners))
    }

    /// Says where each group's addresses go, from now on.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn interfaces(&mut self, interfaces: BTreeMap<String, String>) -> Result<(), Cut> {
        self.order(&Order::Interfaces(interfaces))
    }

    fn order(&mut self, order: &Order) -> Result<(), Cut> {
        // An order that gets lost is worse than a warden that begins anew.
        let packet = encode(order).ok_or_else(|| {
            tracing::error!("an order does not fit a packet; please report this");
            Cut
        })?;
        self.line.send(packet)
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn flush(&mut self) -> Result<(), Cut> {
        self.line.flush()
    }

    /// The next thing that it told; none when there is nothing now.
    ///
    /// # Errors
    /// [`Cut`].
    pub fn hear(&mut self) -> Result<Option<Told>, Cut> {
        let packet = self.line.receive()?;
        let told = packet.map(|packet| decode(packet).ok_or(Cut)).transpose()?;
        if told == Some(Told::Renewed) {
            self.unanswered.answered();
        }
        Ok(told)
    }

    /// Whether it has not made a renewal for `limit_ms`: what it holds has gone silent, and nobody knows.
    /// Call it after all that it told was heard; `pace_ms` is the longest time between two calls.
    pub fn is_stuck(&mut self, now: Instant, pace_ms: u64, limit_ms: u64) -> bool {
        self.unanswered.look(now, pace_ms) >= limit_ms
    }

    /// Ends it at once: it is stuck, or dead already.
    pub fn kill(mut self) {
        let _dead = self.child.kill();
        reap(self.child);
    }

    /// Lets it end: its line closes, it lets go of everything and says the last word.
    pub fn end(self) {
        let Self { line, child, .. } = self;
        drop(line);
        reap(child);
    }
}

/// Waits for the end of a warden whose line is closed; one that does not end is left to itself.
fn reap(mut child: Child) {
    if let Ok(end) = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
        let limit = Timespec {
            tv_sec: END_S.into(),
            tv_nsec: 0,
        };
        let _ended = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&limit));
    }
    if !matches!(child.try_wait(), Ok(Some(_))) {
        tracing::error!(pid = child.id(), "the warden does not end; its gate does");
    }
}

/// A line of the warden's, in the node's log.
pub fn log(level: u8, text: &str) {
    match level {
        0 => tracing::error!(warden = true, "{text}"),
        1 => tracing::warn!(warden = true, "{text}"),
        2 => tracing::info!(warden = true, "{text}"),
        _ => tracing::debug!(warden = true, "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a warden that makes no renewal is found out after the limit, one that answers never is, and
    /// neither is one that was stopped together with its node.
    #[test]
    fn only_the_time_that_the_node_was_awake_counts() {
        let at = |ms: u64| Instant(ms * 1000);
        let mut unanswered = Unanswered::default();
        unanswered.look(at(1_000), 100);
        unanswered.renewals = 1;
        assert_eq!(unanswered.look(at(1_060), 100), 60);
        unanswered.answered();
        assert_eq!(unanswered.look(at(1_100), 100), 0);
        unanswered.renewals = 3;
        assert_eq!(unanswered.look(at(1_180), 100), 80);
        assert_eq!(unanswered.look(at(61_180), 100), 180);
        unanswered.answered();
        assert_eq!(unanswered.look(at(61_190), 100), 10);
    }
}
