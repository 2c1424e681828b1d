//! Ethernet frames of the observer: ARP requests and neighbour solicitations out, what hosts
//! answer or claim in; and what frames of others lack that are read from a virtual wire. Pure.
//!
//! A probe's number goes out as its source address, which the answer must carry as its
//! destination. So an answer is counted for the very frame it answers, however late it is read.
//!
//! Limits: no VLAN tags, no IPv6 extension headers: hosts on a plain switch send neither here.

use super::net::{FIRST_NONCE, Mac, NONCES, Network, OBSERVER_MAC, nonce_v4, nonce_v6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const BROADCAST: Mac = [0xff; 6];
const ARP_REPLY: [u8; 2] = [0, 2];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Length of a solicitation with one link-layer option.
const SOLICITATION: usize = 32;

/// What a received frame says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// The address.
    pub address: IpAddr,
    /// The Ethernet source: who said it.
    pub from: Mac,
    /// The probe it answers; none if nobody asked (a claim).
    pub nonce: Option<u8>,
}

/// A broadcast that asks who has `address`, as probe `nonce`.
pub(super) fn probe(address: IpAddr, nonce: u8) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => arp_request(address, nonce),
        IpAddr::V6(address) => solicitation(address, nonce),
    }
}

fn arp_request(address: Ipv4Addr, nonce: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(BROADCAST);
    frame.extend(OBSERVER_MAC);
    frame.extend(ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(OBSERVER_MAC);
    frame.extend(nonce_v4(nonce).octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

fn solicitation(address: Ipv6Addr, nonce: u8) -> Vec<u8> {
    let [.., x, y, z] = address.octets();
    let (from, to) = (nonce_v6(nonce).octets(), {
        let [y, z] = [u16::from(y), u16::from(z)];
        let last = y << 8 | z;
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), last).octets()
    });
    let mut message = Vec::with_capacity(SOLICITATION);
    message.extend([NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
    message.extend(address.octets());
    message.extend([1, 1]);
    message.extend(OBSERVER_MAC);
    let sum = checksum_v6(&from, &to, &message).to_be_bytes();
    message.splice(2..4, sum);

    let mut frame = Vec::with_capacity(54 + SOLICITATION);
    frame.extend([0x33, 0x33, 0xff, x, y, z]);
    frame.extend(OBSERVER_MAC);
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0, 0, SOLICITATION as u8, ICMPV6, 255]);
    frame.extend(from);
    frame.extend(to);
    frame.extend(message);
    frame
}

/// The Internet checksum of an ICMPv6 message (RFC 4443, 2.3), its own field being zero.
fn checksum_v6(from: &[u8; 16], to: &[u8; 16], message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let pseudo = [from.as_slice(), to, &length, &[0, 0, 0, ICMPV6]].concat();
    checksum(&pseudo, message)
}

/// Computes the checksum of TCP or UDP over v4 in `frame` anew: hosts leave it to their card, and a
/// virtual one leaves it out. Anything else stays as it is.
pub(super) fn complete(frame: &mut [u8]) {
    // A v4 head without options: daemons send no others.
    if frame.get(12..15) != Some(&[8, 0, 0x45]) {
        return;
    }
    let (Some(length), Some([protocol])) = (array(frame, 16), array(frame, 23)) else {
        return;
    };
    let at = match protocol {
        TCP => 16,
        UDP => 6,
        _ => return,
    };
    let end = 14 + usize::from(u16::from_be_bytes(length));
    let Some((head, rest)) = frame.split_at_mut_checked(34) else {
        return;
    };
    let Some(segment) = rest.get_mut(..end.saturating_sub(34)) else {
        return;
    };
    let Some(field) = segment.get_mut(at..at + 2) else {
        return;
    };
    field.fill(0);
    let length = u16::try_from(segment.len()).unwrap_or(0).to_be_bytes();
    let addresses = head.get(26..).unwrap_or_default();
    let sum = checksum(&[addresses, &[0, protocol], &length].concat(), segment);
    // Zero says that there is none.
    let sum = if sum == 0 { u16::MAX } else { sum };
    if let Some(field) = segment.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// The Internet checksum (RFC 1071) of two parts, the first of even length.
fn checksum(pseudo: &[u8], message: &[u8]) -> u16 {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    };
    let words = pseudo.chunks(2).chain(message.chunks(2));
    let mut sum: u32 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(!sum & 0xffff).unwrap_or(0)
}

/// Reads a received frame. None if it says nothing about who has an address, or is our own.
pub(super) fn read(frame: &[u8]) -> Option<Seen> {
    let from: Mac = array(frame, 6)?;
    if from == OBSERVER_MAC {
        return None;
    }
    match array::<2>(frame, 12)? {
        ETHERTYPE_ARP => read_arp(frame, from),
        ETHERTYPE_IPV6 => read_advertisement(frame, from),
        _ => None,
    }
}

fn read_arp(frame: &[u8], from: Mac) -> Option<Seen> {
    let sender = Ipv4Addr::from(array::<4>(frame, 28)?);
    let target = Ipv4Addr::from(array::<4>(frame, 38)?);
    let to_us = array::<6>(frame, 0)? == OBSERVER_MAC;
    let is_reply = array::<2>(frame, 20)? == ARP_REPLY;
    // The probe that asks for an address while nobody has one yet.
    if sender.is_unspecified() {
        return None;
    }
    Some(Seen {
        address: sender.into(),
        from,
        nonce: nonce_of_v4(target).filter(|_| to_us && is_reply),
    })
}

fn read_advertisement(frame: &[u8], from: Mac) -> Option<Seen> {
    let hops = *frame.get(21)?;
    if (*frame.get(20)?, hops) != (ICMPV6, 255) || *frame.get(54)? != NEIGHBOUR_ADVERTISEMENT {
        return None;
    }
    let to = Ipv6Addr::from(array::<16>(frame, 38)?);
    Some(Seen {
        address: Ipv6Addr::from(array::<16>(frame, 62)?).into(),
        from,
        nonce: nonce_of_v6(to),
    })
}

fn nonce_of_v4(address: Ipv4Addr) -> Option<u8> {
    let [.., last] = address.octets();
    let nonce = last.checked_sub(FIRST_NONCE)?;
    (nonce < NONCES && address == Network::Lan.v4(last)).then_some(nonce)
}

fn nonce_of_v6(address: Ipv6Addr) -> Option<u8> {
    let [.., last] = address.octets();
    (last < NONCES && address == nonce_v6(last)).then_some(last)
}

fn array<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Mac = [2, 0, 77, 0, 0, 3];

    fn arp(op: u8, to: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let mut frame = [to, HOST].concat();
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, op]);
        frame.extend(HOST);
        frame.extend(sender.octets());
        frame.extend(to);
        frame.extend(target.octets());
        frame
    }

    fn advertisement(to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
        let mut frame = [OBSERVER_MAC, HOST].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
        frame.extend(Network::Lan.v6(3).octets());
        frame.extend(to.octets());
        frame.extend([136, 0, 0, 0, 0x60, 0, 0, 0]);
        frame.extend(target.octets());
        frame
    }

    /// Goal: an answer is counted for the probe it answers.
    /// Method: replies to each number, of both families.
    #[test]
    fn answer_names_its_probe() {
        let (v4, v6) = (Network::Lan.v4(101), Network::Lan.v6(101));
        for nonce in 0..NONCES {
            let said = |address: IpAddr| {
                Some(Seen {
                    address,
                    from: HOST,
                    nonce: Some(nonce),
                })
            };
            let reply = arp(2, OBSERVER_MAC, v4, nonce_v4(nonce));
            assert_eq!(read(&reply), said(v4.into()));
            let reply = advertisement(nonce_v6(nonce), v6);
            assert_eq!(read(&reply), said(v6.into()));
        }
    }

    /// Goal: what nobody asked for is a claim, not an answer; a question claims nothing.
    /// Method: gratuitous ARP, advertisement to all nodes, address probe, our own frames, noise.
    #[test]
    fn announcements_are_claims_and_questions_are_nothing() {
        let (v4, v6) = (Network::Lan.v4(101), Network::Lan.v6(101));
        let seen = read(&arp(2, BROADCAST, v4, v4)).unwrap();
        assert_eq!((seen.address, seen.nonce), (v4.into(), None));
        let all = "ff02::1".parse().unwrap();
        let seen = read(&advertisement(all, v6)).unwrap();
        assert_eq!((seen.address, seen.nonce), (v6.into(), None));
        assert_eq!(read(&arp(1, BROADCAST, Ipv4Addr::UNSPECIFIED, v4)), None);
        assert_eq!(read(&probe(v4.into(), 3)), None);
        assert_eq!(read(&probe(v6.into(), 3)), None);
        for length in 0..60 {
            let _ = read(&vec![0x86; length]);
        }
    }

    /// Goal: hosts take our solicitations: their checksum is right.
    /// Method: the sum over the whole message with its checksum must be zero (RFC 1071).
    #[test]
    fn checksum_of_a_solicitation_sums_up_to_zero() {
        let frame = probe(Network::Lan.v6(101).into(), 7);
        assert_eq!(frame.len(), 54 + SOLICITATION);
        let (from, to) = (array(&frame, 22).unwrap(), array(&frame, 38).unwrap());
        assert_eq!(checksum_v6(&from, &to, &frame[54..]), 0);
    }

    /// Goal: hosts take what went over a bad wire, and nothing else of a frame is touched.
    /// Method: a UDP datagram and a TCP segment of odd length without checksums and with padding behind; then
    /// the sum over all must be zero. Frames cut anywhere, and other protocols.
    #[test]
    fn a_checksum_that_was_left_out_is_computed() {
        for (protocol, at) in [(UDP, 6), (TCP, 16)] {
            let mut bare = vec![0x11; 14 + 20 + 33 + 5];
            bare[12..18].copy_from_slice(&[8, 0, 0x45, 0, 0, 53]);
            bare[23] = protocol;
            let mut frame = bare.clone();
            complete(&mut frame);
            let pseudo = [&frame[26..34], &[0, protocol, 0, 33]].concat();
            assert_eq!(checksum(&pseudo, &frame[34..67]), 0);
            frame[34 + at..36 + at].fill(0x11);
            assert_eq!(frame, bare);
            for length in 0..67 {
                let mut cut = bare[..length].to_vec();
                complete(&mut cut);
                assert_eq!(cut, bare[..length], "{length}");
            }
            bare[23] = ICMPV6;
            let mut other = bare.clone();
            complete(&mut other);
            assert_eq!(other, bare);
        }
    }
}
