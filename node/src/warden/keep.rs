//! The warden's side: obeys its node, and when that has died says the last word.
//!
//! Two threads. This one hears the node, renews, shuts and watches the gate; it never waits: not for its
//! node, neither to write nor to log (a node that does not read is a dead one), and not for RTNL, the
//! kernel's lock of all networks. That is the hands' lot (`orders`): they open the gate and change addresses.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use control::{HostAction, Instant};
use host::driver::{AddressDriver, QUIET_MS};
use host::gate::{Guard, NoGate};
use host::netlink_driver::{Latch, Netlink};
use host::steady;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use super::line::{Cut, Line, decode, encode};
use super::orders::{self, Orders};
use super::wire::{Begin, MAX_LINE, Order, Told};
use super::word::Secret;
use crate::clock;
use crate::daemon::hands::Hands;

/// Longest sleep while the first order is awaited, in ms.
const LOOK_MS: u64 = 1_000;
/// Tries to shut the gate before the leases are left to run out.
const SHUT_TRIES: usize = 3;
/// Between two looks at the gate while the hands end.
const LOOK: Duration = Duration::from_millis(10);
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
    let Ok(line) = Shared::new(line) else {
        eprintln!("rais: the warden cannot poll its node");
        return ExitCode::FAILURE;
    };
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
    granted("memory in place", steady::lock_memory());
    let drawn = Secret::draw().map_err(|error| (error.to_string(), false));
    let laid =
        lay(&begin.tag).map_err(|error| (error.to_string(), matches!(error, NoGate::InUse { .. })));
    let (driver, secret) = match (laid, drawn) {
        (Ok(driver), Ok(secret)) => (driver, secret),
        (Err((reason, taken)), _) | (_, Err((reason, taken))) => {
            return line.tell(&Told::NoGate { reason, taken });
        }
    };
    let latch = driver.latch();
    let (vow, gate) = (secret.vow(), latch.describe());
    let hands = match hands(driver, &begin, line) {
        Ok(hands) => hands,
        Err(error) => {
            let (reason, taken) = (format!("cannot start a thread: {error}"), false);
            return line.tell(&Told::NoGate { reason, taken });
        }
    };
    // Each thread for itself, and after the second was started: what it takes to go first is not inherited.
    steady_thread();
    line.tell(&Told::Ready { vow, gate })?;
    let mut keeper = Keeper {
        latch,
        hands,
        line: line.clone(),
        managed: Vec::new(),
        listeners: Vec::new(),
    };
    let Cut = keeper.obey();
    keeper.end(&secret.word(begin.host, begin.boot));
    Ok(())
}

/// The thread that changes addresses.
struct Working {
    orders: Arc<Orders>,
    thread: JoinHandle<bool>,
}

fn hands(driver: Netlink, begin: &Begin, line: &Shared) -> io::Result<Working> {
    let line = line.clone();
    let report = move |event| {
        // A line that is cut is seen by the loop.
        let _cut = line.tell(&Told::Host(event));
    };
    let latch = driver.latch();
    let interfaces = begin.interfaces.clone();
    let hands = Hands::new(Box::new(driver), interfaces, Box::new(report));
    let orders = Arc::new(Orders::default());
    let waiting = Arc::clone(&orders);
    let thread = std::thread::Builder::new()
        .name("hands".into())
        .spawn(move || {
            // It holds the latch now and then, for which the other thread waits.
            steady_thread();
            orders::obey(hands, &waiting, &latch)
        })?;
    Ok(Working { orders, thread })
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
fn steady_thread() {
    let turn = steady::realtime().or_else(|_| steady::sooner());
    granted("its turn first", turn);
    let kept = steady::keep_only(steady::capability::WARDEN);
    granted("least privilege", kept);
}

fn granted(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "the warden does without {what}");
    }
}

/// Lays the gate, whose earlier owner the node has awaited (`predecessor`), and removes what an earlier start left: this one says in its first heartbeat that it
/// holds nothing (docs/adr/0012), so it must be so.
fn lay(tag: &str) -> Result<Netlink, NoGate> {
    let mut netlink = Netlink::open(tag, Guard::Owned)?;
    netlink.release_all().map_err(|error| NoGate::System {
        action: "clear the addresses",
        source: io::Error::other(error),
    })?;
    Ok(netlink)
}

struct Keeper {
    latch: Latch,
    hands: Working,
    line: Shared,
    managed: Vec<(std::net::IpAddr, u8, statemachine::GroupName)>,
    listeners: Vec<SocketAddr>,
}

impl Keeper {
    /// Until the node is gone.
    fn obey(&mut self) -> Cut {
        loop {
            if let Err(cut) = self.take_in().and_then(|()| self.line.flush()) {
                return cut;
            }
            // Whatever woke it: a look costs microseconds. What it cannot do it says with the news.
            let _looked = self.latch.mend();
            if self.latch.has_news() {
                self.hands.orders.news();
            }
            let next = clock::now().plus_ms(QUIET_MS);
            self.line.wait(next, Some(self.latch.alert()));
        }
    }

    fn take_in(&mut self) -> Result<(), Cut> {
        while let Some(order) = self.line.receive()? {
            match order {
                Order::Act(HostAction::Renew { deadline }) => self.renew(deadline)?,
                Order::Act(action) => {
                    if let HostAction::Release { address, .. } = &action {
                        // Silent from here on, whatever the hands wait for.
                        self.latch.bar(*address);
                    }
                    self.pass_on(Order::Act(action))?;
                }
                Order::Manage { addresses, more } => {
                    self.managed.extend(addresses);
                    if !more {
                        let addresses = std::mem::take(&mut self.managed);
                        self.pass_on(Order::Act(HostAction::Manage { addresses }))?;
                    }
                }
                Order::Interfaces(_) => self.pass_on(order)?,
                Order::Listeners(listeners) => self.listeners = listeners,
                Order::Begin(_) => tracing::error!("the node begins twice; please report this"),
            }
        }
        Ok(())
    }

    /// An order that got lost would be worse than a warden that begins anew.
    fn pass_on(&self, order: Order) -> Result<(), Cut> {
        let passed = self.hands.orders.push(order, clock::now());
        passed.inspect_err(|_| tracing::error!("too many orders wait for the hands: all is shut"))
    }

    /// A host that cannot change addresses can take none and let go of none for good, so the warden ends as
    /// if its node had: all is shut, and others are told so.
    fn renew(&mut self, deadline: Instant) -> Result<(), Cut> {
        let Working { orders, thread } = &self.hands;
        if thread.is_finished() {
            tracing::error!("the thread that changes addresses has ended; please report this");
            return Err(Cut);
        }
        if orders.are_stuck(clock::now()) {
            tracing::error!(
                seconds = orders::STUCK_MS / 1000,
                "an order for an address is not done, most likely since another program holds the kernel's RTNL lock: all is shut"
            );
            return Err(Cut);
        }
        if self.latch.renew(deadline.0) {
            // A line that is cut is seen by the loop.
            let _cut = self.line.tell(&Told::Renewed);
        }
        Ok(())
    }

    /// The node is dead: the gate first, then the word, then the rest. Nothing is opened after the gate was
    /// shut, whatever the hands are at. A gate that others can change says nothing by being shut: there the
    /// addresses go before the word.
    fn end(self, word: &[u8]) {
        let shut = (0..SHUT_TRIES).any(|_| self.latch.end());
        let owned = self.latch.is_owned();
        let Working { orders, thread } = self.hands;
        orders.end();
        // While the hands wait for another program the addresses are still on, behind the gate alone.
        let gone = |thread: JoinHandle<bool>| {
            while !thread.is_finished() {
                let _looked = self.latch.mend();
                std::thread::park_timeout(LOOK);
            }
            thread.join().unwrap_or(false)
        };
        let (silent, thread) = match owned {
            true => (shut, Some(thread)),
            false => (gone(thread) && shut, None),
        };
        let speaker = Speaker::open();
        if silent {
            speaker.say(&self.listeners, word);
        }
        for pause_ms in REPEATS_MS.into_iter().filter(|_| silent) {
            // The time between two datagrams is all that is wanted: there is no event.
            std::thread::park_timeout(Duration::from_millis(pause_ms));
            speaker.say(&self.listeners, word);
        }
        thread.map(gone);
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

/// The line, shared with the log and the hands.
#[derive(Clone)]
struct Shared {
    line: Arc<Mutex<Line>>,
    /// Its socket, so that who polls for news keeps nobody from telling some.
    socket: Arc<OwnedFd>,
}

impl Shared {
    fn new(line: Line) -> io::Result<Self> {
        let socket = Arc::new(line.as_fd().try_clone_to_owned()?);
        let line = Arc::new(Mutex::new(line));
        Ok(Self { line, socket })
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Until the node says something, or takes what waits for it, or `alert` is readable, or `end`.
    fn wait(&self, end: Instant, alert: Option<BorrowedFd<'_>>) {
        let mut flags = PollFlags::IN;
        if self.lock().is_waiting() {
            flags |= PollFlags::OUT;
        }
        let left_us = end.us_since(clock::now()).min(LOOK_MS * 1000);
        let limit = Timespec {
            tv_sec: i64::try_from(left_us / 1_000_000).unwrap_or(0),
            tv_nsec: i64::try_from(left_us % 1_000_000 * 1000).unwrap_or(0),
        };
        let mut ready = vec![PollFd::new(&self.socket, flags)];
        ready.extend(alert.map(|alert| PollFd::from_borrowed_fd(alert, PollFlags::IN)));
        match poll(&mut ready, Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => eprintln!("rais: the warden cannot wait for its node: {error}"),
        }
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
