//! Tells SNMP managers and webhooks what happened, once for the array: the leader does it.
//!
//! Every host derives the same events from the log; the one that the log names as leader tells them, and
//! notes in the log how far it has come, so that its successor goes on there (docs/adr/0037). Nothing of
//! this is in the way of heartbeats, leases or Raft: a thread of its own, nicer than the rest, takes events
//! from the journal's ring; queues and retries are bounded, and what is dropped is counted and said.

mod ber;
mod hook;
mod line;
mod manager;
mod mib;
mod names;
mod pdu;
mod target;
mod teller;
#[cfg(test)]
mod tests;
mod usm;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use control::Instant;
use ring::hmac;
use rustix::process::{getpriority_process, setpriority_process};
use statemachine::State;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::api::{TrapLine, TrapTrial, TrapsReport};
use crate::clock;
use crate::config::{Complaint, TrapKeys};
use line::Count;
use names::{Names, RESOLVERS};
use target::{Target, targets_of};
pub use teller::Sources;
use usm::User;

/// How much nicer than the rest of the process: a TLS handshake must not delay a heartbeat.
const NICER: i32 = 10;
/// Trials that operators may have asked for and that have not begun.
const TRIALS: usize = 4;

/// Why somebody was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    words: String,
    /// To try again does no good.
    lasting: bool,
}

impl Failure {
    fn lasting(words: impl Into<String>) -> Self {
        let words = words.into();
        Self {
            words,
            lasting: true,
        }
    }

    fn passing(words: impl Into<String>) -> Self {
        let words = words.into();
        Self {
            words,
            lasting: false,
        }
    }
}

/// A leader's time in office, which those who are told see as the time since the array's agent started.
#[derive(Clone, Debug)]
pub struct Tenure {
    array: String,
    id: [u8; 16],
    term: u64,
    since: Instant,
}

impl Tenure {
    fn begin(term: u64, state: &State) -> Self {
        let array = state.array.unwrap_or_default();
        Self {
            array: array.to_string(),
            id: array.0,
            term,
            since: clock::now(),
        }
    }
}

/// The secrets of this host, ready for use.
#[derive(Clone, Default)]
pub struct Secrets {
    users: Vec<User>,
    keys: Vec<(String, hmac::Key)>,
}

impl Secrets {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn load(keys: &TrapKeys) -> Result<Self, Complaint> {
        let user = |user: &crate::config::TrapUser| {
            let (sign, hide) = user.load()?;
            Ok(User::new(&user.name, user.auth, (&sign, &hide)))
        };
        let key = |key: &crate::config::HookKey| {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, key.load()?.as_bytes());
            Ok((key.name.clone(), secret))
        };
        Ok(Self {
            users: keys.users.iter().map(user).collect::<Result<_, _>>()?,
            keys: keys.keys.iter().map(key).collect::<Result<_, _>>()?,
        })
    }
}

/// What it takes to tell anybody.
#[derive(Clone, Default)]
pub struct Means {
    secrets: Secrets,
    names: Names,
}

impl From<Secrets> for Means {
    fn from(secrets: Secrets) -> Self {
        Self {
            secrets,
            ..Self::default()
        }
    }
}

/// What an operator asked to try, and where to say how it went.
struct Trial {
    group: String,
    reply: oneshot::Sender<Vec<TrapTrial>>,
}

/// What became of each target's events on this host.
#[derive(Default)]
struct Book(Mutex<BTreeMap<Target, Arc<Mutex<Count>>>>);

impl Book {
    /// The count of a target.
    fn of(&self, target: &Target) -> Arc<Mutex<Count>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(target.clone()).or_default())
    }

    /// A copy of it, as far as there is one.
    fn read(&self, target: &Target) -> Count {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all
            .get(target)
            .map(|count| count.lock().unwrap_or_else(PoisonError::into_inner).clone());
        count.unwrap_or_default()
    }

    /// Forgets targets that no policy names any more.
    fn keep(&self, wanted: impl Fn(&Target) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|target, _| wanted(target));
    }
}

/// The telling, as the rest of the daemon sees it. It ends with the last copy of this.
pub struct Traps {
    book: Arc<Book>,
    trials: mpsc::Sender<Trial>,
    secrets: watch::Sender<Secrets>,
}

/// What the thread runs on.
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(RESOLVERS)
        .enable_all()
        .build()
}

impl Traps {
    /// Starts the thread. `marks` gets the index up to which everybody has been told, for the log.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        sources: Sources,
        secrets: Secrets,
        marks: watch::Sender<u64>,
    ) -> io::Result<Self> {
        let book = Arc::new(Book::default());
        let (trials, asked) = mpsc::channel(TRIALS);
        let shared = Arc::clone(&book);
        let (secrets, known) = watch::channel(secrets);
        let runtime = runtime()?;
        let run = move || {
            let now = getpriority_process(None).unwrap_or(0);
            if let Err(error) = setpriority_process(None, now + NICER) {
                tracing::warn!(%error, "traps: the thread keeps its priority");
            }
            runtime.block_on(teller::run(sources, known, shared, marks, asked));
            // A resolver may take its time; nobody waits for it.
            runtime.shutdown_background();
        };
        std::thread::Builder::new()
            .name("traps".into())
            .spawn(run)?;
        Ok(Self {
            book,
            trials,
            secrets,
        })
    }

    /// From the next attempt on, these secrets count.
    pub fn change_secrets(&self, secrets: Secrets) {
        self.secrets.send_replace(secrets);
    }

    /// Who is told by the policies of `state`, and what became of it on this host.
    pub fn report(&self, state: &State) -> TrapsReport {
        let line = |(target, groups): (Target, Vec<String>)| {
            let count = self.book.read(&target);
            TrapLine {
                target: target.shown(),
                groups,
                queued: count.queued,
                sent: count.sent,
                failed: count.failed,
                dropped: count.dropped,
                error: count.failing,
            }
        };
        TrapsReport {
            told: state.told,
            targets: targets_of(state).into_iter().map(line).collect(),
        }
    }

    /// Sends a test to every target of a group; nothing while another trial goes on or nobody leads here.
    pub async fn try_out(&self, group: &str) -> Option<Vec<TrapTrial>> {
        let (reply, answer) = oneshot::channel();
        let group = group.to_owned();
        self.trials.try_send(Trial { group, reply }).ok()?;
        answer.await.ok()
    }
}
