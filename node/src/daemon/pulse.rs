//! The control thread: heartbeats, leases and plans, away from the async runtime.
//!
//! A stalled disk, a busy runtime or a flood of queries must not cost a heartbeat (etcd#15247,
//! keepalived#2066), so this thread waits only for its sockets and its clock, and hands all else on.
//!
//! Limits: at most [`BATCH`] datagrams and letters between two looks at the clock.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;

use control::{Core, Event, HostAction, HostEvent, Output};
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use statemachine::{Command, HostId, LogTime};
use tokio::sync::mpsc;

use super::datagram;
use super::journal::Journal;
use super::mailbox::{CAPACITY, Inbox, Letter};
use super::scripted::{Call, Next, Scripted};
use crate::clock;
use crate::transport::Sessions;
use crate::warden::child::{Warden, log};
use crate::warden::line::Cut;
use crate::warden::wire::Told;
use crate::warden::word;

/// Datagrams and letters handled between two looks at the clock.
const BATCH: usize = 256;
/// The waker's token; sockets have theirs from 0.
const WAKER: Token = Token(usize::MAX);
/// The warden's token.
const WARDEN: Token = Token(usize::MAX - 1);
/// A daemon that ends waits no longer for its release scripts, in ms: each is ended after 10 s, and a runner
/// that does not tell so is given up after 3 more. Below the 90 s after which systemd kills a service.
const LAST_SCRIPTS_MS: u64 = 15_000;
/// Longest sleep, in ms: a bound in case a wake-up is lost.
const LONGEST_SLEEP_MS: u64 = 1_000;

/// A proposal on its way to Raft.
pub struct Proposal {
    /// Its number, for the answer.
    pub id: u64,
    /// Replicated time.
    pub at: LogTime,
    /// Its commands.
    pub commands: Vec<Command>,
}

/// Who performs the actions.
pub enum Doer {
    /// A thread of this process, for a driver without a gate. It lets go of all when its queue is closed.
    Thread(SyncSender<HostAction>, JoinHandle<()>),
    /// The warden.
    Warden(Warden),
}

/// How the thread ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Nobody performs what it orders: this host can hold nothing safely, and had better start anew.
    Doer,
}

/// Where the thread's outputs go. All are bounded. A proposal that does not fit is drawn again.
pub struct Outlets {
    /// To Raft.
    pub proposals: mpsc::Sender<Proposal>,
    /// Whom Raft should elect now, since its leader has said its last word.
    pub elect: mpsc::Sender<HostId>,
    /// To the driver.
    pub doer: Doer,
    /// Seals and opens datagrams.
    pub sessions: Arc<Sessions>,
    /// Starts scripts, and never waits for one; false when it cannot.
    pub scripts: Box<dyn Fn(Call) -> bool + Send>,
    /// Where it is noted that addresses are served without a quorum.
    pub journal: Arc<Journal>,
}

/// The sockets and the clock of the control thread, before it starts.
pub struct Pulse {
    poll: Poll,
    sockets: Vec<UdpSocket>,
}

impl Pulse {
    /// A thread-to-be without sockets, and what wakes it.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub fn new() -> std::io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok((
            Self {
                poll,
                sockets: Vec::new(),
            },
            Arc::new(waker),
        ))
    }

    /// Binds a UDP socket on each control address.
    ///
    /// # Errors
    /// The address that failed, and why.
    pub fn bind(&mut self, control: &[SocketAddr]) -> Result<(), (SocketAddr, std::io::Error)> {
        for (number, address) in control.iter().enumerate() {
            let mut socket = UdpSocket::bind(*address).map_err(|error| (*address, error))?;
            let registered =
                self.poll
                    .registry()
                    .register(&mut socket, Token(number), Interest::READABLE);
            registered.map_err(|error| (*address, error))?;
            self.sockets.push(socket);
        }
        Ok(())
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        self,
        core: Core,
        inbox: Inbox,
        outlets: Outlets,
    ) -> std::io::Result<JoinHandle<Ended>> {
        if let Doer::Warden(warden) = &outlets.doer {
            let (descriptor, interest) =
                (warden.descriptor(), Interest::READABLE | Interest::WRITABLE);
            let registry = self.poll.registry();
            registry.register(&mut SourceFd(&descriptor), WARDEN, interest)?;
        }
        let mut beating = Beating {
            poll: self.poll,
            sockets: self.sockets,
            core,
            inbox,
            outlets,
            packet: Vec::new(),
            scripted: Scripted::default(),
            last_resort: false,
            stopped: false,
        };
        std::thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                go_first();
                let ended = beating.run().unwrap_or(Ended::Doer);
                beating.end(ended);
                ended
            })
    }
}

struct Beating {
    poll: Poll,
    sockets: Vec<UdpSocket>,
    core: Core,
    inbox: Inbox,
    outlets: Outlets,
    packet: Vec<u8>,
    scripted: Scripted,
    /// As it was told last.
    last_resort: bool,
    /// It was told to end.
    stopped: bool,
}

impl Beating {
    fn run(&mut self) -> Result<Ended, Cut> {
        let mut ready = Events::with_capacity(64);
        let mut more = false;
        loop {
            let timeout = if more {
                Duration::ZERO
            } else {
                self.until_next_wake()
            };
            if let Err(error) = self.poll.poll(&mut ready, Some(timeout))
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "control thread cannot wait for its sockets");
            }
            more = self.read_letters()?;
            for number in 0..self.sockets.len() {
                more |= self.receive(number)?;
            }
            if self.stopped {
                return Ok(Ended::Stopped);
            }
            self.hear_warden()?;
            self.mind_the_warden()?;
            // Every step looks at the clock; one more is owed only when something has fallen due.
            if self.core.next_wake() <= clock::now() {
                self.step(Event::Woke)?;
            }
        }
    }

    /// Reads the letters that wait, at most a batch. True when more may wait.
    fn read_letters(&mut self) -> Result<bool, Cut> {
        let letters = self.inbox.take(BATCH);
        let more = letters.len() >= BATCH;
        for letter in letters {
            match letter {
                Letter::Event(Event::Host(told)) => self.hear_driver(told)?,
                Letter::Event(event) => self.step(event)?,
                Letter::Log(marks) => {
                    for mark in marks {
                        self.step(Event::Log(mark))?;
                    }
                }
                Letter::Question(question) => question(&self.core, clock::now()),
                Letter::Script(address, result) => {
                    let next = self.scripted.ran(address, result);
                    self.go_on(next)?;
                }
                // A driver without a gate puts all addresses in one place.
                Letter::Interfaces(interfaces) => {
                    if let Doer::Warden(warden) = &mut self.outlets.doer {
                        warden.interfaces(interfaces)?;
                    }
                }
                Letter::Stop => self.stopped = true,
            }
        }
        Ok(more)
    }

    /// What the log held when a datagram was read is known before it is answered, though this thread was
    /// stopped in between: what is appended later may be committed long before it goes on, and a voter that
    /// answers what it reads then must know of it.
    fn catch_up(&mut self) -> Result<(), Cut> {
        for _ in 0..CAPACITY.div_ceil(BATCH) {
            if !self.read_letters()? {
                break;
            }
        }
        Ok(())
    }

    /// Lets go of everything, and then runs the release scripts: they find the gate shut.
    fn end(self, ended: Ended) {
        match (self.outlets.doer, ended) {
            (Doer::Warden(warden), Ended::Stopped) => warden.end(),
            (Doer::Warden(warden), Ended::Doer) => warden.kill(),
            (Doer::Thread(actions, thread), _) => {
                drop(actions);
                if thread.join().is_err() {
                    tracing::error!("the driver ended in a panic; please report this");
                }
            }
        }
        if ended == Ended::Stopped {
            let (core, inbox, scripts) = (self.core, self.inbox, self.outlets.scripts);
            run_last_scripts(&core, &inbox, self.scripted, self.poll, &scripts);
        }
    }

    fn until_next_wake(&self) -> Duration {
        let left = self.core.next_wake().us_since(clock::now());
        Duration::from_micros(left.min(LONGEST_SLEEP_MS * 1000))
    }

    /// Reads what waits on a socket. True when more may wait.
    fn receive(&mut self, number: usize) -> Result<bool, Cut> {
        let mut buffer = [0u8; datagram::MAX_MESSAGE + 64];
        let mut plain = Vec::new();
        for _ in 0..BATCH {
            let Some(socket) = self.sockets.get(number) else {
                return Ok(false);
            };
            match socket.recv_from(&mut buffer) {
                Ok((len, _)) => {
                    if let Some((host, boot, vow)) = word::read(&buffer[..len]) {
                        // Anybody may send such a thing: a look first, before all else that a step does.
                        if self.core.view().is_last_word(host, boot, vow) {
                            self.step(Event::LastWord { host, boot, vow })?;
                        }
                        continue;
                    }
                    // What does not open is counted by the sessions, by reason.
                    let Ok(from) = self.outlets.sessions.open(&buffer[..len], &mut plain) else {
                        continue;
                    };
                    let network = u8::try_from(number).unwrap_or(u8::MAX);
                    self.catch_up()?;
                    match datagram::decode(&plain) {
                        Some(message) => self.step(Event::Received {
                            from,
                            network,
                            message,
                        })?,
                        None => {
                            tracing::warn!(host = %from, "datagram does not decode; does that host run another version?")
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // ECONNREFUSED and its like: an earlier datagram met a dead host. Not ours to mind.
                Err(error) if error.kind() != ErrorKind::WouldBlock => {}
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// A warden that makes no renewals has let every lease run out, while this host goes on to say that it
    /// serves: it ends, so that others take over.
    fn mind_the_warden(&mut self) -> Result<(), Cut> {
        let Doer::Warden(warden) = &mut self.outlets.doer else {
            return Ok(());
        };
        let timing = self.core.state().timing;
        let (pace, limit) = (2 * u64::from(timing.heartbeat_ms), timing.lease_ms.into());
        if warden.is_stuck(clock::now(), pace, limit) {
            tracing::error!("the warden makes no renewals: it is stopped, or stuck");
            return Err(Cut);
        }
        Ok(())
    }

    /// What the warden told, and what it may take now. Only a few packets come each second.
    fn hear_warden(&mut self) -> Result<(), Cut> {
        for _ in 0..BATCH {
            let Doer::Warden(warden) = &mut self.outlets.doer else {
                return Ok(());
            };
            warden.flush()?;
            match warden.hear()? {
                Some(Told::Host(told)) => self.hear_driver(told)?,
                Some(Told::Line { level, text }) => log(level, &text),
                Some(Told::Renewed | Told::Ready { .. } | Told::NoGate { .. }) => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), Cut> {
        let moved = matches!(event, Event::Applied { .. });
        for output in self.core.step(clock::now(), event) {
            match output {
                Output::Send { to, message } => match datagram::encode(&message) {
                    Some(bytes) => self.send(to, &bytes),
                    None => tracing::error!(
                        "heartbeat does not fit a datagram: this host holds too many addresses"
                    ),
                },
                Output::Propose { id, at, commands } => {
                    if self
                        .outlets
                        .proposals
                        .try_send(Proposal { id, at, commands })
                        .is_err()
                    {
                        tracing::warn!(
                            "Raft does not keep up with proposals; the plan is drawn again"
                        );
                    }
                }
                Output::Perform(action) => {
                    let leased = self.core.lease_deadline() > Some(clock::now());
                    let next = self.scripted.order(self.core.state(), leased, action);
                    self.go_on(next)?;
                }
                Output::Elect { to } => {
                    // One election is enough; without it the time-out comes.
                    let _elected = self.outlets.elect.try_send(to);
                }
            }
        }
        let last_resort = self.core.is_last_resort();
        if last_resort != self.last_resort {
            self.last_resort = last_resort;
            let (core, journal) = (&self.core, &self.outlets.journal);
            journal.note_last_resort(last_resort, core.me(), core.state());
        }
        match &mut self.outlets.doer {
            Doer::Warden(warden) if moved => warden.listeners(listeners(&self.core)),
            _ => Ok(()),
        }
    }

    /// What the driver told, after the script that it calls for.
    fn hear_driver(&mut self, told: HostEvent) -> Result<(), Cut> {
        let next = self.scripted.told(self.core.state(), told);
        self.go_on(next)
    }

    fn go_on(&mut self, next: Vec<Next>) -> Result<(), Cut> {
        for next in next {
            match next {
                Next::Perform(action) => self.perform(action)?,
                Next::Tell(event) => self.step(Event::Host(event))?,
                Next::Run(call) => {
                    let address = call.address;
                    if !(self.outlets.scripts)(call) {
                        let refused = Err("it could not be started".to_owned());
                        let next = self.scripted.ran(address, refused);
                        self.go_on(next)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn perform(&mut self, action: HostAction) -> Result<(), Cut> {
        let done = match (&mut self.outlets.doer, action) {
            (Doer::Warden(warden), action) => warden.act(action),
            // Without a gate there is nothing to renew: its thread is left asleep.
            (
                Doer::Thread(..),
                HostAction::Renew { .. } | HostAction::Manage { .. } | HostAction::Tickle { .. },
            ) => Ok(()),
            (Doer::Thread(actions, _), action) => actions.try_send(action).map_err(|_| Cut),
        };
        if done.is_err() {
            tracing::error!("the address driver has ended or does not keep up");
        }
        done
    }

    /// Sends on every control network: what arrives twice is harmless.
    fn send(&mut self, to: HostId, bytes: &[u8]) {
        let Some(host) = self.core.state().hosts.get(&to) else {
            return;
        };
        for (number, address) in host.control.iter().enumerate() {
            let socket = self.sockets.get(number).or(self.sockets.first());
            if let Some(socket) = socket
                && self.outlets.sessions.seal(to, bytes, &mut self.packet)
            {
                // A full buffer or a dead network: the next heartbeat follows, on another network too.
                let _lost = socket.send_to(&self.packet, *address);
            }
        }
    }
}

/// Runs what scripts are left when everything is let go, and waits for them within a bound.
fn run_last_scripts(
    core: &Core,
    inbox: &Inbox,
    mut scripted: Scripted,
    mut poll: Poll,
    start: &dyn Fn(Call) -> bool,
) {
    let end = clock::now().plus_ms(LAST_SCRIPTS_MS);
    let mut next = scripted.end(core.state());
    let mut ready = Events::with_capacity(64);
    let mut more = false;
    loop {
        while let Some(one) = next.pop() {
            // The driver has let go, and nobody listens: only programs are left.
            let Next::Run(call) = one else { continue };
            let address = call.address;
            if !start(call) {
                next.extend(scripted.ran(address, Err("it could not be started".to_owned())));
            }
        }
        let left_us = end.us_since(clock::now());
        if scripted.is_idle() || left_us == 0 {
            return;
        }
        let patience = Duration::from_micros(if more { 0 } else { left_us });
        // What cannot be waited for is looked at again: the bound stays.
        let _woken = poll.poll(&mut ready, Some(patience));
        let letters = inbox.take(BATCH);
        more = letters.len() >= BATCH;
        for letter in letters {
            if let Letter::Script(address, result) = letter {
                next.extend(scripted.ran(address, result));
            }
        }
    }
}

/// Before all ordinary threads, where allowed; and what allowed it is given up.
fn go_first() {
    let first = host::steady::realtime();
    let parted = host::steady::keep_only(host::steady::capability::NODE);
    if let Err(error) = first.and(parted) {
        tracing::info!(%error, "the control thread has no precedence: a busy machine may cost leases");
    }
}

/// Who wants to hear this host's last word: every other host, wherever it listens.
fn listeners(core: &Core) -> Vec<SocketAddr> {
    let others = core.state().hosts.values();
    let others = others.filter(|host| host.id != core.me());
    others
        .flat_map(|host| host.control.iter().copied())
        .collect()
}
