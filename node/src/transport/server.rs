//! The accepting side: listens, makes the handshake, and hands each connection to `serve`.
//!
//! Nothing that one peer does reaches another: each connection is a task of its own with its own
//! bounds. An error of `accept` never ends a listener: it waits a little and goes on. Those without
//! a certificate have a share of the connections of their own, so that they can't use them up.

use core::pin::Pin;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use statemachine::{ArrayId, Boot, HostId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::registry::Registry;
use super::seal::Sessions;
use super::serve::{Connection, serve};
use super::tls::{NOT_NOW, explain, https_config, peer_host, server_config};
use super::{Caller, HandlerError, Kind, TransportError};
use crate::pki::ArrayIdentity;

/// A boxed future, as [`Handler`] returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The frames of a stream, as a handler makes them; an error ends it.
pub type StreamItems = mpsc::Receiver<Result<Vec<u8>, HandlerError>>;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after an error of `accept` (no more file descriptors, say); doubles up to the greatest.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Refused connections that are logged in each period; all are counted. A forgotten host that still
/// runs knocks five times a second.
const LOGGED_PER_PERIOD: u32 = 5;
const LOG_PERIOD: Duration = Duration::from_secs(60);
/// A refused peer has so long, and so many bytes, to hear why.
const PARTING: Duration = Duration::from_millis(200);
const PARTING_BYTES: u64 = 64 * 1024;
/// Most frames of one stream that wait to be written.
pub const STREAM_QUEUE: usize = 64;

/// Answers requests. Called by many connections at once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. `kind` is one that `caller` may send; never Session, Ping or Stream.
    fn handle(
        &self,
        caller: Caller,
        kind: Kind,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, HandlerError>>;

    /// Answers a [`Kind::Stream`] request: each item is a frame, and the stream ends when its
    /// sender is dropped, or with the error that it sends. Use a queue of [`STREAM_QUEUE`] or
    /// less. When the caller goes away the receiver is dropped.
    fn stream(
        &self,
        caller: Caller,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<StreamItems, HandlerError>> {
        let _ = (caller, body);
        Box::pin(async {
            Err(HandlerError::Denied(
                "there is nothing to follow here".to_owned(),
            ))
        })
    }
}

/// Bounds of a server. The default is right for arrays up to the greatest size.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// Connections at once. 127 other hosts with 4 each, at worst; half of that is usual.
    pub connections: usize,
    /// Of these, connections without a certificate or in the handshake.
    pub strangers: usize,
    /// Requests being answered at once on one connection; more are refused as busy.
    pub in_flight: usize,
    /// A handshake that takes longer is given up.
    pub handshake: Duration,
    /// A connection of a host that says nothing for so long, with nothing in flight, is closed.
    /// Hosts ping each second on their session connection.
    pub idle: Duration,
    /// The same for those without a certificate.
    pub stranger_idle: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 512,
            strangers: 64,
            in_flight: 64,
            handshake: Duration::from_secs(5),
            idle: Duration::from_secs(300),
            stranger_idle: Duration::from_secs(15),
        }
    }
}

/// What became of connections and requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounts {
    /// Connections accepted from the kernel.
    pub accepted: u64,
    /// Errors of `accept`.
    pub accept_errors: u64,
    /// Connections dropped because there were too many.
    pub refused_full: u64,
    /// Handshakes that failed (wrong certificate, no TLS) or took too long.
    pub refused_handshake: u64,
    /// Of a host whose certificate has expired, or is not valid yet, by this host's clock.
    pub refused_expired: u64,
    /// Connections closed because of a wrong frame.
    pub bad_frames: u64,
    /// Connections closed because they were idle.
    pub idle_closed: u64,
    /// Requests refused because the caller may not send them.
    pub denied: u64,
    /// Requests refused because too many were in flight.
    pub busy: u64,
    /// Requests given to the handler.
    pub requests: u64,
}

/// The counters behind [`ServerCounts`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    refused_full: AtomicU64,
    refused_handshake: AtomicU64,
    refused_expired: AtomicU64,
    pub(super) bad_frames: AtomicU64,
    pub(super) idle_closed: AtomicU64,
    pub(super) denied: AtomicU64,
    pub(super) busy: AtomicU64,
    pub(super) requests: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) boot: Boot,
    pub(super) limits: ServerLimits,
    pub(super) counters: Counters,
    array: ArrayId,
    registry: Arc<Registry>,
    config: Arc<ServerConfig>,
    connections: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// Refusals that may still be logged in this second.
    loggable: AtomicU32,
}

impl Shared {
    /// Logs a refusal unless many were logged in this second.
    pub(super) fn log_refusal(&self, from: SocketAddr, why: &str) {
        let left = self
            .loggable
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        if left.is_ok() {
            tracing::warn!(peer = %from, "connection refused: {why}");
        }
    }
}

/// Listens on the control addresses. Dropping it closes all.
pub struct Server {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The listeners own their connections, so these end with them.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Server {
    /// Listens on each address and serves. Port 0 takes any free port.
    ///
    /// # Errors
    /// [`TransportError::Listen`] naming the address, or [`TransportError::Tls`].
    pub async fn bind(
        listen: &[SocketAddr],
        identity: &ArrayIdentity,
        boot: Boot,
        sessions: Arc<Sessions>,
        handler: Arc<dyn Handler>,
        limits: ServerLimits,
    ) -> Result<Self, TransportError> {
        let registry = Arc::new(Registry::default());
        let config = server_config(identity, registry.revoked())?;
        let shared = Arc::new(Shared {
            handler,
            sessions,
            boot,
            limits,
            counters: Counters::default(),
            array: identity.array(),
            registry,
            config,
            connections: Arc::new(Semaphore::new(limits.connections)),
            strangers: Arc::new(Semaphore::new(limits.strangers)),
            loggable: AtomicU32::new(LOGGED_PER_PERIOD),
        });
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in listen {
            let failed = |source| TransportError::Listen {
                address: *address,
                source,
            };
            let listener = open(*address).map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        let mut tasks: Vec<_> = listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept_all(listener, Arc::clone(&shared))))
            .collect();
        tasks.push(tokio::spawn(allow_logging(Arc::clone(&shared))));
        Ok(Self {
            shared,
            addresses,
            tasks,
        })
    }

    /// Stops listening and cuts all connections; the addresses are free when this returns.
    pub async fn close(mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // An error says that it was aborted: that is what we wait for.
            let _ = task.await;
        }
    }

    /// The addresses it listens on, with the ports the kernel gave.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Cuts all connections of a forgotten host and refuses it, and its sealed datagrams, from now
    /// on. To be called for each forgotten host after a start, too.
    pub fn close_host(&self, host: HostId) {
        let cut = self.shared.registry.close(host);
        self.shared.sessions.forget(host);
        tracing::info!(%host, connections = cut, "host was forgotten: its connections are closed");
    }

    /// TLS for the admin API: the same certificates, and the same hosts refused as forgotten.
    ///
    /// # Errors
    /// [`TransportError::Tls`].
    pub fn https_config(
        &self,
        identity: &ArrayIdentity,
    ) -> Result<Arc<ServerConfig>, TransportError> {
        https_config(identity, self.shared.registry.revoked())
    }

    /// Hosts with at least one live connection to this server.
    pub fn connected_hosts(&self) -> Vec<HostId> {
        self.shared.registry.hosts()
    }

    /// Connections now, handshakes included.
    pub fn connections(&self) -> usize {
        let free = self.shared.connections.available_permits();
        self.shared.limits.connections.saturating_sub(free)
    }

    /// The counters since the start.
    pub fn counts(&self) -> ServerCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.shared.counters;
        ServerCounts {
            accepted: read(&counters.accepted),
            accept_errors: read(&counters.accept_errors),
            refused_full: read(&counters.refused_full),
            refused_handshake: read(&counters.refused_handshake),
            refused_expired: read(&counters.refused_expired),
            bad_frames: read(&counters.bad_frames),
            idle_closed: read(&counters.idle_closed),
            denied: read(&counters.denied),
            busy: read(&counters.busy),
            requests: read(&counters.requests),
        }
    }
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restarted daemon must get its port back while old connections linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn allow_logging(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(LOG_PERIOD);
    loop {
        tick.tick().await;
        shared.loggable.store(LOGGED_PER_PERIOD, Ordering::Relaxed);
    }
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut pause = ACCEPT_PAUSE;
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, from)) => {
                pause = ACCEPT_PAUSE;
                count(&shared.counters.accepted);
                admit(stream, from, &shared, &mut connections);
            }
            Err(error) => {
                count(&shared.counters.accept_errors);
                tracing::warn!(%error, "cannot accept a connection; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
            }
        }
    }
}

/// Starts the task of a connection, if there is room for it.
fn admit(stream: TcpStream, from: SocketAddr, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    let room = Arc::clone(&shared.connections).try_acquire_owned();
    let stranger = Arc::clone(&shared.strangers).try_acquire_owned();
    let (Ok(room), Ok(stranger)) = (room, stranger) else {
        count(&shared.counters.refused_full);
        shared.log_refusal(from, "too many connections");
        return;
    };
    connections.spawn(connect(stream, from, Arc::clone(shared), room, stranger));
}

/// Lets a refused peer read why: closing with unread data would make the kernel throw away the
/// alert that was just sent.
async fn part(mut stream: TcpStream) {
    let farewell = async {
        stream.shutdown().await?;
        let mut rest = (&mut stream).take(PARTING_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(PARTING, farewell).await;
}

/// A connection from its handshake to its end.
async fn connect(
    stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    room: OwnedSemaphorePermit,
    stranger: OwnedSemaphorePermit,
) {
    let _room = room;
    let refuse = |why: &str| {
        count(&shared.counters.refused_handshake);
        shared.log_refusal(from, why);
    };
    if super::dial::tune(&stream).is_err() {
        return;
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&shared.config));
    let handshake = acceptor.accept(stream).into_fallible();
    let stream = match tokio::time::timeout(shared.limits.handshake, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, stream))) => {
            if error.kind() == ErrorKind::UnexpectedEof {
                // It went by itself, as one does whose other address answered first.
                count(&shared.counters.refused_handshake);
                return;
            }
            let why = explain(&error);
            if why.starts_with(NOT_NOW) {
                count(&shared.counters.refused_expired);
                shared.log_refusal(from, &why);
            } else {
                refuse(&why);
            }
            return part(stream).await;
        }
        Err(_) => return refuse("the handshake took too long"),
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let shows_one = certificates.is_some_and(|chain| !chain.is_empty());
    let caller = match peer_host(certificates) {
        Some((array, host)) if array == shared.array => Caller::Host(host),
        // The verifier has refused these already.
        _ if shows_one => return refuse("its certificate is not of this array"),
        _ => Caller::Joiner,
    };
    let cut = Arc::new(Notify::new());
    let (_stranger, _registered) = match caller {
        Caller::Joiner => (Some(stranger), None),
        Caller::Host(host) => {
            drop(stranger);
            match shared.registry.register(host, Arc::clone(&cut)) {
                Some(registered) => (None, Some(registered)),
                None => return refuse("its host was forgotten"),
            }
        }
    };
    // Dropping `serve` aborts the requests in flight.
    tokio::select! {
        () = cut.notified() => {}
        () = serve(Connection { stream, from, caller, shared: Arc::clone(&shared) }) => {}
    }
}
