//! Every decoder that others' bytes or a disk's reach, under `chaos::fuzz`: log entry, snapshot, Raft's
//! messages, frame, heartbeat, last word, orders between node, warden and runner, joins, DNS messages,
//! signatures, replies to updates, configuration, token.
//!
//! What decodes must encode to something that decodes to the same. A checksum in front is made to fit,
//! or nothing behind it would ever be read. `corpus/NAME.txt` keeps what once led to a new verdict or
//! broke something; `RAIS_FUZZ_KEEP=1` adds to it. Longer with RAIS_LONG=1; RAIS_SEED chooses.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Debug;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use chaos::fuzz::{Target, fuzz, lines};
use control::{EntryId, Heartbeat, HeldPhase, HeldReport, HostAction, Instant, Message, Orders};
use dns::tsig::{Algorithm, Key, Keys, Signer};
use dns::wire::{Incoming, Transport, respond};
use dns::{Zones, tsig, update};
use host::line;
use monitor::runner::wire as runner;
use serde::Serialize;
use serde::de::DeserializeOwned;
use statemachine::{Epoch, GroupName, HostId, codec};

use crate::daemon::{datagram, wire as bodies};
use crate::pki::{Fingerprint, JoinToken};
use crate::raft;
use crate::transport::frame::{HEADER, Header, Trust};
use crate::warden::{wire as warden, word};

/// Inputs for each decoder, in the short and in the long form.
const INPUTS: u64 = 20_000;
const LONG_INPUTS: u64 = 1_000_000;
/// Inputs kept for each, so that the corpus stays small.
const KEPT: usize = 40;
/// What a name server may answer over UDP, in bytes.
const UDP_ANSWER: usize = 1_232;
/// When the signatures were made, in s.
const SIGNED_AT: u64 = 1_800_000_000;

/// Runs a decoder under the fuzzer.
fn walk(name: &'static str, seeds: Vec<Vec<u8>>, kept: &str, decode: &dyn Fn(&[u8]) -> String) {
    let corpus = [seeds, lines(kept)].concat();
    let seed = std::env::var("RAIS_SEED").ok();
    let seed = seed.and_then(|text| text.parse().ok()).unwrap_or(1);
    let long = std::env::var_os("RAIS_LONG").is_some();
    let inputs = if long { LONG_INPUTS } else { INPUTS };
    let target = Target {
        name,
        corpus,
        decode,
    };
    let walk = fuzz(&target, seed, inputs).unwrap_or_else(|fatal| panic!("{fatal}"));
    println!("{name}: {inputs} inputs, {} verdicts", walk.verdicts.len());
    assert!(
        walk.verdicts.len() > 1,
        "it never said anything else: {walk:?}"
    );
    if std::env::var_os("RAIS_FUZZ_KEEP").is_some() {
        let line = |input: &Vec<u8>| format!("{}\n", input.escape_ascii());
        let new: String = walk.led_on.iter().take(KEPT).map(line).collect();
        let text = format!("{kept}{new}");
        let place = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("corpus/{name}.txt"));
        std::fs::write(place, text).unwrap();
    }
}

/// The corpus that is kept for `$name`.
macro_rules! kept {
    ($name:literal) => {
        include_str!(concat!("../corpus/", $name, ".txt"))
    };
}

/// A value that was decoded: it must come back from its own bytes. Its beginning is the verdict.
fn whole<T: PartialEq + Debug>(value: T, back: Option<T>) -> String {
    assert_eq!(Some(&value), back.as_ref(), "it does not come back");
    format!("{value:?}").chars().take(24).collect()
}

/// The record of the state machine's codec with `body`, and the checksum that fits.
fn record(body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c(body).to_le_bytes();
    [&[1][..], &sum, body].concat()
}

const GOLDEN_ENTRY: &[u8] = include_bytes!("../../statemachine/tests/golden/entry.v1");
const GOLDEN_STATE: &[u8] = include_bytes!("../../statemachine/tests/golden/state.v1");

/// Goal: no log entry and no snapshot panics, whatever stands in it.
#[test]
fn entries_and_snapshots_are_decoded_or_refused() {
    let entry = |body: &[u8]| match codec::decode_entry(&record(body)) {
        Err(error) => error.to_string(),
        Ok(entry) => {
            let bytes = codec::encode_entry(&entry).unwrap();
            whole(entry, codec::decode_entry(&bytes).ok())
        }
    };
    walk(
        "entry",
        vec![GOLDEN_ENTRY[5..].to_vec()],
        kept!("entry"),
        &entry,
    );
    let state = |body: &[u8]| match codec::decode_state(&record(body)) {
        Err(error) => error.to_string(),
        Ok(state) => {
            let bytes = codec::encode_state(&state).unwrap();
            whole(state, codec::decode_state(&bytes).ok())
        }
    };
    walk(
        "state",
        vec![GOLDEN_STATE[5..].to_vec()],
        kept!("state"),
        &state,
    );
}

/// Goal: no message of Raft panics, and none is taken for another.
#[test]
fn messages_of_raft_are_decoded_or_refused() {
    use raft::wire::{Request, Response, open, seal};
    let request = |bytes: &[u8]| match open::<Request>(bytes) {
        Err(error) => error.to_string(),
        Ok(request) => {
            let bytes = seal(&request).unwrap();
            whole(request, open(&bytes).ok())
        }
    };
    let (requests, responses) = raft::tests::examples();
    walk("raft-request", requests, kept!("raft-request"), &request);
    let response = |bytes: &[u8]| match open::<Response>(bytes) {
        Err(error) => error.to_string(),
        Ok(response) => {
            let bytes = seal(&response).unwrap();
            whole(response, open(&bytes).ok())
        }
    };
    walk(
        "raft-response",
        responses,
        kept!("raft-response"),
        &response,
    );
}

/// Goal: a frame's header is judged whatever it says, before and after the sender is known.
#[test]
fn headers_of_frames_are_judged() {
    let decode = |bytes: &[u8]| {
        let mut header = [0; HEADER];
        bytes
            .iter()
            .zip(&mut header)
            .for_each(|(from, to)| *to = *from);
        let judge = |trust| match Header::decode(&header, trust) {
            Err(error) => error.to_string(),
            Ok(header) => format!("{:?}", header.tag),
        };
        [judge(Trust::Stranger), judge(Trust::Member)].concat()
    };
    let header = |tag: u8| vec![0, 0, 0, 20, 1, tag, 0, 0, 0, 0, 0, 0, 0, 1];
    walk(
        "frame",
        (0..12).map(header).collect(),
        kept!("frame"),
        &decode,
    );
}

fn heartbeat() -> Heartbeat {
    let mut heartbeat = Heartbeat {
        seq: 7,
        lease_ok: true,
        ..Heartbeat::default()
    };
    heartbeat.report.held = vec![HeldReport {
        address: [10, 0, 0, 1].into(),
        epoch: Epoch(3),
        phase: HeldPhase::Online {
            acquire_ms: 5,
            announce_ms: 1,
        },
        contested: Some("02:00:00:00:00:01".into()),
    }];
    heartbeat
}

/// Goal: no heartbeat, no answer about a fence and no last word panics.
#[test]
fn datagrams_between_hosts_are_decoded_or_refused() {
    let decode = |bytes: &[u8]| match datagram::decode(bytes) {
        None => "none".to_owned(),
        Some(message) => {
            let bytes = datagram::encode(&message).unwrap();
            whole(message, datagram::decode(&bytes))
        }
    };
    let ask = Message::AskFence {
        host: HostId(3),
        entry: EntryId {
            term: 2,
            leader: HostId(1),
            index: 70_000,
        },
        lease_ms: 300,
    };
    let orders = Orders {
        seq: 9,
        addresses: [(IpAddr::from([10, 77, 1, 3]), Epoch(4))].into(),
        ..Orders::default()
    };
    let resort = Message::LastResort(orders);
    let seeds = [Message::Heartbeat(heartbeat()), ask, resort];
    let seeds = seeds.iter().filter_map(datagram::encode).collect();
    walk("heartbeat", seeds, kept!("heartbeat"), &decode);
    let words = |bytes: &[u8]| format!("{:?}", word::read(bytes).map(|(host, ..)| host));
    let secret = word::Secret::draw().unwrap();
    let said = secret.word(HostId(2), Default::default()).to_vec();
    walk("word", vec![said], kept!("word"), &words);
}

/// A packet between node, warden and runner.
fn packet<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) -> String {
    match line::decode::<T>(bytes) {
        None => "none".to_owned(),
        Some(value) => {
            let bytes = line::encode(&value).unwrap();
            whole(value, line::decode(&bytes))
        }
    }
}

/// The packets of values.
fn packets<T: Serialize>(values: &[T]) -> Vec<Vec<u8>> {
    values.iter().filter_map(line::encode).collect()
}

/// Goal: no packet between node, warden and runner panics either side.
#[test]
fn packets_of_warden_and_runner_are_decoded_or_refused() {
    let group = GroupName("web".into());
    let orders = [
        warden::Order::Manage {
            addresses: vec![([10, 0, 0, 1].into(), 24, group)],
            more: false,
        },
        warden::Order::Act(HostAction::Renew {
            deadline: Instant(9),
        }),
    ];
    let kept = kept!("warden-order");
    walk(
        "warden-order",
        packets(&orders),
        kept,
        &packet::<warden::Order>,
    );
    let text = "a line".into();
    let told = [warden::Told::Renewed, warden::Told::Line { level: 1, text }];
    let kept = kept!("warden-told");
    walk("warden-told", packets(&told), kept, &packet::<warden::Told>);
    let run = runner::Order::Run(runner::Command {
        id: 4,
        purpose: runner::Purpose::Look,
        words: vec!["true".into()],
        environment: vec![("A".into(), "b".into())],
        until: Instant(7),
    });
    let kept = kept!("runner-order");
    walk(
        "runner-order",
        packets(&[run]),
        kept,
        &packet::<runner::Order>,
    );
    let ended = runner::Ended {
        id: 4,
        how: runner::How::Exited(1),
        output: "no".into(),
    };
    let kept = kept!("runner-ended");
    walk(
        "runner-ended",
        packets(&[ended]),
        kept,
        &packet::<runner::Ended>,
    );
}

/// Goal: nobody who wants to join makes a host panic.
#[test]
fn joins_and_tokens_are_decoded_or_refused() {
    let introduction = bodies::Introduction {
        control: vec![([10, 0, 0, 1], 7400).into()],
        dns: vec![([10, 0, 0, 1], 53).into()],
        observer: false,
        members: Vec::new(),
    };
    let decode = |bytes: &[u8]| match bodies::decode::<bodies::Introduction>(bytes) {
        None => format!(
            "{:?}",
            bodies::decode::<bodies::JoinRequest>(bytes).is_some()
        ),
        Some(value) => {
            let bytes = bodies::encode(&value);
            whole(value, bodies::decode(&bytes))
        }
    };
    walk(
        "join",
        vec![bodies::encode(&introduction)],
        kept!("join"),
        &decode,
    );
    let token = JoinToken::draw(Fingerprint([7; 32]), &[9; 24]).reveal();
    let decode = |bytes: &[u8]| match JoinToken::parse(&String::from_utf8_lossy(bytes)) {
        Err(error) => error.to_string(),
        Ok(token) => whole(token, JoinToken::parse(&token.reveal()).ok()),
    };
    walk("token", vec![token.into_bytes()], kept!("token"), &decode);
}

/// A query for `web.example.`, of `opcode`, with EDNS and room for more.
fn query(opcode: u8, rtype: u8) -> Vec<u8> {
    let head = [0x5a, 0xa5, opcode << 3, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    let question = b"\x03web\x07example\0\0";
    let edns = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    [&head[..], question, &[rtype, 0, 1], &edns].concat()
}

/// Goal: no DNS message panics the name server, and no answer over UDP is too long.
#[test]
fn queries_are_answered_or_dropped() {
    let zones = Zones::of(&codec::decode_state(GOLDEN_STATE).unwrap());
    let decode = |message: &[u8]| {
        let source: SocketAddr = ([192, 0, 2, 1], 4000).into();
        let mut out = Vec::new();
        let mut said = String::new();
        for transport in [Transport::Udp, Transport::Tcp] {
            let incoming = Incoming {
                message,
                transport,
                source,
                turn: 1,
                jar: None,
                cut: false,
            };
            said += &format!("{:?}", respond(Some(&zones), incoming, &mut out));
            assert!(out.len() <= UDP_ANSWER || transport == Transport::Tcp);
        }
        said
    };
    let types = [1, 2, 6, 15, 28, 41, 251, 252, 255];
    let seeds = types.map(|rtype| query(0, rtype)).to_vec();
    walk("dns", seeds, kept!("dns"), &decode);
}

/// Goal: no signed message and no reply to an update panics, and no changed one is genuine.
#[test]
fn signatures_and_replies_to_updates_are_refused_or_read() {
    let key = || Key::new("xfer-key", Algorithm::HmacSha256, &[7; 32]).unwrap();
    let keys = Keys::new(vec![key()]);
    let mut signed = query(0, 252);
    Signer::new(Arc::new(key())).sign(&mut signed, SIGNED_AT);
    let genuine = signed.clone();
    let decode = |message: &[u8]| match tsig::check(&keys, message, SIGNED_AT) {
        Err(error) => format!("{error:?}"),
        Ok(tsig::Checked::Unsigned) => "unsigned".to_owned(),
        Ok(tsig::Checked::Refused { fault, .. }) => fault.to_string(),
        Ok(tsig::Checked::Genuine { .. }) => {
            // The id is no part of what is signed, nor is the case of the key's name.
            let same = message[2..].eq_ignore_ascii_case(&genuine[2..]);
            assert!(same, "a forgery");
            "genuine".to_owned()
        }
    };
    walk("tsig", vec![signed, query(0, 6)], kept!("tsig"), &decode);
    let decode = |reply: &[u8]| {
        let mark = update::read_mark(0x5aa5, "web.example.", reply);
        let outcome = update::read_outcome(0x5aa5, reply);
        let say = |error: &dyn std::fmt::Display| error.to_string();
        [
            mark.map_or_else(|e| say(&e), |mark| format!("{:?}", mark.is_some())),
            outcome.map_or_else(|e| say(&e), |()| "done".to_owned()),
        ]
        .concat()
    };
    let reply = |opcode: u8| {
        let mut reply = query(opcode, 16);
        reply[2] |= 0x84;
        reply
    };
    walk("update", vec![reply(0), reply(5)], kept!("update"), &decode);
}

/// Goal: no file panics `rais check`, and every refusal says something.
#[test]
fn files_are_read_or_refused() {
    let host = "name = \"h1\"\ndata_dir = \"/var/lib/rais\"\n[control]\nlisten = [\"10.0.0.1:7400\"]\n[[member]]\ngroup = \"web\"\npreferred = [\"10.0.0.9/24\"]\ninterface = \"eth0\"\n";
    let policy = "name = \"web\"\nzone = \"web.example.\"\nttl = \"5s\"\n[[test]]\nname = \"up\"\ntcp = { port = 80 }\n[[load]]\nname = \"cpu\"\ncpu = {}\n";
    let decode = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match crate::config::check("f", &text) {
            Ok(_) => "taken".to_owned(),
            Err(found) => {
                let words = found.to_string();
                assert!(!words.is_empty());
                words.lines().next().unwrap_or_default().to_owned()
            }
        }
    };
    let seeds = [host, policy].map(|text| text.as_bytes().to_vec());
    walk("config", seeds.to_vec(), kept!("config"), &decode);
}
