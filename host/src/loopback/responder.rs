//! One thread that answers HTTP on one address, and stops at once when it is told to.
//!
//! All its sockets hang on one `poll`, together with a socket pair whose other end belongs to the
//! [`Responder`]. Dropping that end is the only order there is, and it can't get lost: the thread
//! sees the hang-up, drops listener and connections, and is joined. So "released" means closed.
//!
//! Not a thread per connection (release would have to find and interrupt each), and not the async
//! runtime (what holds an address must not wait behind anything else).
//!
//! Limits: [`Limits`] bounds connections and every wait; a connection beyond is closed at once.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::http::{self, MAX_HEAD, Parsed, Status};
use crate::clock::boottime_ms;

/// Pause of accepting after an accept failed, such as for want of file descriptors.
const ACCEPT_PAUSE_MS: u64 = 100;
/// Bytes read from a connection in one go: a usual request fits, and a fast client can't starve
/// the others.
const READ_CHUNK: usize = 2 * 1024;
/// Most bytes thrown away after a refused request, so that the client can read why.
const MAX_DRAIN: usize = 64 * 1024;

/// Bounds of one address's responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once; 64 connections of 8 KiB are half a megabyte at worst.
    pub connections: usize,
    /// Milliseconds from the first byte of a request (or the connection's start) to its end.
    pub head_ms: u64,
    /// Milliseconds that a kept connection may be idle between requests.
    pub idle_ms: u64,
    /// Milliseconds that a client may take to accept an answer.
    pub write_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_ms: 5_000,
            idle_ms: 15_000,
            write_ms: 5_000,
        }
    }
}

/// Who answers.
#[derive(Debug)]
pub(super) struct Identity {
    pub host: String,
    pub ip: Ipv4Addr,
}

impl Identity {
    /// The body of every answer. By hand for the order of its keys; the name is escaped.
    fn body(&self, epoch: u64) -> String {
        let host = serde_json::Value::from(self.host.as_str());
        format!(
            "{{\"host\":{host},\"address\":\"{}\",\"epoch\":{epoch}}}\n",
            self.ip
        )
    }
}

/// The handle of a running responder; dropping it closes the port and all connections.
#[derive(Debug)]
pub(super) struct Responder {
    /// `None` only while it is dropped.
    stop: Option<UnixStream>,
    /// `None` only while it is dropped.
    thread: Option<JoinHandle<()>>,
    epoch: Arc<AtomicU64>,
}

impl Responder {
    /// Binds `endpoint` and starts to answer. Once it returns, connections are accepted.
    pub fn start(
        identity: Identity,
        endpoint: SocketAddr,
        epoch: u64,
        limits: Limits,
    ) -> io::Result<Self> {
        // The standard library sets SO_REUSEADDR (a new holder must not wait for TIME_WAIT) and
        // never SO_REUSEPORT, with which two holders could both bind. A test holds it to that.
        let listener = TcpListener::bind(endpoint)?;
        listener.set_nonblocking(true)?;
        let (stop, stopped) = UnixStream::pair()?;
        let epoch = Arc::new(AtomicU64::new(epoch));
        let server = Server {
            listener,
            stopped,
            identity,
            epoch: Arc::clone(&epoch),
            limits,
            connections: Vec::new(),
            accept_after: 0,
        };
        let thread = std::thread::Builder::new()
            .name(format!("http-{}", endpoint.ip()))
            .spawn(move || server.run())?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            epoch,
        })
    }

    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    pub fn set_epoch(&self, epoch: u64) {
        self.epoch.store(epoch, Ordering::Relaxed);
    }

    /// Whether the thread is there; without it the port is closed.
    pub fn is_alive(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It panicked, if this is an error; its sockets are closed all the same.
            let _ = thread.join();
        }
    }
}

struct Server {
    listener: TcpListener,
    stopped: UnixStream,
    identity: Identity,
    epoch: Arc<AtomicU64>,
    limits: Limits,
    connections: Vec<Connection>,
    /// Boot time in ms before which nothing is accepted.
    accept_after: u64,
}

/// What `poll` found.
struct Ready {
    stop: bool,
    accept: bool,
    /// One for each connection, in order.
    connections: Vec<bool>,
}

impl Server {
    fn run(mut self) {
        loop {
            let ready = match self.wait(boottime_ms()) {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => {
                    tracing::warn!(ip = %self.identity.ip, %error, "responder stops: poll failed");
                    return;
                }
            };
            if ready.stop {
                return;
            }
            let now = boottime_ms();
            self.serve(&ready, now);
            if ready.accept {
                self.accept(now);
            }
        }
    }

    fn wait(&self, now: u64) -> Result<Ready, Errno> {
        let accepting = now >= self.accept_after;
        let listen = if accepting {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut fds = Vec::with_capacity(2 + self.connections.len());
        fds.push(PollFd::new(&self.stopped, PollFlags::IN));
        fds.push(PollFd::new(&self.listener, listen));
        for connection in &self.connections {
            fds.push(PollFd::new(&connection.stream, connection.interest()));
        }
        let timeout = self.until_next_deadline(now, accepting);
        poll(&mut fds, timeout.as_ref())?;
        let mut found = fds.iter().map(|fd| !fd.revents().is_empty());
        let stop = found.next().unwrap_or(true);
        let listener = found.next().unwrap_or(false);
        Ok(Ready {
            stop,
            accept: accepting && listener,
            connections: found.collect(),
        })
    }

    fn until_next_deadline(&self, now: u64, accepting: bool) -> Option<Timespec> {
        let resume = (!accepting).then_some(self.accept_after);
        let deadlines = self.connections.iter().map(|c| c.deadline);
        let wait = deadlines.chain(resume).min()?.saturating_sub(now);
        Some(Timespec {
            tv_sec: i64::try_from(wait / 1_000).unwrap_or(i64::MAX),
            // Below a second, so it fits.
            tv_nsec: i64::try_from(wait % 1_000 * 1_000_000).unwrap_or(0),
        })
    }

    fn serve(&mut self, ready: &Ready, now: u64) {
        let body = self.identity.body(self.epoch.load(Ordering::Relaxed));
        let limits = self.limits;
        let mut flags = ready.connections.iter();
        self.connections.retain_mut(|connection| {
            let is_ready = flags.next().copied().unwrap_or(false);
            if is_ready {
                connection.step(&body, limits, now).is_ok()
            } else {
                now < connection.deadline
            }
        });
    }

    fn accept(&mut self, now: u64) {
        // As many as the backlog holds at most, so that this loop ends.
        for _ in 0..128 {
            match self.listener.accept() {
                Ok((stream, _)) if self.connections.len() < self.limits.connections => {
                    if let Ok(connection) =
                        Connection::new(stream, now.saturating_add(self.limits.head_ms))
                    {
                        self.connections.push(connection);
                    }
                }
                Ok(_) => {
                    tracing::debug!(ip = %self.identity.ip, "too many connections: closed one")
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::debug!(ip = %self.identity.ip, %error, "accept failed: pausing");
                    self.accept_after = now + ACCEPT_PAUSE_MS;
                    return;
                }
            }
        }
    }
}

/// The connection is over: closed by the client, failed, or done.
struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Self {
        Self
    }
}

enum Stage {
    Reading,
    Writing {
        output: Vec<u8>,
        written: usize,
        then: Then,
    },
    /// Said what there was to say; reads on only so that a reset can't overtake the answer.
    Draining {
        left: usize,
    },
}

#[derive(Clone, Copy)]
enum Then {
    Read,
    Drain,
}

struct Connection {
    stream: TcpStream,
    /// Never longer than `MAX_HEAD`.
    input: Vec<u8>,
    stage: Stage,
    /// Boot time in ms at which it is cut off.
    deadline: u64,
}

impl Connection {
    fn new(stream: TcpStream, deadline: u64) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            stage: Stage::Reading,
            deadline,
        })
    }

    fn interest(&self) -> PollFlags {
        match self.stage {
            Stage::Reading | Stage::Draining { .. } => PollFlags::IN,
            Stage::Writing { .. } => PollFlags::OUT,
        }
    }

    fn step(&mut self, body: &str, limits: Limits, now: u64) -> Result<(), Over> {
        match self.stage {
            Stage::Reading => self.read(limits, now)?,
            Stage::Writing { .. } => self.write(limits, now)?,
            Stage::Draining { .. } => return self.drain(),
        }
        // Answer what is whole by now, pipelined requests included: each pass uses up some input
        // or stops, and the input is bounded.
        while matches!(self.stage, Stage::Reading) && self.answer(body, limits, now) {
            self.write(limits, now)?;
        }
        if now < self.deadline {
            Ok(())
        } else {
            Err(Over)
        }
    }

    fn read(&mut self, limits: Limits, now: u64) -> Result<(), Over> {
        let mut chunk = [0; READ_CHUNK];
        let room = READ_CHUNK.min(MAX_HEAD.saturating_sub(self.input.len()));
        let Some(count) = read_some(&mut self.stream, chunk.get_mut(..room).unwrap_or_default())?
        else {
            return Ok(());
        };
        if self.input.is_empty() {
            self.deadline = now.saturating_add(limits.head_ms);
        }
        self.input
            .extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(())
    }

    /// Turns the request at the start of the input into an answer; false if there is none yet.
    fn answer(&mut self, body: &str, limits: Limits, now: u64) -> bool {
        let (output, then) = match http::parse(&self.input) {
            Parsed::Incomplete => return false,
            Parsed::Request { length, request } => {
                self.input.drain(..length);
                let keep = request.keep_alive;
                let output = http::respond(Status::Ok, body, request.head_only, keep);
                (output, if keep { Then::Read } else { Then::Drain })
            }
            Parsed::Refused(status) => {
                self.input.clear();
                (http::respond(status, "", false, false), Then::Drain)
            }
        };
        self.deadline = now.saturating_add(limits.write_ms);
        self.stage = Stage::Writing {
            output,
            written: 0,
            then,
        };
        true
    }

    fn write(&mut self, limits: Limits, now: u64) -> Result<(), Over> {
        let Stage::Writing {
            output,
            written,
            then,
        } = &mut self.stage
        else {
            return Ok(());
        };
        while let Some(rest) = output.get(*written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) => return Err(Over),
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Over),
            }
        }
        match then {
            Then::Read => {
                let idle = self.input.is_empty();
                let wait = if idle { limits.idle_ms } else { limits.head_ms };
                self.deadline = now.saturating_add(wait);
                self.stage = Stage::Reading;
            }
            Then::Drain => {
                self.stream.shutdown(Shutdown::Write)?;
                self.stage = Stage::Draining { left: MAX_DRAIN };
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), Over> {
        let Stage::Draining { left } = &mut self.stage else {
            return Ok(());
        };
        let mut chunk = [0; READ_CHUNK];
        if let Some(count) = read_some(&mut self.stream, &mut chunk)? {
            *left = left.checked_sub(count).ok_or(Over)?;
        }
        Ok(())
    }
}

/// Reads what is there: `None` for nothing yet, [`Over`] at the end.
fn read_some(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, Over> {
    match stream.read(buffer) {
        Ok(0) => Err(Over),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(_) => Err(Over),
    }
}
