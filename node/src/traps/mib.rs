//! Events as notifications of RAIS-MIB (docs/mib/RAIS-MIB.txt): which objects each one has.
//!
//! The number of the enterprise is the one that RFC 5612 sets aside for documentation: the project
//! has none of its own.

use std::net::IpAddr;

use super::ber::{self, number, octets, oid, tlv};
use crate::api::EventRecord;

/// Everything of RAIS-MIB stands below.
pub const ROOT: [u32; 8] = [1, 3, 6, 1, 4, 1, ENTERPRISE, 1];
/// Reserved for documentation (RFC 5612).
pub const ENTERPRISE: u32 = 32_473;
/// The kind of the event that an operator sends to try a target.
pub const TEST: &str = "test";

/// The kinds that are sent, in the order of the MIB: the first is notification 1.
pub const KINDS: [&str; 12] = [
    "acquire",
    "acquireFail",
    "release",
    "releaseFail",
    "testFailed",
    "cannotAssign",
    "hostDown",
    "hostUp",
    "leaderChanged",
    "orphanExpired",
    "zoneChanged",
    TEST,
];

const SYS_UP_TIME: [u32; 9] = [1, 3, 6, 1, 2, 1, 1, 3, 0];
const TRAP_OID: [u32; 11] = [1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
const TIME_TICKS: u8 = 0x43;
const COUNTER_64: u8 = 0x46;
const UNSIGNED_32: u8 = 0x42;
/// Most bytes of an `SnmpAdminString` here.
const MAX_TEXT: usize = 255;

/// Of whom and when an event is told.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The array's identity, in words.
    pub array: &'a str,
    /// Hundredths of a second since the leader that tells it took over.
    pub up_ticks: u64,
}

/// The variable bindings of the notification of the event that is the `nth` of its entry; nothing for a kind
/// that the MIB has not.
pub fn bindings((nth, event): (u32, &EventRecord), origin: Origin<'_>) -> Option<Vec<u8>> {
    let place = KINDS.iter().position(|kind| *kind == event.kind)?;
    let notification = [&ROOT[..], &[0, u32::try_from(place).ok()? + 1]].concat();
    // Modulo 2^32, as TimeTicks are.
    let ticks = origin.up_ticks & u64::from(u32::MAX);
    let object = |arc: u32, value: Vec<u8>| bind(&[&ROOT[..], &[1, arc, 0]].concat(), value);
    let said = |arc, value: &Option<String>| {
        let value = value.as_deref().unwrap_or_default();
        object(arc, octets(cut(value).as_bytes()))
    };
    let (kind, address) = match event.address {
        None => (0, Vec::new()),
        Some(IpAddr::V4(ip)) => (1, ip.octets().to_vec()),
        Some(IpAddr::V6(ip)) => (2, ip.octets().to_vec()),
    };
    let mut all = vec![
        bind(&SYS_UP_TIME, number(TIME_TICKS, ticks)),
        bind(&TRAP_OID, oid(&notification)),
        object(1, octets(cut(origin.array).as_bytes())),
        object(2, number(COUNTER_64, event.index)),
        object(9, number(UNSIGNED_32, u64::from(nth))),
        object(3, octets(&date_and_time(event))),
    ];
    let (of_group, of_address, of_host) = objects(&event.kind);
    if of_group {
        all.push(said(4, &event.group));
    }
    if of_address {
        all.push(object(5, ber::integer(kind)));
        all.push(object(6, octets(&address)));
    }
    if of_host {
        all.push(said(7, &event.host));
    }
    all.push(said(8, &event.reason));
    Some(ber::of_parts(ber::SEQUENCE, &all))
}

/// Whether a notification has the group, the address and the host.
fn objects(kind: &str) -> (bool, bool, bool) {
    match kind {
        "hostDown" | "hostUp" | "leaderChanged" => (false, false, true),
        "testFailed" => (true, false, true),
        "cannotAssign" | "orphanExpired" => (true, true, false),
        "zoneChanged" | TEST => (true, false, false),
        _ => (true, true, true),
    }
}

fn bind(name: &[u32], value: Vec<u8>) -> Vec<u8> {
    tlv(ber::SEQUENCE, &[oid(name), value].concat())
}

/// At most [`MAX_TEXT`] bytes, whole characters only.
fn cut(text: &str) -> &str {
    let end = (0..=MAX_TEXT.min(text.len())).rev();
    let end = end.into_iter().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// `DateAndTime` of SNMPv2-TC, in UTC.
fn date_and_time(event: &EventRecord) -> [u8; 11] {
    let [year, rest @ .., milli] = event.at.parts();
    let [high, low] = u16::try_from(year).unwrap_or(u16::MAX).to_be_bytes();
    let [month, day, hour, minute, second] = rest.map(|part| u8::try_from(part).unwrap_or(0));
    let tenth = u8::try_from(milli / 100).unwrap_or(0);
    [
        high, low, month, day, hour, minute, second, tenth, b'+', 0, 0,
    ]
}
