//! Asks the array as a client would: a DNS query and an HTTP request by hand, without a library, so
//! that a fault which server and library share does not hide itself.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::Value;

/// The zone of a demo.
pub const ZONE: &str = "web.example.";
/// A name server or a web service on this machine answers sooner, or not at all.
const PATIENCE: Duration = Duration::from_millis(500);
/// Record types.
const A: u16 = 1;
const SOA: u16 = 6;

/// What a name server answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0: no error, 2: SERVFAIL, 3: NXDOMAIN.
    pub rcode: u8,
    /// It speaks for the zone.
    pub authoritative: bool,
    /// The addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// The time to live of the first record, in seconds.
    pub ttl: Option<u32>,
    /// The serial of the SOA, if one was in the answer.
    pub serial: Option<u32>,
}

/// Asks `server` for the records of `name` with type `kind`; none when it does not answer.
fn query(server: SocketAddr, name: &str, kind: u16) -> Option<Answer> {
    const ID: [u8; 2] = [0x5a, 0xa5];
    let mut packet = [&ID[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.trim_end_matches('.').split('.') {
        packet.push(u8::try_from(label.len()).unwrap());
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend([kind.to_be_bytes(), [0, 1]].concat());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).ok()?;
    socket.send(&packet).ok()?;
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer).ok()?;
    let reply = &buffer[..length];
    assert_eq!(reply[..2], ID, "an answer to another question");
    parse(reply, packet.len())
}

fn parse(reply: &[u8], mut at: usize) -> Option<Answer> {
    let mut answer = Answer {
        rcode: reply[3] & 0x0f,
        authoritative: reply[2] & 0x04 != 0,
        ..Answer::default()
    };
    let count = u16::from_be_bytes([reply[6], reply[7]]);
    for _ in 0..count {
        at = skip_name(reply, at)?;
        let kind = u16::from_be_bytes(reply.get(at..at + 2)?.try_into().ok()?);
        let ttl = u32::from_be_bytes(reply.get(at + 4..at + 8)?.try_into().ok()?);
        answer.ttl.get_or_insert(ttl);
        let length = usize::from(u16::from_be_bytes(
            reply.get(at + 8..at + 10)?.try_into().ok()?,
        ));
        let data = reply.get(at + 10..at + 10 + length)?;
        match kind {
            A => answer
                .addresses
                .push(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            // The five numbers of an SOA are its end; the serial is the first.
            SOA => {
                answer.serial = Some(u32::from_be_bytes(
                    data.get(length - 20..length - 16)?.try_into().ok()?,
                ))
            }
            _ => {}
        }
        at += 10 + length;
    }
    Some(answer)
}

fn skip_name(reply: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *reply.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xc0 => return Some(at + 2),
            label => at += 1 + usize::from(label),
        }
    }
}

/// The addresses of `name`.
pub fn addresses(server: SocketAddr, name: &str) -> Option<Answer> {
    query(server, name, A)
}

/// The set of addresses that `server` publishes for the zone; none when it does not answer well.
pub fn published(server: SocketAddr) -> Option<BTreeSet<IpAddr>> {
    let answer = addresses(server, ZONE)?;
    (answer.rcode == 0 && answer.authoritative).then(|| answer.addresses.into_iter().collect())
}

/// The serial of the zone at `server`.
pub fn serial(server: SocketAddr) -> Option<u32> {
    query(server, ZONE, SOA)?.serial
}

/// Who answers at a service address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The host's name.
    pub host: String,
    /// The address as the service knows it.
    pub address: String,
    /// The epoch under which it is held.
    pub epoch: u64,
}

/// Asks the web service at a service address; none when nobody answers.
pub fn http(address: IpAddr, port: u16) -> Option<Served> {
    let mut stream = TcpStream::connect_timeout(&(address, port).into(), PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(
            format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200"), "not well: {text}");
    let body: Value = serde_json::from_str(body.trim()).ok()?;
    Some(Served {
        host: body["host"].as_str()?.to_owned(),
        address: body["address"].as_str()?.to_owned(),
        epoch: body["epoch"].as_u64()?,
    })
}
