//! What the zones say to a question. Total and pure: every question has exactly one answer.
//!
//! Knows nothing of packets: sizes, EDNS and header bits are `wire`'s. So the same function
//! decides for every transport, and for any faster path that may come in front of it.
//!
//! Rotation walks the golden ratio (Weyl's sequence) instead of counting modulo n: a client
//! that asks for A and AAAA in turn would see only every other start of a plain counter, while
//! every regular subsequence of this one is spread evenly too.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, Record, RecordType};

use crate::name::NameKey;
use crate::zone::{Node, RrSet, Zone};
use crate::zones::Zones;

/// 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Which set a question of type ANY gets, first that exists. One set, not all: RFC 8482, 4.1.
pub(crate) const ANY_PREFERENCE: [RecordType; 3] =
    [RecordType::A, RecordType::AAAA, RecordType::SOA];

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'q> {
    /// The name asked for.
    pub name: &'q NameKey,
    /// The type asked for.
    pub rtype: RecordType,
    /// The class asked for; only IN is served.
    pub class: DNSClass,
    /// Which answer this is since the server started: decides the rotation.
    pub turn: u64,
}

/// What to say. Borrows from the zones; nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'z> {
    /// The response code.
    pub rcode: ResponseCode,
    /// The zone that says so; `None`: it is none of ours, and the AA bit stays off.
    pub zone: Option<&'z Zone>,
    /// The set asked for.
    pub answers: Option<Rotated<'z>>,
    /// The SOA of a negative answer.
    pub authority: Option<&'z RrSet>,
    /// Sets that save the client a question.
    pub additional: &'z [RrSet],
}

impl Answer<'_> {
    /// A response code and nothing else.
    pub(crate) fn only(rcode: ResponseCode) -> Answer<'static> {
        Answer {
            rcode,
            zone: None,
            answers: None,
            authority: None,
            additional: &[],
        }
    }
}

/// A set that is read from `start` on and around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotated<'z> {
    /// The records, in the zone's order.
    pub set: &'z RrSet,
    /// Index of the record that goes first.
    pub start: usize,
}

impl<'z> Rotated<'z> {
    /// The records in the order of this answer.
    pub fn records(self) -> impl Iterator<Item = &'z Record> {
        let (tail, head) = self
            .set
            .records
            .split_at(self.start.min(self.set.records.len()));
        head.iter().chain(tail)
    }
}

/// Answers one question from the zones.
pub fn answer<'z>(zones: &'z Zones, query: &Query<'_>) -> Answer<'z> {
    if query.class != DNSClass::IN {
        return refused();
    }
    let Some(zone) = zones.find(query.name) else {
        return refused();
    };
    if zone.is_withheld() {
        return Answer::only(ResponseCode::ServFail);
    }
    if matches!(query.rtype, RecordType::AXFR | RecordType::IXFR) {
        return refused();
    }
    let Some(node) = zone.node(query.name.wire()) else {
        return negative(zone, ResponseCode::NXDomain);
    };
    match set_for(node, query.rtype) {
        Some(set) => positive(zone, set, query.turn),
        None => negative(zone, ResponseCode::NoError),
    }
}

/// Index at which the answer number `turn` starts to read a set of `len` records.
pub fn rotation_start(turn: u64, len: usize) -> usize {
    let fraction = turn.wrapping_mul(GOLDEN);
    // fraction / 2^64 * len, in whole numbers; always below len.
    let scaled = (u128::from(fraction) * len as u128) >> 64;
    scaled as usize
}

fn set_for(node: &Node, rtype: RecordType) -> Option<&RrSet> {
    if rtype == RecordType::ANY {
        return ANY_PREFERENCE.iter().find_map(|rtype| node.set(*rtype));
    }
    node.set(rtype)
}

fn positive<'z>(zone: &'z Zone, set: &'z RrSet, turn: u64) -> Answer<'z> {
    let start = match set.rtype {
        RecordType::A | RecordType::AAAA => rotation_start(turn, set.records.len()),
        _ => 0,
    };
    Answer {
        rcode: ResponseCode::NoError,
        zone: Some(zone),
        answers: Some(Rotated { set, start }),
        authority: None,
        additional: match set.rtype {
            RecordType::NS => zone.glue(),
            _ => &[],
        },
    }
}

fn negative(zone: &Zone, rcode: ResponseCode) -> Answer<'_> {
    Answer {
        rcode,
        zone: Some(zone),
        answers: None,
        authority: Some(zone.soa()),
        additional: &[],
    }
}

fn refused() -> Answer<'static> {
    Answer::only(ResponseCode::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every record of a set goes first equally often, also for a client that takes
    /// only every second or third answer.
    /// Method: count the starts over 10,000 turns at strides 1, 2 and 3.
    #[test]
    fn rotation_is_even_at_every_stride() {
        for len in 1..=17_usize {
            for stride in 1..=3_u64 {
                let mut firsts = vec![0_u64; len];
                for turn in 0..10_000_u64 {
                    firsts[rotation_start(turn * stride, len)] += 1;
                }
                let even = 10_000 / len as u64;
                for count in firsts {
                    assert!(count.abs_diff(even) <= 20, "{len} {stride} {count} {even}");
                }
            }
        }
    }
}
