//! Brings a zone into a foreign primary: one TCP connection, what [`crate::update`] says, signed.
//!
//! Reads the mark, sends the update that has it as its prerequisite, and begins anew when somebody was
//! faster. Nothing is kept between two calls, so whoever calls again sends the newest.
//!
//! Limits: one primary for each call; over TCP alone, so no identifier needs to be hard to guess.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tsig::{Fault, Key, Signer};
use crate::update::{self, UpdateError, Wanted};

/// One exchange takes a primary milliseconds; one that is not there is known after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often in a row somebody else may be faster.
const ATTEMPTS: u16 = 5;
/// Response code in the header of a reply whose request had no good signature.
const NOTAUTH: u8 = 9;

/// Where to push, and with which key.
#[derive(Clone, Debug)]
pub struct Target {
    /// The primary.
    pub address: SocketAddr,
    /// Signs what goes there; without it the primary must trust the address.
    pub key: Option<Arc<Key>>,
}

/// Why a push did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The connection failed or broke.
    #[error("no exchange with {address}: {source}")]
    Network {
        /// The primary.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The reply's signature is no good.
    #[error("the reply of {address} has no good signature: {fault}")]
    Signature {
        /// The primary.
        address: SocketAddr,
        /// Why.
        fault: Fault,
    },
    /// The primary does not take the request's signature.
    #[error(
        "{0} does not take the key: name, algorithm, secret and clock must be the same on both sides"
    )]
    KeyRefused(SocketAddr),
    /// What the messages said.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl PushError {
    /// Whether pushing again later may help; if not, somebody has to change something.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } => true,
            Self::Signature { .. } | Self::KeyRefused(_) => false,
            Self::Update(error) => error.is_passing(),
        }
    }
}

/// Brings `wanted` into the primary. `now_s`: the wall clock, in seconds.
///
/// # Errors
/// [`PushError`]; then either all of it is there or nothing, as far as the reply tells.
pub async fn push(
    target: &Target,
    wanted: &Wanted,
    now_s: impl Fn() -> u64,
) -> Result<(), PushError> {
    let mut line = Line::connect(target).await?;
    let mut last = UpdateError::Conflict;
    for attempt in 0..ATTEMPTS {
        let ask = 2 * attempt + 1;
        let query = update::ask_mark(ask, &wanted.apex)?;
        let reply = line.exchange(query, &now_s).await?;
        let found = update::read_mark(ask, &wanted.apex, &reply)?;
        let send = update::update(ask + 1, wanted, found.as_ref())?;
        let reply = line.exchange(send, &now_s).await?;
        match update::read_outcome(ask + 1, &reply) {
            Ok(()) => return Ok(()),
            Err(UpdateError::Conflict) => last = UpdateError::Conflict,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// A connection to the primary.
struct Line<'t> {
    target: &'t Target,
    stream: TcpStream,
}

impl<'t> Line<'t> {
    async fn connect(target: &'t Target) -> Result<Line<'t>, PushError> {
        let connected = timeout(PATIENCE, TcpStream::connect(target.address)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match stream {
            Ok(stream) => Ok(Line { target, stream }),
            Err(source) => Err(failed(target, source)),
        }
    }

    /// Sends one message and gives its reply, without signatures.
    async fn exchange(
        &mut self,
        mut message: Vec<u8>,
        now_s: &impl Fn() -> u64,
    ) -> Result<Vec<u8>, PushError> {
        let mut signer = self.target.key.clone().map(Signer::new);
        if let Some(signer) = &mut signer {
            signer.sign(&mut message, now_s());
        }
        let exchanged = timeout(PATIENCE, round_trip(&mut self.stream, &message)).await;
        let reply = exchanged.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let reply = reply.map_err(|source| failed(self.target, source))?;
        let Some(signer) = &mut signer else {
            return Ok(reply);
        };
        let address = self.target.address;
        match signer.verify(&reply, now_s(), true) {
            Ok(bare) => Ok(bare),
            Err(_) if reply.get(3).is_some_and(|flags| flags & 0x0F == NOTAUTH) => {
                Err(PushError::KeyRefused(address))
            }
            Err(fault) => Err(PushError::Signature { address, fault }),
        }
    }
}

fn failed(target: &Target, source: io::Error) -> PushError {
    let address = target.address;
    PushError::Network { address, source }
}

async fn round_trip(stream: &mut TcpStream, message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut frame = length.to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    stream.write_all(&frame).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
