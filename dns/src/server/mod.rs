//! The sockets: UDP answered inline on one thread, TCP by tasks that are few and bounded.
//!
//! hickory's own `Server` does not hold the sockets: it spawns a task for each datagram without
//! bound, has no cap on connections, ends its TCP loop on ECONNABORTED and spins on EMFILE
//! (docs/adr/0010). Its request parser stays, behind `wire::respond`.
//!
//! Answers come from the zones that were swapped in last; [`DnsServer::set_ready`] is the gate
//! before them. A panic while one message is handled costs that message only: a message of
//! death must not silence a name server.
//!
//! Limits: bound to a wildcard address, UDP answers leave from the address that the kernel
//! picks; one UDP thread for all addresses.

mod bind;
mod stats;
mod tcp;
mod udp;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::wire::{Handled, Incoming, Transport, respond};
use crate::zones::Zones;

pub use bind::BindError;
pub use stats::Counters;
use stats::Stats;

/// A running DNS server. Dropping it stops it; [`DnsServer::shutdown`] waits for that.
#[derive(Debug)]
pub struct DnsServer {
    core: Arc<Core>,
    addresses: Vec<SocketAddr>,
    udp: Option<udp::UdpThread>,
    tcp: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// What all sockets share.
#[derive(Debug)]
struct Core {
    zones: Arc<ArcSwap<Zones>>,
    ready: AtomicBool,
    turn: AtomicU64,
    stats: Stats,
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
        runtime: &tokio::runtime::Handle,
    ) -> Result<DnsServer, BindError> {
        let core = Arc::new(Core {
            zones,
            ready: AtomicBool::new(false),
            turn: AtomicU64::new(0),
            stats: Stats::default(),
        });
        let bound = bind::all(listen, runtime)?;
        let udp = match bound.udp.is_empty() {
            true => None,
            false => Some(udp::UdpThread::start(bound.udp, &core)?),
        };
        let (stop, stopped) = watch::channel(false);
        let tcp = bound
            .tcp
            .into_iter()
            .map(|listener| {
                runtime.spawn(tcp::accept_loop(listener, core.clone(), stopped.clone()))
            })
            .collect();
        Ok(DnsServer {
            core,
            addresses: bound.addresses,
            udp,
            tcp,
            stop,
        })
    }

    /// Opens or closes the gate. Closed, every query gets SERVFAIL: for a node that has not
    /// recovered its state, and for one that must not vouch for it any more.
    pub fn set_ready(&self, ready: bool) {
        self.core.ready.store(ready, Ordering::Release);
    }

    /// The addresses that answer, with the ports that were picked.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What was asked and answered since the start.
    pub fn stats(&self) -> Counters {
        self.core.stats.read()
    }

    /// Stops answering and gives the sockets back before it returns.
    pub async fn shutdown(mut self) {
        self.signal_stop();
        for task in std::mem::take(&mut self.tcp) {
            // Cancelled or panicked: in both cases the listener is closed.
            let _ended = task.await;
        }
        if let Some(udp) = self.udp.take() {
            // Woken already; it ends within one batch, so this wait is microseconds.
            udp.join();
        }
    }

    fn signal_stop(&self) {
        self.stop.send_replace(true);
        if let Some(udp) = &self.udp {
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
    /// Answers one message into `out`; true if there is something to send.
    fn serve(
        &self,
        message: &[u8],
        transport: Transport,
        source: SocketAddr,
        out: &mut Vec<u8>,
    ) -> bool {
        let incoming = Incoming {
            message,
            transport,
            source,
            turn: self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let zones = self.zones.load();
        let known = self.ready.load(Ordering::Acquire).then_some(&**zones);
        let handled = catch_unwind(AssertUnwindSafe(|| respond(known, incoming, out)));
        match handled {
            Ok(handled) => {
                self.stats.count(transport, &handled);
                handled != Handled::Dropped
            }
            Err(_) => {
                self.stats.panicked();
                false
            }
        }
    }
}
