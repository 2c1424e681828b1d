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
pub(crate) const ICMPV6: u8 = 58;
/// ND is only valid with this hop limit: nobody off the link can send it (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
pub(crate) const ADVERTISEMENT: u8 = 136;
/// "Replace what you have in your cache" (RFC 4861, 4.4).
const OVERRIDE: u8 = 0x20;
const ARP_REQUEST: u8 = 1;
const ARP_REPLY: u8 = 2;
/// Ethernet type and head of an ARP between Ethernet addresses about v4.
const ARP_OF_V4: [u8; 8] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4];
/// Where in a frame the sender of an ARP is, in network order.
pub(crate) const ARP_SENDER: u32 = 28;
/// Where in a frame the next header of v6, the type of an ICMPv6 and the end of an ND target are.
pub(crate) const V6_NEXT: u32 = 20;
pub(crate) const ND_TYPE: usize = 54;
pub(crate) const ND_TARGET_END: u32 = 74;

/// The frames that tell a link that `mac` has `ip` now.
///
/// v4: an announcement (RFC 5227, 3) and the same as a reply, since some heed only one of them;
/// the reply names the sender as its target too (RFC 5944, 4.6), or Linux, which then does not see
/// that it is gratuitous, ignores it for a second after any other change.
/// v6: an unsolicited advertisement with the override flag (RFC 4861, 7.2.6; RFC 9131) and the MAC
/// in its option, to all nodes, routers included. The first frame says it all to who keeps to RFCs.
#[must_use]
pub fn announcement(mac: Mac, ip: IpAddr) -> Vec<Vec<u8>> {
    match ip {
        IpAddr::V4(ip) => vec![
            arp(ARP_REQUEST, mac, ip, [0; 6], ip),
            arp(ARP_REPLY, mac, ip, mac, ip),
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
    let (claimed, mac) = any_claim(frame)?;
    (claimed == ip).then_some(mac)
}

/// Which address a frame claims, and for which MAC. Anything else, probes included, claims nothing.
#[must_use]
pub fn any_claim(frame: &[u8]) -> Option<(IpAddr, Mac)> {
    let bytes = |at: std::ops::Range<usize>| frame.get(at);
    if bytes(12..20)? == ARP_OF_V4 {
        let sender = Ipv4Addr::from(<[u8; 4]>::try_from(bytes(28..32)?).ok()?);
        let mac = bytes(22..28)?.try_into().ok()?;
        return (!sender.is_unspecified()).then_some((sender.into(), mac));
    }
    let is_nd = bytes(12..14)? == [0x86, 0xdd]
        && bytes(20..22)? == [ICMPV6, HOP_LIMIT]
        && *frame.get(ND_TYPE)? == ADVERTISEMENT;
    if !is_nd {
        return None;
    }
    let target = Ipv6Addr::from(<[u8; 16]>::try_from(bytes(62..78)?).ok()?);
    Some((target.into(), bytes(6..12)?.try_into().ok()?))
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
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
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
                assert_eq!(any_claim(&frame), Some((ip, MAC)));
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

    /// Goal: what stands in an announcement is what the RFCs and Linux's `arp_is_garp` ask for.
    /// Method: the fields that they name, by their place in the frame.
    #[test]
    fn announcements_are_as_the_rfcs_want() {
        let frames = announcement(MAC, "10.9.0.100".parse().unwrap());
        let (request, reply) = (&frames[0], &frames[1]);
        for (frame, operation, target) in [(request, 1, [0; 6]), (reply, 2, MAC)] {
            assert_eq!((&frame[..6], &frame[6..12]), (&BROADCAST[..], &MAC[..]));
            assert_eq!(
                (&frame[20..22], &frame[22..28]),
                (&[0, operation][..], &MAC[..])
            );
            assert_eq!(
                frame[28..32],
                frame[38..42],
                "sender and target are the address"
            );
            assert_eq!(frame[32..38], target);
        }
        let ip: Ipv6Addr = "fd09::100".parse().unwrap();
        let advertisement = &announcement(MAC, ip.into())[0];
        assert_eq!(advertisement[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(advertisement[21], 255);
        assert_eq!(
            (&advertisement[22..38], &advertisement[38..54]),
            (&ip.octets()[..], &ALL_NODES.octets()[..])
        );
        // Neither a router's nor solicited, and overrides.
        assert_eq!(advertisement[58], 0x20);
        assert_eq!(
            (&advertisement[78..80], &advertisement[80..86]),
            (&[2, 1][..], &MAC[..])
        );
    }

    proptest::proptest! {
        /// Goal: no frame from the link can bring the driver down.
        /// Method: arbitrary bytes, alone and behind the head of an ARP or ND.
        #[test]
        fn arbitrary_frames_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..160),
            cut in 0_usize..100,
        ) {
            let _ = any_claim(&bytes);
            for ip in ["10.9.0.100", "fd09::100"] {
                for good in announcement(MAC, ip.parse().unwrap()) {
                    let mut frame = good[..cut.min(good.len())].to_vec();
                    frame.extend_from_slice(&bytes);
                    let _ = any_claim(&frame);
                }
            }
        }
    }
}
