//! What a resolver sees, row by row: one question in bytes, one answer in words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, SERIAL, answer_to, ask, opt, words, zones};
use dns::{Transport, ZoneInput, Zones};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const MX: u16 = 15;
const AAAA: u16 = 28;
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;

fn check(rows: Vec<(&str, Asked, &str)>) {
    let zones = zones();
    let mut wrong = Vec::new();
    for (row, asked, expected) in rows {
        let answer = answer_to(Some(&zones), &asked.bytes(), Transport::Udp);
        let seen = answer.map_or_else(|| "dropped".into(), |answer| words(&answer));
        if seen != expected {
            wrong.push(format!("{row}\n  expected {expected}\n  seen     {seen}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Goal: what exists is answered with authority, what doesn't with the SOA.
/// Method: each name and type of the zone, and its neighbours that are not there.
#[test]
fn names_of_the_zone_are_answered() {
    let soa = format!("ns[SOA web.example. {SERIAL}]");
    let nodata = format!("NoError aa {soa}");
    let nxdomain = format!("NXDomain aa {soa}");
    check(vec![
        (
            "apex A",
            ask("web.example.", A),
            "NoError aa an[A 10.77.0.101, A 10.77.0.102]",
        ),
        (
            "apex AAAA",
            ask("web.example.", AAAA),
            "NoError aa an[AAAA fd00:77::101]",
        ),
        (
            "apex SOA",
            ask("web.example.", SOA),
            "NoError aa an[SOA web.example. 17]",
        ),
        (
            "apex NS with glue",
            ask("web.example.", NS),
            "NoError aa an[NS h1.ns.web.example., NS h2.ns.web.example.] ar[A 10.77.0.1, A 10.77.0.2, AAAA fd00:77::2]",
        ),
        (
            "apex ANY: one set",
            ask("web.example.", ANY),
            "NoError aa an[A 10.77.0.101, A 10.77.0.102]",
        ),
        ("apex MX", ask("web.example.", MX), &nodata),
        (
            "apex of an unknown type",
            ask("web.example.", 4_711),
            &nodata,
        ),
        (
            "host A",
            ask("h1.web.example.", A),
            "NoError aa an[A 10.77.0.101]",
        ),
        (
            "host AAAA",
            ask("h1.web.example.", AAAA),
            "NoError aa an[AAAA fd00:77::101]",
        ),
        ("host without AAAA", ask("h2.web.example.", AAAA), &nodata),
        (
            "host ANY",
            ask("h2.web.example.", ANY),
            "NoError aa an[A 10.77.0.102]",
        ),
        ("host SOA", ask("h1.web.example.", SOA), &nodata),
        ("unpublished host", ask("h3.web.example.", A), &nxdomain),
        ("unknown name", ask("nope.web.example.", A), &nxdomain),
        ("below a host", ask("x.h1.web.example.", A), &nxdomain),
        ("far below", ask("a.b.c.d.e.web.example.", MX), &nxdomain),
        ("empty non-terminal", ask("ns.web.example.", A), &nodata),
        (
            "empty non-terminal ANY",
            ask("ns.web.example.", ANY),
            &nodata,
        ),
        (
            "name server",
            ask("h2.ns.web.example.", AAAA),
            "NoError aa an[AAAA fd00:77::2]",
        ),
        (
            "no such name server",
            ask("h3.ns.web.example.", A),
            &nxdomain,
        ),
        (
            "mixed case",
            ask("H1.wEb.EXAMPLE.", A),
            "NoError aa an[A 10.77.0.101]",
        ),
        (
            "the deeper zone wins",
            ask("db.web.example.", A),
            "NoError aa an[A 10.77.0.202]",
        ),
        (
            "name in the deeper zone",
            ask("h1.db.web.example.", A),
            "NXDomain aa ns[SOA db.web.example. 3]",
        ),
        (
            "DS is not here",
            ask("db.web.example.", 43),
            "NoError aa ns[SOA db.web.example. 3]",
        ),
    ]);
}

/// Goal: what is not ours or not served yet is refused, never guessed at.
/// Method: other zones, classes, transfers.
#[test]
fn what_is_not_ours_is_refused() {
    let class = |class| ask("web.example.", A).with(|asked| asked.class = class);
    check(vec![
        ("other zone", ask("www.other.test.", A), "Refused"),
        ("parent", ask("example.", SOA), "Refused"),
        ("root", ask(".", NS), "Refused"),
        (
            "same ending, other label",
            ask("xweb.example.", A),
            "Refused",
        ),
        ("CH", class(3), "Refused"),
        ("class ANY", class(255), "Refused"),
        ("AXFR", ask("web.example.", AXFR), "Refused"),
        ("IXFR", ask("web.example.", IXFR), "Refused"),
    ]);
}

/// Goal: header bits are those of an authoritative server, whatever the client sets.
/// Method: flags set in the query, other operations, wrong counts.
#[test]
fn headers_are_right_and_wrong_ones_are_refused() {
    let flags = |flags| ask("h2.web.example.", A).with(|asked| asked.flags = flags);
    let opcode = |opcode| ask("web.example.", SOA).with(|asked| asked.opcode = opcode);
    let found = "an[A 10.77.0.102]";
    check(vec![
        (
            "RD is copied, RA is not set",
            flags(0x0100),
            &format!("NoError aa rd {found}"),
        ),
        (
            "CD is copied",
            flags(0x0010),
            &format!("NoError aa cd {found}"),
        ),
        (
            "AD, Z, RA, AA, TC are not",
            flags(0x06E0),
            &format!("NoError aa {found}"),
        ),
        ("a response is never answered", flags(0x8000), "dropped"),
        ("IQUERY", opcode(1), "NotImp"),
        ("STATUS", opcode(2), "NotImp"),
        ("NOTIFY", opcode(4), "NotImp"),
        ("UPDATE", opcode(5), "NotImp"),
        ("unassigned operation", opcode(15), "NotImp"),
        (
            "no question",
            ask("web.example.", A).with(|a| a.qdcount = 0),
            "FormErr",
        ),
        (
            "two questions",
            ask("web.example.", A).with(|a| a.qdcount = 2),
            "FormErr",
        ),
        (
            "an answer in the query",
            ask("web.example.", A).with(|a| {
                a.counts = [1, 0, 0];
                a.tail = b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04".to_vec();
            }),
            "FormErr",
        ),
        (
            "a missing record",
            ask("web.example.", A).with(|a| a.counts = [0, 0, 1]),
            "FormErr",
        ),
        (
            "trailing bytes",
            ask("h2.web.example.", A).with(|a| a.tail = vec![1, 2, 3]),
            &format!("NoError aa {found}"),
        ),
    ]);
}

/// Goal: EDNS is answered with our own, and only version 0 is spoken.
/// Method: sizes, versions, DO, unknown options and flags, two OPT records.
#[test]
fn edns_is_answered_with_ours() {
    let with = |opt| ask("h2.web.example.", A).with(|asked| asked.opt = Some(opt));
    let found = "NoError aa edns0:1232 an[A 10.77.0.102]";
    let mut dnssec_ok = opt(4_096);
    dnssec_ok.flags = 0xC001;
    let mut version = opt(1_232);
    version.version = 1;
    let mut cookie = opt(1_232);
    cookie.options = b"\x00\x0a\x00\x08abcdefgh\xfd\xe9\x00\x02xy".to_vec();
    let mut torn = opt(1_232);
    torn.options = b"\x00\x0a\x00\x08abc".to_vec();
    let second = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00".to_vec();
    check(vec![
        ("usual", with(opt(1_232)), found),
        ("size 0", with(opt(0)), found),
        ("size 65535", with(opt(65_535)), found),
        (
            "DO is copied, other flags are not",
            with(dnssec_ok),
            "NoError aa edns0:1232+do an[A 10.77.0.102]",
        ),
        ("unknown options", with(cookie), found),
        ("torn option", with(torn), "FormErr"),
        ("version 1", with(version), "BADVERS edns0:1232"),
        (
            "two OPT",
            with(opt(1_232)).with(|asked| {
                asked.counts = [0, 0, 1];
                asked.tail = second;
            }),
            "FormErr",
        ),
        (
            "NXDOMAIN",
            ask("nope.web.example.", A).with(|asked| asked.opt = Some(opt(1_232))),
            "NXDomain aa edns0:1232 ns[SOA web.example. 17]",
        ),
        (
            "REFUSED",
            ask("other.test.", A).with(|asked| asked.opt = Some(opt(1_232))),
            "Refused edns0:1232",
        ),
    ]);
}

/// Goal: an answer that does not fit says so and holds no part of a set; TCP has it whole.
/// Method: 200 addresses (3.2 KiB) over UDP without and with EDNS, and over TCP.
#[test]
fn big_sets_are_whole_or_truncated() {
    let zones = zones();
    let size = |size| ask("big.example.", A).with(|asked| asked.opt = Some(opt(size)));
    for asked in [ask("big.example.", A), size(512), size(4_096)] {
        let udp = answer_to(Some(&zones), &asked.bytes(), Transport::Udp).unwrap();
        let expected = match asked.opt {
            None => "NoError aa tc",
            Some(_) => "NoError aa tc edns0:1232",
        };
        assert_eq!(words(&udp), expected);
        let tcp = answer_to(Some(&zones), &asked.bytes(), Transport::Tcp).unwrap();
        let message = Message::from_vec(&tcp).unwrap();
        assert!(!message.metadata.truncation);
        assert_eq!(message.answers.len(), 200);
    }
}

/// Goal: no UDP answer is larger than the client takes, or than 1232 bytes; additional
/// records that don't fit are left out without TC.
/// Method: a zone with n name servers, n from 1 to 60; NS at sizes 512 and 4096.
#[test]
fn answers_stay_within_the_size() {
    let mut without_glue = 0;
    for count in 1..=60_u8 {
        let nameservers = (0..count)
            .map(|n| (format!("server{n}"), vec![[10, 0, 0, n + 1].into()]))
            .collect();
        let zones = Zones::project(vec![ZoneInput {
            name: "web.example".into(),
            ttl_s: 5,
            withheld: false,
            serial: 1,
            published: Vec::new(),
            nameservers,
        }]);
        for (offered, limit) in [(None, 512), (Some(512), 512), (Some(4_096), 1_232)] {
            let asked = ask("web.example.", NS).with(|asked| asked.opt = offered.map(opt));
            let bytes = answer_to(Some(&zones), &asked.bytes(), Transport::Udp).unwrap();
            assert!(bytes.len() <= limit, "{count} {}", bytes.len());
            let message = Message::from_vec(&bytes).unwrap();
            assert_eq!(message.edns.is_some(), offered.is_some());
            let whole = message.answers.len() == usize::from(count);
            assert_eq!(whole, !message.metadata.truncation);
            assert!(whole || message.answers.is_empty());
            without_glue += usize::from(whole && message.additionals.is_empty());
        }
    }
    assert!(without_glue > 0, "the middle case was not met");
}

/// Goal: the question comes back byte for byte, and owners are spelled as asked (0x20).
/// Method: a mixed-case question, positive and negative; compare bytes and owners.
#[test]
fn case_of_the_question_is_kept() {
    let zones = zones();
    for name in ["H1.wEb.EXAMPLE.", "nOpE.wEb.EXAMPLE."] {
        let asked = ask(name, A).bytes();
        let answer = answer_to(Some(&zones), &asked, Transport::Udp).unwrap();
        assert_eq!(answer[12..asked.len()], asked[12..]);
        let message = Message::from_vec(&answer).unwrap();
        for record in message.answers.iter().chain(&message.authorities) {
            assert!(name.ends_with(&record.name.to_string()), "{}", record.name);
        }
        // The owner is a pointer into the question.
        assert_eq!(answer[asked.len()] & 0xC0, 0xC0);
    }
}

/// Goal: negative answers are cached as long as the zone's TTL says, no longer (RFC 2308).
/// Method: TTL of the SOA and its minimum in an NXDOMAIN.
#[test]
fn negative_ttl_is_the_smaller_of_soa_ttl_and_minimum() {
    let asked = ask("nope.web.example.", A).bytes();
    let answer = answer_to(Some(&zones()), &asked, Transport::Udp).unwrap();
    let message = Message::from_vec(&answer).unwrap();
    let [record] = message.authorities.as_slice() else {
        panic!("one SOA expected");
    };
    let RData::SOA(soa) = &record.data else {
        panic!("SOA expected");
    };
    assert_eq!((record.ttl, soa.minimum), (5, 5));
    assert_eq!(soa.mname.to_string(), "h1.ns.web.example.");
    assert_eq!(soa.rname.to_string(), "hostmaster.web.example.");
}

/// Goal: a node that does not know what is true says so, and still refuses what is malformed.
/// Method: no zones; a query, an old version, a broken header.
#[test]
fn node_without_state_answers_servfail() {
    let answer = |asked: Asked| {
        let bytes = answer_to(None, &asked.bytes(), Transport::Udp).unwrap();
        words(&bytes)
    };
    assert_eq!(answer(ask("web.example.", A)), "ServFail");
    let with_edns = ask("web.example.", A).with(|asked| asked.opt = Some(opt(1_232)));
    assert_eq!(answer(with_edns), "ServFail edns0:1232");
    assert_eq!(
        answer(ask("web.example.", A).with(|a| a.qdcount = 0)),
        "FormErr"
    );
}

/// Goal: a compressed question is refused: its echo would point into a header that changed.
/// Method: the question of hickory-dns issue 2210, and a pointer after a label.
#[test]
fn compressed_question_is_a_format_error() {
    for question in [
        &b"\xc0\x00"[..],
        b"\x03web\xc0\x04",
        b"\x40x\x00",
        b"\x3fshort",
    ] {
        let mut bytes = b"\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        bytes.extend(question);
        bytes.extend(b"\x00\x01\x00\x01");
        let answer = answer_to(Some(&zones()), &bytes, Transport::Udp).unwrap();
        assert_eq!(words(&answer), "FormErr");
        assert_eq!(answer.len(), 12);
    }
}
