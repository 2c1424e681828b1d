//! A bad wire: control traffic of a network that is lost, doubled, late and so out of order, by a seed.
//!
//! The kernels this is made for have no netem. So rules in the switch (nftables, family netdev) send what
//! hosts say to port 7400 or from it down the port `wire`; a thread at its other end, in a namespace of
//! its own, reads it by a packet socket, lets it wait, and writes it back: the switch takes it on from there.
//! All other traffic stays in the kernel, so the observer sees owners as clearly as ever.
//!
//! Safe Rust can't write a packet address: a frame goes back by the very address it came with.
//!
//! Limits: one at a time on a network; v4 (that is what control uses here); other faults of the switch
//! don't know whose frames come from `wire`. It ends with its handle, and what still waits is lost; after a run that was
//! killed the rules lead nowhere until the lab is swept.

use super::clock::{self, At, timespec};
use super::command;
use super::error::LabError;
use super::frame;
use super::net::{CONTROL_PORT, MAX_FRAME, Network, WIRE, host_mac, host_name};
use super::observer::packet_socket;
use super::{Lab, Space};
use crate::Rng;
use crate::queue::Queue;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketAddrAny, eth, recvfrom, sendto, sockopt};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most frames that wait: five hosts send some 1,000 a second, doubled, half a second each. More are lost.
const MOST: usize = 4_096;
/// Longest delay, in ms.
pub(super) const LONGEST_MS: u64 = 10_000;
/// How often an idle wire looks whether it should end.
const LOOK: Duration = Duration::from_millis(20);
/// So many frames are read before those that are due go on.
const BATCH: usize = 64;
/// Receive buffer of the socket: a second of frames, should the thread not get to run.
const BUFFER: usize = 4 << 20;
/// Above the daemons under test, where that is allowed: it must not add delays of its own.
const PRIORITY: i32 = -15;

/// How bad a wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Frames that are lost, of a hundred: 0 to 99.
    pub loss: u8,
    /// Frames that come twice, of a hundred that come: 0 to 100.
    pub double: u8,
    /// Shortest and longest delay, in ms, at most 10,000. Each copy has its own, so they overtake one another.
    pub delay_ms: (u64, u64),
    /// Decides each frame's fate.
    pub seed: u64,
}

impl Wire {
    /// 30 % lost, 50 % doubled, 10 to 130 ms late: each acknowledgement can come back, after 260 ms at most,
    /// before its lease of 300 ms less a tenth ends; and heartbeats, one each 100 ms, overtake one another.
    #[must_use]
    pub const fn bad(seed: u64) -> Self {
        Self {
            loss: 30,
            double: 50,
            delay_ms: (10, 130),
            seed,
        }
    }

    /// As [`Wire::bad`], but 50 to 500 ms late: most acknowledgements come when their lease has ended.
    #[must_use]
    pub const fn worse(seed: u64) -> Self {
        Self {
            delay_ms: (50, 500),
            ..Self::bad(seed)
        }
    }

    /// Whether an acknowledgement may come when its lease of so many ms, less a tenth, has ended.
    #[must_use]
    pub const fn outlasts(&self, lease_ms: u64) -> bool {
        20 * self.delay_ms.1 >= 9 * lease_ms
    }

    pub(super) const fn is_possible(&self) -> bool {
        let (shortest, longest) = self.delay_ms;
        self.loss < 100 && self.double <= 100 && shortest <= longest && longest <= LONGEST_MS
    }
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shortest, longest) = self.delay_ms;
        write!(
            f,
            "{} % lost, {} % doubled, {shortest} to {longest} ms late",
            self.loss, self.double
        )
    }
}

/// What waits on a wire, soonest first. Pure.
struct Line<T> {
    wire: Wire,
    rng: Rng,
    waiting: Queue<T>,
    count: usize,
}

impl<T: Clone> Line<T> {
    fn new(wire: Wire) -> Self {
        Self {
            wire,
            rng: Rng::new(wire.seed),
            waiting: Queue::default(),
            count: 0,
        }
    }

    /// Takes a frame that comes at `now`.
    fn take(&mut self, now: At, frame: T) {
        if self.rng.chance(u64::from(self.wire.loss) * 10) {
            return;
        }
        if self.rng.chance(u64::from(self.wire.double) * 10) {
            self.hold(now, frame.clone());
        }
        self.hold(now, frame);
    }

    fn hold(&mut self, now: At, frame: T) {
        let (shortest, longest) = self.wire.delay_ms;
        let late = self.rng.between((shortest * 1_000, longest * 1_000));
        if self.count < MOST {
            self.waiting
                .push(now.after(Duration::from_micros(late)).0, frame);
            self.count += 1;
        }
    }

    /// When the next frame goes on.
    fn next_at(&self) -> Option<At> {
        self.waiting.next_at().map(At)
    }

    /// A frame that is to go on by `now`.
    fn due(&mut self, now: At) -> Option<T> {
        self.next_at().filter(|at| *at <= now)?;
        let (_, frame) = self.waiting.pop()?;
        self.count -= 1;
        Some(frame)
    }
}

/// A bad wire at work. Dropping it mends the network.
#[derive(Debug)]
pub(super) struct Relay {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), LabError>>>,
    /// The switch with the rules, until they are gone.
    ruled: Option<Space>,
}

impl Relay {
    /// Mends the network: the rules go, then the wire.
    ///
    /// # Errors
    /// What `nft` said, or what the wire ended of before its time.
    pub(super) fn end(mut self) -> Result<(), LabError> {
        let ruled = self.ruled.take();
        let mended = ruled.map_or(Ok(()), |switch| unrule(&switch));
        mended.and(self.stop())
    }

    fn stop(&mut self) -> Result<(), LabError> {
        self.stop.store(true, Ordering::Relaxed);
        let what = "the bad wire".to_owned();
        let panicked = |_| Err(LabError::Panicked { what });
        let thread = self.thread.take();
        thread.map_or(Ok(()), |thread| thread.join().unwrap_or_else(panicked))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Nobody is there to be told.
        if let Some(switch) = self.ruled.take() {
            let _ = unrule(&switch);
        }
        let _ = self.stop();
    }
}

impl Lab {
    /// Puts a bad wire into the way of all control traffic on `network`.
    pub(super) fn wire_badly(&self, network: Network, wire: Wire) -> Result<Relay, LabError> {
        let socket = self.wires.inside(open)??;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        // The same seed, and yet no frame fares alike on both networks.
        let seed = wire.seed.wrapping_mul(2).wrapping_add(network as u64);
        let line = Line::new(Wire { seed, ..wire });
        let work = move || run(&socket, network, line, &told);
        let mut relay = Relay {
            stop,
            thread: Some(self.wires.thread("wire", work)?),
            ruled: None,
        };
        let switch = self.switch(network);
        switch.nft(&rules(self.hosts().len()))?;
        relay.ruled = Some(switch.clone());
        Ok(relay)
    }
}

/// Sends the control traffic of each host down the wire.
fn rules(hosts: usize) -> String {
    let chain = |host| {
        let port = host_name(host);
        let hook = format!("type filter hook ingress device \"{port}\" priority 0;");
        let rule = |end| {
            let control = format!("ip protocol {{ tcp, udp }} th {end} {CONTROL_PORT}");
            format!("{control} fwd to \"{WIRE}\"\n")
        };
        let rules = ["dport", "sport"].map(rule).concat();
        format!("chain {port} {{\n{hook}\n{rules}}}\n")
    };
    let hosts = u8::try_from(hosts).unwrap_or(u8::MAX);
    let chains: String = (1..=hosts).map(chain).collect();
    // `create` refuses a second one: they would double each other's frames.
    format!("create table netdev {WIRE}\ntable netdev {WIRE} {{\n{chains}}}\n")
}

fn unrule(switch: &Space) -> Result<(), LabError> {
    command::nft(switch.name(), &format!("delete table netdev {WIRE}\n"))
}

/// A packet socket that hears every interface of the namespace.
fn open() -> Result<OwnedFd, LabError> {
    let refused = |source| LabError::system("open a packet socket", source);
    let socket = packet_socket(eth::ALL).map_err(refused)?;
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).map_err(refused)?;
    Ok(socket)
}

fn run(
    socket: &OwnedFd,
    network: Network,
    mut line: Line<(Vec<u8>, SocketAddrAny)>,
    stop: &AtomicBool,
) -> Result<(), LabError> {
    // Not allowed everywhere; without it a busy machine adds delays.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let failed = |what| move |source| LabError::system(format!("{what} the bad wire"), source);
    while !stop.load(Ordering::Relaxed) {
        let now = clock::now();
        let left = line.next_at().map_or(LOOK, |at| at.since(now)).min(LOOK);
        match poll(
            &mut [PollFd::new(socket, PollFlags::IN)],
            Some(&timespec(left)),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(source) => return Err(failed("wait at")(source)),
        }
        let mut buffer = [0; MAX_FRAME];
        for _ in 0..BATCH {
            // With TRUNC the length is that of the whole frame.
            let (length, way) = match recvfrom(socket, &mut buffer, RecvFlags::TRUNC) {
                Ok((_, length, Some(way))) => (length, way),
                Ok(_) | Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(source) => return Err(failed("read from")(source)),
            };
            // The socket hears both networks, and what the other one's wire writes.
            let frame = buffer.get(..length).filter(|frame| is_from(network, frame));
            if let Some(mut frame) = frame.map(<[u8]>::to_vec) {
                frame::complete(&mut frame);
                line.take(clock::now(), (frame, way));
            }
        }
        while let Some((frame, way)) = line.due(clock::now()) {
            match sendto(socket, &frame, SendFlags::empty(), &way) {
                // A full queue loses a frame as a busy network does.
                Ok(_) | Err(Errno::NOBUFS | Errno::AGAIN) => {}
                Err(source) => return Err(failed("write to")(source)),
            }
        }
    }
    Ok(())
}

/// Whether a host sent it on that network.
fn is_from(network: Network, frame: &[u8]) -> bool {
    let from = frame.get(6..12);
    from.is_some_and(|mac| {
        mac.last()
            .is_some_and(|host| *mac == host_mac(network, *host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: u64 = 10_000;

    /// When each frame of a stream, one each ms, goes on: number and delay in µs.
    fn stream(wire: Wire) -> Vec<(u64, u64)> {
        let (mut line, mut gone) = (Line::new(wire), Vec::new());
        for number in 0..FRAMES + wire.delay_ms.1 {
            if number < FRAMES {
                line.take(At(number * 1_000), number);
            }
            while let Some(at) = line.next_at().filter(|at| at.0 <= number * 1_000) {
                let frame = line.due(at).unwrap();
                gone.push((frame, at.0 - frame * 1_000));
            }
        }
        assert_eq!(line.count, 0);
        gone
    }

    /// Goal: a wire is as bad as it says, and a seed can be typed again.
    /// Method: ten thousand frames; shares within six standard deviations; another seed.
    #[test]
    fn a_wire_loses_doubles_delays_and_reorders_as_it_says() {
        let gone = stream(Wire::worse(7));
        assert_eq!(gone, stream(Wire::worse(7)));
        assert_ne!(gone, stream(Wire::worse(8)));
        let mut copies = vec![0_u8; FRAMES as usize];
        gone.iter().for_each(|(n, _)| copies[*n as usize] += 1);
        let share = |wanted: u8| copies.iter().filter(|n| **n == wanted).count() as f64 / 100.0;
        assert!((share(0) - 30.0).abs() < 3.0, "{} % lost", share(0));
        assert!((share(2) - 35.0).abs() < 3.0, "{} % doubled", share(2));
        assert!(copies.iter().all(|n| *n <= 2));
        let late = gone.iter().map(|(_, late)| *late);
        let (least, most) = (late.clone().min().unwrap(), late.max().unwrap());
        assert!((50_000..60_000).contains(&least) && (490_000..=500_000).contains(&most));
        assert!(!gone.is_sorted_by_key(|(number, _)| *number));
    }

    /// Goal: what waits is bounded. Method: more frames at one moment than may wait.
    #[test]
    fn a_wire_that_is_full_loses_what_comes() {
        let mut line = Line::new(Wire::worse(1));
        (0..3 * MOST).for_each(|n| line.take(At(0), n));
        let end = At(LONGEST_MS * 1_000);
        assert_eq!(std::iter::from_fn(|| line.due(end)).count(), MOST);
        line.take(end, 0);
        assert!(line.count <= 2);
    }

    /// Goal: shares and delays that cannot be are refused, and leases that end are foreseen.
    /// Method: both sides of each bound.
    #[test]
    fn impossible_wires_are_refused() {
        assert!(Wire::bad(0).is_possible() && Wire::worse(0).is_possible());
        let bad = Wire::bad(0);
        let delays = |delay_ms| Wire { delay_ms, ..bad };
        let impossible = [
            Wire { loss: 100, ..bad },
            Wire { double: 101, ..bad },
            delays((2, 1)),
            delays((0, LONGEST_MS + 1)),
        ];
        assert!(!impossible.iter().any(Wire::is_possible));
        assert!(delays((0, 135)).outlasts(300) && !delays((0, 134)).outlasts(300));
    }
}
