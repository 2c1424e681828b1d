//! One accepted connection: reads requests, lets the handler answer each in a task of its own.
//!
//! Reading never waits for answers: when too many requests are in flight the next is refused as
//! busy, so that a Ping is always answered at once and a slow handler is not taken for a dead host.
//! A wrong frame ends this connection and no other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use statemachine::Boot;
use tokio::io::{AsyncBufReadExt, BufReader, ReadHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::server::TlsStream;

use super::frame::{Frame, FrameError, MAX_BODY, Tag, Trust, read_frame};
use super::seal::{Role, SessionKeys};
use super::server::{Shared, count};
use super::tls::explain;
use super::writer::{WRITE_QUEUE, write_frames};
use super::{Caller, HandlerError, Kind};

/// A frame that was begun must be there within this time: 4 MiB at 1.2 Mbit/s.
pub(super) const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes read at once; a longer body is read to where it will lie.
pub(super) const READ_BUFFER: usize = 16 * 1024;

/// An accepted connection after its handshake.
pub(super) struct Connection {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) from: SocketAddr,
    pub(super) caller: Caller,
    pub(super) shared: Arc<Shared>,
}

/// Why a connection was ended by this side.
enum End {
    /// The peer went.
    Gone,
    /// It said nothing for long.
    Idle,
    /// It sent what is no frame.
    Bad(FrameError),
}

/// Serves a connection until either side ends it.
pub(super) async fn serve(connection: Connection) {
    let Connection {
        stream,
        from,
        caller,
        shared,
    } = connection;
    let keys = match caller {
        Caller::Host(_) => SessionKeys::export(stream.get_ref().1).ok(),
        Caller::Joiner => None,
    };
    let (reader, writer) = tokio::io::split(stream);
    let (answers, queue) = mpsc::channel(WRITE_QUEUE);
    let mut requests = Requests {
        shared: Arc::clone(&shared),
        caller,
        answers,
        keys,
        tasks: JoinSet::new(),
    };
    let end = tokio::select! {
        end = requests.read(BufReader::with_capacity(READ_BUFFER, reader)) => end,
        _ = write_frames(writer, queue) => End::Gone,
    };
    match end {
        End::Gone => {}
        End::Idle => count(&shared.counters.idle_closed),
        End::Bad(error) => {
            count(&shared.counters.bad_frames);
            shared.log_refusal(from, &format!("{caller} sent a wrong frame: {error}"));
        }
    }
}

struct Requests {
    shared: Arc<Shared>,
    caller: Caller,
    answers: mpsc::Sender<Frame>,
    /// Taken by the one Session request: the keys may be installed only once.
    keys: Option<SessionKeys>,
    tasks: JoinSet<()>,
}

impl Requests {
    async fn read(&mut self, mut reader: BufReader<ReadHalf<TlsStream<TcpStream>>>) -> End {
        let (trust, idle) = match self.caller {
            Caller::Host(_) => (Trust::Member, self.shared.limits.idle),
            Caller::Joiner => (Trust::Stranger, self.shared.limits.stranger_idle),
        };
        loop {
            // Waiting for the first byte may be cancelled, reading a frame may not.
            match tokio::time::timeout(idle, reader.fill_buf()).await {
                Ok(Ok([])) => return End::Gone,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(caller = %self.caller, "connection ended: {}", explain(&error));
                    return End::Gone;
                }
                Err(_) => {
                    self.reap();
                    if self.tasks.is_empty() {
                        return End::Idle;
                    }
                    continue;
                }
            }
            let frame = tokio::time::timeout(FRAME_TIMEOUT, read_frame(&mut reader, trust)).await;
            let frame = match frame {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return End::Gone,
                Ok(Err(FrameError::Truncated | FrameError::Io(_))) => return End::Gone,
                Ok(Err(error)) => return End::Bad(error),
                Err(_) => return End::Bad(FrameError::Slow),
            };
            let Tag::Ask(kind) = frame.tag else {
                return End::Bad(FrameError::Direction(frame.tag));
            };
            if let Some(answer) = self.dispatch(kind, frame.id, frame.body)
                && self.answers.send(answer).await.is_err()
            {
                return End::Gone;
            }
        }
    }

    /// Answers at once, or starts a task that will.
    fn dispatch(&mut self, kind: Kind, id: u64, body: Vec<u8>) -> Option<Frame> {
        if !self.caller.may(kind) {
            count(&self.shared.counters.denied);
            let why = format!(
                "{} may not send {kind:?}; join the array first",
                self.caller
            );
            return Some(answer(id, Err(HandlerError::Denied(why))));
        }
        match kind {
            Kind::Ping => return Some(answer(id, Ok(body))),
            Kind::Session => return Some(answer(id, self.make_session(&body))),
            _ => {}
        }
        self.reap();
        if self.tasks.len() >= self.shared.limits.in_flight {
            count(&self.shared.counters.busy);
            let why = format!(
                "{} requests are in flight on this connection",
                self.tasks.len()
            );
            return Some(answer(id, Err(HandlerError::Busy(why))));
        }
        count(&self.shared.counters.requests);
        let (shared, caller, answers) =
            (Arc::clone(&self.shared), self.caller, self.answers.clone());
        if kind == Kind::Stream {
            self.tasks.spawn(stream(shared, caller, id, body, answers));
        } else {
            self.tasks.spawn(async move {
                let unanswered = Unanswered {
                    id,
                    answers: &answers,
                };
                let result = shared.handler.handle(caller, kind, body).await;
                core::mem::forget(unanswered);
                // A closed queue: the connection is gone, and with it the asker.
                let _ = answers.send(answer(id, result)).await;
            });
        }
        None
    }

    /// Installs the session of this connection for a dialer that shows its boot counter.
    fn make_session(&mut self, body: &[u8]) -> Result<Vec<u8>, HandlerError> {
        let Caller::Host(host) = self.caller else {
            return Err(HandlerError::Denied("only hosts have sessions".to_owned()));
        };
        let boot = decode_boot(body)
            .ok_or_else(|| HandlerError::BadRequest("a boot counter is 8 bytes".to_owned()))?;
        let keys = self.keys.take().ok_or_else(|| {
            HandlerError::Denied("this connection has made its session".to_owned())
        })?;
        self.shared
            .sessions
            .install(host, boot, Role::Acceptor, &keys)
            .map_err(|error| HandlerError::Denied(error.to_string()))?;
        Ok(encode_boot(self.shared.boot))
    }

    fn reap(&mut self) {
        while let Some(done) = self.tasks.try_join_next() {
            if let Err(error) = done
                && error.is_panic()
            {
                tracing::error!(caller = %self.caller, %error, "a request's handler panicked");
            }
        }
    }
}

/// Tells the asker when the handler ends without an answer, that is, by a panic: better than to
/// let it wait for its time-out.
struct Unanswered<'a> {
    id: u64,
    answers: &'a mpsc::Sender<Frame>,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let why = "the handler of this request panicked: see the daemon's log".to_owned();
        // No room or no connection: the time-out will tell.
        let _ = self
            .answers
            .try_send(answer(self.id, Err(HandlerError::Failed(why))));
    }
}

pub(super) fn encode_boot(boot: Boot) -> Vec<u8> {
    boot.0.to_be_bytes().to_vec()
}

pub(super) fn decode_boot(body: &[u8]) -> Option<Boot> {
    Some(Boot(u64::from_be_bytes(body.try_into().ok()?)))
}

fn answer(id: u64, result: Result<Vec<u8>, HandlerError>) -> Frame {
    match result {
        Ok(body) if body.len() <= MAX_BODY => Frame {
            tag: Tag::Reply,
            id,
            body,
        },
        Ok(body) => {
            let why = format!("answer of {} bytes is longer than {MAX_BODY}", body.len());
            Frame {
                tag: Tag::Refusal,
                id,
                body: HandlerError::Failed(why).encode(),
            }
        }
        Err(error) => Frame {
            tag: Tag::Refusal,
            id,
            body: error.encode(),
        },
    }
}

/// Hands on the frames of a stream until it ends or the connection does.
async fn stream(
    shared: Arc<Shared>,
    caller: Caller,
    id: u64,
    body: Vec<u8>,
    answers: mpsc::Sender<Frame>,
) {
    let mut items = match shared.handler.stream(caller, body).await {
        Ok(items) => items,
        Err(error) => {
            let _ = answers.send(answer(id, Err(error))).await;
            return;
        }
    };
    while let Some(item) = items.recv().await {
        let mut frame = answer(id, item);
        let more = frame.tag == Tag::Reply;
        if more {
            frame.tag = Tag::Item;
        }
        if answers.send(frame).await.is_err() || !more {
            return;
        }
    }
    let _ = answers
        .send(Frame {
            tag: Tag::End,
            id,
            body: Vec::new(),
        })
        .await;
}
