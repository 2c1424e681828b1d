//! Generated queries: usual ones in every variation, and such that are wrong in a few places.
#![allow(dead_code)]

use dns::cookie::Jar;
use dns::wire::Incoming;
use dns::{Transport, respond};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Asked, Opt, ask, opt, source, zones};

const NOW_S: u32 = 1_800_000_000;

pub fn jar() -> Jar {
    Jar::new(*b"a secret of test", NOW_S)
}

fn name() -> impl Strategy<Value = String> {
    let below = prop_oneof![
        3 => Just(String::new()),
        2 => select(vec!["h1.", "h2.", "h3.", "h199.", "ns.", "h1.ns.", "h2.ns.", "db."])
            .prop_map(str::to_owned),
        1 => "[a-zA-Z0-9_-]{1,63}\\.",
        1 => "([a-z]{1,12}\\.){1,9}",
    ];
    let apex = select(vec![
        "web.example.",
        "web.example.",
        "db.web.example.",
        "big.example.",
        "nine.example.",
        "held.example.",
        "example.",
        "other.test.",
        "",
    ]);
    (below, apex, vec(any::<bool>(), 0..40)).prop_map(|(below, apex, upper)| {
        let name = format!("{below}{apex}");
        let change = |(at, letter): (usize, char)| match upper.get(at) {
            Some(true) => letter.to_ascii_uppercase(),
            _ => letter,
        };
        name.chars().enumerate().map(change).collect()
    })
}

fn options() -> impl Strategy<Value = Vec<u8>> {
    let option = |code: u16, content: Vec<u8>| {
        let head = [code.to_be_bytes(), (content.len() as u16).to_be_bytes()];
        [head.concat(), content].concat()
    };
    let good = {
        let jar = jar();
        let mut query = opt(1_232);
        query.options = option(10, b"abcdefgh".to_vec());
        let asked = ask("web.example.", 1)
            .with(|asked| asked.opt = Some(query))
            .bytes();
        let mut out = Vec::new();
        let incoming = Incoming {
            message: &asked,
            transport: Transport::Udp,
            source: source(),
            turn: 0,
            jar: Some(&jar),
            cut: false,
        };
        respond(Some(&zones()), incoming, &mut out);
        out[out.len() - 24..].to_vec()
    };
    prop_oneof![
        6 => Just(Vec::new()),
        2 => Just(option(10, b"abcdefgh".to_vec())),
        2 => Just(option(10, good)),
        1 => vec(any::<u8>(), 24).prop_map(move |bytes| option(10, bytes)),
        1 => vec(any::<u8>(), 0..50).prop_map(move |bytes| option(10, bytes)),
        1 => (select(vec![3_u16, 8, 9, 12, 15, 65_001]), vec(any::<u8>(), 0..20))
            .prop_map(move |(code, bytes)| option(code, bytes)),
        1 => vec(any::<u8>(), 0..30),
    ]
}

fn edns() -> impl Strategy<Value = Option<Opt>> {
    let usual = prop_oneof![9 => Just(0_u8), 1 => any::<u8>()];
    let flags = prop_oneof![5 => Just(0_u16), 3 => Just(0x8000), 1 => any::<u16>()];
    let size =
        prop_oneof![2 => Just(1_232_u16), 1 => Just(512), 1 => Just(4_096), 2 => any::<u16>()];
    let some = (size, usual, flags, options()).prop_map(|(size, version, flags, options)| {
        Some(Opt {
            size,
            version,
            flags,
            options,
        })
    });
    prop_oneof![1 => Just(None), 3 => some]
}

pub fn query() -> impl Strategy<Value = Asked> {
    let rtype = prop_oneof![
        8 => select(vec![1_u16, 28, 2, 6, 255]),
        1 => 0..300_u16,
        1 => any::<u16>(),
    ];
    let class = prop_oneof![15 => Just(1_u16), 1 => any::<u16>()];
    let flags = prop_oneof![
        3 => Just(0_u16),
        4 => select(vec![0x0100_u16, 0x0120, 0x0010, 0x0130, 0x0020]),
        1 => any::<u16>().prop_map(|flags| flags & 0x87FF),
    ];
    let opcode = prop_oneof![15 => Just(0_u8), 1 => 0..16_u8];
    (name(), rtype, class, flags, opcode, edns()).prop_map(
        |(name, rtype, class, flags, opcode, edns)| {
            ask(&name, rtype).with(|asked| {
                asked.class = class;
                asked.flags = flags;
                asked.opcode = opcode;
                asked.opt = edns;
            })
        },
    )
}

/// A query with some bytes hit, cut off or added.
pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let hits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (query(), hits, 0..16_usize, vec(any::<u8>(), 0..12), 0..4_u8).prop_map(
        |(query, hits, cut, tail, how)| {
            let mut bytes = query.bytes();
            for (index, value) in hits {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            if how == 0 {
                bytes.truncate(bytes.len().saturating_sub(cut));
            }
            if how == 1 {
                bytes.extend(tail);
            }
            bytes
        },
    )
}
