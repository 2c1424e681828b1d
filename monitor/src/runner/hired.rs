//! The node's side: starts the runner while it may, asks it to run programs, hears how they ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::Child;
use std::rc::Rc;
use std::time::Duration;

use control::Instant;
use host::clock::boottime_us;
use host::line::{self, Cut, Line, decode, encode};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

use super::wire::{Command, Ended, How, MAX_COMMAND, Order, Purpose, User};

/// The runner ends a program at its time-out and tells so; one that does not tell within so much more, in
/// ms, is stuck. With the longest release script (10 s) still below the 15 s after which a host that does
/// not let go is fenced.
const GRACE_MS: u64 = 3_000;

/// Why there is no runner.
#[derive(Debug, thiserror::Error)]
pub enum NoRunner {
    /// The program could not be started again.
    #[error("cannot start the runner: {0}")]
    Start(#[from] std::io::Error),
    /// It ended at once.
    #[error("the runner has ended")]
    Ended,
}

/// A runner that waits for orders.
#[derive(Debug)]
pub struct Runner {
    line: Line,
    child: Child,
}

impl Runner {
    /// Starts one, which runs programs as `user`. Before this process gives up what the runner needs.
    ///
    /// # Errors
    /// [`NoRunner`].
    pub fn start(user: Option<User>) -> Result<Self, NoRunner> {
        Self::start_from(line::SELF, user)
    }

    /// As [`Runner::start`], from another binary.
    ///
    /// # Errors
    /// [`NoRunner`].
    pub fn start_from(binary: &str, user: Option<User>) -> Result<Self, NoRunner> {
        let (mut line, child) = line::start(binary, "runner")?;
        let begin = encode(&Order::Begin(user)).unwrap_or_default();
        line.send(begin).map_err(|Cut| NoRunner::Ended)?;
        Ok(Self { line, child })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Runs programs, for whoever shares this thread.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What the runner has not been told yet; it may be stopped.
    orders: RefCell<BTreeMap<u64, Vec<u8>>>,
    waiting: RefCell<BTreeMap<u64, oneshot::Sender<Ended>>>,
    next: RefCell<u64>,
    works: RefCell<bool>,
    news: Notify,
}

impl Programs {
    /// Programs that `runner` runs: its line is served by a task of the current thread.
    #[must_use]
    pub fn of(runner: Option<Runner>) -> Self {
        let programs = Self::default();
        if let Some(runner) = runner {
            *programs.shared.works.borrow_mut() = true;
            let shared = Rc::clone(&programs.shared);
            tokio::task::spawn_local(async move {
                let Cut = shared.serve(runner.line).await;
                tracing::error!(
                    "the runner has ended: programs are not run until the daemon starts anew"
                );
                *shared.works.borrow_mut() = false;
                shared.waiting.borrow_mut().clear();
                reap(runner.child);
            });
        }
        programs
    }

    /// Runs a program to its end. Gives what it said.
    ///
    /// # Errors
    /// For every end but exit code 0, in a few words.
    pub async fn run(
        &self,
        purpose: Purpose,
        words: Vec<String>,
        environment: Vec<(String, String)>,
        timeout_ms: u64,
    ) -> Result<String, String> {
        if !*self.shared.works.borrow() {
            return Err("programs cannot be run here: there is no runner".to_owned());
        }
        let length: usize = words.iter().map(String::len).sum();
        if length > MAX_COMMAND {
            return Err(format!("the command is longer than {MAX_COMMAND} bytes"));
        }
        let id = {
            let mut next = self.shared.next.borrow_mut();
            *next += 1;
            *next
        };
        let command = Command {
            id,
            purpose,
            words,
            environment,
            until: Instant(boottime_us()).plus_ms(timeout_ms),
        };
        let order = encode(&Order::Run(command)).ok_or("the command does not fit an order")?;
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.borrow_mut().insert(id, answer);
        self.shared.orders.borrow_mut().insert(id, order);
        self.shared.news.notify_one();
        let _asking = Asking {
            shared: &self.shared,
            id,
        };
        let patience = Duration::from_millis(timeout_ms.saturating_add(GRACE_MS));
        let ended = tokio::time::timeout(patience, answered).await;
        let not_started = |why: &str| Ended {
            id,
            how: How::NotStarted(why.to_owned()),
            output: String::new(),
        };
        let ended = match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => not_started("the runner has ended"),
            Err(_) => not_started("the runner does not answer: it is stopped, or stuck"),
        };
        ended.result()
    }
}

/// Somebody waits for a program. What nobody waits for is not ordered any more.
struct Asking<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.shared.waiting.borrow_mut().remove(&self.id);
        self.shared.orders.borrow_mut().remove(&self.id);
    }
}

impl Shared {
    async fn serve(&self, line: Line) -> Cut {
        let interest = Interest::READABLE | Interest::WRITABLE;
        #[expect(
            deprecated,
            reason = "the new name is unsafe; a Line keeps its socket while it is owned"
        )]
        let Ok(mut line) = AsyncFd::with_interest(line, interest) else {
            return Cut;
        };
        loop {
            if let Err(cut) = self.exchange(line.get_mut()) {
                return cut;
            }
            let blocked = line.get_ref().is_waiting();
            let interest = match blocked {
                true => interest,
                false => Interest::READABLE,
            };
            tokio::select! {
                ready = line.ready_mut(interest) => match ready {
                    Ok(mut ready) => {
                        let line = ready.get_inner_mut();
                        if let Err(cut) = self.exchange(line) {
                            return cut;
                        }
                        // Read to the end, and written as far as it goes: the next change is news.
                        ready.clear_ready();
                    }
                    Err(_) => return Cut,
                },
                () = self.news.notified() => {}
            }
        }
    }

    fn exchange(&self, line: &mut Line) -> Result<(), Cut> {
        line.flush()?;
        // One at a time: what waits in the line cannot be taken back.
        while !line.is_waiting()
            && let Some((_, order)) = self.orders.borrow_mut().pop_first()
        {
            line.send(order)?;
        }
        while let Some(packet) = line.receive()? {
            let ended: Ended = decode(packet).ok_or(Cut)?;
            let waiting = self.waiting.borrow_mut().remove(&ended.id);
            if let Some(waiting) = waiting {
                // Whoever waited may have given up.
                let _gone = waiting.send(ended);
            }
        }
        Ok(())
    }
}

/// The runner's line is cut, so it ends; what it cannot be waited for here is collected with the node.
fn reap(mut child: Child) {
    if !matches!(child.try_wait(), Ok(Some(_))) {
        tracing::debug!(pid = child.id(), "the runner has not ended yet");
    }
}
