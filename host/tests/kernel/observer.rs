//! What a client on the wire sees: asks for the service addresses each millisecond, and notes when
//! the kernel received each frame that comes from one of them or speaks for it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use host::announce::{Mac, claim, probe_frame};
use host::clock::{boottime_ns, boottime_us};
use host::packet::{ALL, Listener, Sender};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::time::{ClockId, clock_gettime};

use super::netns::{CLIENT4, CLIENT6, HOST4, Wire, ip};

/// A frame from a service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When the client's kernel received it, in µs of CLOCK_BOOTTIME.
    pub at_us: u64,
    pub ip: IpAddr,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// ARP or NA that speaks for the address.
    Claim,
    /// Answer to our echo request number n.
    Echo(u16),
    /// Any other packet from the address.
    Packet,
}

/// Asks and notes until it is stopped.
pub struct Observer {
    stop: Arc<AtomicBool>,
    listener: JoinHandle<Vec<Seen>>,
    prober: JoinHandle<Vec<(u16, u64)>>,
}

/// Room for what was heard, in bytes: a busy machine puts the listener off for longer than the 30 ms that
/// the system's own would last, and what it drops would look unanswered.
const BUFFER: usize = 16 * 1024 * 1024;
/// Frames that get lost together, in questions.
const TOGETHER: u16 = 20;
/// Time between two rounds of questions.
const ROUND: Duration = Duration::from_millis(1);

impl Observer {
    pub fn start(wire: &Wire, services: &[IpAddr]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (index, mine, theirs) = (
            wire.at_client.index,
            wire.at_client.mac.unwrap(),
            wire.at_host.mac.unwrap(),
        );
        let (socket, sender) = wire.client.run(move || {
            let listener = Listener::open(index, ALL).unwrap();
            set_socket_recv_buffer_size_force(&listener, BUFFER).unwrap();
            (listener, Sender::open().unwrap())
        });
        let watched = [services, &[ip(HOST4)]].concat();
        let (ends, asked) = (Arc::clone(&stop), watched.clone());
        let listener = std::thread::spawn(move || listen(&socket, &watched, mine, &ends));
        let ends_asking = Arc::clone(&stop);
        let prober = std::thread::spawn(move || {
            let (mut sent, mut number) = (Vec::new(), 0_u16);
            while !ends_asking.load(Ordering::Relaxed) {
                // A long watch asks more often than there are numbers.
                number = number.wrapping_add(1);
                sent.push((number, boottime_us()));
                for service in &asked {
                    // Errors: the queue of the device is full, the question is lost.
                    let _ = sender.send(index, &probe_frame(mine, *service));
                    let _ = sender.send(index, &echo(mine, theirs, *service, number));
                }
                std::thread::park_timeout(ROUND);
            }
            sent
        });
        Self {
            stop,
            listener,
            prober,
        }
    }

    /// Ends the asking. Gives what was seen, and when each echo request was sent, but for those around one
    /// that the host's own address did not answer either: the machine is too busy for so many frames then.
    pub fn stop(self) -> (Vec<Seen>, Vec<(u16, u64)>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = self.prober.join().unwrap();
        let all = self.listener.join().unwrap();
        let (own, seen): (Vec<Seen>, _) = all.into_iter().partition(|seen| seen.ip == ip(HOST4));
        let whole = (own, sent.clone());
        let (busy, _) = unanswered(&whole, ip(HOST4), 0..u64::MAX);
        let busy: BTreeSet<u16> = busy.into_iter().collect();
        sent.retain(|(n, _)| {
            let around = n.saturating_sub(TOGETHER)..=n.saturating_add(TOGETHER);
            busy.range(around).next().is_none()
        });
        (seen, sent)
    }
}

fn listen(socket: &Listener, watched: &[IpAddr], mine: Mac, stop: &AtomicBool) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut buffer = [0; 2048];
    // The first look switches time stamps on.
    let _ = received_us(socket);
    loop {
        let ends = stop.load(Ordering::Relaxed);
        match socket
            .receive(&mut buffer, Duration::from_millis(5))
            .unwrap()
        {
            Some(frame) if frame[6..12] != mine => {
                let found = watched.iter().find_map(|ip| Some((*ip, kind(frame, *ip)?)));
                if let Some((ip, kind)) = found {
                    seen.push(Seen {
                        at_us: received_us(socket),
                        ip,
                        kind,
                    });
                }
            }
            None if ends => return seen,
            _ => {}
        }
    }
}

fn kind(frame: &[u8], service: IpAddr) -> Option<Kind> {
    if claim(frame, service).is_some() {
        return Some(Kind::Claim);
    }
    let (source, body, reply) = match (service, &frame[12..14]) {
        (IpAddr::V4(v4), [0x08, 0x00]) => (frame[26..30] == v4.octets(), &frame[34..], 0),
        (IpAddr::V6(v6), [0x86, 0xdd]) => (frame[22..38] == v6.octets(), &frame[54..], 129),
        _ => return None,
    };
    let protocol = if service.is_ipv4() {
        frame[23]
    } else {
        frame[20]
    };
    let is_echo = [1, 58].contains(&protocol) && body[0] == reply;
    source.then(|| {
        if is_echo {
            Kind::Echo(u16::from_be_bytes([body[6], body[7]]))
        } else {
            Kind::Packet
        }
    })
}

/// When the kernel received the last frame, in µs of CLOCK_BOOTTIME: its stamp is wall time.
fn received_us(socket: &Listener) -> u64 {
    // SIOCGSTAMPNS_NEW: _IOR(0x89, 7, long long[2]).
    const OPCODE: rustix::ioctl::Opcode = 0x8010_8907;
    // SAFETY: the kernel writes two 64-bit numbers, and the getter has room for exactly these.
    let stamp = unsafe {
        let getter = rustix::ioctl::Getter::<OPCODE, [i64; 2]>::new();
        rustix::ioctl::ioctl(socket.as_fd(), getter)
    };
    let wall = clock_gettime(ClockId::Realtime);
    let now = boottime_ns();
    match stamp {
        Ok([s, ns]) => {
            let ago = (wall.tv_sec - s) * 1_000_000_000 + (wall.tv_nsec - ns);
            (now - u64::try_from(ago).unwrap_or(0)) / 1000
        }
        Err(_) => now / 1000,
    }
}

/// An echo request from the client to `to`.
fn echo(mine: Mac, theirs: Mac, to: IpAddr, number: u16) -> Vec<u8> {
    let mut frame = [theirs, mine].concat();
    let [high, low] = number.to_be_bytes();
    match (ip(if to.is_ipv4() { CLIENT4 } else { CLIENT6 }), to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 1, 0, 0]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            let sum = checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum);
            let at = frame.len();
            frame.extend([8, 0, 0, 0, 0, 7, high, low]);
            let sum = checksum(&frame[at..]);
            frame[at + 2..at + 4].copy_from_slice(&sum);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, 58, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            frame.extend([128, 0, 0, 0, 0, 7, high, low]);
            let mut covered = frame[22..].to_vec();
            covered.extend([0, 8, 0, 58]);
            let sum = checksum(&covered);
            frame[56..58].copy_from_slice(&sum);
        }
        _ => unreachable!("both are of one family"),
    }
    frame
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum();
    while sum >> 16 > 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// The deadline in so many ms.
pub fn after(ms: u64) -> u64 {
    boottime_us() + ms * 1000
}

/// Waits for a point in time: the end of a lease is no event that anybody tells.
pub fn wait_until(deadline_us: u64) {
    while let Some(left @ 1..) = deadline_us.checked_sub(boottime_us()) {
        std::thread::park_timeout(Duration::from_micros(left));
    }
}

/// What was seen of one address.
pub fn of(seen: &[Seen], service: IpAddr) -> Vec<Seen> {
    seen.iter()
        .copied()
        .filter(|seen| seen.ip == service)
        .collect()
}

/// The echo requests of before `until_us` that `service` did not answer, and how many there were.
pub fn unanswered(
    (seen, sent): &(Vec<Seen>, Vec<(u16, u64)>),
    service: IpAddr,
    span_us: std::ops::Range<u64>,
) -> (Vec<u16>, usize) {
    let seen = of(seen, service);
    let answered: BTreeSet<Kind> = seen.iter().map(|seen| seen.kind).collect();
    let asked: Vec<u16> = sent
        .iter()
        .filter(|(_, at)| span_us.contains(at))
        .map(|(number, _)| *number)
        .collect();
    let lost = asked
        .iter()
        .filter(|n| !answered.contains(&Kind::Echo(**n)));
    (lost.copied().collect(), asked.len())
}
