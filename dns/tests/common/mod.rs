//! A zone to ask, questions in wire form, and answers in words.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

pub mod queries;

use std::net::SocketAddr;

use dns::wire::Incoming;
use dns::{Handled, Settings, Transport, ZoneInput, Zones, respond};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};

/// Serial of the zone `web.example.`.
pub const SERIAL: u32 = 17;

/// `web.example.` with two published hosts of three and two name servers, and beside it the
/// deeper zone `db.web.example.` and the big one `big.example.` with 200 addresses.
pub fn zones() -> Zones {
    let published = |rows: &[(&str, &str)]| {
        rows.iter()
            .map(|(host, ip)| ((*host).to_owned(), ip.parse().unwrap()))
            .collect()
    };
    let nameservers = vec![
        ("h1".to_owned(), vec!["10.77.0.1".parse().unwrap()]),
        (
            "h2".to_owned(),
            vec!["10.77.0.2".parse().unwrap(), "fd00:77::2".parse().unwrap()],
        ),
    ];
    let web = ZoneInput {
        name: "web.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial: SERIAL,
        published: published(&[
            ("h1", "10.77.0.101"),
            ("h2", "10.77.0.102"),
            ("h1", "fd00:77::101"),
        ]),
        nameservers: nameservers.clone(),
    };
    let db = ZoneInput {
        name: "db.web.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial: 3,
        published: published(&[("h2", "10.77.0.202")]),
        nameservers: nameservers.clone(),
    };
    let big = ZoneInput {
        name: "big.example.".into(),
        ttl_s: 5,
        withheld: false,
        serial: 9,
        published: (0..200_u8)
            .map(|n| (format!("h{n}"), [10, 78, 0, n].into()))
            .collect(),
        nameservers,
    };
    Zones::project(vec![web, db, big])
}

/// Source of every test message.
pub fn source() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4_242))
}

/// Settings of a test's server.
pub fn settings() -> Settings {
    fn wall_us() -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.unwrap().as_micros() as u64
    }
    Settings::new(*b"a secret of test", wall_us)
}

/// A query as bytes, so that it may be as wrong as it likes.
#[derive(Clone, Debug)]
pub struct Asked {
    pub opcode: u8,
    pub flags: u16,
    pub qdcount: u16,
    pub name: String,
    pub rtype: u16,
    pub class: u16,
    pub opt: Option<Opt>,
    pub tail: Vec<u8>,
    pub counts: [u16; 3],
}

#[derive(Clone, Debug)]
pub struct Opt {
    pub size: u16,
    pub version: u8,
    pub flags: u16,
    pub options: Vec<u8>,
}

pub fn opt(size: u16) -> Opt {
    Opt {
        size,
        version: 0,
        flags: 0,
        options: Vec::new(),
    }
}

pub fn ask(name: &str, rtype: u16) -> Asked {
    Asked {
        opcode: 0,
        flags: 0,
        qdcount: 1,
        name: name.into(),
        rtype,
        class: 1,
        opt: None,
        tail: Vec::new(),
        counts: [0; 3],
    }
}

impl Asked {
    pub fn with(mut self, change: impl FnOnce(&mut Asked)) -> Asked {
        change(&mut self);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0xAB, 0xCD];
        let flags = u16::from(self.opcode) << 11 | self.flags;
        let [answers, authorities, additional] = self.counts;
        let additional = additional + u16::from(self.opt.is_some());
        for word in [flags, self.qdcount, answers, authorities, additional] {
            bytes.extend(word.to_be_bytes());
        }
        for _ in 0..self.qdcount {
            for label in self.name.split('.').filter(|label| !label.is_empty()) {
                bytes.push(label.len() as u8);
                bytes.extend(label.as_bytes());
            }
            bytes.push(0);
            bytes.extend(self.rtype.to_be_bytes());
            bytes.extend(self.class.to_be_bytes());
        }
        if let Some(opt) = &self.opt {
            bytes.push(0);
            bytes.extend(41_u16.to_be_bytes());
            bytes.extend(opt.size.to_be_bytes());
            bytes.extend([0, opt.version]);
            bytes.extend(opt.flags.to_be_bytes());
            bytes.extend((opt.options.len() as u16).to_be_bytes());
            bytes.extend(&opt.options);
        }
        bytes.extend(&self.tail);
        bytes
    }
}

/// The answer to `bytes`; `None` if there is none.
pub fn answer_to(zones: Option<&Zones>, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let incoming = Incoming {
        message: bytes,
        transport,
        source: source(),
        turn: 0,
        jar: None,
        cut: false,
    };
    match respond(zones, incoming, &mut out) {
        Handled::Dropped | Handled::Limited => None,
        Handled::Answered { .. } => Some(out),
    }
}

/// An answer in one line: rcode, flags, EDNS, then what stands in each section.
pub fn words(bytes: &[u8]) -> String {
    let message = Message::from_vec(bytes).expect("answer parses");
    let meta = &message.metadata;
    // hickory reads 16 as BADSIG, its other meaning.
    let rcode = match u16::from(meta.response_code) {
        16 => "BADVERS".into(),
        _ => format!("{:?}", meta.response_code),
    };
    let mut words = vec![rcode];
    for (set, flag) in [
        (meta.authoritative, "aa"),
        (meta.truncation, "tc"),
        (meta.recursion_desired, "rd"),
        (meta.recursion_available, "ra"),
        (meta.authentic_data, "ad"),
        (meta.checking_disabled, "cd"),
    ] {
        if set {
            words.push(flag.into());
        }
    }
    if let Some(edns) = &message.edns {
        let dnssec = if edns.flags().dnssec_ok { "+do" } else { "" };
        words.push(format!(
            "edns{}:{}{dnssec}",
            edns.version(),
            edns.max_payload()
        ));
    }
    for (name, records) in [
        ("an", &message.answers),
        ("ns", &message.authorities),
        ("ar", &message.additionals),
    ] {
        if !records.is_empty() {
            let mut lines: Vec<String> = records.iter().map(line).collect();
            lines.sort();
            words.push(format!("{name}[{}]", lines.join(", ")));
        }
    }
    words.join(" ")
}

fn line(record: &Record) -> String {
    match &record.data {
        RData::SOA(soa) => format!("SOA {} {}", record.name, soa.serial),
        data => format!("{} {data}", record.record_type()),
    }
}
