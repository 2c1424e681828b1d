//! What is in the sets of the gate, as the kernel says.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::KernelGate;
use super::message::{ELEMENT_LEFT, ELEMENT_NOTE, Family, GET_ELEMENT, NEW_ELEMENT, Set, TABLE};
use crate::netlink::wire::{attribute, attributes, be64, messages};
use crate::netlink::{DUMP, REQUEST};

/// An address whose gate is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub ip: IpAddr,
    /// The epoch of the assignment under which it was opened; 0 when nothing says so.
    pub epoch: u64,
    /// Milliseconds until it closes, counted by the kernel from when it was asked.
    pub left_ms: u64,
}

/// How the epoch is noted on an element, so that `nft list` shows it and the next start knows it.
pub(super) fn note(epoch: u64) -> String {
    format!("epoch {epoch}")
}

impl KernelGate {
    pub(super) fn elements(&self, family: Family, sets: &[Set]) -> io::Result<Vec<Lease>> {
        let mut found = Vec::new();
        for set in sets {
            let list = self.socket.dump(|m| {
                m.push(GET_ELEMENT, REQUEST | DUMP, &family.head(), |a| {
                    a.text(TABLE, &self.table);
                    a.text(2, set.name());
                });
            })?;
            for message in messages(&list).filter(|message| message.kind == NEW_ELEMENT) {
                let attrs = message.body.get(4..).unwrap_or_default();
                let elements = attribute(attrs, 3).unwrap_or_default();
                let leases = attributes(elements).filter_map(|(_, element)| lease(element));
                // The mark of a transaction that was not made is no lease.
                found.extend(leases.filter(|lease| !lease.ip.is_unspecified()));
            }
        }
        Ok(found)
    }
}

fn lease(element: &[u8]) -> Option<Lease> {
    let key = attribute(attribute(element, 1)?, 1)?;
    let ip = match key.len() {
        4 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(key).ok()?)),
        _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(key).ok()?)),
    };
    let left_ms = attribute(element, ELEMENT_LEFT).and_then(be64).unwrap_or(0);
    let epoch = attribute(element, ELEMENT_NOTE)
        .and_then(noted_epoch)
        .unwrap_or(0);
    Some(Lease { ip, epoch, left_ms })
}

fn noted_epoch(data: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(data.get(2..)?).ok()?;
    text.trim_end_matches('\0')
        .strip_prefix("epoch ")?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an epoch is read as it was noted, and foreign notes are none.
    /// Method: our note with its frame, and notes of others.
    #[test]
    fn epoch_is_read_from_its_note_only() {
        assert_eq!(noted_epoch(b"\0\x09epoch 17\0"), Some(17));
        for other in [
            &b"\0\x05hello\0"[..],
            b"",
            b"\0",
            b"\0\x07epoch \0",
            b"\0\x03\xff\xff\0",
        ] {
            assert_eq!(noted_epoch(other), None);
        }
    }

    proptest::proptest! {
        /// Goal: no element, of whatever kernel, can bring the driver down.
        /// Method: arbitrary bytes as an element, as its key and as its note.
        #[test]
        fn arbitrary_elements_are_read_without_panic(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            let _ = (lease(&bytes), noted_epoch(&bytes));
            let mut framed = crate::netlink::wire::Messages::new(1);
            framed.push(0, 0, &[], |a| {
                a.nest(1, |a| a.bytes(1, &bytes));
                a.bytes(ELEMENT_LEFT, &bytes);
                a.bytes(ELEMENT_NOTE, &bytes);
            });
            let body = framed.bytes().get(16..).unwrap_or_default();
            let ip = lease(body).map(|lease| lease.ip.is_ipv4());
            let expected = match bytes.len() {
                4 => Some(true),
                16 => Some(false),
                _ => None,
            };
            proptest::prop_assert_eq!(ip, expected);
        }
    }
}
