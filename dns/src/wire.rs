//! One message in, at most one message out. Pure and total, for UDP and TCP alike.
//!
//! hickory parses the whole message; what it must not decide is decided here: sizes (it echoes
//! the client's EDNS size), truncation (it cuts a set in two), what is refused, cookies.
//! The question comes back as the bytes that it was, records are written by `compose`, which
//! [`crate::hot`] uses as well: usual queries over UDP never come here.
//!
//! Never answered: what is shorter than a header, and any response (two servers could
//! otherwise answer each other for ever).
//!
//! Limits: no padding, NSID or client subnet: EDNS options but the cookie are ignored.

use std::net::SocketAddr;

use hickory_proto::op::{Header, HeaderCounts, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

use crate::answer::{Answer, Query, answer};
use crate::compiled::owner_of;
use crate::compose::{Composer, Opt, Owner, QUESTION_AT, Unwritable};
use crate::cookie::{Checked, Jar};
use crate::name::NameKey;
use crate::zone::{RrSet, Zone};
use crate::zones::Zones;

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
    /// There would be, but the client hears too much of it.
    Limited,
    /// The answer is in the buffer.
    Answered {
        /// Its response code.
        rcode: ResponseCode,
        /// The type asked for, if the question could be read.
        rtype: Option<RecordType>,
        /// It did not fit, and says so.
        truncated: bool,
        /// The client has shown by a cookie that it receives at its address.
        vouched: bool,
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
    /// Makes and checks cookies; without it they are not spoken.
    pub jar: Option<&'m Jar>,
    /// The client hears too much: leave out what makes the answer large.
    pub cut: bool,
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
        return bare(incoming.message, ResponseCode::NotImp, out);
    }
    let is_plain = match header.counts.queries {
        // A question for our cookie alone. RFC 7873, 5.4.
        0 => incoming.jar.is_some(),
        // A compressed question would be echoed with a pointer into a header that has changed.
        1 => question_end(incoming.message).is_some(),
        _ => false,
    };
    let protocol = match incoming.transport {
        Transport::Udp => Protocol::Udp,
        Transport::Tcp => Protocol::Tcp,
    };
    if is_plain
        && let Ok(request) =
            Request::from_bytes(incoming.message.to_vec(), incoming.source, protocol)
        && has_query_shape(&request, &header.counts)
        && let Some(handled) = reply(zones, &request, &incoming, out)
    {
        return handled;
    }
    bare(incoming.message, ResponseCode::FormErr, out)
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

/// Where the question ends, if its name is not compressed.
pub(crate) fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = QUESTION_AT;
    loop {
        match message.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(*length),
            _ => return None,
        }
    }
    let end = at + 5;
    (end <= message.len()).then_some(end)
}

/// The answer to a well-formed query; `None`: it was not.
fn reply(
    zones: Option<&Zones>,
    request: &Request,
    incoming: &Incoming<'_>,
    out: &mut Vec<u8>,
) -> Option<Handled> {
    let cookie = cookie_of(request, incoming)?;
    let query = request
        .queries
        .queries()
        .first()
        .map(|query| query.original());
    let mut said = match query {
        _ if request.version() > 0 => Answer::only(ResponseCode::BADVERS),
        None if cookie.is_none() => return None,
        None => Answer::only(ResponseCode::NoError),
        Some(query) => {
            let name = NameKey::of(query.name())?;
            let query = Query {
                name: &name,
                rtype: query.query_type(),
                class: query.query_class(),
                turn: incoming.turn,
            };
            match zones {
                Some(zones) => answer(zones, &query),
                None => Answer::only(ResponseCode::ServFail),
            }
        }
    };
    let vouched = cookie.is_some_and(|cookie| cookie.vouched);
    // An error has nothing that could be left out.
    let mut cut = incoming.cut && said.zone.is_some();
    if cut && cookie.is_some() {
        // Asks for a cookie in place of TCP: the client has shown that it knows them.
        said = Answer::only(ResponseCode::BADCOOKIE);
        cut = false;
    }
    let opt = request.edns.as_ref().map(|edns| Opt {
        rcode_high: (u16::from(said.rcode) >> 4) as u8,
        dnssec_ok: edns.flags().dnssec_ok,
        cookie: cookie.map(|cookie| cookie.reply),
    });
    let limit = match incoming.transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp if opt.is_none() => PLAIN_UDP_LIMIT,
        Transport::Udp => request.max_payload().clamp(PLAIN_UDP_LIMIT, EDNS_UDP_LIMIT),
    };
    let build = Build {
        message: incoming.message,
        question: query.map(|query| query.name()),
        opt,
        limit: limit.into(),
    };
    let handled = |rcode, truncated| Handled::Answered {
        rcode,
        rtype: query.map(|query| query.query_type()),
        truncated,
        vouched,
    };
    match build.largest_that_fits(&said, cut, out) {
        Ok(truncated) => Some(handled(said.rcode, truncated)),
        Err(Unwritable) => Some(bare(incoming.message, ResponseCode::ServFail, out)),
    }
}

/// What the query's cookie is worth: none for a client that sent none, or where none are spoken.
/// The outer `None`: it is malformed.
fn cookie_of(request: &Request, incoming: &Incoming<'_>) -> Option<Option<Checked>> {
    let option = request
        .edns
        .as_ref()
        .filter(|edns| edns.version() == 0)
        .and_then(|edns| edns.option(EdnsCode::Cookie));
    let (Some(jar), Some(option)) = (incoming.jar, option) else {
        return Some(None);
    };
    let content: &[u8] = match option {
        EdnsOption::Unknown(_, content) => content,
        _ => &[],
    };
    jar.check(content, incoming.source.ip()).map(Some)
}

/// A header and nothing else: what is said when the message could not be understood.
pub(crate) fn bare(message: &[u8], rcode: ResponseCode, out: &mut Vec<u8>) -> Handled {
    out.clear();
    let Some(theirs) = message.first_chunk() else {
        return Handled::Dropped;
    };
    out.extend_from_slice(&header(theirs, rcode, false, false, [0; 4]));
    Handled::Answered {
        rcode,
        rtype: None,
        truncated: false,
        vouched: false,
    }
}

/// Ours for theirs: the id, the operation, RD and CD come back, all else is ours.
fn header(
    theirs: &[u8; QUESTION_AT],
    rcode: ResponseCode,
    authoritative: bool,
    truncated: bool,
    counts: [u16; 4],
) -> [u8; QUESTION_AT] {
    let mut ours = [0; QUESTION_AT];
    ours[..2].copy_from_slice(&theirs[..2]);
    ours[2] = 0x80 | theirs[2] & 0x79 | u8::from(authoritative) << 2 | u8::from(truncated) << 1;
    ours[3] = theirs[3] & 0x10 | u16::from(rcode) as u8 & 0x0F;
    for (room, count) in ours[4..].chunks_exact_mut(2).zip(counts) {
        room.copy_from_slice(&count.to_be_bytes());
    }
    ours
}

/// Turns an [`Answer`] into bytes.
struct Build<'b> {
    message: &'b [u8],
    question: Option<&'b Name>,
    opt: Option<Opt>,
    limit: usize,
}

impl Build<'_> {
    /// All of the answer; else without the additional records, which nobody asked for; else
    /// the question alone with TC. Never part of a set. Returns whether TC is set.
    fn largest_that_fits(
        &self,
        said: &Answer<'_>,
        cut: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, Unwritable> {
        if !cut && self.fits(said, said.additional, out)? {
            return Ok(false);
        }
        if !cut && !said.additional.is_empty() && self.fits(said, &[], out)? {
            return Ok(false);
        }
        let nothing = Answer {
            zone: said.zone,
            ..Answer::only(said.rcode)
        };
        self.emit(&nothing, &[], true, out)?;
        Ok(true)
    }

    fn fits(
        &self,
        said: &Answer<'_>,
        additional: &[RrSet],
        out: &mut Vec<u8>,
    ) -> Result<bool, Unwritable> {
        self.emit(said, additional, false, out)?;
        Ok(out.len() <= self.limit)
    }

    fn emit(
        &self,
        said: &Answer<'_>,
        additional: &[RrSet],
        truncated: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        out.clear();
        let theirs = self.message.first_chunk().ok_or(Unwritable)?;
        out.extend_from_slice(theirs);
        let mut counts = [0; 4];
        if let Some(question) = self.question {
            let end = question_end(self.message).ok_or(Unwritable)?;
            let bytes = self.message.get(QUESTION_AT..end).ok_or(Unwritable)?;
            out.extend_from_slice(bytes);
            counts[0] = 1;
            if let Some(zone) = said.zone {
                let sections = sections(zone, question, said, additional, out)?;
                counts[1..].copy_from_slice(&sections);
            }
        }
        if let Some(opt) = &self.opt {
            out.extend_from_slice(
                opt.bytes(EDNS_UDP_LIMIT)
                    .get(..opt.len())
                    .ok_or(Unwritable)?,
            );
            counts[3] += 1;
        }
        let ours = header(theirs, said.rcode, said.zone.is_some(), truncated, counts);
        out.get_mut(..QUESTION_AT)
            .ok_or(Unwritable)?
            .copy_from_slice(&ours);
        Ok(())
    }
}

/// Writes the three sections of records; returns how many are in each.
fn sections(
    zone: &Zone,
    question: &Name,
    said: &Answer<'_>,
    additional: &[RrSet],
    out: &mut Vec<u8>,
) -> Result<[u16; 3], Unwritable> {
    let above = NameKey::of(question).ok_or(Unwritable)?.wire().len();
    let apex = NameKey::of(zone.apex()).ok_or(Unwritable)?.wire().len();
    let apex_at = QUESTION_AT + above.checked_sub(apex).ok_or(Unwritable)?;
    let mut composer = Composer::new(out, 0, zone.apex(), apex_at)?;
    let mut counts = [0_u16; 3];
    if let Some(rotated) = said.answers {
        counts[0] = composer.records(Owner::Question, rotated.records())?;
    }
    if let Some(set) = said.authority {
        counts[1] = composer.records(Owner::Apex, set.records.iter())?;
    }
    for set in additional {
        counts[2] += composer.records(owner_of(&set.records), set.records.iter())?;
    }
    Ok(counts)
}
