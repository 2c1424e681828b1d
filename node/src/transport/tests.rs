//! Tests of server, pool and client over loopback, with ephemeral ports and real certificates.
//!
//! Nothing waits for a guessed time: each test awaits an answer, an end or an observer's call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod clients;
mod pool;
mod servers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use statemachine::{Boot, HostId};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::client::TlsStream;

use super::connection::{Connection, ExchangeError};
use super::dial::{Target, dial};
use super::tls::{client_config, server_name};
use super::*;
use crate::pki::ArrayIdentity;

/// Long enough for any loaded machine; reached only when a test fails.
const LONG: Duration = Duration::from_secs(20);

const VOTE: Kind = Kind::Raft {
    class: RaftClass::Vote,
};

/// Answers with who asked and the body; hangs on "hang"; streams as many frames as the body says.
#[derive(Default)]
struct Echo {
    /// Told when a request that hangs has come, and when a stream's receiver is gone.
    seen: Notify,
    gone: Arc<Notify>,
}

impl Handler for Echo {
    fn handle(
        &self,
        caller: Caller,
        kind: Kind,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, HandlerError>> {
        Box::pin(async move {
            match body.as_slice() {
                b"hang" => {
                    self.seen.notify_one();
                    std::future::pending().await
                }
                b"fail" => Err(HandlerError::Failed("as asked".to_owned())),
                b"huge" => Ok(vec![0; frame::MAX_BODY + 1]),
                b"panic" => panic!("as asked"),
                _ => Ok([format!("{caller} {kind:?} ").as_bytes(), &body].concat()),
            }
        })
    }

    fn stream(
        &self,
        _caller: Caller,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<StreamItems, HandlerError>> {
        let gone = Arc::clone(&self.gone);
        Box::pin(async move {
            if body == b"fail" {
                return Err(HandlerError::NotReady("no events yet".to_owned()));
            }
            let (sender, receiver) = mpsc::channel(2);
            tokio::spawn(async move {
                for item in 0..body[0] {
                    if sender.send(Ok(vec![item])).await.is_err() {
                        break;
                    }
                }
                match body.get(1) {
                    Some(b'e') => {
                        let _ = sender
                            .send(Err(HandlerError::Failed("log lost".to_owned())))
                            .await;
                    }
                    Some(b'f') => sender.closed().await,
                    _ => {}
                }
                gone.notify_one();
            });
            Ok(receiver)
        })
    }
}

fn any_port() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

struct Started {
    server: Server,
    sessions: Arc<Sessions>,
    handler: Arc<Echo>,
    at: SocketAddr,
}

async fn start_with(identity: &ArrayIdentity, boot: u64, limits: ServerLimits) -> Started {
    start_at(identity, boot, limits, any_port()).await
}

async fn start_at(
    identity: &ArrayIdentity,
    boot: u64,
    limits: ServerLimits,
    at: SocketAddr,
) -> Started {
    let (sessions, handler) = (Sessions::new(), Arc::new(Echo::default()));
    let server = Server::bind(
        &[at],
        identity,
        Boot(boot),
        Arc::clone(&sessions),
        Arc::clone(&handler) as Arc<dyn Handler>,
        limits,
    )
    .await
    .unwrap();
    let at = server.addresses()[0];
    Started {
        server,
        sessions,
        handler,
        at,
    }
}

async fn start(identity: &ArrayIdentity) -> Started {
    start_with(identity, 1, ServerLimits::default()).await
}

/// A TLS connection with any configuration, without frames yet.
async fn raw(
    config: Arc<ClientConfig>,
    address: SocketAddr,
) -> Result<TlsStream<TcpStream>, String> {
    let name = server_name().unwrap();
    let target = Target {
        config,
        name,
        array: None,
        host: None,
        attempt: LONG,
    };
    dial(&target, address).await.map(|dialled| dialled.stream)
}

async fn raw_host(identity: &ArrayIdentity, address: SocketAddr) -> TlsStream<TcpStream> {
    raw(client_config(identity).unwrap(), address)
        .await
        .unwrap()
}

fn text(body: Result<Vec<u8>, impl core::fmt::Debug>) -> String {
    String::from_utf8(body.unwrap()).unwrap()
}
