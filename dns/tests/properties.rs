//! What must hold for any input: bytes from anywhere, zones in any order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::{answer_to, ask, opt, source, zones};
use dns::wire::Incoming;
use dns::{Transport, ZoneInput, Zones, respond};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use proptest::collection::vec;
use proptest::prelude::*;

/// A query that is right but for a few bytes that were hit, cut off or added.
fn damaged_query() -> impl Strategy<Value = Vec<u8>> {
    let names = prop_oneof![
        Just("web.example."),
        Just("h1.web.example."),
        Just("ns.db.web.example."),
        Just("."),
    ];
    let hits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (
        names,
        any::<u16>(),
        any::<bool>(),
        hits,
        0..80_usize,
        vec(any::<u8>(), 0..40),
    )
        .prop_map(|(name, rtype, edns, hits, cut, tail)| {
            let mut bytes = ask(name, rtype)
                .with(|asked| asked.opt = edns.then(|| opt(1_232)))
                .bytes();
            for (index, value) in hits {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            let keep = bytes.len().saturating_sub(cut / 4);
            bytes.truncate(keep);
            bytes.extend(tail);
            bytes
        })
}

fn check_any(bytes: &[u8], transport: Transport) {
    let Some(answer) = answer_to(Some(&zones()), bytes, transport) else {
        assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0);
        return;
    };
    assert!(bytes[2] & 0x80 == 0, "a response was answered");
    assert_eq!(answer[..2], bytes[..2], "id");
    assert_eq!(answer[2] & 0xF8, 0x80 | bytes[2] & 0x78, "QR and opcode");
    if transport == Transport::Udp {
        assert!(answer.len() <= 1_232);
    }
    let message = Message::from_vec(&answer).expect("our answer parses");
    if let [question] = message.queries.as_slice() {
        let name: usize = question.name().iter().map(|label| 1 + label.len()).sum();
        let end = 12 + name + 1 + 4;
        assert_eq!(answer[12..end], bytes[12..end], "question");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Goal: no bytes make the server panic, and no response is ever answered.
    /// Method: random bytes, over both transports.
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..600)) {
        check_any(&bytes, Transport::Udp);
        check_any(&bytes, Transport::Tcp);
    }

    /// Goal: as above, where the parser is reached.
    /// Method: legal queries with some bytes changed, cut or added.
    #[test]
    fn damaged_queries_never_panic(bytes in damaged_query()) {
        check_any(&bytes, Transport::Udp);
        check_any(&bytes, Transport::Tcp);
    }

    /// Goal: two nodes with one state give the same bytes, in whatever order it lists things.
    /// Method: project an input and its shuffle; ask both for everything at every turn.
    #[test]
    fn equal_inputs_give_equal_bytes(
        rows in vec(((0..6_u8), any::<u8>(), any::<bool>()), 0..30).prop_shuffle(),
        turn in any::<u64>(),
    ) {
        let published: Vec<(String, IpAddr)> = rows
            .iter()
            .map(|(host, last, v6)| {
                let v4 = IpAddr::from([10, 77, *host, *last]);
                let v6_ip = IpAddr::from([0xfd00, 0x77, 0, 0, 0, 0, u16::from(*host), u16::from(*last)]);
                (format!("h{host}"), if *v6 { v6_ip } else { v4 })
            })
            .collect();
        let mut sorted = published.clone();
        sorted.sort();
        let input = |published| ZoneInput {
            name: "web.example.".into(),
            ttl_s: 5,
            withheld: false,
            serial: 1,
            published,
            nameservers: vec![("h1".into(), vec![[10, 0, 0, 1].into()])],
        };
        let one = Zones::project(vec![input(published)]);
        let other = Zones::project(vec![input(sorted)]);
        prop_assert_eq!(one.all(), other.all());
        for name in ["web.example.", "h1.web.example.", "nope.web.example.", "ns.web.example."] {
            for rtype in [1_u16, 2, 6, 28, 255] {
                let bytes = ask(name, rtype).bytes();
                let answer = |zones: &Zones| {
                    let mut out = Vec::new();
                    let incoming = Incoming {
                        message: &bytes,
                        transport: Transport::Tcp,
                        source: source(),
                        turn,
                        jar: None,
                        cut: false,
                    };
                    respond(Some(zones), incoming, &mut out);
                    out
                };
                prop_assert_eq!(answer(&one), answer(&other));
            }
        }
    }

    /// Goal: no name breaks the projection: a zone or a host that can't be named is left out,
    /// its address stays published.
    /// Method: any text as zone and host names.
    #[test]
    fn any_names_project(zone in ".{0,260}", hosts in vec(".{0,70}", 0..5)) {
        let published: Vec<(String, IpAddr)> = hosts
            .iter()
            .enumerate()
            .map(|(n, host)| (host.clone(), IpAddr::from([10, 0, 0, n as u8])))
            .collect();
        let nameservers = hosts.iter().map(|h| (h.clone(), vec![[10, 1, 0, 1].into()])).collect();
        let zones = Zones::project(vec![ZoneInput {
            name: zone,
            ttl_s: u32::MAX,
            withheld: false,
            serial: u32::MAX,
            published,
            nameservers,
        }]);
        match zones.all().first() {
            None => prop_assert_eq!(zones.refused().len(), 1),
            Some(zone) => {
                let apex = zone.records().iter().filter(|r| {
                    r.name == *zone.apex() && matches!(r.data, RData::A(_))
                }).count();
                prop_assert_eq!(apex, hosts.len());
            }
        }
    }
}

/// Goal: every address goes first equally often (failover.md: answers rotate).
/// Method: 10,000 answers to A and AAAA in turn; count the first address of each A.
#[test]
fn rotation_is_even_for_a_client_that_asks_for_both_families() {
    let zones = zones();
    let mut firsts: BTreeMap<IpAddr, u32> = BTreeMap::new();
    let mut out = Vec::new();
    for turn in (0..20_000).step_by(2) {
        let bytes = ask("web.example.", 1).bytes();
        let incoming = Incoming {
            message: &bytes,
            transport: Transport::Udp,
            source: source(),
            turn,
            jar: None,
            cut: false,
        };
        respond(Some(&zones), incoming, &mut out);
        let message = Message::from_vec(&out).unwrap();
        let first = message.answers[0].data.ip_addr().unwrap();
        *firsts.entry(first).or_default() += 1;
    }
    assert_eq!(firsts.len(), 2);
    for count in firsts.values() {
        assert!((4_990..=5_010).contains(count), "{firsts:?}");
    }
}
