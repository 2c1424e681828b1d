//! TCP: a bounded number of connections, each with a time limit for every exchange.
//!
//! No error ends the accept loop: a connection that was aborted before it was accepted is one
//! client's matter, and lack of descriptors passes. At the cap nothing is accepted and clients
//! wait in the kernel's backlog until an idle connection has run out.
//!
//! Limits: connections are not counted by client, and idle ones not evicted early, so a
//! flood of idle connections delays other TCP clients by up to the idle time (UDP is not
//! concerned).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Core;
use crate::wire::Transport;

/// Connections open at once on one address. Each holds a task and at most 4 KiB of query and
/// 64 KiB of answer: 17 MB at worst.
const MAX_CONNECTIONS: usize = 256;

/// Longest query; a client that announces more is cut off before any of it is read.
const MAX_QUERY: usize = 4_096;

/// Time for one exchange: the wait for a query, its arrival, and the answer's departure.
/// Clients that keep a connection get a few seconds between queries. RFC 7766, 6.2.3.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);

/// Pause after the process or the system ran out of something that `accept` needs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn accept_loop(
    listener: TcpListener,
    core: Arc<Core>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            // Dropping the set ends the connections as well.
            _ = stop.changed() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, source)) => {
                    core.stats.tcp_accepted();
                    let core = core.clone();
                    connections.spawn(async move { converse(stream, source, &core).await });
                }
                Err(error) => {
                    core.stats.tcp_accept_failed();
                    tracing::debug!(%error, "dns: a tcp connection was not accepted");
                    if !is_one_clients_matter(&error) {
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            },
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

/// Answers query after query in the order they come, until the client or the clock ends it.
async fn converse(mut stream: TcpStream, source: SocketAddr, core: &Core) {
    // Answers are written whole; waiting to fill a packet would only add delay.
    let _best_effort = stream.set_nodelay(true);
    let mut buffers = Buffers::default();
    loop {
        let exchange = exchange(&mut stream, source, core, &mut buffers);
        match timeout(EXCHANGE_LIMIT, exchange).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false) | Err(_)) => return,
            Err(_) => {
                core.stats.tcp_timed_out();
                return;
            }
        }
    }
}

#[derive(Default)]
struct Buffers {
    query: Vec<u8>,
    reply: Vec<u8>,
    frame: Vec<u8>,
}

/// One query and its answer; false when the connection is to be closed.
async fn exchange(
    stream: &mut TcpStream,
    source: SocketAddr,
    core: &Core,
    buffers: &mut Buffers,
) -> io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Ok(false);
    }
    buffers.query.resize(length, 0);
    stream.read_exact(&mut buffers.query).await?;
    if !core.serve(&buffers.query, Transport::Tcp, source, &mut buffers.reply) {
        return Ok(false);
    }
    let Ok(length) = u16::try_from(buffers.reply.len()) else {
        return Ok(false);
    };
    buffers.frame.clear();
    buffers.frame.extend_from_slice(&length.to_be_bytes());
    buffers.frame.extend_from_slice(&buffers.reply);
    stream.write_all(&buffers.frame).await?;
    Ok(true)
}
