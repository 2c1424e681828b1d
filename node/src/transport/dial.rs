//! Making a connection: TCP, TLS, and the check that the peer is who it should be.
//!
//! A host has an address on each control network. They are tried in turn, the next one as soon as
//! the one before has failed or has not answered for a little (as RFC 8305 does); the first that
//! stands wins and the others are dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use statemachine::{ArrayId, HostId};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::{explain, peer_host};

/// Silent TCP connections are probed after this long, so that a peer that vanished is noticed even
/// by a side that only waits.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Whom to expect at the other end.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
    /// `None` for a joiner, which learns it from the certificate.
    pub(super) array: Option<ArrayId>,
    /// `None`: any host of the array will do.
    pub(super) host: Option<HostId>,
    /// Longest time for one attempt.
    pub(super) attempt: Duration,
}

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) address: SocketAddr,
    pub(super) array: ArrayId,
    pub(super) host: HostId,
}

/// Sets what every socket of ours has: no delay of small frames, probes of silent peers.
pub(super) fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// One attempt at one address.
pub(super) async fn dial(target: &Target, address: SocketAddr) -> Result<Dialled, String> {
    let attempt = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        tune(&stream).map_err(|error| error.to_string())?;
        let connector = TlsConnector::from(Arc::clone(&target.config));
        let stream = connector
            .connect(target.name.clone(), stream)
            .await
            .map_err(|error| explain(&error))?;
        let (array, host) = peer_host(stream.get_ref().1.peer_certificates())
            .ok_or("its certificate names no host")?;
        if target.array.is_some_and(|expected| expected != array) {
            return Err(format!("it is of array {array}"));
        }
        if let Some(expected) = target.host
            && expected != host
        {
            return Err(format!("host {host} answers there, not host {expected}"));
        }
        Ok(Dialled {
            stream,
            address,
            array,
            host,
        })
    };
    match tokio::time::timeout(target.attempt, attempt).await {
        Ok(result) => result,
        Err(_) => Err(format!(
            "no answer within {} ms",
            target.attempt.as_millis()
        )),
    }
}

/// Tries the addresses in turn, each `stagger` after the one before or as soon as that has failed.
///
/// # Errors
/// What each attempt said, if none succeeds.
pub(super) async fn dial_any(
    target: &Target,
    addresses: &[SocketAddr],
    stagger: Duration,
) -> Result<Dialled, String> {
    let mut attempts = JoinSet::new();
    let mut reasons = Vec::new();
    let mut waiting = addresses.iter().copied();
    loop {
        match waiting.next() {
            Some(address) => {
                let target = target.clone();
                attempts.spawn(async move {
                    dial(&target, address)
                        .await
                        .map_err(|reason| format!("{address}: {reason}"))
                });
            }
            None if addresses.is_empty() => return Err("no address is known".to_owned()),
            None if attempts.is_empty() => return Err(reasons.join("; ")),
            None => {}
        }
        let pause = tokio::time::sleep(stagger);
        tokio::pin!(pause);
        let more = waiting.len() > 0;
        tokio::select! {
            Some(done) = attempts.join_next() => match done {
                Ok(Ok(dialled)) => return Ok(dialled),
                Ok(Err(reason)) => reasons.push(reason),
                Err(error) => reasons.push(error.to_string()),
            },
            () = &mut pause, if more => {}
        }
    }
}
