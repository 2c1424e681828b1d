//! The observer: broadcasts a question for every watched address each 5 ms and notes who answers.
//!
//! ARP for v4, neighbour solicitation for v6, over packet sockets in a namespace of its own on the
//! LAN. Each probe is a single frame that reaches all hosts; its answers name it (`frame`), so two
//! answers to one probe mean two hosts at one moment, whatever the scheduler does to this thread.
//! TCP runs beside it in the client's namespace (`tcp`).
//!
//! Safe Rust has no way to write a packet address, so it takes the one the kernel gives with a frame
//! of ours that it hands back.

use super::Lab;
use super::clock::{self, At, timespec};
use super::error::LabError;
use super::frame::{self, Seen};
use super::net::{Mac, NONCES, Network, host_mac, nonce_v4};
use super::report::{AddressReport, Claim, EndpointReport, Intervals, Probe, Report, Who};
use super::tcp::{self, Endpoint, MAX_ENDPOINTS};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, eth,
    recvfrom, sendto, socket_with, sockopt,
};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Most addresses watched at once: at 5 ms that is 12,800 frames a second.
pub const MAX_TARGETS: usize = 64;
/// Most probes of one address: 11 hours at 5 ms, 32 MB. The observer then ends by itself.
pub const MAX_PROBES: usize = 8_000_000;
/// Most announcements kept.
pub const MAX_CLAIMS: usize = 100_000;
/// An answer that comes later tells of another moment than that of its question: on a machine with more to
/// do than cores, frames wait for their turn at one host and not at the next, seen up to 60 ms. Beside
/// another host's answer it is counted, and is no sign of two owners.
const LATE: Duration = Duration::from_millis(10);
/// Answers to the last probes are awaited this long.
const LAST_ANSWERS: Duration = Duration::from_millis(20);
/// How long the kernel may take to show us a frame of ours.
const FIRST_FRAME: Duration = Duration::from_secs(2);
/// Receive buffer of each socket: 0.5 s of 64 addresses, should this thread not get to run.
const BUFFER: usize = 4 << 20;
/// Longest frame that is read: answers are below 100 bytes.
const MAX_FRAME: usize = 256;
/// Above the daemons under test, where that is allowed.
const PRIORITY: i32 = -15;

/// What to watch, and how often.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Service addresses, asked for by ARP and neighbour discovery.
    pub addresses: Vec<IpAddr>,
    /// Time between two probes of an address.
    pub every: Duration,
    /// TCP services, asked from the client.
    pub endpoints: Vec<Endpoint>,
    /// Time between two connections to an endpoint.
    pub connect_every: Duration,
}

impl Targets {
    /// `addresses` each 5 ms, no TCP.
    #[must_use]
    pub fn new(addresses: &[IpAddr]) -> Self {
        Self {
            addresses: addresses.to_vec(),
            every: Duration::from_millis(5),
            endpoints: Vec::new(),
            connect_every: Duration::from_millis(10),
        }
    }

    /// HTTP on `port` of every watched address as well.
    #[must_use]
    pub fn with_http(mut self, port: u16) -> Self {
        let endpoint = |ip: &IpAddr| Endpoint::Http((*ip, port).into());
        self.endpoints = self.addresses.iter().map(endpoint).collect();
        self
    }
}

/// An observation that goes on until [`Observer::stop`], or until it is dropped.
#[derive(Debug)]
pub struct Observer {
    shared: Arc<Shared>,
    threads: Vec<(&'static str, JoinHandle<Result<(), LabError>>)>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub stop: AtomicBool,
    tracks: Mutex<Tracks>,
    changed: Condvar,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tracks {
    pub addresses: Vec<(IpAddr, Vec<Probe>)>,
    pub endpoints: Vec<(Endpoint, Vec<Probe>)>,
    claims: Vec<Claim>,
    late: u64,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lab {
    /// Starts to watch `targets`. Returns when the sockets are open and the first probes go out.
    ///
    /// # Errors
    /// Too many targets, or the system refuses a socket.
    pub fn observe(&self, targets: &Targets) -> Result<Observer, LabError> {
        let within = |count: usize, most: usize| count <= most;
        if !within(targets.addresses.len(), MAX_TARGETS)
            || !within(targets.endpoints.len(), MAX_ENDPOINTS)
            || targets.every.is_zero()
            || targets.connect_every.is_zero()
        {
            return Err(LabError::Range {
                what: "the observer's targets".to_owned(),
                allowed: format!(
                    "at most {MAX_TARGETS} addresses, {MAX_ENDPOINTS} endpoints, intervals above 0"
                ),
            });
        }
        let sockets = self.observer().inside(Sockets::open)??;
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            tracks: Mutex::new(Tracks {
                addresses: targets.addresses.iter().map(|a| (*a, vec![])).collect(),
                endpoints: targets.endpoints.iter().map(|e| (*e, vec![])).collect(),
                claims: vec![],
                late: 0,
            }),
            changed: Condvar::new(),
        });
        let mut observer = Observer {
            shared: Arc::clone(&shared),
            threads: Vec::new(),
        };
        let (told, every) = (Arc::clone(&shared), targets.every);
        let prober = move || Prober::new(sockets, told).run(every);
        let thread = self.observer().thread("prober", prober)?;
        observer.threads.push(("the prober", thread));
        if !targets.endpoints.is_empty() {
            let every = targets.connect_every;
            let connects = move || tcp::run(&shared, every);
            let thread = self.client().thread("connects", connects)?;
            observer.threads.push(("the TCP client", thread));
        }
        Ok(observer)
    }
}

impl Observer {
    /// Waits until the newest answered question about `address` was answered by exactly `hosts`
    /// (`[]`: by nobody), at most for `limit`. Gives whether it came to that.
    #[must_use]
    pub fn wait(&self, address: IpAddr, hosts: &[u8], limit: Duration) -> bool {
        let wanted = hosts.iter().fold(Who::NOBODY, |w, h| w.and(Who::host(*h)));
        let from = clock::now();
        let end = from.after(limit);
        let mut tracks = self.shared.lock();
        loop {
            let mut all = tracks.addresses.iter();
            let probes = all.find(|(a, _)| *a == address).map(|(_, probes)| probes);
            // The newest probe of all is still being answered.
            let newest = probes.and_then(|p| p.get(p.len().checked_sub(2)?));
            if newest.is_some_and(|probe| probe.at >= from && probe.who == wanted) {
                return true;
            }
            let left = end.since(clock::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(tracks, left);
            tracks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was seen so far, while it goes on.
    #[must_use]
    pub fn so_far(&self) -> Report {
        // Copied out first: the arithmetic would keep the prober waiting.
        let tracks = self.shared.lock().clone();
        report(tracks)
    }

    /// Ends the observation and tells what was seen.
    ///
    /// # Errors
    /// What stopped a thread before its time.
    pub fn stop(mut self) -> Result<Report, LabError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (what, thread) in self.threads.drain(..) {
            let what = what.to_owned();
            let ended = thread.join();
            ended.map_err(|_| LabError::Panicked { what })??;
        }
        let tracks = std::mem::take(&mut *self.shared.lock());
        Ok(report(tracks))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (_, thread) in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn report(tracks: Tracks) -> Report {
    let times = || tracks.addresses.iter().map(|(_, probes)| probes);
    let between = |pair: &[Probe]| match pair {
        [a, b] => b.at.since(a.at).as_micros(),
        _ => 0,
    };
    let coarsest = times().flat_map(|p| p.windows(2)).map(between).max();
    let firsts = times().filter_map(|p| p.first()).map(|probe| probe.at);
    let lasts = times().filter_map(|p| p.last()).map(|probe| probe.at);
    Report {
        began: firsts.min().unwrap_or_default(),
        ended: lasts.max().unwrap_or_default(),
        coarsest_us: coarsest.map_or(0, |us| u64::try_from(us).unwrap_or(u64::MAX)),
        addresses: (tracks.addresses.iter())
            .map(|(address, probes)| AddressReport {
                address: *address,
                seen: Intervals::of(probes),
            })
            .collect(),
        endpoints: (tracks.endpoints.iter())
            .map(|(endpoint, probes)| EndpointReport {
                endpoint: endpoint.socket(),
                seen: Intervals::of(probes),
            })
            .collect(),
        claims: tracks.claims,
        late: tracks.late,
    }
}

/// The packet sockets of the observer, and the address that its frames go out by.
struct Sockets {
    arp: OwnedFd,
    v6: OwnedFd,
    way: SocketAddrAny,
}

impl Sockets {
    /// Must run inside the observer's namespace, which has one interface but for loopback.
    fn open() -> Result<Self, LabError> {
        let refused = |source| LabError::system("open a packet socket", source);
        let all = packet_socket(eth::ALL).map_err(refused)?;
        Ok(Self {
            way: way_out(&all)?,
            arp: packet_socket(eth::ARP).map_err(refused)?,
            v6: packet_socket(eth::IPV6).map_err(refused)?,
        })
    }

    fn send(&self, address: IpAddr, nonce: u8) -> Result<(), Errno> {
        let socket = match address {
            IpAddr::V4(_) => &self.arp,
            IpAddr::V6(_) => &self.v6,
        };
        let frame = frame::probe(address, nonce);
        sendto(socket, &frame, SendFlags::empty(), &self.way).map(drop)
    }
}

pub(super) fn packet_socket(protocol: Protocol) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        flags,
        Some(protocol),
    )?;
    sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
    Ok(socket)
}

/// Lets the kernel send a broadcast, and takes the packet address under which it shows it to us.
fn way_out(all: &OwnedFd) -> Result<SocketAddrAny, LabError> {
    let failed = |source| LabError::system("send a broadcast from the observer", source);
    let from = UdpSocket::bind((nonce_v4(0), 0)).map_err(failed)?;
    from.set_broadcast(true).map_err(failed)?;
    let to: Ipv4Addr = Network::Lan.v4(255);
    // 9 is the discard port.
    from.send_to(&[0], (to, 9)).map_err(failed)?;
    let end = clock::now().after(FIRST_FRAME);
    loop {
        let left = end.since(clock::now());
        if left.is_zero() {
            let late = std::io::ErrorKind::TimedOut;
            return Err(LabError::system("see a frame of the observer", late));
        }
        let _ = poll(
            &mut [PollFd::new(all, PollFlags::IN)],
            Some(&timespec(left)),
        );
        let mut buffer = [0; MAX_FRAME];
        // Loopback frames have no Ethernet source.
        if let Ok((_, _, Some(way))) = recvfrom(all, &mut buffer, RecvFlags::empty())
            && buffer.get(6..12) != Some(&[0; 6])
        {
            return Ok(way);
        }
    }
}

struct Prober {
    sockets: Sockets,
    shared: Arc<Shared>,
    targets: Vec<IpAddr>,
    /// Probes of each address so far; they are sent in rounds.
    rounds: usize,
}

impl Prober {
    fn new(sockets: Sockets, shared: Arc<Shared>) -> Self {
        let targets = shared.lock().addresses.iter().map(|(a, _)| *a).collect();
        let rounds = 0;
        Self {
            sockets,
            shared,
            targets,
            rounds,
        }
    }

    fn run(mut self, every: Duration) -> Result<(), LabError> {
        // Not allowed everywhere; without it the report's `coarsest_us` grows.
        let _ = rustix::process::setpriority_process(None, PRIORITY);
        let mut next = clock::now();
        while !self.shared.stop.load(Ordering::Relaxed) && self.rounds < MAX_PROBES {
            self.ask()?;
            // Late rounds are not caught up with: a burst would only measure itself.
            next = next.after(every).max(clock::now());
            self.listen(next)?;
            self.shared.changed.notify_all();
        }
        self.listen(clock::now().after(LAST_ANSWERS))
    }

    fn ask(&mut self) -> Result<(), LabError> {
        let nonce = u8::try_from(self.rounds % usize::from(NONCES)).unwrap_or(0);
        for (index, address) in self.targets.iter().enumerate() {
            let at = clock::now();
            match self.sockets.send(*address, nonce) {
                // A full queue loses a frame as a busy network does.
                Ok(()) | Err(Errno::NOBUFS | Errno::AGAIN) => {}
                Err(source) => return Err(LabError::system("send a probe", source)),
            }
            let who = Who::NOBODY;
            if let Some((_, probes)) = self.shared.lock().addresses.get_mut(index) {
                probes.push(Probe { at, who });
            }
        }
        self.rounds += 1;
        Ok(())
    }

    /// Reads answers until `until`.
    fn listen(&self, until: At) -> Result<(), LabError> {
        loop {
            let left = until.since(clock::now());
            let mut polled = [
                PollFd::new(&self.sockets.arp, PollFlags::IN),
                PollFd::new(&self.sockets.v6, PollFlags::IN),
            ];
            match poll(&mut polled, Some(&timespec(left))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(source) => return Err(LabError::system("wait for answers", source)),
            }
            self.drain(&self.sockets.arp);
            self.drain(&self.sockets.v6);
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    fn drain(&self, socket: &OwnedFd) {
        let mut buffer = [0; MAX_FRAME];
        while let Ok((length, _, _)) = recvfrom(socket, &mut buffer, RecvFlags::empty()) {
            if let Some(seen) = buffer.get(..length.min(MAX_FRAME)).and_then(frame::read) {
                self.note(seen);
            }
        }
    }

    fn note(&self, seen: Seen) {
        let mut tracks = self.shared.lock();
        let tracks = &mut *tracks;
        let mut all = tracks.addresses.iter_mut();
        let Some((address, probes)) = all.find(|(address, _)| *address == seen.address) else {
            return;
        };
        let who = who(seen.from);
        match seen.nonce.and_then(|nonce| asked(self.rounds, nonce)) {
            Some(index) => {
                let Some(probe) = probes.get_mut(index) else {
                    return;
                };
                match judge(probe, who, clock::now()) {
                    Answer::Counts => probe.who = probe.who.and(who),
                    Answer::Late => tracks.late += 1,
                }
            }
            None if tracks.claims.len() < MAX_CLAIMS => tracks.claims.push(Claim {
                at: clock::now(),
                address: *address,
                host: who.names().concat(),
            }),
            None => {}
        }
    }
}

/// What an answer is good for.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Counts,
    Late,
}

/// Judges an answer of `who` to `probe`, read at `now`: a late one counts only if it is the first.
fn judge(probe: &Probe, who: Who, now: At) -> Answer {
    let alone = probe.who == Who::NOBODY || probe.who == who;
    match alone || now.since(probe.at) <= LATE {
        true => Answer::Counts,
        false => Answer::Late,
    }
}

/// The newest of `rounds` probes that has the number `nonce`.
fn asked(rounds: usize, nonce: u8) -> Option<usize> {
    let last = rounds.checked_sub(1)?;
    let cycle = usize::from(NONCES);
    let back = (last % cycle + cycle - usize::from(nonce)) % cycle;
    last.checked_sub(back)
}

fn who(mac: Mac) -> Who {
    let [.., host] = mac;
    if mac == host_mac(Network::Lan, host) {
        Who::host(host)
    } else {
        Who::STRANGER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an answer goes to the newest probe with its number, none to one that was never sent.
    /// Method: numbers around the turn of the cycle.
    #[test]
    fn answer_finds_the_newest_probe_of_its_number() {
        assert_eq!(asked(0, 0), None);
        assert_eq!(asked(1, 0), Some(0));
        assert_eq!(asked(1, 15), None);
        assert_eq!(asked(17, 0), Some(16));
        assert_eq!(asked(17, 15), Some(15));
        assert_eq!(asked(17, 1), Some(1));
    }

    /// Goal: a late answer beside another host's is no sign of two owners; a prompt one is, and so is any
    /// answer where nobody else has answered. Method: each at both sides of the bound.
    #[test]
    fn only_prompt_answers_show_two_owners() {
        let at = clock::now();
        let (late, prompt) = (at.after(LATE + Duration::from_micros(1)), at.after(LATE));
        let (one, two) = (Who::host(1), Who::host(2));
        let probe = |who| Probe { at, who };
        assert_eq!(judge(&probe(one), two, prompt), Answer::Counts);
        assert_eq!(judge(&probe(one), two, late), Answer::Late);
        assert_eq!(judge(&probe(one), one, late), Answer::Counts);
        assert_eq!(judge(&probe(Who::NOBODY), two, late), Answer::Counts);
    }

    /// Goal: hosts are known by their Ethernet address on the LAN, everyone else is a stranger.
    /// Method: a host, the same number on the other network, a router.
    #[test]
    fn hosts_are_known_by_their_ethernet_address() {
        assert_eq!(who(host_mac(Network::Lan, 3)), Who::host(3));
        assert_eq!(who(host_mac(Network::Control, 3)), Who::STRANGER);
        assert_eq!(who([0, 0, 0x5e, 0, 1, 51]), Who::STRANGER);
    }
}
