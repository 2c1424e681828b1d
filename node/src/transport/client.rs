//! The CLI's connection to the daemon of this host, and a joiner's to a host of the array.
//!
//! The CLI is whoever can read the data dir: it shows the host's own certificate. A joiner shows
//! none, and trusts the array whose authority its token names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use statemachine::{ArrayId, HostId};
use tokio::io::{AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::client::TlsStream;

use super::connection::{Connection, ExchangeError};
use super::dial::{Dialled, Target, dial_any};
use super::frame::{Frame, HEADER, Header, MAX_STRANGER_BODY, Tag, Trust, read_frame};
use super::serve::READ_BUFFER;
use super::tls::{client_config, explain, joiner_config, server_name};
use super::{HandlerError, Kind, TransportError};
use crate::pki::{ArrayIdentity, Fingerprint, PkiError, read_public, write_private};

/// The file in the data dir in which the daemon says where it listens, an address on each line.
pub const CONTROL_ADDRESS_FILE: &str = "control.addr";

/// Longest time to connect to the local daemon.
const CONNECT: Duration = Duration::from_secs(3);
/// Before the daemon's next address is tried too.
const STAGGER: Duration = Duration::from_millis(50);
/// Frames of a stream that wait to be taken.
const TAKE_QUEUE: usize = 16;
/// Addresses read from the file, at most.
const MAX_ADDRESSES: usize = 16;

/// Why a request to a daemon failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The data dir has no usable identity.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The daemon has never run with this data dir.
    #[error("{}: no such file: the daemon has not run with this data dir; start it with `rais node`", path.display())]
    NeverRan {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// Nobody answers as the daemon should.
    #[error(
        "no daemon of this host answers ({reason}); start it with `rais node`, or look at its log"
    )]
    NotRunning {
        /// What each attempt said, with its address.
        reason: String,
    },
    /// The peer of a join can't be reached or is no rais.
    #[error("cannot talk to {peer}: {reason}; check --peer, and that the daemon runs there")]
    Peer {
        /// Whom we tried to talk to.
        peer: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// The peer of a join is of another array than the token.
    #[error(
        "{peer} is of the array with authority {found}, but the token names {expected}: wrong --peer or --token, or somebody plays the array"
    )]
    WrongArray {
        /// Whom we talked to.
        peer: SocketAddr,
        /// What it showed.
        found: Fingerprint,
        /// What the token says.
        expected: Fingerprint,
    },
    /// The request is longer than allowed.
    #[error("request of {length} bytes is longer than the {limit} allowed; split it")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer within {} ms; it may have been done all the same: look before you repeat it", ttl.as_millis())]
    Timeout {
        /// How long we waited.
        ttl: Duration,
    },
    /// The connection ended before the answer.
    #[error(
        "the connection ended before the answer: {reason}; look whether it was done before you repeat it"
    )]
    Closed {
        /// Why.
        reason: String,
    },
    /// The daemon refused.
    #[error("{0}")]
    Refused(HandlerError),
    /// The identity can't be used for TLS.
    #[error(transparent)]
    Tls(TransportError),
}

/// Writes where the daemon listens. A wildcard address is written as loopback.
///
/// # Errors
/// [`PkiError::Io`] naming the file.
pub fn write_control_addresses(dir: &Path, addresses: &[SocketAddr]) -> Result<(), PkiError> {
    let mut text = String::new();
    for address in addresses {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        text.push_str(&SocketAddr::new(ip, address.port()).to_string());
        text.push('\n');
    }
    write_private(dir, CONTROL_ADDRESS_FILE, text.as_bytes())
}

/// Reads where the daemon listens.
///
/// # Errors
/// [`ClientError::NeverRan`], or [`ClientError::Identity`] naming the file.
pub fn read_control_addresses(dir: &Path) -> Result<Vec<SocketAddr>, ClientError> {
    let path = dir.join(CONTROL_ADDRESS_FILE);
    let text = match read_public(&path) {
        Err(PkiError::Missing { path }) => return Err(ClientError::NeverRan { path }),
        other => other?,
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .take(MAX_ADDRESSES);
    let addresses: Result<Vec<SocketAddr>, _> = lines.map(|line| line.trim().parse()).collect();
    match addresses {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        _ => Err(ClientError::NeverRan { path }),
    }
}

/// A connection to a daemon of this array.
pub struct Client {
    connection: Connection,
    target: Target,
    address: SocketAddr,
    host: HostId,
}

impl Client {
    /// Connects to the daemon of this data dir, where it says that it listens.
    ///
    /// # Errors
    /// [`ClientError::Identity`] before `rais init` or `rais join`, [`ClientError::NeverRan`],
    /// [`ClientError::NotRunning`].
    pub async fn from_data_dir(dir: &Path) -> Result<Self, ClientError> {
        let identity = ArrayIdentity::load(dir)?;
        let addresses = read_control_addresses(dir)?;
        Self::connect(&identity, &addresses, Some(identity.host())).await
    }

    /// Connects to `host`, or to any host of the array if `None`, at the first address that works.
    ///
    /// # Errors
    /// [`ClientError::NotRunning`] with what each address said.
    pub async fn connect(
        identity: &ArrayIdentity,
        addresses: &[SocketAddr],
        host: Option<HostId>,
    ) -> Result<Self, ClientError> {
        let config = client_config(identity).map_err(ClientError::Tls)?;
        let target = target(config, Some(identity.array()), host)?;
        let dialled = dial_any(&target, addresses, STAGGER)
            .await
            .map_err(|reason| ClientError::NotRunning { reason })?;
        let (address, host) = (dialled.address, dialled.host);
        let connection = Connection::start(dialled.stream);
        Ok(Self {
            connection,
            target,
            address,
            host,
        })
    }

    /// The host it is connected to.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Asks and waits at most `ttl` for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the daemon's words, [`ClientError::Timeout`],
    /// [`ClientError::Closed`], [`ClientError::TooLong`].
    pub async fn call(
        &self,
        kind: Kind,
        body: Vec<u8>,
        ttl: Duration,
    ) -> Result<Vec<u8>, ClientError> {
        check_length(&body, Trust::Member.limit(Tag::Ask(kind)))?;
        if kind == Kind::Stream {
            let why = "a stream can't be called: use Client::stream".to_owned();
            return Err(ClientError::Refused(HandlerError::BadRequest(why)));
        }
        exchange(&self.connection, kind, body, ttl).await
    }

    /// Asks for a stream, on a connection of its own, so that a slow reader holds up nobody.
    ///
    /// # Errors
    /// As [`Self::connect`]; a refusal comes with the first [`FrameStream::next`].
    pub async fn stream(&self, body: Vec<u8>) -> Result<FrameStream, ClientError> {
        check_length(&body, Trust::Member.limit(Tag::Ask(Kind::Stream)))?;
        let dialled = dial_any(&self.target, &[self.address], STAGGER)
            .await
            .map_err(|reason| ClientError::NotRunning { reason })?;
        let (reader, mut writer) = tokio::io::split(dialled.stream);
        let header = Header {
            tag: Tag::Ask(Kind::Stream),
            id: 1,
            length: body.len(),
        };
        let mut frame = Vec::with_capacity(HEADER + body.len());
        frame.extend_from_slice(&header.encode());
        frame.extend_from_slice(&body);
        let sent = async {
            writer.write_all(&frame).await?;
            writer.flush().await
        };
        sent.await.map_err(|error| ClientError::Closed {
            reason: explain(&error),
        })?;
        let (sender, items) = mpsc::channel(TAKE_QUEUE);
        let task = tokio::spawn(take_items(reader, writer, sender)).abort_handle();
        Ok(FrameStream { items, task })
    }
}

fn target(
    config: Arc<ClientConfig>,
    array: Option<ArrayId>,
    host: Option<HostId>,
) -> Result<Target, ClientError> {
    let name = server_name().map_err(ClientError::Tls)?;
    Ok(Target {
        config,
        name,
        array,
        host,
        attempt: CONNECT,
    })
}

fn check_length(body: &[u8], limit: usize) -> Result<(), ClientError> {
    let length = body.len();
    if length > limit {
        Err(ClientError::TooLong { length, limit })
    } else {
        Ok(())
    }
}

async fn exchange(
    connection: &Connection,
    kind: Kind,
    body: Vec<u8>,
    ttl: Duration,
) -> Result<Vec<u8>, ClientError> {
    match tokio::time::timeout(ttl, connection.exchange(kind, body)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(ExchangeError::Refused(error))) => Err(ClientError::Refused(error)),
        Ok(Err(ExchangeError::Ended(reason))) => Err(ClientError::Closed { reason }),
        Ok(Err(ExchangeError::NotSent(_))) => Err(ClientError::Closed {
            reason: connection.ended().await,
        }),
        Err(_) => Err(ClientError::Timeout { ttl }),
    }
}

/// Frames of a stream. Dropping it ends the stream.
pub struct FrameStream {
    items: mpsc::Receiver<Result<Vec<u8>, ClientError>>,
    task: AbortHandle,
}

impl Drop for FrameStream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FrameStream {
    /// The next frame; `None` at the good end. May be cancelled without loss.
    ///
    /// # Errors
    /// [`ClientError::Refused`] or [`ClientError::Closed`]; the stream has ended then.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        self.items.recv().await.transpose()
    }
}

/// Reads the frames of a stream to its end. The writer is kept so that the connection stays whole.
async fn take_items(
    reader: ReadHalf<TlsStream<TcpStream>>,
    writer: WriteHalf<TlsStream<TcpStream>>,
    items: mpsc::Sender<Result<Vec<u8>, ClientError>>,
) {
    let _writer = writer;
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    loop {
        let item = match read_frame(&mut reader, Trust::Member).await {
            Ok(Some(Frame {
                tag: Tag::Item,
                body,
                ..
            })) => Ok(body),
            Ok(Some(Frame { tag: Tag::End, .. })) => return,
            Ok(Some(Frame {
                tag: Tag::Refusal,
                body,
                ..
            })) => Err(ClientError::Refused(HandlerError::decode(&body))),
            Ok(Some(frame)) => Err(ClientError::Closed {
                reason: format!("unexpected frame {:?}", frame.tag),
            }),
            Ok(None) => Err(ClientError::Closed {
                reason: "the daemon has gone".to_owned(),
            }),
            Err(error) => Err(ClientError::Closed {
                reason: error.to_string(),
            }),
        };
        let last = item.is_err();
        if items.send(item).await.is_err() || last {
            return;
        }
    }
}

/// The answer to a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// The handler's answer.
    pub body: Vec<u8>,
    /// The array, as the peer's certificate says.
    pub array: ArrayId,
    /// The host that answered.
    pub host: HostId,
}

/// Sends a join request to a host of the array whose authority is `token_authority`, and to no
/// other: its certificate must come from that authority, which it shows in its chain.
///
/// # Errors
/// [`ClientError::WrongArray`], [`ClientError::Peer`], [`ClientError::Refused`] and the others.
pub async fn join_call(
    peer: SocketAddr,
    token_authority: Fingerprint,
    body: Vec<u8>,
    ttl: Duration,
) -> Result<JoinReply, ClientError> {
    check_length(&body, MAX_STRANGER_BODY)?;
    let (config, verifier) = joiner_config(token_authority).map_err(ClientError::Tls)?;
    let target = target(config, None, None)?;
    let dialled = dial_any(&target, &[peer], STAGGER).await;
    let Dialled {
        stream,
        array,
        host,
        ..
    } = match (dialled, verifier.other_authority()) {
        (Ok(dialled), _) => dialled,
        (Err(_), Some(found)) => {
            return Err(ClientError::WrongArray {
                peer,
                found,
                expected: token_authority,
            });
        }
        (Err(reason), None) => return Err(ClientError::Peer { peer, reason }),
    };
    let connection = Connection::start(stream);
    let body = exchange(&connection, Kind::Join, body, ttl).await?;
    Ok(JoinReply { body, array, host })
}
