//! What reaches the control thread besides datagrams: bounded, in order, with the newest state apart.
//!
//! Entries are applied faster than the thread may look; only the newest state matters, so it has a slot of
//! its own. The slot is read after the letters were taken out and handled before them: a letter that says
//! "your proposal was applied" is never handled on an older state.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use arc_swap::ArcSwapOption;
use control::{Core, Event, Instant, LogMark};
use mio::Waker;
use statemachine::State;

/// Letters that may wait: marks of the log, answers, measurements. A sender waits when it is full;
/// the control thread itself never waits for one.
pub const CAPACITY: usize = 8_192;

/// A question to the control, answered on its thread.
pub type Question = Box<dyn FnOnce(&Core, Instant) + Send>;

/// One letter.
pub enum Letter {
    /// An event for the control.
    Event(Event),
    /// What the log held when it was opened, in order.
    Log(Vec<LogMark>),
    /// A question.
    Question(Question),
    /// The script of an address ended.
    Script(IpAddr, Result<(), String>),
    /// Where each group's addresses go, from now on.
    Interfaces(BTreeMap<String, String>),
    /// End the thread.
    Stop,
}

/// The sending side; clones share it.
#[derive(Clone)]
pub struct Mailbox {
    letters: SyncSender<Letter>,
    newest: Arc<ArcSwapOption<State>>,
    waker: Arc<Waker>,
}

/// The receiving side.
pub struct Inbox {
    letters: Receiver<Letter>,
    newest: Arc<ArcSwapOption<State>>,
}

/// Makes both sides.
pub fn mailbox(waker: Arc<Waker>) -> (Mailbox, Inbox) {
    let (sender, receiver) = sync_channel(CAPACITY);
    let newest = Arc::new(ArcSwapOption::empty());
    let mailbox = Mailbox {
        letters: sender,
        newest: Arc::clone(&newest),
        waker,
    };
    (
        mailbox,
        Inbox {
            letters: receiver,
            newest,
        },
    )
}

impl Mailbox {
    /// Puts a letter in and wakes the thread. Waits while the box is full; after the thread's end it is lost.
    pub fn post(&self, letter: Letter) {
        if self.letters.send(letter).is_ok() {
            self.wake();
        }
    }

    /// Puts the newest state in its slot and wakes the thread.
    pub fn state(&self, state: Arc<State>) {
        self.newest.store(Some(state));
        self.wake();
    }

    fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "control thread cannot be woken; it looks again with its next heartbeat");
        }
    }

    /// Asks the control and waits for the answer; none when its thread has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Core, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let question: Question = Box::new(move |core, now| {
            // Whoever asked may have gone away meanwhile.
            let _gone = answer.send(look(core, now));
        });
        self.post(Letter::Question(question));
        answered.await.ok()
    }
}

impl Inbox {
    /// Everything that waits, at most `limit` letters: the newest state first.
    pub fn take(&self, limit: usize) -> Vec<Letter> {
        let mut letters = Vec::new();
        while letters.len() < limit {
            match self.letters.try_recv() {
                Ok(letter) => letters.push(letter),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    letters.push(Letter::Stop);
                    break;
                }
            }
        }
        if let Some(state) = self.newest.swap(None) {
            letters.insert(0, Letter::Event(Event::Applied { state }));
        }
        letters
    }
}
