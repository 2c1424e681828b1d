//! Zone transfers: which query asks for one, and the messages of the answer.
//!
//! AXFR is RFC 5936, IXFR RFC 1995. Names are not compressed: records are copied as the history
//! holds them, so a case that the client spelt never ends up in somebody's zone. What is not
//! permitted or not well-formed is left to [`crate::respond`], which refuses it.
//!
//! Over UDP an IXFR is answered with the newest SOA alone, as section 2 of RFC 1995 allows; who
//! is behind comes back over TCP.
//!
//! Limits: no padding, no cookie in the answer; EDNS is answered in the first message.

use hickory_proto::op::{Message, MessageType, OpCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};

use crate::compose::{Opt, QUESTION_AT};
use crate::history::Wire;
use crate::name::NameKey;
use crate::primary::Part;
use crate::tsig::Signer;
use crate::wire::{EDNS_UDP_LIMIT, question_end};

/// Bytes of a message at which the next one begins. A message can have 65,535; smaller ones let
/// others have their turn, and a signature covers less that may be lost.
const MESSAGE: usize = 16_384;

/// A query for a transfer.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) apex: NameKey,
    pub(crate) rtype: RecordType,
    pub(crate) part: Part,
    has_edns: bool,
}

/// Whether a message asks for a transfer at all, told by its question's type alone.
pub(crate) fn is_transfer(message: &[u8]) -> bool {
    let rtype = question_end(message)
        .and_then(|end| message.get(end - 4..end - 2))
        .and_then(|rtype| rtype.first_chunk())
        .map(|rtype| RecordType::from(u16::from_be_bytes(*rtype)));
    matches!(rtype, Some(RecordType::AXFR | RecordType::IXFR))
}

impl Asked {
    /// Reads a query for a transfer; `None`: it is none, or not well-formed.
    pub(crate) fn read(message: &[u8]) -> Option<Asked> {
        if !is_transfer(message) {
            return None;
        }
        let message = Message::from_vec(message).ok()?;
        let meta = &message.metadata;
        let [query] = message.queries.as_slice() else {
            return None;
        };
        let is_query = meta.message_type == MessageType::Query && meta.op_code == OpCode::Query;
        let edns = message.edns.as_ref();
        if !is_query
            || query.query_class() != DNSClass::IN
            || !message.answers.is_empty()
            || edns.is_some_and(|edns| edns.version() != 0)
        {
            return None;
        }
        let part = match (query.query_type(), message.authorities.as_slice()) {
            (RecordType::AXFR, []) => Part::Whole,
            (RecordType::IXFR, [soa]) if soa.name == *query.name() => match &soa.data {
                RData::SOA(soa) => Part::Since(soa.serial),
                _ => return None,
            },
            _ => return None,
        };
        Some(Asked {
            apex: NameKey::of(query.name())?,
            rtype: query.query_type(),
            part,
            has_edns: edns.is_some(),
        })
    }
}

/// The messages of an answer, one after the other.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The header of the query.
    theirs: [u8; QUESTION_AT],
    question: Vec<u8>,
    opt: Option<Opt>,
    records: Vec<Wire>,
    next: usize,
    signer: Option<Signer>,
}

impl Stream {
    /// Answers the query `message` with `records`. `None`: the message has no question.
    pub(crate) fn new(
        message: &[u8],
        asked: &Asked,
        records: Vec<Wire>,
        signer: Option<Signer>,
    ) -> Option<Stream> {
        let end = question_end(message)?;
        Some(Stream {
            theirs: *message.first_chunk()?,
            question: message.get(QUESTION_AT..end)?.to_vec(),
            opt: asked.has_edns.then_some(Opt {
                rcode_high: 0,
                dnssec_ok: false,
                cookie: None,
            }),
            records,
            next: 0,
            signer,
        })
    }

    /// Writes the next message into `out`, which is emptied first; false: that was all.
    pub(crate) fn next(&mut self, now_s: u64, out: &mut Vec<u8>) -> bool {
        out.clear();
        let is_first = self.next == 0;
        if self.next >= self.records.len() {
            return false;
        }
        out.extend_from_slice(&self.theirs);
        if is_first {
            out.extend_from_slice(&self.question);
        }
        let mut count = 0_u16;
        while let Some(record) = self.records.get(self.next) {
            if count > 0 && out.len() + record.len() > MESSAGE {
                break;
            }
            out.extend_from_slice(record);
            self.next += 1;
            count += 1;
        }
        let opt = self.opt.take_if(|_| is_first);
        if let Some(opt) = &opt {
            let bytes = opt.bytes(EDNS_UDP_LIMIT);
            out.extend_from_slice(bytes.get(..opt.len()).unwrap_or_default());
        }
        self.head(out, [is_first.into(), count, 0, opt.is_some().into()]);
        if let Some(signer) = &mut self.signer {
            signer.sign(out, now_s);
        }
        true
    }

    /// Ours for theirs: the id and RD come back; AA, NOERROR.
    fn head(&self, out: &mut [u8], counts: [u16; 4]) {
        let Some(ours) = out.first_chunk_mut::<QUESTION_AT>() else {
            return;
        };
        ours[2] = 0x84 | self.theirs[2] & 0x01;
        ours[3] = 0;
        for (room, count) in ours[4..].chunks_exact_mut(2).zip(counts) {
            room.copy_from_slice(&count.to_be_bytes());
        }
    }
}
