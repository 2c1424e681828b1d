//! RFC 8906's list of queries that name servers get wrong, and what we answer, over both
//! transports. The table in docs/protocol/dns.md has the same rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, answer_to, ask, opt, words, zones};
use dns::cookie::Jar;
use dns::wire::Incoming;
use dns::{Transport, respond};

const A: u16 = 1;
const SOA: u16 = 6;
const ZONE: &str = "web.example.";

fn soa() -> Asked {
    ask(ZONE, SOA)
}

fn flags(flags: u16) -> Asked {
    soa().with(|asked| asked.flags = flags)
}

fn edns(change: impl FnOnce(&mut common::Opt)) -> Asked {
    let mut edns = opt(1_232);
    change(&mut edns);
    soa().with(|asked| asked.opt = Some(edns))
}

fn option(code: u16, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    [&code.to_be_bytes()[..], &length.to_be_bytes(), content].concat()
}

fn several_options() -> Vec<u8> {
    // NSID, COOKIE, client subnet, EXPIRE: those that resolvers really send.
    let subnet = option(8, &[0, 1, 24, 0, 192, 0, 2]);
    [
        option(3, b""),
        option(10, b"abcdefgh"),
        subnet,
        option(9, b""),
    ]
    .concat()
}

/// Goal: the list of RFC 8906, section 8, is answered as it asks.
/// Method: its queries, row by row, by the section that names them.
#[test]
fn rfc_8906_list_is_answered_as_it_asks() {
    let found = "an[SOA web.example. 17]";
    let plain = format!("NoError aa {found}");
    let with_edns = format!("NoError aa edns0:1232 {found}");
    let rows = [
        ("8.1.1 name server, SOA", soa(), plain.clone()),
        (
            "8.1.2 unknown type",
            ask(ZONE, 1_000),
            format!("NoError aa ns[SOA {ZONE} 17]"),
        ),
        (
            "8.1.3.1 CD=1",
            flags(0x0010),
            format!("NoError aa cd {found}"),
        ),
        ("8.1.3.2 AD=1", flags(0x0020), plain.clone()),
        ("8.1.3.3 Z=1", flags(0x0040), plain.clone()),
        (
            "8.1.3.4 RD=1",
            flags(0x0100),
            format!("NoError aa rd {found}"),
        ),
        (
            "8.1.4 unknown opcode, header only",
            soa().with(|asked| {
                asked.opcode = 15;
                asked.qdcount = 0;
            }),
            "NotImp".into(),
        ),
        ("8.2.1 EDNS", edns(|_| {}), with_edns.clone()),
        (
            "8.2.2 EDNS version 100",
            edns(|o| o.version = 100),
            "BADVERS edns0:1232".into(),
        ),
        (
            "8.2.3 unknown option",
            edns(|o| o.options = option(100, b"")),
            with_edns.clone(),
        ),
        (
            "8.2.4 unknown flag",
            edns(|o| o.flags = 0x0040),
            with_edns.clone(),
        ),
        (
            "8.2.5 version 100, unknown flag",
            edns(|o| (o.version, o.flags) = (100, 0x0040)),
            "BADVERS edns0:1232".into(),
        ),
        (
            "8.2.6 version 100, unknown option",
            edns(|o| (o.version, o.options) = (100, option(100, b""))),
            "BADVERS edns0:1232".into(),
        ),
        (
            "8.2.7 small buffer, large answer",
            ask("big.example.", A).with(|asked| asked.opt = Some(opt(512))),
            "NoError aa tc edns0:1232".into(),
        ),
        (
            "8.2.8 DO=1",
            edns(|o| o.flags = 0x8000),
            format!("NoError aa edns0:1232+do {found}"),
        ),
        (
            "8.2.9 several options",
            edns(|o| o.options = several_options()),
            with_edns,
        ),
    ];
    for (row, asked, expected) in rows {
        let seen = |transport| {
            let answer = answer_to(Some(&zones()), &asked.bytes(), transport);
            words(&answer.expect("an answer"))
        };
        assert_eq!(seen(Transport::Udp), expected, "{row}");
        // TCP has no size to exceed; 8.1.5 asks for the same over it.
        if !expected.contains(" tc ") {
            assert_eq!(seen(Transport::Tcp), expected, "{row}, TCP");
        }
    }
}

/// Goal: cookies as RFC 7873 wants them: ours with an answer, alone without a question, none
/// for who sent none, FORMERR for a length that is no cookie's, and not with BADVERS.
/// Method: a query with each, answered with a jar.
#[test]
fn cookies_are_answered() {
    let jar = Jar::new(*b"a secret of test", 1_800_000_000);
    let told = |asked: Asked| {
        let mut out = Vec::new();
        let bytes = asked.bytes();
        let incoming = Incoming {
            message: &bytes,
            transport: Transport::Udp,
            source: common::source(),
            turn: 0,
            jar: Some(&jar),
            cut: false,
        };
        respond(Some(&zones()), incoming, &mut out);
        out
    };
    let cookie = |content: &[u8]| edns(|o| o.options = option(10, content));
    let first = told(cookie(b"abcdefgh"));
    let option_at = first.len() - 28;
    assert_eq!(
        first[option_at..option_at + 12],
        *b"\x00\x0a\x00\x18abcdefgh"
    );
    assert!(words(&first).starts_with("NoError aa"));
    let again = told(cookie(&first[option_at + 4..]));
    assert_eq!(first, again);
    let alone = told(cookie(b"abcdefgh").with(|asked| asked.qdcount = 0));
    assert_eq!(words(&alone), "NoError edns0:1232");
    assert_eq!(alone.len(), 12 + 11 + 28);
    assert_eq!(told(edns(|_| {})).len() + 28, first.len());
    assert_eq!(words(&told(cookie(b"abc"))), "FormErr");
    assert_eq!(
        words(&told(soa().with(|asked| asked.qdcount = 0))),
        "FormErr"
    );
    let old = told(edns(|o| {
        (o.version, o.options) = (1, option(10, b"abcdefgh"))
    }));
    assert_eq!(words(&old), "BADVERS edns0:1232");
}
