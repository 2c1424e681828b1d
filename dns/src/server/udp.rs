//! UDP: one thread, all sockets, each query answered inline before the next is read.
//!
//! No task, queue or lock between receive and send, so nothing grows under a flood: what is
//! too much is dropped by the kernel's receive buffer. A thread of its own, so that a flood
//! competes with the async runtime through the scheduler and not inside of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};

use super::{BindError, Core};
use crate::wire::Transport;

/// Longest query that is read whole: a query has at most 12 + 255 + 4 bytes and an OPT record.
const MAX_QUERY: usize = 4_096;

/// Queries answered on one socket before the next socket has its turn.
const BATCH: usize = 64;

/// Receive errors in a row after which a socket waits for the next wake-up, so that an error
/// that stays does not burn a core.
const MAX_ERRORS: usize = 16;

/// Sockets are tokens 0, 1, ..; this one is the waker.
const WAKER: Token = Token(usize::MAX);

/// Handle of the UDP thread.
#[derive(Debug)]
pub(super) struct UdpThread {
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: JoinHandle<()>,
}

impl UdpThread {
    pub(super) fn start(sockets: Vec<UdpSocket>, core: &Arc<Core>) -> Result<Self, BindError> {
        let address = sockets.first().and_then(|socket| socket.local_addr().ok());
        Self::try_start(sockets, core.clone()).map_err(|source| BindError {
            address: address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            transport: "udp",
            source,
        })
    }

    fn try_start(mut sockets: Vec<UdpSocket>, core: Arc<Core>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        for (index, socket) in sockets.iter_mut().enumerate() {
            poll.registry()
                .register(socket, Token(index), Interest::READABLE)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let worker = Worker {
            poll,
            sockets,
            core,
            stopped,
            query: vec![0; MAX_QUERY],
            reply: Vec::with_capacity(MAX_QUERY),
        };
        let thread = std::thread::Builder::new()
            .name("dns-udp".into())
            .spawn(move || worker.run())?;
        Ok(Self {
            stop,
            waker,
            thread,
        })
    }

    /// Tells the thread to end. Does not wait.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            tracing::warn!(%error, "dns: udp thread not woken, it stops at its next query");
        }
    }

    pub(super) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("dns: udp thread had panicked");
        }
    }
}

struct Worker {
    poll: Poll,
    sockets: Vec<UdpSocket>,
    core: Arc<Core>,
    stopped: Arc<AtomicBool>,
    query: Vec<u8>,
    reply: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        let mut events = Events::with_capacity(self.sockets.len() + 1);
        // Wake-ups come on an edge only: what was readable stays marked until it is empty.
        let mut readable = vec![true; self.sockets.len()];
        while !self.stopped.load(Ordering::Acquire) {
            if !readable.contains(&true) {
                match self.poll.poll(&mut events, None) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        tracing::error!(%error, "dns: udp stops, poll failed");
                        return;
                    }
                }
                for event in &events {
                    if let Some(mark) = readable.get_mut(event.token().0) {
                        *mark = true;
                    }
                }
            }
            for (index, mark) in readable.iter_mut().enumerate() {
                *mark = *mark && self.drain(index);
            }
        }
    }

    /// Answers up to a batch; false when the socket is empty.
    fn drain(&mut self, index: usize) -> bool {
        let Some(socket) = self.sockets.get(index) else {
            return false;
        };
        let mut errors = 0;
        for _ in 0..BATCH {
            match socket.recv_from(&mut self.query) {
                Ok((length, source)) => {
                    errors = 0;
                    let query = self.query.get(..length).unwrap_or_default();
                    answer_one(&self.core, socket, source, query, &mut self.reply);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.core.stats.udp_receive_failed();
                    errors += 1;
                    if errors == MAX_ERRORS {
                        return false;
                    }
                }
            }
        }
        true
    }
}

fn answer_one(
    core: &Core,
    socket: &UdpSocket,
    source: SocketAddr,
    query: &[u8],
    reply: &mut Vec<u8>,
) {
    // Nobody listens on port 0; such a source is forged.
    if source.port() == 0 || !core.serve(query, Transport::Udp, source, reply) {
        return;
    }
    // A full send buffer drops the answer, as the network might: the client asks again.
    if socket.send_to(reply, source).is_err() {
        core.stats.udp_send_failed();
    }
}
