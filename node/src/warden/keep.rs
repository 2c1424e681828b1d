//! The warden's side: obeys its node, and when that has died says the last word.
//!
//! One thread, one loop: orders in, driver, reports out, and a round each tick. It never waits for its
//! node, neither to write nor to log; a node that does not read is a dead one.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use control::{HostAction, Instant};
use host::driver::{AddressDriver, TICK_MS};
use host::gate::NoGate;
use host::netlink_driver::{Netlink, Options};
use host::steady;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::line::{Cut, Line, decode, encode};
use super::wire::{Begin, MAX_LINE, Order, Told};
use super::word::Secret;
use crate::clock;
use crate::daemon::hands::Hands;

/// Orders that wait here, at most; the rest waits in the socket.
const WAITING: usize = 4_096;
/// Longest sleep while the first order is awaited, in ms.
const LOOK_MS: u64 = 1_000;
/// Tries to shut the gate before the leases are left to run out.
const SHUT_TRIES: usize = 3;
/// Pauses before the last word is said once more, in ms: a datagram may be lost.
const REPEATS_MS: [u64; 3] = [4, 16, 60];

/// Runs the warden of the node at the other end of standard input.
#[must_use]
pub fn run() -> ExitCode {
    steady::outlive_signals();
    let Some(line) = Line::handed() else {
        eprintln!("rais: the warden is started by `rais node`, not by hand");
        return ExitCode::FAILURE;
    };
    let line = Shared(Arc::new(Mutex::new(line)));
    tracing_subscriber::fmt()
        .with_writer(line.clone())
        .with_max_level(Level::INFO)
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_ansi(false)
        .init();
    match serve(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Cut) => ExitCode::FAILURE,
    }
}

fn serve(line: &Shared) -> Result<(), Cut> {
    let begin = first_order(line)?;
    steady_all();
    let drawn = Secret::draw().map_err(|error| (error.to_string(), false));
    let laid =
        lay(&begin.tag).map_err(|error| (error.to_string(), matches!(error, NoGate::InUse { .. })));
    let (driver, secret) = match (laid, drawn) {
        (Ok(driver), Ok(secret)) => (driver, secret),
        (Err((reason, taken)), _) | (_, Err((reason, taken))) => {
            return line.tell(&Told::NoGate { reason, taken });
        }
    };
    let vow = secret.vow();
    let gate = driver.kernel_gate().describe();
    let owned = driver.kernel_gate().is_owned();
    line.tell(&Told::Ready { vow, gate })?;
    let report = {
        let line = line.clone();
        move |event| {
            // A line that is cut is seen by the loop.
            let _cut = line.tell(&Told::Host(event));
        }
    };
    let mut keeper = Keeper {
        hands: Hands::new(Box::new(driver), begin.interfaces.clone(), Box::new(report)),
        line: line.clone(),
        owned,
        managed: Vec::new(),
        listeners: Vec::new(),
    };
    let Cut = keeper.obey();
    keeper.end(&secret.word(begin.host, begin.boot));
    Ok(())
}

/// Waits for as long as its node takes to open its store; the line closes when that dies.
fn first_order(line: &Shared) -> Result<Begin, Cut> {
    loop {
        match line.receive()? {
            Some(Order::Begin(begin)) => return Ok(begin),
            Some(_) => return Err(Cut),
            None => {
                line.wait(clock::now().plus_ms(LOOK_MS), None);
            }
        }
    }
}

/// What the system does not allow costs leases under load, never safety.
fn steady_all() {
    let asked = [
        ("memory in place", steady::lock_memory()),
        (
            "its turn first",
            steady::realtime().or_else(|_| steady::sooner()),
        ),
        (
            "least privilege",
            steady::keep_only(steady::capability::WARDEN),
        ),
    ];
    for (what, result) in asked {
        if let Err(error) = result {
            tracing::warn!(%error, "the warden does without {what}");
        }
    }
}

/// Lays the gate, whose earlier owner the node has awaited (`predecessor`), and removes what an earlier start left: this one says in its first heartbeat that it
/// holds nothing (docs/adr/0012), so it must be so.
fn lay(tag: &str) -> Result<Netlink, NoGate> {
    let mut netlink = Netlink::open(tag, Options::default())?;
    netlink.release_all().map_err(|error| NoGate::System {
        action: "clear the addresses",
        source: io::Error::other(error),
    })?;
    Ok(netlink)
}

struct Keeper {
    hands: Hands,
    line: Shared,
    /// Nobody else can change the gate.
    owned: bool,
    managed: Vec<(std::net::IpAddr, u8, statemachine::GroupName)>,
    listeners: Vec<SocketAddr>,
}

impl Keeper {
    /// Until the node is gone.
    fn obey(&mut self) -> Cut {
        let mut orders = VecDeque::new();
        loop {
            if let Err(cut) = self.take_in(&mut orders) {
                return cut;
            }
            if let Some(order) = orders.pop_front() {
                self.perform(order);
            }
            if let Err(cut) = self.line.flush() {
                return cut;
            }
            let next = self.hands.round(clock::now());
            if orders.is_empty() && self.line.wait(next, self.hands.alert()) {
                self.hands.alerted();
            }
        }
    }

    /// Takes in what the node has sent. A renewal waits for no other order: each of those may take
    /// milliseconds, and a lease ends whatever stands before it.
    fn take_in(&mut self, orders: &mut VecDeque<Order>) -> Result<(), Cut> {
        while orders.len() < WAITING {
            match self.line.receive()? {
                Some(order @ Order::Act(HostAction::Renew { .. })) => self.perform(order),
                Some(order) => orders.push_back(order),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    fn perform(&mut self, order: Order) {
        match order {
            Order::Act(action) => {
                let renewal = matches!(action, HostAction::Renew { .. });
                if self.hands.perform(action) && renewal {
                    // A line that is cut is seen by the loop.
                    let _cut = self.line.tell(&Told::Renewed);
                }
            }
            Order::Manage { addresses, more } => {
                self.managed.extend(addresses);
                if !more {
                    let addresses = std::mem::take(&mut self.managed);
                    let _done = self.hands.perform(HostAction::Manage { addresses });
                }
            }
            Order::Listeners(listeners) => self.listeners = listeners,
            Order::Interfaces(interfaces) => self.hands.place(interfaces),
            Order::Begin(_) => tracing::error!("the node begins twice; please report this"),
        }
    }

    /// The node is dead: the gate first, then the word, then the rest. A gate that others can change says
    /// nothing by being shut: there the addresses go before the word.
    fn end(mut self, word: &[u8]) {
        let shut = (0..SHUT_TRIES).any(|_| self.hands.shut());
        let gone = !self.owned && self.hands.end();
        let silent = shut && (self.owned || gone);
        let speaker = Speaker::open();
        if silent {
            speaker.say(&self.listeners, word);
        }
        if self.owned {
            self.hands.end();
        }
        for pause_ms in REPEATS_MS.into_iter().filter(|_| silent) {
            // The time between two datagrams is all that is wanted: there is no event.
            std::thread::park_timeout(Duration::from_millis(pause_ms));
            speaker.say(&self.listeners, word);
        }
    }
}

/// Says the last word on whatever network leads there.
struct Speaker(Vec<UdpSocket>);

impl Speaker {
    fn open() -> Self {
        let any = ["0.0.0.0:0", "[::]:0"];
        Self(any.iter().flat_map(UdpSocket::bind).collect())
    }

    fn say(&self, listeners: &[SocketAddr], word: &[u8]) {
        for listener in listeners {
            for socket in &self.0 {
                let fits = socket
                    .local_addr()
                    .is_ok_and(|own| own.is_ipv4() == listener.is_ipv4());
                if fits {
                    // A network that is down: there are others, and the word is said again.
                    let _lost = socket.send_to(word, listener);
                }
            }
        }
    }
}

/// The line, shared with the log.
#[derive(Clone)]
struct Shared(Arc<Mutex<Line>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receive(&self) -> Result<Option<Order>, Cut> {
        let mut line = self.lock();
        let packet = line.receive()?;
        packet.map(|packet| decode(packet).ok_or(Cut)).transpose()
    }

    fn tell(&self, told: &Told) -> Result<(), Cut> {
        let packet = encode(told).ok_or_else(|| {
            eprintln!(
                "rais: what the warden has to tell does not fit a packet; please report this"
            );
            Cut
        })?;
        self.lock().send(packet)
    }

    fn flush(&self) -> Result<(), Cut> {
        self.lock().flush()
    }

    /// Until the node says something, or takes what waits for it, or `end`. True when `alert` is readable.
    fn wait(&self, end: Instant, alert: Option<BorrowedFd<'_>>) -> bool {
        let line = self.lock();
        let mut flags = PollFlags::IN;
        if line.is_waiting() {
            flags |= PollFlags::OUT;
        }
        let left_us = end.us_since(clock::now()).min(TICK_MS * 1000 * 50);
        let limit = Timespec {
            tv_sec: i64::try_from(left_us / 1_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(left_us % 1_000_000 * 1000).unwrap_or(0),
        };
        let mut ready = vec![PollFd::new(&*line, flags)];
        ready.extend(alert.map(|alert| PollFd::from_borrowed_fd(alert, PollFlags::IN)));
        match poll(&mut ready, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => eprintln!("rais: the warden cannot wait for its node: {error}"),
        }
        ready
            .get(1)
            .is_some_and(|alert| !alert.revents().is_empty())
    }
}

/// Where a line of the log goes: to the node, and to standard error once that is gone.
struct LogLine {
    line: Shared,
    level: u8,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = bytes.get(..bytes.len().min(MAX_LINE)).unwrap_or(bytes);
        let text = String::from_utf8_lossy(shown).trim_end().to_owned();
        let level = self.level;
        if let Err(Cut) = self.line.tell(&Told::Line { level, text }) {
            io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Shared {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        let line = self.clone();
        LogLine { line, level: 2 }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> LogLine {
        let level = match *meta.level() {
            Level::ERROR => 0,
            Level::WARN => 1,
            Level::INFO => 2,
            _ => 3,
        };
        let line = self.clone();
        LogLine { line, level }
    }
}
