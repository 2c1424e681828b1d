//! UDP: few threads, each with its own sockets, buffers, counters and rate limits.
//!
//! A batch is received, answered in its buffers and sent before the next is read. No task,
//! queue or lock in between, so nothing grows under a flood: what is too much is dropped by the
//! kernel's receive buffer. Usual queries take the hot path, all others the parser's.
//!
//! One thread fewer than cores, each nicer than the rest of the process: a flood gets what
//! heartbeats, leases and the log leave over.

use std::io;
use std::net::{Shutdown, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;

use super::batch::{Batch, Datagram, Wait};
use super::stats::{Stats, Tally};
use super::{BindError, Core, nicer};
use crate::cookie::Jar;
use crate::exchange::{Limit, Outcome, exchange};
use crate::hot::{HotPath, Moment};
use crate::limit::{Limiter, Verdict, mix};
use crate::primary::Primary;
use crate::wire::{Handled, Incoming, Transport, respond};
use crate::zones::Zones;

/// Receive errors in a row after which the thread pauses, so that an error that stays does not
/// burn a core.
const MAX_ERRORS: usize = 16;

/// That pause. Also the longest time that the thread then takes to end.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Microseconds of a second.
const SECOND_US: u64 = 1_000_000;

/// Handle of one UDP thread.
#[derive(Debug)]
pub(super) struct UdpThread {
    stop: Arc<AtomicBool>,
    /// The thread's first socket once more, to wake it.
    waker: UdpSocket,
    thread: JoinHandle<()>,
}

impl UdpThread {
    /// Starts a thread that answers on `sockets`.
    pub(super) fn start(
        sockets: Vec<UdpSocket>,
        core: &Arc<Core>,
        stats: &Arc<Stats>,
    ) -> Result<Option<Self>, BindError> {
        let Some(first) = sockets.first() else {
            return Ok(None);
        };
        let address = first.local_addr();
        let waker = first.try_clone();
        let fail = |source| BindError {
            address: address.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
            transport: "udp",
            source,
        };
        match waker.and_then(|waker| Self::try_start(sockets, waker, core, stats)) {
            Ok(thread) => Ok(Some(thread)),
            Err(source) => Err(fail(source)),
        }
    }

    fn try_start(
        sockets: Vec<UdpSocket>,
        waker: UdpSocket,
        core: &Arc<Core>,
        stats: &Arc<Stats>,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker::new(core.clone(), stats.clone(), stop.clone());
        let thread = std::thread::Builder::new()
            .name("dns-udp".into())
            .spawn(move || worker.run(&sockets))?;
        Ok(Self {
            stop,
            waker,
            thread,
        })
    }

    /// Tells the thread to end. Does not wait.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // An unconnected socket says ENOTCONN and wakes whoever waits on it all the same.
        let _woken = SockRef::from(&self.waker).shutdown(Shutdown::Both);
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("dns: udp thread had panicked");
        }
    }
}

struct Worker {
    core: Arc<Core>,
    zones: Cache<Arc<ArcSwap<Zones>>, Arc<Zones>>,
    stats: Arc<Stats>,
    stopped: Arc<AtomicBool>,
    batch: Batch,
    desk: Desk,
}

/// What one query after the other is answered with.
struct Desk {
    hot: HotPath,
    limiter: Option<Limiter>,
    jar: Jar,
    tally: Tally,
    primary: Arc<Primary>,
    turn: u64,
    now_us: u64,
    /// Answers of the other path, before they go into the datagram's buffer.
    reply: Vec<u8>,
}

impl Worker {
    fn new(core: Arc<Core>, stats: Arc<Stats>, stopped: Arc<AtomicBool>) -> Worker {
        let settings = core.settings;
        let [low, high] = [0, 8].map(|at| {
            let half = settings
                .secret
                .get(at..)
                .and_then(|half| half.first_chunk());
            half.map_or(0, |half| u64::from_le_bytes(*half))
        });
        let now_us = (settings.clock)();
        Worker {
            zones: Cache::new(core.zones.clone()),
            stats,
            stopped,
            batch: Batch::default(),
            desk: Desk {
                hot: HotPath::default(),
                limiter: settings.rate.map(|rate| Limiter::new(rate, mix(low, high))),
                jar: Jar::new(settings.secret, seconds(now_us)),
                tally: Tally::default(),
                primary: core.primary.clone(),
                turn: 0,
                now_us,
                reply: Vec::with_capacity(super::batch::DATAGRAM),
            },
            core,
        }
    }

    fn run(mut self, sockets: &[UdpSocket]) {
        nicer();
        let mut errors = 0;
        while !self.stopped.load(Ordering::Acquire) {
            let round = match sockets {
                // Waiting inside of the receive saves a call for each batch.
                [only] => self.serve(only, Wait::ForOne),
                several => self.serve_readable(several),
            };
            match round {
                Ok(()) => errors = 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.desk.tally.udp_receive_failed();
                    self.stats.publish(&self.desk.tally);
                    errors += 1;
                    if errors == MAX_ERRORS {
                        errors = 0;
                        tracing::warn!(%error, "dns: udp receive fails again and again");
                        std::thread::park_timeout(ERROR_PAUSE);
                    }
                }
            }
        }
    }

    /// Waits until a socket is readable, and serves a batch on each that is.
    fn serve_readable(&mut self, sockets: &[UdpSocket]) -> io::Result<()> {
        let mut waiting: Vec<PollFd<'_>> = sockets
            .iter()
            .map(|socket| PollFd::new(socket, PollFlags::IN))
            .collect();
        poll(&mut waiting, None)?;
        for (socket, polled) in sockets.iter().zip(&waiting) {
            if !polled.revents().is_empty() {
                match self.serve(socket, Wait::No) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// One batch: received, answered, sent.
    fn serve(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<()> {
        self.batch.receive(socket.as_fd(), wait)?;
        if self.stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        self.desk.at((self.core.settings.clock)());
        // Loaded after the receive: what was swapped in before a query came answers it.
        let zones = self.zones.load();
        let zones = self.core.is_ready().then_some(&**zones);
        for datagram in self.batch.datagrams() {
            self.desk.serve(zones, datagram);
        }
        // Before the answers leave, so that whoever has one finds it counted.
        self.stats.publish(&self.desk.tally);
        // A full send buffer drops answers, as the network might: the client asks again.
        let sent = self.batch.send(socket.as_fd());
        if sent.failed > 0 {
            self.desk.tally.udp_send_failed(sent.failed);
            self.stats.publish(&self.desk.tally);
        }
        Ok(())
    }
}

impl Desk {
    fn at(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.jar.at(seconds(now_us));
    }

    fn serve(&mut self, zones: Option<&Zones>, datagram: Datagram<'_>) {
        let length = std::mem::take(datagram.length);
        // Nobody listens on port 0; such a source is forged.
        let Some(source) = datagram.source else {
            self.tally.count(Transport::Udp, &Handled::Dropped);
            return;
        };
        self.turn = self.turn.wrapping_add(1);
        let answered = catch_unwind(AssertUnwindSafe(|| {
            self.answer(zones, source, datagram.buffer, length)
        }));
        match answered {
            Ok((handled, length)) => {
                self.tally.count(Transport::Udp, &handled);
                *datagram.length = length;
            }
            Err(_) => self.tally.panicked(),
        }
    }

    #[inline]
    fn answer(
        &mut self,
        zones: Option<&Zones>,
        source: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> (Handled, usize) {
        let moment = Moment {
            client: source.ip(),
            turn: self.turn,
            jar: Some(&self.jar),
        };
        if let Some(zones) = zones {
            let (limiter, tally, now_us) = (&mut self.limiter, &mut self.tally, self.now_us);
            let judge = |bucket| match limiter {
                Some(limiter) => tally.judged(limiter.judge(moment.client, bucket, now_us)),
                None => Verdict::Send,
            };
            if let Some(answered) = self.hot.answer(zones, moment, buffer, length, judge) {
                return answered;
            }
        }
        self.answer_slowly(zones, source, buffer, length)
    }

    #[cold]
    fn answer_slowly(
        &mut self,
        zones: Option<&Zones>,
        source: SocketAddr,
        buffer: &mut [u8],
        length: usize,
    ) -> (Handled, usize) {
        let mut incoming = Incoming {
            message: buffer.get(..length).unwrap_or_default(),
            transport: Transport::Udp,
            source,
            turn: self.turn,
            jar: Some(&self.jar),
            cut: false,
        };
        let now_s = self.now_us / SECOND_US;
        let (mut handled, limit) =
            match exchange(&self.primary, zones, incoming, now_s, &mut self.reply) {
                Outcome::One { handled, limit } => (handled, limit),
                Outcome::Transfer(mut soa, handled) => {
                    soa.next(now_s, &mut self.reply);
                    (handled, Limit::Drop)
                }
            };
        if let (
            Limit::Drop | Limit::Cut,
            Some(limiter),
            Handled::Answered {
                rcode,
                vouched: false,
                ..
            },
        ) = (limit, &mut self.limiter, &handled)
        {
            let none = Zones::default();
            let bucket = self
                .hot
                .bucket_of(zones.unwrap_or(&none), incoming.message, *rcode);
            let verdict = limiter.judge(source.ip(), bucket, self.now_us);
            match self.tally.judged(verdict) {
                Verdict::Send => {}
                Verdict::Slip if limit == Limit::Drop => {}
                Verdict::Drop => return (Handled::Limited, 0),
                Verdict::Slip => {
                    incoming.cut = true;
                    handled = respond(zones, incoming, &mut self.reply);
                }
            }
        }
        let fits = buffer.get_mut(..self.reply.len());
        match (handled, fits) {
            (Handled::Answered { .. }, Some(room)) => {
                room.copy_from_slice(&self.reply);
                (handled, self.reply.len())
            }
            (Handled::Limited, _) => (Handled::Limited, 0),
            _ => (Handled::Dropped, 0),
        }
    }
}

/// Whole seconds, as cookies have them.
fn seconds(now_us: u64) -> u32 {
    (now_us / SECOND_US) as u32
}
