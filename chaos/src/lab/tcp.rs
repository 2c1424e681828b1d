//! TCP and HTTP as clients see it: a new connection to each endpoint at every tick, never waiting
//! for the one before.
//!
//! An attempt counts as answered when it succeeds within its time, and as sent when it was begun.
//! The kernel would repeat a lost SYN after a second: that is a late answer to an old question, so
//! attempts end before. Closed by reset, so that no port waits for a minute.

use super::clock::{self, At, timespec};
use super::error::LabError;
use super::observer::{MAX_PROBES, Shared};
use super::report::{Probe, Who};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, read, write};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most endpoints at once.
pub const MAX_ENDPOINTS: usize = 64;
/// An attempt that takes longer has failed.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Most connections at once; above, a tick is left out.
const MAX_OPEN: usize = 4_096;
/// Longest answer that is read.
const MAX_ANSWER: usize = 1_024;

/// A TCP service to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A connection is enough. Who answered stays unknown: counted as a stranger.
    Tcp(SocketAddr),
    /// `GET /`, and the answer's `"host":"hN"` says who it was.
    Http(SocketAddr),
}

impl Endpoint {
    /// Where it is.
    #[must_use]
    pub const fn socket(&self) -> SocketAddr {
        match self {
            Self::Tcp(socket) | Self::Http(socket) => *socket,
        }
    }
}

struct Attempt {
    socket: OwnedFd,
    endpoint: usize,
    http: bool,
    probe: usize,
    ends: At,
    stage: Stage,
}

enum Stage {
    Connecting,
    Reading(Vec<u8>),
}

enum Turn {
    Wait,
    Done(Who),
}

/// Runs until it is told to stop. Must be inside the client's namespace.
pub(super) fn run(shared: &Shared, every: Duration) -> Result<(), LabError> {
    let endpoints: Vec<Endpoint> = shared.lock().endpoints.iter().map(|(e, _)| *e).collect();
    let mut open: Vec<Attempt> = Vec::new();
    let mut next = clock::now();
    let mut ticks = 0;
    while !shared.stop.load(Ordering::Relaxed) && ticks < MAX_PROBES {
        if open.len() + endpoints.len() <= MAX_OPEN {
            for (index, endpoint) in endpoints.iter().enumerate() {
                open.extend(begin(shared, index, *endpoint)?);
            }
        }
        ticks += 1;
        next = next.after(every).max(clock::now());
        turn(shared, &mut open, next);
    }
    let end = clock::now().after(ATTEMPT);
    while !open.is_empty() && clock::now() < end {
        turn(shared, &mut open, end);
    }
    Ok(())
}

fn begin(shared: &Shared, index: usize, endpoint: Endpoint) -> Result<Option<Attempt>, LabError> {
    let refused = |source| LabError::system("open a TCP socket", source);
    let family = match endpoint.socket() {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP));
    let socket = socket.map_err(refused)?;
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).map_err(refused)?;
    let at = clock::now();
    let begun = connect(&socket, &endpoint.socket());
    let mut tracks = shared.lock();
    let Some((_, probes)) = tracks.endpoints.get_mut(index) else {
        return Ok(None);
    };
    let who = Who::NOBODY;
    probes.push(Probe { at, who });
    // Anything else has failed already: no route, neighbour given up.
    let is_open = matches!(begun, Ok(()) | Err(Errno::INPROGRESS));
    Ok(is_open.then(|| Attempt {
        socket,
        endpoint: index,
        http: matches!(endpoint, Endpoint::Http(_)),
        probe: probes.len() - 1,
        ends: at.after(ATTEMPT),
        stage: Stage::Connecting,
    }))
}

/// Serves the open attempts until `until`.
fn turn(shared: &Shared, open: &mut Vec<Attempt>, until: At) {
    loop {
        let left = until.since(clock::now());
        let mut polled: Vec<PollFd<'_>> = open.iter().map(watch).collect();
        // Interrupted or not, the sockets are looked at below, without waiting.
        let _ = poll(&mut polled, Some(&timespec(left)));
        let ready: Vec<bool> = polled.iter().map(|p| !p.revents().is_empty()).collect();
        drop(polled);
        let now = clock::now();
        let mut ready = ready.into_iter();
        open.retain_mut(|attempt| {
            let turn = match ready.next() {
                Some(true) => attempt.go_on(),
                _ => Turn::Wait,
            };
            match turn {
                Turn::Wait => now < attempt.ends,
                Turn::Done(who) => {
                    let mut tracks = shared.lock();
                    let track = tracks.endpoints.get_mut(attempt.endpoint);
                    if let Some(probe) = track.and_then(|(_, p)| p.get_mut(attempt.probe)) {
                        probe.who = who;
                    }
                    false
                }
            }
        });
        if left.is_zero() || (open.is_empty() && shared.stop.load(Ordering::Relaxed)) {
            return;
        }
    }
}

fn watch(attempt: &Attempt) -> PollFd<'_> {
    let what = match attempt.stage {
        Stage::Connecting => PollFlags::OUT,
        Stage::Reading(_) => PollFlags::IN,
    };
    PollFd::new(&attempt.socket, what)
}

impl Attempt {
    fn go_on(&mut self) -> Turn {
        match &mut self.stage {
            Stage::Connecting => {
                if !matches!(sockopt::socket_error(&self.socket), Ok(Ok(()))) {
                    return Turn::Done(Who::NOBODY);
                }
                if !self.http {
                    return Turn::Done(Who::STRANGER);
                }
                let request = b"GET / HTTP/1.0\r\n\r\n";
                if write(&self.socket, request) != Ok(request.len()) {
                    return Turn::Done(Who::NOBODY);
                }
                self.stage = Stage::Reading(Vec::new());
                Turn::Wait
            }
            Stage::Reading(text) => {
                let mut buffer = [0; MAX_ANSWER];
                match read(&self.socket, &mut buffer) {
                    Err(Errno::AGAIN | Errno::INTR) => return Turn::Wait,
                    Err(_) | Ok(0) => return Turn::Done(said_by(text)),
                    Ok(length) => text.extend(buffer.iter().take(length)),
                }
                match said_by(text) {
                    Who::NOBODY if text.len() < MAX_ANSWER => Turn::Wait,
                    who => Turn::Done(who),
                }
            }
        }
    }
}

/// Who the answer `text` says it is: nobody if it says nothing yet.
fn said_by(text: &[u8]) -> Who {
    let text = String::from_utf8_lossy(text);
    let behind = text.split_once("\"host\":\"h").map(|(_, behind)| behind);
    let Some((number, _)) = behind.and_then(|behind| behind.split_once('"')) else {
        return Who::NOBODY;
    };
    number.parse().map_or(Who::STRANGER, Who::host)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an answer counts once it says who it is from.
    /// Method: an answer in parts, one of a host without a number, none.
    #[test]
    fn answer_says_its_host() {
        assert_eq!(
            said_by(b"HTTP/1.0 200 OK\r\n\r\n{\"host\":\"h1"),
            Who::NOBODY
        );
        assert_eq!(said_by(b"\r\n\r\n{\"host\":\"h12\",\"a"), Who::host(12));
        assert_eq!(said_by(b"{\"host\":\"hq\"}"), Who::STRANGER);
        assert_eq!(said_by(b""), Who::NOBODY);
    }
}
