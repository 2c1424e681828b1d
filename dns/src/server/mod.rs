//! The sockets: UDP on a few threads that answer in place, TCP by tasks that are few and bounded.
//!
//! hickory's own `Server` does not hold the sockets: it spawns a task for each datagram without
//! bound, has no cap on connections, ends its TCP loop on ECONNABORTED and spins on EMFILE
//! (docs/adr/0010). Its request parser stays, behind `wire::respond`; usual queries don't need it.
//!
//! Answers come from the zones that were swapped in last; [`DnsServer::set_ready`] is the gate
//! before them. A panic while one message is handled costs that message only: a message of
//! death must not silence a name server.

pub mod batch;
mod bind;
mod notify;
pub mod push;
mod settings;
mod stats;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::cookie::Jar;
use crate::exchange::{Outcome, exchange};
use crate::primary::Primary;
use crate::transfer::Stream;
use crate::wire::{Handled, Incoming, Transport};
use crate::zones::Zones;

pub use bind::BindError;
pub use settings::Settings;
pub use stats::Counters;
use stats::Stats;

/// How much nicer than the rest of the process its DNS threads are: heartbeats, leases and the
/// log then get three times their share of a core that both want (a step is a quarter).
const NICER: i32 = 5;

/// A running DNS server. Dropping it stops it; [`DnsServer::shutdown`] waits for that.
#[derive(Debug)]
pub struct DnsServer {
    core: Arc<Core>,
    addresses: Vec<SocketAddr>,
    udp: Vec<udp::UdpThread>,
    udp_stats: Vec<Arc<Stats>>,
    tcp: Option<tcp::TcpThread>,
}

/// What all sockets share.
#[derive(Debug)]
struct Core {
    zones: Arc<ArcSwap<Zones>>,
    primary: Arc<Primary>,
    ready: AtomicBool,
    settings: Settings,
    tcp_turn: AtomicU64,
    tcp_stats: Stats,
    notify_ids: notify::Ids,
}

/// What a message over TCP leads to.
#[derive(Debug)]
enum Served {
    /// Nothing: the connection ends.
    Nothing,
    /// The answer is in the buffer.
    Answer,
    /// Several messages.
    Transfer(Box<Stream>),
}

impl DnsServer {
    /// Binds UDP and TCP on each address and starts to answer: SERVFAIL until
    /// [`DnsServer::set_ready`]. Port 0 picks one free port for both transports.
    ///
    /// # Errors
    /// [`BindError`] names the first address that failed; nothing stays bound then.
    pub fn bind(
        listen: &[SocketAddr],
        zones: Arc<ArcSwap<Zones>>,
        settings: Settings,
    ) -> Result<DnsServer, BindError> {
        Self::bind_primary(listen, zones, Arc::default(), settings)
    }

    /// [`DnsServer::bind`] of a server that others follow: it gives zones away as `primary`
    /// says, and tells of each change.
    ///
    /// # Errors
    /// As [`DnsServer::bind`].
    pub fn bind_primary(
        listen: &[SocketAddr],
        zones: Arc<ArcSwap<Zones>>,
        primary: Arc<Primary>,
        settings: Settings,
    ) -> Result<DnsServer, BindError> {
        let core = Arc::new(Core {
            zones,
            primary,
            ready: AtomicBool::new(false),
            settings,
            tcp_turn: AtomicU64::new(0),
            tcp_stats: Stats::default(),
            notify_ids: notify::Ids::default(),
        });
        let bound = bind::all(listen, settings.threads.get())?;
        let mut server = DnsServer {
            core: core.clone(),
            addresses: bound.addresses,
            udp: Vec::new(),
            udp_stats: Vec::new(),
            tcp: tcp::TcpThread::start(bound.tcp, &core)?,
        };
        for sockets in bound.udp {
            let stats = Arc::new(Stats::default());
            // An error drops the server, and that stops the threads before.
            server
                .udp
                .extend(udp::UdpThread::start(sockets, &core, &stats)?);
            server.udp_stats.push(stats);
        }
        Ok(server)
    }

    /// Opens or closes the gate. Closed, every query gets SERVFAIL: for a node that has not
    /// recovered its state, and for one that must not vouch for it any more.
    pub fn set_ready(&self, ready: bool) {
        self.core.ready.store(ready, Ordering::Release);
        self.core.primary.wake();
    }

    /// The addresses that answer, with the ports that were picked.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was asked and answered since the start.
    pub fn stats(&self) -> Counters {
        let udp = self.udp_stats.iter().map(|stats| &**stats);
        Stats::sum(udp.chain([&self.core.tcp_stats]))
    }

    /// Stops answering and gives the sockets back before it returns.
    pub async fn shutdown(mut self) {
        self.signal_stop();
        // Woken already; each ends within one batch, so these waits are microseconds.
        if let Some(tcp) = self.tcp.take() {
            tcp.join();
        }
        for udp in std::mem::take(&mut self.udp) {
            udp.join();
        }
    }

    fn signal_stop(&self) {
        if let Some(tcp) = &self.tcp {
            tcp.stop();
        }
        for udp in &self.udp {
            udp.stop();
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.signal_stop();
    }
}

impl Core {
    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Seconds since 1970.
    fn now_s(&self) -> u64 {
        (self.settings.clock)() / 1_000_000
    }

    fn notify_id(&self) -> u16 {
        let now_us = (self.settings.clock)();
        self.notify_ids.next(self.settings.secret, now_us)
    }

    /// Answers one message into `out`.
    fn serve_tcp(&self, message: &[u8], source: SocketAddr, out: &mut Vec<u8>) -> Served {
        let now_s = self.now_s();
        let jar = Jar::new(self.settings.secret, now_s as u32);
        let incoming = Incoming {
            message,
            transport: Transport::Tcp,
            source,
            turn: self.tcp_turn.fetch_add(1, Ordering::Relaxed),
            jar: Some(&jar),
            cut: false,
        };
        let zones = self.zones.load();
        let known = self.is_ready().then_some(&**zones);
        let answer = || exchange(&self.primary, known, incoming, now_s, out);
        match catch_unwind(AssertUnwindSafe(answer)) {
            Ok(Outcome::Transfer(stream, handled)) => {
                self.tcp_stats.count(Transport::Tcp, &handled);
                Served::Transfer(stream)
            }
            Ok(Outcome::One { handled, .. }) => {
                self.tcp_stats.count(Transport::Tcp, &handled);
                match handled {
                    Handled::Answered { .. } => Served::Answer,
                    _ => Served::Nothing,
                }
            }
            Err(_) => {
                self.tcp_stats.panicked();
                Served::Nothing
            }
        }
    }
}

/// Makes the calling thread nicer; on Linux a priority is a thread's.
fn nicer() {
    use rustix::process::{getpriority_process, setpriority_process};
    let now = getpriority_process(None).unwrap_or(0);
    if let Err(error) = setpriority_process(None, now + NICER) {
        tracing::warn!(%error, "dns: thread keeps its priority");
    }
}
