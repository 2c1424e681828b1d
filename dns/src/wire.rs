//! One message in, at most one message out. Pure and total, for UDP and TCP alike.
//!
//! hickory parses the whole message and encodes the answer; what it must not decide is decided
//! here: sizes (it echoes the client's EDNS size), truncation (it cuts a set in two), what is
//! refused, and the question's case. `MessageResponse` of hickory-server is not used to encode:
//! it never compresses against the question, so its answers are larger than need be.
//!
//! Never answered: what is shorter than a header, and any response (two servers could
//! otherwise answer each other for ever).
//!
//! Limits: no cookies, padding or rate limiting yet; EDNS options are read and ignored.

use std::net::SocketAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

use crate::answer::{Answer, Query, answer};
use crate::name::NameKey;
use crate::zones::Zones;

/// Length of a message header. RFC 1035, 4.1.1.
const HEADER_LEN: usize = 12;

/// Largest UDP answer without EDNS. RFC 1035, 4.2.1.
pub const PLAIN_UDP_LIMIT: u16 = 512;

/// Largest UDP answer with EDNS, whatever the client offers, and what we offer: fits into one
/// packet on every path (1280 - 40 - 8). DNS flag day 2020.
pub const EDNS_UDP_LIMIT: u16 = 1232;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A datagram: the answer has a size limit.
    Udp,
    /// A stream: the answer may have 65,535 bytes.
    Tcp,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// There is nothing to send.
    Dropped,
    /// The answer is in the buffer.
    Answered {
        /// Its response code.
        rcode: ResponseCode,
        /// The type asked for, if the question could be read.
        rtype: Option<RecordType>,
        /// It did not fit, and says so.
        truncated: bool,
    },
}

/// One message and all that its answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'m> {
    /// The message, without TCP's length.
    pub message: &'m [u8],
    /// How it came.
    pub transport: Transport,
    /// Who sent it.
    pub source: SocketAddr,
    /// Number of the answer, for the rotation.
    pub turn: u64,
}

/// Writes the answer to `incoming` into `out`, which is emptied first.
///
/// `zones` is `None` while the node does not know yet what is true: then SERVFAIL, so that
/// resolvers ask another of the zone's name servers.
pub fn respond(zones: Option<&Zones>, incoming: Incoming<'_>, out: &mut Vec<u8>) -> Handled {
    out.clear();
    let Ok(header) = Header::read(&mut BinDecoder::new(incoming.message)) else {
        return Handled::Dropped;
    };
    if header.metadata.message_type == MessageType::Response {
        return Handled::Dropped;
    }
    if header.metadata.op_code != OpCode::Query {
        return bare(&header.metadata, ResponseCode::NotImp, out);
    }
    // A compressed question would be echoed with a pointer into a header that has changed.
    if header.counts.queries != 1 || !question_is_plain(incoming.message) {
        return bare(&header.metadata, ResponseCode::FormErr, out);
    }
    let protocol = match incoming.transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    let parsed = Request::from_bytes(incoming.message.to_vec(), incoming.source, protocol);
    match parsed {
        Ok(request) if has_query_shape(&request, &header.counts) => {
            reply(zones, &request, &incoming, out)
        }
        _ => bare(&header.metadata, ResponseCode::FormErr, out),
    }
}

/// A query brings no records but EDNS and signatures; IXFR alone brings its SOA.
fn has_query_shape(request: &Request, counts: &HeaderCounts) -> bool {
    let is_ixfr = request
        .queries
        .queries()
        .first()
        .is_some_and(|query| query.query_type() == RecordType::IXFR);
    counts.answers == 0 && (counts.authorities == 0 || is_ixfr)
}

fn question_is_plain(message: &[u8]) -> bool {
    let mut at = HEADER_LEN;
    loop {
        match message.get(at) {
            Some(0) => return true,
            Some(length @ 1..=63) => at += 1 + usize::from(*length),
            _ => return false,
        }
    }
}

fn reply(
    zones: Option<&Zones>,
    request: &Request,
    incoming: &Incoming<'_>,
    out: &mut Vec<u8>,
) -> Handled {
    let Some(query) = request.queries.queries().first() else {
        return bare(&request.metadata, ResponseCode::FormErr, out);
    };
    let question = query.original();
    let Some(name) = NameKey::of(question.name()) else {
        return bare(&request.metadata, ResponseCode::FormErr, out);
    };
    let edns = request.edns.as_ref().map(our_edns);
    let said = if request.version() > 0 {
        only(ResponseCode::BADVERS)
    } else if let Some(zones) = zones {
        let query = Query {
            name: &name,
            rtype: question.query_type(),
            class: question.query_class(),
            turn: incoming.turn,
        };
        answer(zones, &query)
    } else {
        only(ResponseCode::ServFail)
    };
    let limit = match incoming.transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp if edns.is_none() => PLAIN_UDP_LIMIT,
        Transport::Udp => request.max_payload().clamp(PLAIN_UDP_LIMIT, EDNS_UDP_LIMIT),
    };
    let build = Build {
        request,
        question: question.name(),
        edns: edns.as_ref(),
        limit,
    };
    match build.largest_that_fits(&said, out) {
        Ok(truncated) => Handled::Answered {
            rcode: said.rcode,
            rtype: Some(question.query_type()),
            truncated,
        },
        Err(_) => bare(&request.metadata, ResponseCode::ServFail, out),
    }
}

/// EDNS of the answer. The DO bit is copied (RFC 3225), all else is ours.
fn our_edns(theirs: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(EDNS_UDP_LIMIT)
        .set_dnssec_ok(theirs.flags().dnssec_ok);
    edns
}

fn only(rcode: ResponseCode) -> Answer<'static> {
    Answer {
        rcode,
        authoritative: false,
        answers: None,
        authority: None,
        additional: &[],
    }
}

/// A header and nothing else: what is said when the message could not be understood.
fn bare(metadata: &Metadata, rcode: ResponseCode, out: &mut Vec<u8>) -> Handled {
    out.clear();
    let mut metadata = Metadata::response_from_request(metadata);
    metadata.response_code = rcode;
    let header = Header {
        metadata,
        counts: HeaderCounts::default(),
    };
    match header.emit(&mut BinEncoder::new(out)) {
        Ok(()) => Handled::Answered {
            rcode,
            rtype: None,
            truncated: false,
        },
        Err(_) => Handled::Dropped,
    }
}

/// Turns an [`Answer`] into bytes.
struct Build<'b> {
    request: &'b Request,
    question: &'b Name,
    edns: Option<&'b Edns>,
    limit: u16,
}

impl Build<'_> {
    /// All of the answer; else without the additional records, which nobody asked for; else
    /// the question alone with TC. Never part of a set. Returns whether TC is set.
    fn largest_that_fits(&self, said: &Answer<'_>, out: &mut Vec<u8>) -> Result<bool, ProtoError> {
        let answers: Vec<Record> = match said.answers {
            Some(rotated) => self.owned(rotated.records()),
            None => Vec::new(),
        };
        let authorities = match said.authority {
            Some(set) => self.owned(set.records.iter()),
            None => Vec::new(),
        };
        let additional: Vec<Record> = said
            .additional
            .iter()
            .flat_map(|set| self.owned(set.records.iter()))
            .collect();
        if self.fits(said, [&answers, &authorities, &additional], out)? {
            return Ok(false);
        }
        if !additional.is_empty() && self.fits(said, [&answers, &authorities, &[]], out)? {
            return Ok(false);
        }
        self.emit(said, true, [&[], &[], &[]], out)?;
        Ok(true)
    }

    fn fits(
        &self,
        said: &Answer<'_>,
        sections: [&[Record]; 3],
        out: &mut Vec<u8>,
    ) -> Result<bool, ProtoError> {
        Ok(!self.emit(said, false, sections, out)?)
    }

    /// Encodes; returns whether TC ended up set.
    fn emit(
        &self,
        said: &Answer<'_>,
        truncation: bool,
        [answers, authorities, additional]: [&[Record]; 3],
        out: &mut Vec<u8>,
    ) -> Result<bool, ProtoError> {
        out.clear();
        let mut metadata = Metadata::response_from_request(&self.request.metadata);
        metadata.response_code = said.rcode;
        metadata.authoritative = said.authoritative;
        metadata.truncation = truncation;
        let mut encoder = BinEncoder::new(out);
        encoder.set_max_size(self.limit);
        let queries = self.request.queries.queries();
        let header = emit_message_parts(
            &metadata,
            &mut queries.iter().map(|query| query.original()),
            &mut answers.iter(),
            &mut authorities.iter(),
            &mut additional.iter(),
            self.edns,
            None,
            &mut encoder,
        )?;
        Ok(header.metadata.truncation)
    }

    /// Copies of one set's records, whose owner takes the question's spelling where the question
    /// ends in it: the case that was asked for is kept, and the owner shrinks to a pointer.
    fn owned<'r>(&self, mut records: impl Iterator<Item = &'r Record>) -> Vec<Record> {
        let Some(first) = records.next() else {
            return Vec::new();
        };
        // Once for the set: cutting a name is the dearest step of an answer.
        let owner = if first.name.zone_of(self.question) {
            self.question.trim_to(usize::from(first.name.num_labels()))
        } else {
            first.name.clone()
        };
        std::iter::once(first)
            .chain(records)
            .map(|record| {
                let mut copy = Record::from_rdata(owner.clone(), record.ttl, record.data.clone());
                copy.dns_class = record.dns_class;
                copy
            })
            .collect()
    }
}
