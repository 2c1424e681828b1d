//! Frames that say or ask who has an address: ARP for v4, neighbour discovery for v6.
//!
//! Pure: values to bytes and back. The whole frame is built here, Ethernet included, because the
//! sender's MAC stands in it twice and both must agree.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
/// Where all v6 nodes of the link listen, and the Ethernet address of that group.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
/// ND is only valid with this hop limit: nobody off the link can send it (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// "Replace what you have in your cache" (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;

/// The frames that tell a link that `mac` has `ip` now.
///
/// v4: an announcement (RFC 5227, 3) and the same as a reply, since some heed only one of them.
/// v6: an unsolicited advertisement with the override flag (RFC 4861, 7.2.6).
#[must_use]
pub fn announcement(mac: Mac, ip: IpAddr) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![
            arp(ARP_REQUEST, mac, ip, [0; 6], ip),
            arp(ARP_REPLY, mac, ip, BROADCAST, ip),
        ],
        IpAddr::V6(ip) => vec![advertisement(mac, ip)],
    }
}

/// The frame that asks whether anybody has `ip`, without claiming it (RFC 5227, 2.1.1; RFC 4862,
/// 5.4.2).
#[must_use]
pub fn probe(mac: Mac, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(ARP_REQUEST, mac, Ipv4Addr::UNSPECIFIED, [0; 6], ip),
        IpAddr::V6(ip) => solicitation(mac, ip),
    }
}

/// Whose claim of `ip` a frame is: the sender's MAC. A probe claims nothing.
#[must_use]
pub fn claim(frame: &[u8], ip: IpAddr) -> Option<Mac> {
    let kind = frame.get(12..14)?;
    let sender = match ip {
        IpAddr::V4(ip) if kind == [0x08, 0x06] => {
            (frame.get(28..32)? == ip.octets()).then_some(frame.get(22..28)?)
        }
        IpAddr::V6(ip) if kind == [0x86, 0xdd] => {
            let advertises = *frame.get(20)? == ICMPV6 && *frame.get(54)? == ADVERTISEMENT;
            (advertises && frame.get(62..78)? == ip.octets()).then_some(frame.get(6..12)?)
        }
        _ => None,
    };
    sender?.try_into().ok()
}

fn ethernet(to: Mac, from: Mac, kind: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend_from_slice(&to);
    frame.extend_from_slice(&from);
    frame.extend_from_slice(&kind);
    frame
}

fn arp(operation: u8, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, [0x08, 0x06]);
    // Ethernet, v4, lengths of their addresses.
    frame.extend_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, operation]);
    frame.extend_from_slice(&mac);
    frame.extend_from_slice(&sender.octets());
    frame.extend_from_slice(&target_mac);
    frame.extend_from_slice(&target.octets());
    frame
}

fn advertisement(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend_from_slice(&ip.octets());
    // Option 2, one unit of eight bytes: the target's MAC.
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&mac);
    icmpv6((ALL_NODES_MAC, mac), (ip, ALL_NODES), body)
}

fn solicitation(mac: Mac, ip: Ipv6Addr) -> Vec<u8> {
    let [.., x, y, z] = ip.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(x),
        u16::from_be_bytes([y, z]),
    );
    let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&ip.octets());
    icmpv6(
        ([0x33, 0x33, 0xff, x, y, z], mac),
        (Ipv6Addr::UNSPECIFIED, group),
        body,
    )
}

fn icmpv6(
    (to_mac, from_mac): (Mac, Mac),
    (from, to): (Ipv6Addr, Ipv6Addr),
    mut body: Vec<u8>,
) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let sum = checksum(&[
        &from.octets(),
        &to.octets(),
        &length.to_be_bytes(),
        &[0, ICMPV6],
        &body,
    ]);
    if let Some(place) = body.get_mut(2..4) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    let mut frame = ethernet(to_mac, from_mac, [0x86, 0xdd]);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, HOP_LIMIT]);
    frame.extend_from_slice(&from.octets());
    frame.extend_from_slice(&to.octets());
    frame.extend_from_slice(&body);
    frame
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words
        .filter_map(|word| word.try_into().ok().map(u16::from_be_bytes))
        .map(u32::from)
        .sum();
    while let carry @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + carry;
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 7];

    /// Goal: an announcement claims its address and no other; a probe claims nothing.
    /// Method: the frames of both families, read back.
    #[test]
    fn announcement_claims_and_probe_does_not() {
        for (ip, other) in [("10.9.0.100", "10.9.0.101"), ("fd09::100", "fd09::101")] {
            let (ip, other): (IpAddr, IpAddr) = (ip.parse().unwrap(), other.parse().unwrap());
            for frame in announcement(MAC, ip) {
                assert_eq!(claim(&frame, ip), Some(MAC));
                assert_eq!(claim(&frame, other), None);
                for end in 0..frame.len() {
                    let _ = claim(&frame[..end], ip);
                }
            }
            assert_eq!(claim(&probe(MAC, ip), ip), None);
        }
    }

    /// Goal: the kernel of the receiver accepts our ICMPv6.
    /// Method: the sum over all that the checksum covers, itself included, is all ones.
    #[test]
    fn checksum_of_a_whole_advertisement_is_right() {
        let ip = "fd09::100".parse().unwrap();
        let frame = advertisement(MAC, ip);
        let (addresses, body) = (&frame[22..54], &frame[54..]);
        let length = (body.len() as u16).to_be_bytes();
        assert_eq!(checksum(&[addresses, &length, &[0, ICMPV6], body]), 0);
    }
}
