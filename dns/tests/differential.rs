//! The short way and the long way to an answer give the same bytes.
//!
//! Queries are generated: usual ones in every variation, and such that are wrong in a few places.
//! A release build compares 100,000 of each kind, a debug build some thousands.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::queries::{damaged, jar, query};
use common::{ask, opt, source, zones};
use dns::hot::{HotPath, Moment};
use dns::limit::Verdict;
use dns::wire::Incoming;
use dns::{Handled, Transport, Zones, respond};
use proptest::prelude::*;

const BUFFER: usize = 4_096;

/// Compares both ways; returns whether the short one answered.
fn compare(zones: &Zones, message: &[u8], turn: u64, verdict: Verdict, with_jar: bool) -> bool {
    let jar = with_jar.then(jar);
    let mut buffer = [0xA5; BUFFER];
    let length = message.len().min(BUFFER);
    buffer[..length].copy_from_slice(&message[..length]);
    let before = buffer;
    let moment = Moment {
        client: source().ip(),
        turn,
        jar: jar.as_ref(),
    };
    let short = HotPath::default().answer(zones, moment, &mut buffer, length, |_| verdict);
    let Some((handled, answered)) = short else {
        assert_eq!(
            buffer, before,
            "a query that is left to the other way was touched"
        );
        return false;
    };
    let mut long = Vec::new();
    let incoming = Incoming {
        message: &message[..length],
        transport: Transport::Udp,
        source: source(),
        turn,
        jar: jar.as_ref(),
        cut: verdict == Verdict::Slip,
    };
    let expected = respond(Some(zones), incoming, &mut long);
    if let Handled::Answered { vouched: true, .. } = expected {
        // Who has our cookie is not judged, so both ways give the whole answer.
        let whole = Incoming {
            cut: false,
            ..incoming
        };
        assert_eq!(
            respond(Some(zones), whole, &mut long),
            handled,
            "{message:02x?}"
        );
    } else if handled == Handled::Limited {
        assert_eq!((verdict, answered), (Verdict::Drop, 0));
        return true;
    } else {
        assert_eq!(handled, expected, "{message:02x?}");
    }
    assert_eq!(buffer[..answered], long[..], "{message:02x?}");
    true
}

fn cases() -> u32 {
    if cfg!(debug_assertions) {
        5_000
    } else {
        100_000
    }
}

/// The usual zones, one whose name servers just fit or just don't, and one that is withheld.
fn world() -> Zones {
    let mut inputs = zones().inputs().to_vec();
    inputs.push(dns::ZoneInput {
        name: "nine.example.".into(),
        ttl_s: 300,
        withheld: false,
        serial: u32::MAX,
        published: vec![("a".into(), [10, 9, 0, 1].into())],
        nameservers: (0..24_u8)
            .map(|n| (format!("server-{n}"), vec![[10, 9, 1, n].into()]))
            .collect(),
    });
    inputs.push(dns::ZoneInput {
        name: "held.example.".into(),
        ttl_s: 5,
        serial: 3,
        withheld: true,
        published: vec![("h1".into(), [10, 9, 2, 1].into())],
        nameservers: vec![("h1".into(), vec![[10, 9, 2, 2].into()])],
    });
    Zones::project(inputs)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![6 => Just(Verdict::Send), 2 => Just(Verdict::Slip), 1 => Just(Verdict::Drop)]
}

/// Goal: whatever the short way answers, it answers as the long way does, byte for byte, and
/// what it does not answer it leaves alone; and it answers most of what is usual.
/// Method: generated queries of all names, types, flags, EDNS and cookies, at every turn.
#[test]
fn usual_queries_get_the_same_bytes() {
    let zones = world();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let answered = std::cell::Cell::new(0_u32);
    runner
        .run(
            &(query(), any::<u64>(), verdict(), any::<bool>()),
            |(query, turn, verdict, with_jar)| {
                let short = compare(&zones, &query.bytes(), turn, verdict, with_jar);
                answered.set(answered.get() + u32::from(short));
                Ok(())
            },
        )
        .unwrap();
    assert!(
        answered.get() > cases() / 3,
        "{} of {}",
        answered.get(),
        cases()
    );
}

/// Goal: the same for queries that are wrong somewhere.
/// Method: generated queries with bytes hit, cut off or added.
#[test]
fn damaged_queries_get_the_same_bytes() {
    let zones = world();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(
            &(damaged(), any::<u64>(), verdict()),
            |(bytes, turn, verdict)| {
                compare(&zones, &bytes, turn, verdict, true);
                Ok(())
            },
        )
        .unwrap();
}

/// Goal: what clients ask every day takes the short way.
/// Method: each usual name and type, with and without EDNS and cookie, in mixed case.
#[test]
fn every_day_queries_take_the_short_way() {
    let zones = world();
    for name in [
        "web.example.",
        "WeB.exaMPLE.",
        "h1.web.example.",
        "nope.web.example.",
        "x.test.",
        "held.example.",
        "h1.held.example.",
        "nope.held.example.",
    ] {
        for rtype in [1, 28, 2, 6, 15, 16, 65, 255, 4_711] {
            let plain = ask(name, rtype).with(|asked| asked.flags = 0x0120);
            let mut dig = opt(1_232);
            dig.options = b"\x00\x0a\x00\x08abcdefgh".to_vec();
            let mut resolver = opt(1_400);
            resolver.flags = 0x8000;
            for edns in [None, Some(opt(4_096)), Some(dig), Some(resolver)] {
                let asked = plain.clone().with(|asked| asked.opt = edns.clone());
                let short = compare(&zones, &asked.bytes(), 3, Verdict::Send, true);
                assert!(short, "{name} {rtype} {edns:?}");
            }
        }
    }
}
