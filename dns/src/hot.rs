//! The short way to an answer: a usual query is looked up and answered in its own buffer.
//!
//! No allocation, lock or parser: the header is rewritten, the question stays where it is, and
//! compiled bytes are copied behind it. What is not usual byte for byte gets no answer here, and
//! the caller asks [`crate::respond`]. Where both answer they give the same bytes: a test
//! compares them over 100,000 queries (`tests/differential.rs`).

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;

use crate::compiled::{Compiled, Found};
use crate::compose::{Opt, QUESTION_AT};
use crate::cookie::{Checked, Jar};
use crate::limit::{Bucket, Verdict, mix};
use crate::question::{Question, UsualEdns, usual_edns, usual_header};
use crate::wire::{EDNS_UDP_LIMIT, Handled, PLAIN_UDP_LIMIT};
use crate::zones::Zones;

/// Class IN.
const IN: u16 = 1;

/// Flags and counts of an answer's header.
const AA: u8 = 0x04;
const TC: u8 = 0x02;

/// Upper bits of the extended response code 23, BADCOOKIE. RFC 7873, 8.
const BADCOOKIE_HIGH: u8 = 1;

/// All but the query itself that an answer depends on.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'j> {
    /// Who asks.
    pub client: IpAddr,
    /// Number of the answer, for the rotation.
    pub turn: u64,
    /// Makes and checks cookies; without it they are not spoken.
    pub jar: Option<&'j Jar>,
}

/// Scratch space of one thread.
#[derive(Debug)]
pub struct HotPath {
    question: Question,
}

impl Default for HotPath {
    fn default() -> Self {
        HotPath {
            question: Question::new(),
        }
    }
}

/// A usual query, read.
struct Usual {
    /// Where the question ends.
    end: usize,
    name_hash: u64,
    edns: Option<UsualEdns>,
    cookie: Option<Checked>,
}

/// The parts of an answer, before it is known whether they fit.
struct Parts<'c> {
    rcode: ResponseCode,
    authoritative: bool,
    answers: &'c [u8],
    answer_count: u16,
    soa: Option<&'c crate::compiled::CompiledZone>,
    additional: &'c [u8],
    additional_count: u16,
    opt: Option<Opt>,
}

impl HotPath {
    /// Answers the UDP query in `buffer[..length]` in its place, unless `judge` is against it.
    /// `None`: this is no usual query, and the buffer is as it was.
    #[inline]
    pub fn answer(
        &mut self,
        zones: &Zones,
        moment: Moment<'_>,
        buffer: &mut [u8],
        length: usize,
        judge: impl FnOnce(Bucket) -> Verdict,
    ) -> Option<(Handled, usize)> {
        let compiled = zones.compiled()?;
        let usual = self.read(buffer.get(..length)?, moment)?;
        let found = compiled.find(&self.question, usual.name_hash);
        let bucket = self.bucket(&found, usual.name_hash);
        let vouched = usual.cookie.is_some_and(|cookie| cookie.vouched);
        let verdict = match vouched {
            true => Verdict::Send,
            false => judge(bucket),
        };
        let mut parts = Parts::of(found, &usual, moment.turn);
        let cut = match verdict {
            Verdict::Send => false,
            Verdict::Drop => return Some((Handled::Limited, 0)),
            // An error has nothing that could be left out.
            Verdict::Slip => parts.authoritative,
        };
        if cut && usual.cookie.is_some() {
            parts.refuse_cookie();
        }
        let (truncated, length) = self.write(&parts, &usual, buffer, cut)?;
        let handled = Handled::Answered {
            rcode: parts.rcode,
            rtype: Some(self.question.rtype.into()),
            truncated,
            vouched,
        };
        Some((handled, length))
    }

    /// What an answer of the other path is limited by.
    pub fn bucket_of(&mut self, zones: &Zones, message: &[u8], rcode: ResponseCode) -> Bucket {
        let error = Bucket::Error(u16::from(rcode).into());
        let answers = matches!(rcode, ResponseCode::NoError | ResponseCode::NXDomain);
        match zones.compiled() {
            Some(compiled) if answers && self.question.read(message).is_some() => {
                self.bucket_by_name(compiled)
            }
            _ => error,
        }
    }

    fn bucket_by_name(&self, compiled: &Compiled) -> Bucket {
        let name_hash = self.question.hash(0);
        self.bucket(&compiled.find(&self.question, name_hash), name_hash)
    }

    #[inline]
    fn bucket(&self, found: &Found<'_>, name_hash: u64) -> Bucket {
        match found {
            Found::Set(_) => Bucket::Answer(mix(name_hash, self.question.rtype.into())),
            // One bucket for all types that are not there: there are thousands of them.
            Found::NoData(_) => Bucket::Answer(name_hash),
            Found::NoName(_, zone) => Bucket::Negative(*zone),
            Found::Withheld => Bucket::Error(u16::from(ResponseCode::ServFail).into()),
            Found::NotOurs => Bucket::Error(u16::from(ResponseCode::Refused).into()),
        }
    }

    #[inline]
    fn read(&mut self, message: &[u8], moment: Moment<'_>) -> Option<Usual> {
        let more = usual_header(message)?;
        let end = self.question.read(message)?;
        if self.question.class != IN || !is_usual_type(self.question.rtype) {
            return None;
        }
        let edns = match more {
            true => Some(usual_edns(message, end)?),
            false if end == message.len() => None,
            false => return None,
        };
        let option = edns.as_ref().and_then(|edns| edns.cookie.clone());
        let cookie = match (moment.jar, option) {
            (Some(jar), Some(at)) => Some(jar.check(message.get(at)?, moment.client)?),
            _ => None,
        };
        Some(Usual {
            end,
            name_hash: self.question.hash(0),
            edns,
            cookie,
        })
    }

    /// Writes the answer over its query; returns whether it was truncated, and its length.
    #[inline]
    fn write(
        &self,
        parts: &Parts<'_>,
        usual: &Usual,
        buffer: &mut [u8],
        cut: bool,
    ) -> Option<(bool, usize)> {
        let limit = match &usual.edns {
            Some(edns) => edns.payload.clamp(PLAIN_UDP_LIMIT, EDNS_UDP_LIMIT),
            None => PLAIN_UDP_LIMIT,
        };
        let soa = parts.soa.map_or(&[][..], |zone| &zone.soa);
        let opt_len = parts.opt.map_or(0, |opt| opt.len());
        let needed = usual.end + parts.answers.len() + soa.len() + opt_len;
        let refused_cookie = parts.rcode == ResponseCode::BADCOOKIE;
        let truncated = !refused_cookie && (cut || needed > usize::from(limit));
        let bare = truncated || refused_cookie;
        let with_additional = !bare && needed + parts.additional.len() <= usize::from(limit);
        let mut at = usual.end;
        if !bare {
            at = put(buffer, at, parts.answers)?;
            if let Some(zone) = parts.soa {
                let soa_at = at;
                at = put(buffer, at, &zone.soa)?;
                let apex_at = QUESTION_AT + self.question.len().checked_sub(zone.apex_len)?;
                let pointer = (0xC000 | apex_at as u16).to_be_bytes();
                for place in &zone.pointers {
                    put(buffer, soa_at + place, &pointer)?;
                }
            }
            if with_additional {
                at = put(buffer, at, parts.additional)?;
            }
        }
        if let Some(opt) = &parts.opt {
            at = put(buffer, at, opt.bytes(EDNS_UDP_LIMIT).get(..opt.len())?)?;
        }
        let header = buffer.first_chunk_mut::<QUESTION_AT>()?;
        let aa = if parts.authoritative { AA } else { 0 };
        let tc = if truncated { TC } else { 0 };
        let rcode = u16::from(parts.rcode) as u8 & 0x0F;
        header[2] = 0x80 | header[2] & 0x01 | aa | tc;
        header[3] = header[3] & 0x10 | rcode;
        let authorities = u8::from(!bare && parts.soa.is_some());
        let extra = if with_additional {
            parts.additional_count
        } else {
            0
        };
        let extra = extra + u16::from(parts.opt.is_some());
        let answers = if bare { 0 } else { parts.answer_count };
        [header[6], header[7]] = answers.to_be_bytes();
        header[9] = authorities;
        [header[10], header[11]] = extra.to_be_bytes();
        Some((truncated, at))
    }
}

impl<'c> Parts<'c> {
    #[inline]
    fn of(found: Found<'c>, usual: &Usual, turn: u64) -> Self {
        let mut parts = Parts {
            rcode: ResponseCode::NoError,
            authoritative: true,
            answers: &[],
            answer_count: 0,
            soa: None,
            additional: &[],
            additional_count: 0,
            opt: usual.edns.as_ref().map(|edns| Opt {
                rcode_high: 0,
                dnssec_ok: edns.dnssec_ok,
                cookie: usual.cookie.map(|cookie| cookie.reply),
            }),
        };
        match found {
            Found::Set(set) => {
                parts.answers = set.rotated(turn);
                parts.answer_count = set.count;
                parts.additional = &set.additional;
                parts.additional_count = set.additional_count;
            }
            Found::NoData(zone) => parts.soa = Some(zone),
            Found::NoName(zone, _) => {
                parts.soa = Some(zone);
                parts.rcode = ResponseCode::NXDomain;
            }
            Found::Withheld => {
                parts.rcode = ResponseCode::ServFail;
                parts.authoritative = false;
            }
            Found::NotOurs => {
                parts.rcode = ResponseCode::Refused;
                parts.authoritative = false;
            }
        }
        parts
    }

    /// Asks the client for a cookie in place of TCP: it has shown that it knows them.
    fn refuse_cookie(&mut self) {
        self.rcode = ResponseCode::BADCOOKIE;
        self.authoritative = false;
        if let Some(opt) = &mut self.opt {
            opt.rcode_high = BADCOOKIE_HIGH;
        }
    }
}

/// Types that are data: what asks for a transfer or a signature, or is no type of a question,
/// is left to the parser.
fn is_usual_type(rtype: u16) -> bool {
    !matches!(rtype, 0 | 24 | 41 | 249..=254)
}

/// Copies to `at` and returns the end; `None` where there is no room.
#[inline]
fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    let end = at + bytes.len();
    buffer.get_mut(at..end)?.copy_from_slice(bytes);
    Some(end)
}
