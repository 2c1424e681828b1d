//! Transfers and NOTIFY as a secondary sees them, message by message: who gets what, signed how,
//! and what becomes of those who read slowly. tests/secondaries.rs has the real name servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use common::{Asked, ask, opt, settings};
use dns::tsig::{Algorithm, Fault, Key, Keys, Signer};
use dns::{DnsServer, Primary, Secondaries, Told, ZoneInput, Zones};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};
use statemachine::Network;

const PATIENCE: Duration = Duration::from_secs(20);
const ZONE: &str = "web.example.";
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const SOA: u16 = 6;

fn key(name: &str) -> Key {
    Key::new(
        name,
        Algorithm::HmacSha256,
        b"secret of the tests, 32 bytes!!!",
    )
    .unwrap()
}

/// A server, what it serves and to whom.
struct Rais {
    shared: Arc<ArcSwap<Zones>>,
    primary: Arc<Primary>,
    server: DnsServer,
    follow: Secondaries,
}

impl Rais {
    /// Serves a zone of `hosts` hosts, version 17, to whom `follow` names.
    fn start(hosts: u16, follow: Secondaries) -> Rais {
        let keys = Keys::new(vec![key("xfer-key"), key("other-key")]);
        let (shared, primary) = (
            Arc::<ArcSwap<Zones>>::default(),
            Arc::new(Primary::new(keys)),
        );
        let listen = ["127.0.0.1:0".parse().unwrap()];
        let (zones, followers) = (shared.clone(), primary.clone());
        let server = DnsServer::bind_primary(&listen, zones, followers, settings()).unwrap();
        server.set_ready(true);
        let rais = Rais {
            shared,
            primary,
            server,
            follow,
        };
        rais.publish(17, hosts);
        rais
    }

    fn publish(&self, serial: u32, hosts: u16) {
        let address = |n: u16| IpAddr::from([10, 77, (n >> 8) as u8, n as u8]);
        let zones = Zones::project(vec![ZoneInput {
            name: ZONE.into(),
            ttl_s: 5,
            serial,
            withheld: false,
            published: (1..=hosts).map(|n| (format!("h{n}"), address(n))).collect(),
            nameservers: vec![("h1".into(), vec![[127, 0, 0, 1].into()])],
        }]);
        let zones = Arc::new(zones);
        self.shared.store(zones.clone());
        self.primary.take_in(vec![self.follow.clone()], &zones);
    }

    fn address(&self) -> SocketAddr {
        self.server.addresses()[0]
    }

    fn told(&self) -> Told {
        let followed = self.primary.followed().remove(0);
        followed.told.values().next().unwrap().clone()
    }
}

/// Loopback may have the zone; with the key, if one is named.
fn allowed(key: Option<&str>) -> Secondaries {
    Secondaries {
        zone: ZONE.into(),
        notify: Vec::new(),
        allow: vec![Network {
            ip: [127, 0, 0, 0].into(),
            prefix_len: 8,
        }],
        key: key.map(str::to_owned),
        rank: 0,
    }
}

fn since(serial: u32) -> Asked {
    ask(ZONE, IXFR).with(|asked| {
        asked.counts[1] = 1;
        let names = [&b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x16\x00\x00"[..]];
        asked.tail = names.concat();
        asked.tail.extend(serial.to_be_bytes());
        asked.tail.extend([0; 16]);
    })
}

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn write(stream: &mut TcpStream, message: &[u8]) {
    let length = (message.len() as u16).to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

fn serial(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

/// Reads answers until the SOA that the first began with has come back; each goes through `check`.
fn zone(stream: &mut TcpStream, mut check: impl FnMut(Vec<u8>) -> Vec<u8>) -> (Vec<Record>, usize) {
    let (mut records, mut messages) = (Vec::new(), 0);
    loop {
        let message = Message::from_vec(&check(read(stream))).unwrap();
        assert_eq!(u16::from(message.metadata.response_code), 0);
        assert!(message.metadata.authoritative);
        messages += 1;
        records.extend(message.answers);
        if records.len() > 1 && serial(&records[0]) == serial(&records[records.len() - 1]) {
            return (records, messages);
        }
    }
}

/// The rcode of the only answer, and how many records it has.
fn refusal(stream: &mut TcpStream, asked: &[u8]) -> (u16, usize) {
    write(stream, asked);
    let message = Message::from_vec(&read(stream)).unwrap();
    (
        u16::from(message.metadata.response_code),
        message.answers.len(),
    )
}

/// Goal: a zone goes whole to who may have it, over several messages, each record once and the SOA
/// first and last; with EDNS as without, in any case of the question; then the connection goes on.
/// Method: 2,000 hosts; count messages, records and names; then ask for the SOA.
#[test]
fn a_large_zone_goes_in_several_messages() {
    let rais = Rais::start(2_000, allowed(None));
    let mut stream = connect(rais.address());
    for asked in [
        ask(ZONE, AXFR),
        ask("WEB.Example.", AXFR).with(|asked| asked.opt = Some(opt(1_232))),
        since(3),
    ] {
        write(&mut stream, &asked.bytes());
        let (records, messages) = zone(&mut stream, |message| message);
        // An address at the apex and one under the host's name, NS, its address, SOA twice.
        assert_eq!(records.len(), 2 * 2_000 + 4);
        assert!(messages > 5, "{messages}");
        let names: std::collections::BTreeSet<String> = records
            .iter()
            .map(|record| record.name.to_string())
            .collect();
        assert_eq!(names.len(), 2_000 + 2);
        assert!(names.contains("h1999.web.example."), "case is the zone's");
    }
    assert_eq!(refusal(&mut stream, &ask(ZONE, SOA).bytes()), (0, 1));
    assert_eq!(
        (
            rais.server.stats().get("transferred"),
            rais.server.stats().get("axfr")
        ),
        (3, 2)
    );
}

/// Goal: IXFR says what changed since each version that is known; one SOA to who has the newest
/// or a newer one; over UDP the newest SOA alone.
/// Method: three changes; ask since each, over both transports.
#[test]
fn ixfr_says_what_changed() {
    let rais = Rais::start(1, allowed(None));
    for (serial, hosts) in [(18, 2), (19, 2), (20, 1)] {
        rais.publish(serial, hosts);
    }
    let mut stream = connect(rais.address());
    let mut ask_since = |from: u32| {
        write(&mut stream, &since(from).bytes());
        let (records, _) = zone(&mut stream, |message| message);
        let words = |record: &Record| match serial(record) {
            Some(serial) => serial.to_string(),
            None => record.name.to_string(),
        };
        records.iter().map(words).collect::<Vec<_>>().join(" ")
    };
    let (host, apex) = ("h2.web.example.", "web.example.");
    assert_eq!(ask_since(19), format!("20 19 {host} {apex} 20 20"));
    assert_eq!(ask_since(18), format!("20 18 19 19 {host} {apex} 20 20"));
    assert_eq!(
        ask_since(17),
        format!("20 17 18 {host} {apex} 18 19 19 {host} {apex} 20 20")
    );
    for newest in [20, 21] {
        assert_eq!(refusal(&mut stream, &since(newest).bytes()), (0, 1));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(rais.address()).unwrap();
    for from in [3, 19, 20] {
        socket.send(&since(from).bytes()).unwrap();
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        let answer = Message::from_vec(&buffer[..length]).unwrap();
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(serial(&answer.answers[0]), Some(20));
    }
}

/// Goal: nobody gets a zone who may not: by address, without the key, with another key, a zone that
/// is not given away, a name that is no zone, over UDP; malformed requests are format errors.
/// Method: one request each.
#[test]
fn only_who_may_gets_the_zone() {
    const REFUSED: u16 = 5;
    let far = Secondaries {
        allow: vec![Network {
            ip: [192, 0, 2, 0].into(),
            prefix_len: 24,
        }],
        ..allowed(None)
    };
    for follow in [
        far.clone(),
        Secondaries {
            key: Some("xfer-key".into()),
            ..far
        },
        Secondaries::default(),
    ] {
        let rais = Rais::start(3, follow);
        let mut stream = connect(rais.address());
        for asked in [ask(ZONE, AXFR), since(3)] {
            assert_eq!(refusal(&mut stream, &asked.bytes()), (REFUSED, 0));
        }
    }
    let rais = Rais::start(3, allowed(Some("xfer-key")));
    let mut stream = connect(rais.address());
    assert_eq!(
        refusal(&mut stream, &ask(ZONE, AXFR).bytes()),
        (REFUSED, 0),
        "unsigned"
    );
    let mut other = Signer::new(Arc::new(key("other-key")));
    let mut asked = ask(ZONE, AXFR).bytes();
    other.sign(&mut asked, now_s());
    write(&mut stream, &asked);
    let reply = other.verify(&read(&mut stream), now_s(), true).unwrap();
    assert_eq!(
        reply[3] & 15,
        REFUSED as u8,
        "signed with another key of ours"
    );
    let open = Rais::start(3, allowed(None));
    let mut stream = connect(open.address());
    for (asked, rcode) in [
        (ask("h1.web.example.", AXFR), REFUSED),
        (ask("example.", AXFR), REFUSED),
        (ask(ZONE, AXFR).with(|asked| asked.class = 3), REFUSED),
        (ask(ZONE, IXFR), REFUSED),
        (since(3).with(|asked| asked.rtype = AXFR), 1),
    ] {
        assert_eq!(
            refusal(&mut stream, &asked.bytes()),
            (rcode, 0),
            "{asked:?}"
        );
    }
    assert_eq!(open.server.stats().get("transferred"), 0);
}

/// Goal: a host that lacks the policy's key gives the zone to nobody and says so.
/// Method: a policy with a key that nobody has; asked with one that we do have.
#[test]
fn a_missing_key_closes_the_zone() {
    let rais = Rais::start(3, allowed(Some("lost-key")));
    assert!(rais.primary.followed()[0].lacks_key);
    let mut stream = connect(rais.address());
    let mut signer = Signer::new(Arc::new(key("xfer-key")));
    let mut asked = ask(ZONE, AXFR).bytes();
    signer.sign(&mut asked, now_s());
    write(&mut stream, &asked);
    let reply = signer.verify(&read(&mut stream), now_s(), true).unwrap();
    assert_eq!(reply[3] & 15, 5);
}

/// Goal: keys that change while the server runs count from then on, the new one and no longer the old.
/// Method: a zone whose key is lost, found, and lost again; asked with it each time.
#[test]
fn keys_change_under_a_running_server() {
    let rais = Rais::start(3, allowed(Some("new-key")));
    let asked_with = |name: &str| {
        let mut stream = connect(rais.address());
        let mut signer = Signer::new(Arc::new(key(name)));
        let mut asked = ask(ZONE, AXFR).bytes();
        signer.sign(&mut asked, now_s());
        write(&mut stream, &asked);
        read(&mut stream)[3] & 15
    };
    let (notauth, refused) = (9, 5);
    assert!(rais.primary.followed()[0].lacks_key);
    assert_eq!(
        (asked_with("new-key"), asked_with("xfer-key")),
        (notauth, refused)
    );
    rais.primary.change_keys(Keys::new(vec![key("new-key")]));
    assert!(!rais.primary.followed()[0].lacks_key);
    assert_eq!(
        (asked_with("new-key"), asked_with("xfer-key")),
        (0, notauth)
    );
    rais.primary.change_keys(Keys::default());
    assert!(rais.primary.followed()[0].lacks_key);
    assert_eq!(asked_with("new-key"), notauth);
}

fn now_s() -> u64 {
    (settings().clock)() / 1_000_000
}

/// Goal: every message of a signed transfer is signed over the one before, and so is a plain answer;
/// a wrong signature gets NOTAUTH.
/// Method: a large zone, verified message by message; the SOA over UDP; a bent request.
#[test]
fn a_signed_transfer_is_signed_to_its_end() {
    let rais = Rais::start(2_000, allowed(Some("xfer-key")));
    let mut stream = connect(rais.address());
    let mut signer = Signer::new(Arc::new(key("xfer-key")));
    let mut asked = ask(ZONE, AXFR).bytes();
    signer.sign(&mut asked, now_s());
    write(&mut stream, &asked);
    let mut first = true;
    let (records, messages) = zone(&mut stream, |message| {
        let bare = signer.verify(&message, now_s(), std::mem::take(&mut first));
        bare.expect("signed over the one before")
    });
    assert_eq!((records.len(), messages > 5), (2 * 2_000 + 4, true));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(rais.address()).unwrap();
    let mut buffer = [0; 2_048];
    let mut signer = Signer::new(Arc::new(key("xfer-key")));
    let mut asked = ask(ZONE, SOA).bytes();
    signer.sign(&mut asked, now_s());
    socket.send(&asked).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    let bare = signer.verify(&buffer[..length], now_s(), true).unwrap();
    assert_eq!(
        serial(&Message::from_vec(&bare).unwrap().answers[0]),
        Some(17)
    );
    // Two thousand addresses and a signature don't fit; the question and TC do.
    let mut signer = Signer::new(Arc::new(key("xfer-key")));
    let mut asked = ask(ZONE, 1).bytes();
    signer.sign(&mut asked, now_s());
    socket.send(&asked).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert!(length <= 512);
    let bare = signer.verify(&buffer[..length], now_s(), true).unwrap();
    assert_eq!(bare[2] & 2, 2, "TC");
    asked[14] ^= 0x20;
    asked[13] = b'x';
    socket.send(&asked).unwrap();
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[3] & 15, 9);
    assert_eq!(
        Signer::new(Arc::new(key("xfer-key"))).verify(&buffer[..length], now_s(), true),
        Err(Fault::BadSig)
    );
}

/// Goal: secondaries that don't read hold nobody up: others get the zone and their answers.
/// Method: as many as may transfer at once ask for a zone larger than any socket's buffers and read
/// nothing; another connection asks, and a third transfers once a slow one goes.
#[test]
fn slow_readers_hold_nobody_up() {
    let rais = Rais::start(20_000, allowed(None));
    let mut slow: Vec<TcpStream> = (0..16)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4_096).unwrap();
            socket.connect(&rais.address().into()).unwrap();
            let mut stream: TcpStream = socket.into();
            for _ in 0..4 {
                write(&mut stream, &ask(ZONE, AXFR).bytes());
            }
            stream
        })
        .collect();
    let mut other = connect(rais.address());
    assert_eq!(refusal(&mut other, &ask(ZONE, SOA).bytes()), (0, 1));
    write(&mut other, &ask(ZONE, AXFR).bytes());
    // A count is no event to await; once it waits for its turn, all turns are taken.
    let waits = (0..4_000).any(|_| {
        std::thread::park_timeout(Duration::from_millis(5));
        rais.server.stats().get("transfer_busy") > 0
    });
    assert!(waits, "sixteen transfers are not all");
    assert_eq!(
        refusal(&mut connect(rais.address()), &ask(ZONE, SOA).bytes()),
        (0, 1)
    );
    slow.clear();
    let (records, _) = zone(&mut other, |message| message);
    assert_eq!(records.len(), 2 * 20_000 + 4);
}

/// Goal: a secondary is told of each change by the newest version, again until it answers; an answer
/// that is not signed with the key, or is for another message, does not count.
/// Method: a secondary by hand that stays silent, then answers wrongly, then well.
#[test]
fn a_secondary_is_told_until_it_answers() {
    let secondary = UdpSocket::bind("127.0.0.1:0").unwrap();
    secondary.set_read_timeout(Some(PATIENCE)).unwrap();
    let follow = Secondaries {
        notify: vec![secondary.local_addr().unwrap()],
        ..allowed(Some("xfer-key"))
    };
    let rais = Rais::start(3, follow);
    let receive = || {
        let mut buffer = [0; 1_024];
        let (length, from) = secondary.recv_from(&mut buffer).unwrap();
        (buffer[..length].to_vec(), from)
    };
    let (first, from) = receive();
    assert_eq!(from.ip(), rais.address().ip());
    assert_eq!(first[2] >> 3 & 15, 4, "NOTIFY");
    rais.publish(18, 4);
    rais.publish(19, 5);
    let (newest, from) = receive();
    let keys = Keys::new(vec![key("xfer-key")]);
    let checked = dns::tsig::check(&keys, &newest, now_s()).unwrap();
    let dns::tsig::Checked::Genuine {
        message,
        mut signer,
    } = checked
    else {
        panic!("{checked:?}");
    };
    let notify = Message::from_vec(&message).unwrap();
    assert!(matches!(serial(&notify.answers[0]), Some(18 | 19)));
    let mut unsigned = message[..12 + 13 + 4].to_vec();
    unsigned[2] |= 0x80;
    unsigned[6..12].fill(0);
    secondary.send_to(&unsigned, from).unwrap();
    let (again, from) = receive();
    assert_ne!(again[..2], newest[..2], "each has an id of its own");
    let checked = dns::tsig::check(&keys, &again, now_s()).unwrap();
    let dns::tsig::Checked::Genuine {
        message,
        signer: mut right,
    } = checked
    else {
        panic!("{checked:?}");
    };
    let latest = Message::from_vec(&message).unwrap();
    assert_eq!(serial(&latest.answers[0]), Some(19));
    // Signed over the message before: an answer to that.
    let mut late = unsigned.clone();
    signer.sign(&mut late, now_s());
    secondary.send_to(&late, from).unwrap();
    let mut good = unsigned;
    good[..2].copy_from_slice(&again[..2]);
    right.sign(&mut good, now_s());
    secondary.send_to(&good, from).unwrap();
    let told = (0..2_000).find_map(|_| {
        // The server notes it when it has read it; there is no event of ours to await.
        std::thread::park_timeout(Duration::from_millis(5));
        Some(rais.told()).filter(|told| told.acknowledged == Some(19))
    });
    assert_eq!(told.unwrap().trouble, None);
    assert_eq!(rais.server.stats().get("notify_acknowledged"), 1);
}

/// Goal: no bytes bring the server down or keep it from its next answer.
/// Method: signed and unsigned requests for transfers, bent at three places or cut, over UDP and TCP
/// to one server; it counts no panic and answers the same afterwards.
#[test]
fn bent_requests_are_survived() {
    let rais = Rais::start(50, allowed(None));
    let mut signed = since(3).bytes();
    Signer::new(Arc::new(key("xfer-key"))).sign(&mut signed, now_s());
    let good = [ask(ZONE, AXFR).bytes(), since(3).bytes(), signed];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.connect(rais.address()).unwrap();
    // Multiplies by an odd number: the same bends each time.
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = |below: usize| {
        word = word.wrapping_mul(0x2545_F491_4F6C_DD1D).rotate_left(17) ^ 0xABCD;
        (word >> 20) as usize % below
    };
    for round in 0..3_000 {
        let mut message = good[round % 3].clone();
        for _ in 0..3 {
            let at = draw(message.len());
            message[at] = draw(256) as u8;
        }
        if draw(4) == 0 {
            message.truncate(draw(message.len()));
        }
        let _full = socket.send(&message);
        while socket.recv(&mut [0; 2_048]).is_ok() {}
        if round % 10 == 0 {
            let mut stream = connect(rais.address());
            write(&mut stream, &message);
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            // Whatever it says, it comes to an end.
            let mut rest = Vec::new();
            let _ended = stream.read_to_end(&mut rest);
        }
    }
    let mut stream = connect(rais.address());
    assert_eq!(refusal(&mut stream, &ask(ZONE, SOA).bytes()), (0, 1));
    assert_eq!(rais.server.stats().get("panicked"), 0);
    assert!(rais.server.stats().get("udp") > 1_000);
}
