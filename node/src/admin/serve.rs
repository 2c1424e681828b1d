//! Connections of the API: listening, the handshake, the bounds, the end.
//!
//! Each connection is a task of its own. Those without a certificate have a share of their own, so
//! that they can't keep an operator out. A peer that says nothing, reads nothing or sends its
//! headers by the drop is cut by time; nothing here waits for one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Extension;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use statemachine::{ArrayId, HostId};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::access::Peer;
use super::door::Door;
use super::routes::{App, router};
use crate::pki::CertificateName;

/// Connections at once: a handful of operators, scrapers and dashboards.
const MAX_CONNECTIONS: usize = 64;
/// Of these, connections without a certificate or in the handshake.
const MAX_STRANGERS: usize = 48;
/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 128;
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Headers of a request must be there by then; an idle connection is closed by the same clock.
const HEADERS: Duration = Duration::from_secs(10);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// Most header lines of a request.
const MAX_HEADER_LINES: usize = 100;
/// Silent connections are probed after this long.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A peer that takes nothing of what was sent for this long is gone (a stopped reader of events).
const UNREAD: Duration = Duration::from_secs(30);
/// Pause after an error of `accept`: no more file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long requests in flight may take when the daemon stops.
const GRACE: Duration = Duration::from_secs(1);

/// A bound listener that does not serve yet: a wrong address is known before anything is started.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

impl Listening {
    /// Binds the address. Port 0 takes any free port.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn bind(address: SocketAddr) -> std::io::Result<Self> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // A restarted daemon must get its port back while old connections linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address, with the port that the kernel gave.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves what is behind `door`.
    pub fn serve(self, tls: Arc<ServerConfig>, door: impl Door) -> AdminServer {
        let (stop, stopped) = watch::channel(false);
        let array = door.array();
        let app = App {
            door: Arc::new(door),
            stop: stopped.clone(),
        };
        let shared = Arc::new(Shared {
            array,
            tls: TlsAcceptor::from(tls),
            router: router(&app),
        });
        let task = tokio::spawn(accept_all(self.listener, shared, stopped));
        AdminServer { stop, task }
    }
}

/// A serving API. Dropping it cuts all connections.
pub struct AdminServer {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Takes no more connections and ends the streams; does not wait.
    pub fn close(&self) {
        self.stop.send_replace(true);
    }

    /// Waits, for a second at most, until what is in flight was answered; the address is free then.
    pub async fn ended(mut self) {
        self.close();
        if tokio::time::timeout(GRACE, &mut self.task).await.is_err() {
            self.task.abort();
            // An error says that it was aborted: that is what we wait for.
            let _aborted = (&mut self.task).await;
        }
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        // The task owns its connections, so these end with it.
        self.task.abort();
    }
}

/// Until the daemon stops.
async fn told(stop: &mut watch::Receiver<bool>) {
    // An error says that the server was dropped: a stop, too.
    let _dropped = stop.wait_for(|stop| *stop).await;
}

/// What all connections share.
struct Shared {
    array: ArrayId,
    tls: TlsAcceptor,
    router: Router,
}

async fn accept_all(listener: TcpListener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let rooms = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told(&mut stop) => break,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin API cannot accept a connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let room = Arc::clone(&rooms).try_acquire_owned();
        let stranger = Arc::clone(&strangers).try_acquire_owned();
        let (Ok(room), Ok(stranger)) = (room, stranger) else {
            tracing::debug!(peer = %from, "admin API: too many connections");
            continue;
        };
        let permits = Permits {
            _room: room,
            stranger: Some(stranger),
        };
        connections.spawn(connect(
            stream,
            from,
            Arc::clone(&shared),
            permits,
            stop.clone(),
        ));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection's place among the others; free again when it ends.
struct Permits {
    _room: OwnedSemaphorePermit,
    stranger: Option<OwnedSemaphorePermit>,
}

/// Sets the times after which a silent or stuck peer is gone.
fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNREAD))
}

/// A connection from its handshake to its end.
async fn connect(
    stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    mut permits: Permits,
    mut stop: watch::Receiver<bool>,
) {
    if tune(&stream).is_err() {
        return;
    }
    let handshake = tokio::time::timeout(HANDSHAKE, shared.tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = told(&mut stop) => return,
    };
    let stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return tracing::debug!(peer = %from, %error, "admin API: handshake failed");
        }
        Err(_) => return tracing::debug!(peer = %from, "admin API: the handshake took too long"),
    };
    let shown = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(|chain| chain.first());
    let host = match shown.map(|shown| CertificateName::of(shown)) {
        None => None,
        Some(Ok(CertificateName::Host { array, host })) if array == shared.array => Some(host),
        // The verifier has refused these already.
        Some(_) => return,
    };
    if host.is_some() {
        permits.stranger = None;
    }
    serve(
        stream,
        Peer {
            address: from,
            host,
        },
        &shared,
        stop,
    )
    .await;
}

async fn serve(
    stream: tokio_rustls::server::TlsStream<TcpStream>,
    peer: Peer,
    shared: &Shared,
    mut stop: watch::Receiver<bool>,
) {
    let router = shared.router.clone().layer(Extension(peer));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    builder.max_buf_size(MAX_HEAD).max_headers(MAX_HEADER_LINES);
    let serving = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = told(&mut stop) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        let host: Option<HostId> = peer.host;
        tracing::debug!(peer = %peer.address, ?host, %error, "admin API: connection ended early");
    }
}
