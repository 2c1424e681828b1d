//! Makes clients of a dead holder notice: an ACK out of nowhere, as Samba's CTDB sends.
//!
//! The client answers an ACK that doesn't fit with one of its own; this host knows no such
//! connection and resets it; the client connects anew. Else it waits for its retransmissions, or for
//! ever when it only listens. Raw IP and not AF_PACKET: the kernel finds route and neighbour, and
//! the gate's rules see it as they see any packet.
//!
//! Limits: a client answers one such ACK in 500 ms (Linux: tcp_invalid_ratelimit), hence the long
//! steps; a firewall of this host that drops what conntrack calls invalid swallows the reset;
//! link-local peers are left out (they'd need a scope).

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, bind, ipproto, sendto, socket_with,
};

use crate::announce::checksum;
use crate::driver::Connection;

/// When each connection is tickled, in ms from the first tick: steps longer than a client's silence.
pub const STEPS_MS: [u64; 3] = [0, 600, 1_200];
/// Connections that wait: as many as ten addresses may have.
pub const MAX_WAITING: usize = 10_000;
/// Most sent with one tick, at some 5 µs each.
pub const PER_TICK: usize = 200;

const TCP: u8 = 6;
const ACK: u8 = 0x10;
/// Bytes of a TCP header without options.
const TCP_HEADER: u16 = 20;
const HOPS: u8 = 64;
/// What the segment says that we could receive; any number will do.
const WINDOW: u16 = 1_024;

/// Sends tickles when they are due.
#[derive(Debug)]
pub struct Tickler {
    v4: OwnedFd,
    v6: OwnedFd,
    waiting: VecDeque<Due>,
}

/// A connection and its next tickle.
#[derive(Clone, Copy, Debug)]
struct Due {
    connection: Connection,
    step: usize,
    at_us: u64,
}

impl Tickler {
    /// Opens what it needs, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let raw = |family| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            socket_with(family, SocketType::RAW, flags, Some(ipproto::RAW))
        };
        Ok(Self {
            v4: raw(AddressFamily::INET)?,
            v6: raw(AddressFamily::INET6)?,
            waiting: VecDeque::new(),
        })
    }

    /// Takes these to tickle from now on. Gives how many found no room.
    pub fn add(&mut self, connections: &[Connection], now_us: u64) -> usize {
        let room = MAX_WAITING.saturating_sub(self.waiting.len());
        let sound = |c: &&Connection| c.local.is_ipv4() == c.peer.is_ipv4() && !link_local(c.peer);
        let due = connections.iter().filter(sound).map(|connection| Due {
            connection: *connection,
            step: 0,
            at_us: now_us,
        });
        let mut left_out = due.clone().count();
        self.waiting.extend(due.take(room));
        left_out = left_out.saturating_sub(room);
        left_out
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what is due; what `holds` denies is dropped. An error of one is no reason to stop.
    pub fn send_due(&mut self, now_us: u64, holds: impl Fn(IpAddr) -> bool) {
        let mut bound = None;
        let mut sent = 0;
        for _ in 0..self.waiting.len() {
            let Some(mut due) = self.waiting.pop_front() else {
                return;
            };
            if due.at_us > now_us || sent == PER_TICK {
                self.waiting.push_back(due);
                continue;
            }
            let Connection { local, peer } = due.connection;
            if !holds(local.ip()) {
                continue;
            }
            if let Err(error) = self.send(local, peer, &mut bound) {
                tracing::debug!(%local, %peer, %error, "a tickle was not sent");
            }
            sent += 1;
            due.step += 1;
            if let Some(next) = STEPS_MS.get(due.step) {
                let last = STEPS_MS.get(due.step - 1).copied().unwrap_or(0);
                due.at_us = now_us + (next - last) * 1000;
                self.waiting.push_back(due);
            }
        }
    }

    fn send(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        bound: &mut Option<IpAddr>,
    ) -> io::Result<()> {
        let socket = if local.is_ipv4() { &self.v4 } else { &self.v6 };
        if *bound != Some(local.ip()) {
            // So that rules that route by source see the right one.
            *bound = None;
            bind(socket, &SocketAddr::new(local.ip(), 0))?;
            *bound = Some(local.ip());
        }
        let packet = ack(local, peer)?;
        // A port here would be taken for a protocol.
        sendto(
            socket,
            &packet,
            SendFlags::empty(),
            &SocketAddr::new(peer.ip(), 0),
        )?;
        Ok(())
    }
}

fn link_local(peer: SocketAddr) -> bool {
    matches!(peer, SocketAddr::V6(peer) if peer.ip().is_unicast_link_local())
}

/// The whole packet: an ACK of nothing, from `local` to `peer`.
fn ack(local: SocketAddr, peer: SocketAddr) -> io::Result<Vec<u8>> {
    match (local.ip(), peer.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Ok(v4(from, to, segment(local, peer))),
        (IpAddr::V6(from), IpAddr::V6(to)) => Ok(v6(from, to, segment(local, peer))),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

fn segment(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(usize::from(TCP_HEADER));
    tcp.extend_from_slice(&local.port().to_be_bytes());
    tcp.extend_from_slice(&peer.port().to_be_bytes());
    // Sequence and acknowledgement 0; five words of header.
    tcp.extend_from_slice(&[0; 8]);
    tcp.extend_from_slice(&[5 << 4, ACK]);
    tcp.extend_from_slice(&WINDOW.to_be_bytes());
    // Checksum, urgent pointer.
    tcp.extend_from_slice(&[0; 4]);
    tcp
}

fn v4(from: Ipv4Addr, to: Ipv4Addr, mut tcp: Vec<u8>) -> Vec<u8> {
    sum(&mut tcp, &from.octets(), &to.octets());
    let length = 20 + TCP_HEADER;
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&length.to_be_bytes());
    // Identification, fragments; the kernel fills in the checksum.
    packet.extend_from_slice(&[0, 0, 0x40, 0, HOPS, TCP, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&tcp);
    packet
}

fn v6(from: Ipv6Addr, to: Ipv6Addr, mut tcp: Vec<u8>) -> Vec<u8> {
    sum(&mut tcp, &from.octets(), &to.octets());
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&TCP_HEADER.to_be_bytes());
    packet.extend_from_slice(&[TCP, HOPS]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet.extend_from_slice(&tcp);
    packet
}

fn sum(tcp: &mut [u8], from: &[u8], to: &[u8]) {
    let sum = checksum(&[from, to, &[0, TCP], &TCP_HEADER.to_be_bytes(), tcp]);
    if let Some(place) = tcp.get_mut(16..18) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(port: u16) -> Connection {
        Connection {
            local: "127.0.0.1:80".parse().unwrap(),
            peer: SocketAddr::new("127.0.0.1".parse().unwrap(), port),
        }
    }

    /// Goal: a peer's kernel accepts the segment.
    /// Method: the sum over pseudo header and segment, checksum included, is all ones.
    #[test]
    fn checksum_of_a_whole_segment_is_right() {
        let four = ack(
            "10.9.0.100:80".parse().unwrap(),
            "10.9.0.9:4000".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(checksum(&[&four[12..20], &[0, TCP, 0, 20], &four[20..]]), 0);
        assert_eq!(four.len(), 40);
        let six = ack(
            "[fd09::100]:80".parse().unwrap(),
            "[fd09::9]:4000".parse().unwrap(),
        )
        .unwrap();
        assert_eq!(checksum(&[&six[8..40], &[0, TCP, 0, 20], &six[40..]]), 0);
        assert!(
            ack(
                "[fd09::100]:80".parse().unwrap(),
                "10.9.0.9:1".parse().unwrap()
            )
            .is_err()
        );
    }

    /// Goal: three tickles each, in the steps that are named, no more than a tick's worth at once,
    /// and none for what is not held.
    /// Method: more than a tick's worth; the queue after each tick.
    #[test]
    fn tickles_are_paced_and_end() {
        let Ok(mut tickler) = Tickler::open() else {
            return;
        };
        let many: Vec<_> = (1..=250).map(connection).collect();
        assert_eq!(tickler.add(&many, 0), 0);
        tickler.send_due(0, |_| true);
        let first = tickler.waiting.iter().filter(|due| due.step == 1).count();
        assert_eq!((first, tickler.waiting.len()), (PER_TICK, 250));
        for ms in [20, 600, 620, 640, 1_200, 1_220, 1_240, 1_260] {
            tickler.send_due(ms * 1000, |_| true);
        }
        assert_eq!(tickler.waiting.len(), 0);
        tickler.add(&many, 0);
        tickler.send_due(0, |_| false);
        assert_eq!(tickler.waiting.len(), 0);
        let flood: Vec<_> = vec![connection(1); MAX_WAITING + 7];
        assert_eq!(tickler.add(&flood, 0), 7);
    }
}
