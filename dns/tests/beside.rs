//! The same queries to us, to NSD and to Knot, which have the zone from us by AXFR: what differs is
//! explained, or the test fails.
//!
//! 3,000 queries, 100,000 with RAIS_LONG=1, over UDP: all types, flags, EDNS, sizes, cases, and
//! messages that are wrong somewhere. A process of its own, since it starts children: see dig.rs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod program;
mod secondary;

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::queries::{damaged, query};
use common::{settings, zones};
use dns::tsig::Keys;
use dns::{DnsServer, Primary, Secondaries, Zones};
use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::Record;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use secondary::{Kind, Secondary};
use statemachine::Network;

/// Queries on their way at once.
const AT_ONCE: usize = 64;
/// An answer on loopback that has not come by then was not sent.
const PATIENCE: Duration = Duration::from_millis(60);
/// And this long for one query alone, on a loaded machine.
const LAST: Duration = Duration::from_millis(250);

/// Response codes.
const FORMERR: u16 = 1;
const NOTIMP: u16 = 4;
const REFUSED: u16 = 5;
const NOTAUTH: u16 = 9;
const BADVERS: u16 = 16;
/// Flags of a header: QR; AA, TC and a response code; RA; CD.
const RESPONSE: u8 = 0x80;
const NO_QUERY_HAS: u16 = 0x060f;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;
const ODD: &str =
    "AA, TC or RCODE in a query: not looked at (RFC 1035, 4.1.1); FORMERR or nothing there";
/// Options of EDNS.
const CLIENT_SUBNET: u16 = 8;
const COOKIE: u16 = 10;

/// An answer, as far as two servers should agree on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    rcode: u16,
    opcode: u8,
    aa: bool,
    tc: bool,
    rd: bool,
    ra: bool,
    ad: bool,
    cd: bool,
    question: Vec<String>,
    answers: Vec<String>,
    authorities: Vec<String>,
    additionals: Vec<String>,
    /// Version, and whether DO is set.
    edns: Option<(u8, bool)>,
}

fn words(records: &[Record]) -> Vec<String> {
    let mut words: Vec<String> = records
        .iter()
        .map(|record| record.to_string().to_ascii_lowercase())
        .collect();
    words.sort();
    words
}

fn read(bytes: &[u8]) -> Option<Seen> {
    let message = Message::from_vec(bytes).ok()?;
    let edns = message.edns.as_ref();
    let head = &message.metadata;
    assert_eq!(head.message_type, MessageType::Response);
    Some(Seen {
        rcode: u16::from(head.response_code),
        opcode: head.op_code.into(),
        aa: head.authoritative,
        tc: head.truncation,
        rd: head.recursion_desired,
        ra: head.recursion_available,
        ad: head.authentic_data,
        cd: head.checking_disabled,
        question: message.queries.iter().map(ToString::to_string).collect(),
        answers: words(&message.answers),
        authorities: words(&message.authorities),
        additionals: words(&message.additionals),
        edns: edns.map(|edns| (edns.version(), edns.flags().dnssec_ok)),
    })
}

/// What a server said: nothing, something that is no message, or an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Noise(Vec<u8>),
    Answer(Box<Seen>),
}

struct Server {
    name: &'static str,
    socket: UdpSocket,
    /// The number of the first query on its way.
    first: u16,
}

impl Server {
    fn new(name: &'static str, address: SocketAddr) -> Server {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        let first = 0;
        Server {
            name,
            socket,
            first,
        }
    }

    /// Asks all at once, and the silent ones once more alone.
    fn ask_all(&mut self, queries: &[Vec<u8>]) -> Vec<Said> {
        // Numbers of their own, so that an answer that comes late is not taken for another's.
        self.first = self.first.wrapping_add(AT_ONCE as u16);
        let numbered = |(number, query): (usize, &Vec<u8>)| {
            let mut query = query.clone();
            query[..2].copy_from_slice(&self.first.wrapping_add(number as u16).to_be_bytes());
            query
        };
        let queries: Vec<Vec<u8>> = queries.iter().enumerate().map(numbered).collect();
        let mut said = vec![Said::Nothing; queries.len()];
        for query in &queries {
            self.socket.send(query).unwrap();
        }
        // Nobody answers a response.
        let asks = |query: &Vec<u8>| query.get(2).is_none_or(|flags| flags & RESPONSE == 0);
        let asked: Vec<usize> = (0..queries.len()).filter(|n| asks(&queries[*n])).collect();
        self.hear(&mut said, &asked, PATIENCE);
        for (number, query) in queries.iter().enumerate() {
            if said[number] == Said::Nothing && asks(query) && strictly(query).is_some() {
                self.socket.send(query).unwrap();
                self.hear(&mut said, &[number], LAST);
            }
        }
        said
    }

    /// Until all of `awaited` are answered, or none comes any more.
    fn hear(&self, said: &mut [Said], awaited: &[usize], patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let waits = |said: &[Said]| awaited.iter().any(|n| said[*n] == Said::Nothing);
        while waits(said) && self.take(said).is_some() {}
    }

    fn take(&self, said: &mut [Said]) -> Option<()> {
        let mut buffer = [0; 65_535];
        let length = self.socket.recv(&mut buffer).ok()?;
        let bytes = &buffer[..length];
        let number = u16::from_be_bytes([bytes[0], bytes[1]]).wrapping_sub(self.first);
        if let Some(said) = said.get_mut(usize::from(number)) {
            *said = match read(bytes) {
                Some(seen) => Said::Answer(Box::new(seen)),
                None => Said::Noise(bytes.to_vec()),
            };
        }
        Some(())
    }
}

/// A query as a strict reader sees it.
struct Asked {
    opcode: u8,
    rtype: u16,
    class: u16,
    /// Codes of EDNS.
    options: Vec<u16>,
}

/// Reads a query that is right in all places; one question, at most an OPT record, nothing after it.
fn strictly(query: &[u8]) -> Option<Asked> {
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    let counts = [word(4)?, word(6)?, word(8)?, word(10)?];
    if counts[..3] != [1, 0, 0] || counts[3] > 1 {
        return None;
    }
    let mut at = 12;
    loop {
        match usize::from(*query.get(at)?) {
            0 => break,
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    at += 1;
    let (rtype, class) = (word(at)?, word(at + 2)?);
    let name = at - 12;
    at += 4;
    let mut options = Vec::new();
    if counts[3] == 1 {
        if *query.get(at)? != 0 || word(at + 1)? != 41 {
            return None;
        }
        let end = at + 11 + usize::from(word(at + 9)?);
        at += 11;
        while at < end {
            options.push(word(at)?);
            at += 4 + usize::from(word(at + 2)?);
        }
        if at != end {
            return None;
        }
    }
    (at == query.len() && name <= 255).then_some(Asked {
        opcode: query[2] >> 3 & 15,
        rtype,
        class,
        options,
    })
}

/// Why an answer of ours and one of another server differ; `None`: nobody knows.
fn explained(query: &[u8], ours: &Said, theirs: &Said) -> Option<&'static str> {
    let flags = query
        .get(2..4)
        .map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
    match strictly(query) {
        Some(asked) => careful(&asked, ours, theirs),
        None => careless(ours, theirs),
    }
    .or_else(|| {
        let odd = flags & NO_QUERY_HAS != 0;
        match (ours, theirs) {
            (Said::Answer(_), Said::Nothing) if odd => Some(ODD),
            (Said::Answer(_), Said::Answer(theirs)) if odd && theirs.rcode == FORMERR => Some(ODD),
            (Said::Answer(ours), Said::Answer(theirs)) => same_but_for(flags, ours, theirs),
            _ => None,
        }
    })
}

/// For a query that is right in all places.
fn careful(asked: &Asked, ours: &Said, theirs: &Said) -> Option<&'static str> {
    let Said::Answer(ours) = ours else {
        return None;
    };
    if asked.opcode != 0 {
        let right = ours.rcode == NOTIMP && ours.question.is_empty();
        return right.then_some("another operation: NOTIMP and the header alone");
    }
    if ours.rcode == FORMERR && asked.options.contains(&COOKIE) {
        return Some("a cookie of a wrong length: FORMERR (RFC 7873, 5.2.2); they have no cookies");
    }
    if ours.rcode == FORMERR && asked.options.contains(&CLIENT_SUBNET) {
        return Some("a client subnet that is none: FORMERR (RFC 7871, 7.1.2); they don't read it");
    }
    let Said::Answer(theirs) = theirs else {
        return (asked.class != 1).then_some("another class: REFUSED; they say nothing");
    };
    if asked.rtype == 0 && theirs.rcode == NOTIMP {
        return Some("type 0: as any that is not there; NOTIMP there");
    }
    None
}

/// For a query that is wrong somewhere: each may refuse it, overlook it, or say nothing.
fn careless(ours: &Said, theirs: &Said) -> Option<&'static str> {
    let refuses = |said: &Said| match said {
        Said::Nothing => true,
        Said::Noise(_) => false,
        Said::Answer(seen) => [FORMERR, NOTIMP].contains(&seen.rcode),
    };
    if refuses(ours) {
        return Some("wrong somewhere: refused here");
    }
    refuses(theirs).then_some("wrong somewhere: overlooked here")
}

/// Differences that stand beside one another: each is taken away, and then nothing is left.
fn same_but_for(flags: u16, ours: &Seen, theirs: &Seen) -> Option<&'static str> {
    let transfer = ours
        .question
        .iter()
        .any(|question| question.ends_with("XFR"));
    if transfer && ours.rcode == REFUSED && [NOTIMP, NOTAUTH].contains(&theirs.rcode) {
        return Some("a transfer of no zone: REFUSED; NOTIMP or NOTAUTH there");
    }
    let mut theirs = theirs.clone();
    let mut why = None;
    if theirs.rcode == BADVERS && ours.rcode == BADVERS && flags & (NO_QUERY_HAS | RA) != 0 {
        (theirs.aa, theirs.tc, theirs.ra) = (false, false, false);
        why = Some("BADVERS: with flags of a response; with the query's there");
    }
    if ours.cd != theirs.cd && ours.cd == (flags & CD != 0) {
        theirs.cd = ours.cd;
        why = Some("CD: copied (RFC 4035, 3.1.6); cleared there");
    }
    if ours.edns == Some((0, true)) && theirs.edns == Some((0, false)) {
        theirs.edns = ours.edns;
        why = Some("DO: copied (RFC 3225, 3); cleared there where nothing is signed");
    }
    let other_class = ours
        .question
        .iter()
        .any(|question| !question.contains(" IN "));
    if ours.rcode == REFUSED && theirs.question.is_empty() && other_class {
        theirs.question.clone_from(&ours.question);
        why = Some("another class: REFUSED with the question; without there");
    }
    let glued = theirs
        .authorities
        .iter()
        .all(|record| record.contains(" in ns "));
    if !ours.answers.is_empty() && !theirs.authorities.is_empty() && glued {
        theirs.authorities.clear();
        theirs.additionals.clear();
        why = Some("an answer: alone; with name servers and their addresses there");
    }
    (*ours == theirs).then_some(why).flatten()
}

/// What differs, in words.
fn differences(ours: &Said, theirs: &Said) -> String {
    let (Said::Answer(ours), Said::Answer(theirs)) = (ours, theirs) else {
        let kind = |said: &Said| match said {
            Said::Nothing => "nothing".to_owned(),
            Said::Noise(_) => "noise".to_owned(),
            Said::Answer(seen) => format!("rcode {}", seen.rcode),
        };
        return format!("{} / {}", kind(ours), kind(theirs));
    };
    fn part<T: PartialEq + std::fmt::Debug>(name: &str, ours: &T, theirs: &T) -> Option<String> {
        (ours != theirs).then(|| format!("{name} {ours:?}/{theirs:?}"))
    }
    let parts = [
        part("rcode", &ours.rcode, &theirs.rcode),
        part("aa", &ours.aa, &theirs.aa),
        part("tc", &ours.tc, &theirs.tc),
        part("rd", &ours.rd, &theirs.rd),
        part("ra", &ours.ra, &theirs.ra),
        part("ad", &ours.ad, &theirs.ad),
        part("cd", &ours.cd, &theirs.cd),
        part("opcode", &ours.opcode, &theirs.opcode),
        part("question", &ours.question, &theirs.question),
        part("answers", &ours.answers, &theirs.answers),
        part("authorities", &ours.authorities, &theirs.authorities),
        part("additionals", &ours.additionals, &theirs.additionals),
        part("edns", &ours.edns, &theirs.edns),
    ];
    let differing: Vec<String> = parts.into_iter().flatten().collect();
    differing.join(", ")
}

/// Our server with the zone `web.example.` alone, open to transfers.
fn ours() -> (DnsServer, Arc<Primary>) {
    let web = zones().inputs()[0].clone();
    let zones = Arc::new(Zones::project(vec![web]));
    let shared = Arc::new(ArcSwap::new(zones.clone()));
    let primary = Arc::new(Primary::new(Keys::new(Vec::new())));
    let mut settings = settings();
    settings.rate = None;
    let address = "127.0.0.1:0".parse().unwrap();
    let server = DnsServer::bind_primary(&[address], shared, primary.clone(), settings).unwrap();
    let all = Network {
        ip: "127.0.0.0".parse().unwrap(),
        prefix_len: 8,
    };
    let open = Secondaries {
        zone: "web.example.".into(),
        notify: Vec::new(),
        allow: vec![all],
        key: None,
        rank: 0,
    };
    primary.take_in(vec![open], &zones);
    server.set_ready(true);
    (server, primary)
}

/// The same queries each time: usual and damaged in turn.
fn queries(count: usize) -> Vec<Vec<u8>> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (usual, damaged) = (query(), damaged());
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let bytes = match all.len() % 2 {
            0 => usual.new_tree(&mut runner).unwrap().current().bytes(),
            _ => damaged.new_tree(&mut runner).unwrap().current(),
        };
        if bytes.len() >= 2 {
            all.push(bytes);
        }
    }
    all
}

/// Goal: a person or a program that asks us sees what it would from NSD or Knot.
/// Method: generated queries to all three, each difference named by a rule.
#[test]
fn what_differs_from_nsd_and_knot_is_explained() {
    let (server, _primary) = ours();
    let at = server.addresses()[0];
    let count = match std::env::var_os("RAIS_LONG") {
        Some(_) => 100_000,
        None => 3_000,
    };
    let queries = queries(count);
    let mut us = Server::new("rais", at);
    let mut tally: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for (kind, name) in [(Kind::Nsd, "NSD"), (Kind::Knot, "Knot")] {
        if !kind.is_installed() {
            continue;
        }
        let mut other = Secondary::new(kind, at, false);
        other.start();
        other.reaches(common::SERIAL, Duration::from_secs(30));
        let mut them = Server::new(name, other.address());
        for chunk in queries.chunks(AT_ONCE) {
            let (ours, theirs) = (us.ask_all(chunk), them.ask_all(chunk));
            for ((query, ours), theirs) in chunk.iter().zip(ours).zip(theirs) {
                if ours == theirs {
                    continue;
                }
                let why = explained(query, &ours, &theirs);
                let line = match why {
                    Some(why) => format!("{name}: {why}"),
                    None => format!("{name}: UNEXPLAINED {}", differences(&ours, &theirs)),
                };
                let row = tally.entry(line).or_insert_with(|| {
                    (
                        0,
                        format!("{query:02x?}\n  rais {ours:?}\n  {} {theirs:?}", them.name),
                    )
                });
                row.0 += 1;
            }
        }
    }
    let mut unexplained = 0;
    for (line, (count, example)) in &tally {
        println!("{count:6} {line}");
        if line.contains("UNEXPLAINED") {
            unexplained += count;
            println!("       {example}");
        }
    }
    assert_eq!(unexplained, 0, "of {count} queries, see above");
}
