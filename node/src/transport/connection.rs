//! The calling side of one connection: many requests in flight, answers found by their id.
//!
//! One task reads and writes; a call puts its frame in the queue and waits for its answer. A call
//! that is given up takes its id off the table, so that a late answer finds nobody.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::frame::{Frame, FrameError, Tag, Trust, read_frame};
use super::serve::READ_BUFFER;
use super::tls::explain;
use super::writer::{WRITE_QUEUE, write_frames};
use super::{HandlerError, Kind};

/// Requests in flight on one connection; further calls wait for a place.
pub(super) const IN_FLIGHT: usize = 64;

type Answer = Result<Vec<u8>, HandlerError>;

/// Why one exchange failed.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The connection had ended before the request was queued; here it is back.
    NotSent(Vec<u8>),
    /// The connection ended before the answer came.
    Ended(String),
    /// The peer refused.
    Refused(HandlerError),
}

/// Calls that wait for their answer; `None` once the connection has ended.
#[derive(Debug)]
struct Waiting(Mutex<Option<HashMap<u64, oneshot::Sender<Answer>>>>);

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Answer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, id: u64, answer: Answer) {
        let waiter = self.lock().as_mut().and_then(|waiting| waiting.remove(&id));
        if let Some(waiter) = waiter {
            // The caller may have given up just now.
            let _ = waiter.send(answer);
        }
    }
}

/// Takes a call off the table when it is given up.
struct Entered<'a> {
    waiting: &'a Waiting,
    id: u64,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting.lock().as_mut() {
            waiting.remove(&self.id);
        }
    }
}

/// A connection to a peer whose name was checked. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    queue: mpsc::Sender<Frame>,
    waiting: Arc<Waiting>,
    next: AtomicU64,
    places: Semaphore,
    ended: watch::Receiver<Option<String>>,
    task: AbortHandle,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Takes over a stream after its handshake.
    pub(super) fn start<Stream>(stream: Stream) -> Self
    where
        Stream: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (queue, frames) = mpsc::channel(WRITE_QUEUE);
        let (end, ended) = watch::channel(None);
        let waiting = Arc::new(Waiting(Mutex::new(Some(HashMap::new()))));
        let table = Arc::clone(&waiting);
        let task = tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            let reason = tokio::select! {
                reason = read_answers(reader, &table) => reason,
                result = write_frames(writer, frames) => match result {
                    Ok(()) => "closed by this side".to_owned(),
                    Err(error) => explain(&error),
                },
            };
            // The reason first: whoever finds the table closed may ask for it.
            end.send_replace(Some(reason));
            table.lock().take();
        });
        Self {
            queue,
            waiting,
            next: AtomicU64::new(1),
            places: Semaphore::new(IN_FLIGHT),
            ended,
            task: task.abort_handle(),
        }
    }

    /// Sends a request and waits for its answer, however long. May be cancelled.
    pub(super) async fn exchange(
        &self,
        kind: Kind,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ExchangeError> {
        // A ping must not wait behind calls that hang: it is to find out whether they do.
        let place = match kind {
            Kind::Ping => None,
            _ => self.places.acquire().await.ok(),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        match self.waiting.lock().as_mut() {
            Some(waiting) => waiting.insert(id, sender),
            None => return Err(ExchangeError::NotSent(body)),
        };
        let _entered = Entered {
            waiting: &self.waiting,
            id,
        };
        let frame = Frame {
            tag: Tag::Ask(kind),
            id,
            body,
        };
        if let Err(mpsc::error::SendError(frame)) = self.queue.send(frame).await {
            return Err(ExchangeError::NotSent(frame.body));
        }
        let answer = receiver.await;
        drop(place);
        match answer {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(refusal)) => Err(ExchangeError::Refused(refusal)),
            Err(_) => Err(ExchangeError::Ended(self.reason())),
        }
    }

    /// How many requests were made, as a sign of use.
    pub(super) fn used(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn reason(&self) -> String {
        self.ended
            .borrow()
            .clone()
            .unwrap_or_else(|| "connection closed".to_owned())
    }

    /// Waits for the end of the connection; says why.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        // An error means that the task is gone, so the connection has ended all the same.
        let _ = ended.wait_for(Option::is_some).await;
        self.reason()
    }
}

/// Hands answers to their callers; returns why the stream ended.
async fn read_answers(reader: impl AsyncRead + Unpin, waiting: &Waiting) -> String {
    let mut reader = BufReader::with_capacity(READ_BUFFER, reader);
    loop {
        match read_frame(&mut reader, Trust::Member).await {
            Ok(None) => return "the peer closed the connection".to_owned(),
            Ok(Some(Frame {
                tag: Tag::Reply,
                id,
                body,
            })) => waiting.answer(id, Ok(body)),
            Ok(Some(Frame {
                tag: Tag::Refusal,
                id,
                body,
            })) => {
                waiting.answer(id, Err(HandlerError::decode(&body)));
            }
            Ok(Some(frame)) => return FrameError::Direction(frame.tag).to_string(),
            Err(FrameError::Io(error)) => return explain(&error),
            Err(error) => return error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::RaftClass;
    use super::super::frame::Header;
    use super::*;
    use tokio::io::AsyncWriteExt;

    const KIND: Kind = Kind::Raft {
        class: RaftClass::Vote,
    };

    /// Goal: answers find their call in any order; a call given up does not disturb the others.
    /// Method: a peer that answers the second request first and the abandoned one too.
    #[tokio::test]
    async fn answers_find_their_calls_in_any_order() {
        let (near, mut far) = tokio::io::duplex(4096);
        let connection = Arc::new(Connection::start(near));
        let call = |body: &'static [u8]| {
            let connection = Arc::clone(&connection);
            tokio::spawn(async move { connection.exchange(KIND, body.to_vec()).await.unwrap() })
        };
        let first = call(b"one");
        let one = read_frame(&mut far, Trust::Member).await.unwrap().unwrap();
        let second = call(b"two");
        let two = read_frame(&mut far, Trust::Member).await.unwrap().unwrap();
        let third = call(b"three");
        let three = read_frame(&mut far, Trust::Member).await.unwrap().unwrap();
        third.abort();
        assert!(third.await.unwrap_err().is_cancelled());
        for frame in [three, two, one] {
            let header = Header {
                tag: Tag::Reply,
                id: frame.id,
                length: frame.body.len(),
            };
            far.write_all(&header.encode()).await.unwrap();
            far.write_all(&frame.body).await.unwrap();
        }
        assert_eq!(second.await.unwrap(), b"two");
        assert_eq!(first.await.unwrap(), b"one");
    }

    /// Goal: when the peer goes or talks nonsense, all calls end at once, and later ones are not
    /// sent. Method: garbage in place of an answer.
    #[tokio::test]
    async fn calls_end_with_the_connection() {
        let (near, mut far) = tokio::io::duplex(4096);
        let connection = Arc::new(Connection::start(near));
        let waiting = Arc::clone(&connection);
        let call = tokio::spawn(async move { waiting.exchange(KIND, vec![1]).await });
        read_frame(&mut far, Trust::Member).await.unwrap().unwrap();
        far.write_all(b"HTTP/1.1 400 Bad Request\r\n")
            .await
            .unwrap();
        let result = call.await.unwrap();
        assert!(matches!(result, Err(ExchangeError::Ended(why)) if why.contains("version")));
        let result = connection.exchange(KIND, vec![2]).await;
        assert!(matches!(result, Err(ExchangeError::NotSent(body)) if body == [2]));
    }
}
