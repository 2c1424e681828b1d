//! TCP: a thread with a runtime of its own, a bounded number of connections.
//!
//! Of its own, so that a client who sends query after query competes with the log and the API
//! through the scheduler and not inside of their runtime. Queries of a connection may come
//! without waiting for answers (RFC 7766, 6.2.1.1) and are answered in their order.
//!
//! At the cap, or at one client's, the connection whose last query is the longest ago makes
//! room, so a flood of idle connections ends its own. No error ends the accept loop: an aborted
//! connection is one client's matter, and lack of descriptors passes.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::{BindError, Core, Served, nicer, notify};
use crate::transfer::Stream;

/// Longest query; a client that announces more is cut off before any of it is read.
const MAX_QUERY: usize = 4_096;

/// Time for one exchange: the wait for a query, its arrival, and the answer's departure.
/// Clients that keep a connection get a few seconds between queries. RFC 7766, 6.2.3.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Transfers that run at once; each holds one message and the zone's records by reference.
const TRANSFERS: usize = 16;

/// Time for a whole transfer, the wait for its turn included: a secondary that reads slower than
/// this is one that does not read.
const TRANSFER_LIMIT: Duration = Duration::from_secs(120);

/// Pause after the process or the system ran out of something that `accept` needs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handle of the TCP thread.
#[derive(Debug)]
pub(super) struct TcpThread {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl TcpThread {
    /// Starts to accept on `listeners`.
    pub(super) fn start(
        listeners: Vec<std::net::TcpListener>,
        core: &Arc<Core>,
    ) -> Result<Option<Self>, BindError> {
        let Some(address) = listeners.first().map(std::net::TcpListener::local_addr) else {
            return Ok(None);
        };
        let started = Self::try_start(listeners, core.clone());
        started.map(Some).map_err(|source| BindError {
            address: address.unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0))),
            transport: "tcp",
            source,
        })
    }

    fn try_start(listeners: Vec<std::net::TcpListener>, core: Arc<Core>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listeners = {
            // Tokio registers a listener with the runtime it is created in.
            let _inside = runtime.enter();
            let registered = listeners.into_iter().map(TcpListener::from_std);
            registered.collect::<io::Result<Vec<_>>>()?
        };
        let (stop, mut stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("dns-tcp".into())
            .spawn(move || {
                nicer();
                let connections = Arc::new(Connections::new());
                let own = listeners
                    .iter()
                    .filter_map(|l| l.local_addr().ok())
                    .collect();
                runtime.spawn(notify::tell_all(core.clone(), own));
                for listener in listeners {
                    runtime.spawn(accept_loop(listener, core.clone(), connections.clone()));
                }
                // The sender goes with the server: an error means stop as well.
                let _stop = runtime.block_on(stopped.changed());
                // Dropping the runtime ends the listeners and the connections.
            })?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to end. Does not wait.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("dns: tcp thread had panicked");
        }
    }
}

async fn accept_loop(listener: TcpListener, core: Arc<Core>, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, source)) => {
                core.tcp_stats.tcp_accepted();
                for _ in 0..connections.make_room(source.ip(), &core) {
                    core.tcp_stats.tcp_evicted();
                }
                connections.open(stream, source, &core);
            }
            Err(error) => {
                core.tcp_stats.tcp_accept_failed();
                tracing::debug!(%error, "dns: a tcp connection was not accepted");
                if !is_one_clients_matter(&error) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn is_one_clients_matter(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

/// Who is connected, and since which query each is idle.
struct Connections {
    /// Turns to send a zone.
    transfers: Semaphore,
    /// Counts connections and queries: what is lower is longer ago.
    clock: AtomicU64,
    open: Mutex<HashMap<u64, Connection>>,
}

struct Connection {
    client: IpAddr,
    last_query: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Connections {
    fn new() -> Connections {
        Connections {
            transfers: Semaphore::new(TRANSFERS),
            clock: AtomicU64::new(0),
            open: Mutex::default(),
        }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the idlest connections until one more fits; returns how many that were.
    fn make_room(&self, client: IpAddr, core: &Core) -> usize {
        let mut open = self.lock();
        let of_one = core.settings.tcp_connections_of_one.get();
        let mut ended = 0;
        let same = |connection: &Connection| connection.client == client;
        if open.values().filter(|connection| same(connection)).count() >= of_one {
            ended += usize::from(end_idlest(&mut open, same));
        }
        if open.len() >= core.settings.tcp_connections.get() {
            ended += usize::from(end_idlest(&mut open, |_| true));
        }
        ended
    }

    fn open(self: &Arc<Self>, stream: TcpStream, source: SocketAddr, core: &Arc<Core>) {
        let id = self.tick();
        let last_query = Arc::new(AtomicU64::new(id));
        let seen = last_query.clone();
        let (this, core) = (self.clone(), core.clone());
        // The entry stands before the task can run: one thread runs both.
        let mut open = self.lock();
        let task = tokio::spawn(async move {
            let answered = || seen.store(this.tick(), Ordering::Relaxed);
            converse(stream, source, &core, &this.transfers, answered).await;
            this.lock().remove(&id);
        });
        let connection = Connection {
            client: source.ip(),
            last_query,
            task: task.abort_handle(),
        };
        open.insert(id, connection);
    }
}

fn end_idlest(open: &mut HashMap<u64, Connection>, among: impl Fn(&Connection) -> bool) -> bool {
    let idlest = open
        .iter()
        .filter(|(_, connection)| among(connection))
        .min_by_key(|(_, connection)| connection.last_query.load(Ordering::Relaxed))
        .map(|(id, _)| *id);
    let ended = idlest.and_then(|id| open.remove(&id));
    if let Some(connection) = &ended {
        connection.task.abort();
    }
    ended.is_some()
}

/// Answers query after query in the order they come, until the client or the clock ends it.
async fn converse(
    mut stream: TcpStream,
    source: SocketAddr,
    core: &Core,
    transfers: &Semaphore,
    answered: impl Fn(),
) {
    // Answers are written whole; waiting to fill a packet would only add delay.
    let _best_effort = stream.set_nodelay(true);
    loop {
        let next = match timeout(EXCHANGE_LIMIT, exchange(&mut stream, source, core)).await {
            Ok(Ok(next)) => next,
            Ok(Err(_)) => return,
            Err(_) => return core.tcp_stats.tcp_timed_out(),
        };
        match next {
            Next::Query => {}
            Next::Close => return,
            Next::Transfer(zone) => {
                let sending = transfer(&mut stream, zone, core, transfers, &answered);
                match timeout(TRANSFER_LIMIT, sending).await {
                    Ok(Ok(())) => core.tcp_stats.transferred(),
                    Ok(Err(_)) | Err(_) => return core.tcp_stats.transfer_failed(),
                }
            }
        }
        answered();
        // Whoever has the next query ready waits for others' and for the listener.
        tokio::task::yield_now().await;
    }
}

/// How a conversation goes on.
enum Next {
    Query,
    Close,
    Transfer(Box<Stream>),
}

/// One query and its answer. Buffers live for one exchange, so that an idle connection holds none.
async fn exchange(stream: &mut TcpStream, source: SocketAddr, core: &Core) -> io::Result<Next> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Ok(Next::Close);
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    let mut reply = Vec::new();
    match core.serve_tcp(&query, source, &mut reply) {
        Served::Nothing => return Ok(Next::Close),
        Served::Transfer(zone) => return Ok(Next::Transfer(zone)),
        Served::Answer => {}
    }
    send(stream, &reply).await?;
    Ok(Next::Query)
}

/// Sends one message after the other, each within the time of an exchange; others have their turn
/// between them. The turns to send at all are few.
async fn transfer(
    stream: &mut TcpStream,
    mut zone: Box<Stream>,
    core: &Core,
    transfers: &Semaphore,
    sent: &impl Fn(),
) -> io::Result<()> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    if transfers.available_permits() == 0 {
        core.tcp_stats.transfer_busy();
    }
    let _turn = transfers.acquire().await.map_err(io::Error::other)?;
    let mut message = Vec::new();
    while zone.next(core.now_s(), &mut message) {
        let sending = timeout(EXCHANGE_LIMIT, send(stream, &message));
        sending.await.map_err(late)??;
        sent();
        tokio::task::yield_now().await;
    }
    Ok(())
}

/// Sends one message with its length before it, in one piece.
async fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut frame = Vec::with_capacity(2 + message.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(message);
    stream.write_all(&frame).await
}
