//! Finds the signature at the end of a message, and takes it off.
//!
//! Walks over the records by their lengths; nothing in them is looked at but the type, so what
//! is not genuine has not been parsed when it is refused.

use super::{ARCOUNT_AT, Fault, NOTAUTH, Stamp, TSIG};
use crate::compose::QUESTION_AT;
use crate::name::MAX_NAME;

/// Type code of EDNS.
const OPT: u16 = 41;

/// A message that can't be read as far as its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is malformed")]
pub struct Malformed;

/// A signature and what it says.
#[derive(Debug)]
pub(super) struct Found<'m> {
    /// Where the record starts.
    start: usize,
    /// Where the question ends.
    question_end: usize,
    /// The key's name, lower-cased wire form.
    pub(super) name: Vec<u8>,
    /// The algorithm's.
    pub(super) algorithm: Vec<u8>,
    pub(super) time_s: u64,
    pub(super) fudge: u16,
    pub(super) mac: &'m [u8],
    pub(super) original_id: u16,
    pub(super) error: u16,
    pub(super) other: &'m [u8],
}

/// The signature of a message; `None`: it has none, or can't be read so far.
///
/// # Errors
/// There is one, but in a wrong place or with wrong lengths.
pub(super) fn find(message: &[u8]) -> Result<Option<Found<'_>>, Malformed> {
    let Some(last) = last_record(message)? else {
        return Ok(None);
    };
    last.read(message).map(Some).ok_or(Malformed)
}

/// The size that a message's EDNS record offers, if there is one that can be found.
pub fn payload_of(message: &[u8]) -> Option<u16> {
    let (mut at, _) = questions(message)?;
    for _ in 0..records(message)? {
        let record = record(message, at)?;
        if record.rtype == OPT {
            return Some(record.class);
        }
        at = record.end;
    }
    None
}

/// Of a signature: ANY and 0.
const CLASS_AND_TTL: [u8; 6] = [0, 255, 0, 0, 0, 0];

/// A signature that is where it has to be.
struct Last {
    place: Place,
    start: usize,
    question_end: usize,
}

/// The last record of a message, if it is a signature. There is one at most, and none follows it
/// (RFC 8945, section 5.1).
fn last_record(message: &[u8]) -> Result<Option<Last>, Malformed> {
    let is_counted = word(message, ARCOUNT_AT).is_some_and(|count| count > 0);
    let (true, Some((mut start, question_end)), Some(count)) =
        (is_counted, questions(message), records(message))
    else {
        return Ok(None);
    };
    for left in (0..count).rev() {
        let Some(place) = record(message, start) else {
            return Ok(None);
        };
        match (place.rtype == TSIG, left) {
            (true, 0) => {
                return Ok(Some(Last {
                    place,
                    start,
                    question_end,
                }));
            }
            (true, _) => return Err(Malformed),
            (false, _) => start = place.end,
        }
    }
    Ok(None)
}

impl Last {
    /// `None`: its lengths don't add up.
    fn read(self, message: &[u8]) -> Option<Found<'_>> {
        let Place { data, end, .. } = self.place;
        // Class and TTL are signed as what they must be, not as what they are (RFC 8945, 4.2 and 4.3.3).
        if message.get(data.checked_sub(8)?..data - 2)? != CLASS_AND_TTL {
            return None;
        }
        let (name, _) = name(message, self.start)?;
        let (algorithm, after) = self::name(message, data)?;
        let mac = after + 10;
        let tail = mac + usize::from(word(message, after + 8)?);
        let other_len = usize::from(word(message, tail + 4)?);
        if tail + 6 + other_len != end || end != message.len() {
            return None;
        }
        let time = message.get(after..after + 6)?;
        Some(Found {
            start: self.start,
            question_end: self.question_end,
            name,
            algorithm,
            time_s: time.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            fudge: word(message, after + 6)?,
            mac: message.get(mac..tail)?,
            original_id: word(message, tail)?,
            error: word(message, tail + 2)?,
            other: message.get(tail + 6..end)?,
        })
    }
}

impl Found<'_> {
    /// Whether the message was signed about now.
    pub(super) fn is_timely(&self, now_s: u64) -> bool {
        self.time_s.abs_diff(now_s) <= u64::from(self.fudge)
    }

    /// The message without its signature.
    pub(super) fn taken_off(&self, message: &[u8]) -> Vec<u8> {
        let mut bare = message.get(..self.start).unwrap_or_default().to_vec();
        let counted = word(&bare, ARCOUNT_AT).unwrap_or(0).saturating_sub(1);
        if let Some(count) = bare.get_mut(ARCOUNT_AT..ARCOUNT_AT + 2) {
            count.copy_from_slice(&counted.to_be_bytes());
        }
        bare
    }

    /// The head of a reply that refuses the message: its question, and NOTAUTH.
    pub(super) fn headed(&self, message: &[u8]) -> Vec<u8> {
        let mut reply = message
            .get(..self.question_end)
            .unwrap_or_default()
            .to_vec();
        if let Some(head) = reply.first_chunk_mut::<QUESTION_AT>() {
            head[2] = 0x80 | head[2] & 0x79;
            head[3] = head[3] & 0x10 | NOTAUTH;
            head[6..].fill(0);
        }
        reply
    }

    /// The whole reply to a message whose signature proves nothing: unsigned. RFC 8945, 5.3.2.
    pub(super) fn refusal(&self, message: &[u8], fault: Fault) -> Vec<u8> {
        let mut reply = self.headed(message);
        let stamp = Stamp {
            time_s: self.time_s,
            fudge: self.fudge,
            error: fault as u16,
            other: &[],
        };
        stamp.append(&mut reply, &self.name, &self.algorithm, &[]);
        reply
    }
}

/// Pointers in one name: compression needs one, and many of them cost time.
const MAX_HOPS: u32 = 16;

/// Where a record's parts are.
struct Place {
    rtype: u16,
    class: u16,
    data: usize,
    end: usize,
}

fn record(message: &[u8], at: usize) -> Option<Place> {
    let (_, fixed) = name(message, at)?;
    let length = usize::from(word(message, fixed + 8)?);
    let data = fixed + 10;
    let end = data + length;
    (end <= message.len()).then_some(Place {
        rtype: word(message, fixed)?,
        class: word(message, fixed + 2)?,
        data,
        end,
    })
}

/// Where the records start, and where the first question ends.
fn questions(message: &[u8]) -> Option<(usize, usize)> {
    let mut at = QUESTION_AT;
    let mut first = QUESTION_AT;
    // A message with more than one question is refused, whoever signed it.
    let count = word(message, 4)?;
    if count > 1 {
        return None;
    }
    if count == 1 {
        at = name(message, at)?.1 + 4;
        first = at;
    }
    (at <= message.len()).then_some((at, first))
}

/// How many records there are in all sections.
fn records(message: &[u8]) -> Option<usize> {
    let mut count = 0;
    for section in [6, 8, ARCOUNT_AT] {
        count += usize::from(word(message, section)?);
    }
    Some(count)
}

/// A name, lower-cased in wire form, and where it ends. Pointers lead backwards only.
fn name(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    let (mut at, mut end) = (start, None);
    let mut barrier = start;
    let mut hops = 0;
    loop {
        match *message.get(at)? {
            0 => {
                out.push(0);
                return (out.len() <= MAX_NAME).then_some((out, end.unwrap_or(at + 1)));
            }
            length @ 1..=63 => {
                let next = at + 1 + usize::from(length);
                let label = message.get(at..next)?;
                // A length is below 64 and `A` is 65: lengths stay what they are.
                out.extend(label.iter().map(u8::to_ascii_lowercase));
                if out.len() >= MAX_NAME {
                    return None;
                }
                at = next;
            }
            high @ 0xC0.. => {
                let low = *message.get(at + 1)?;
                end = end.or(Some(at + 2));
                let target = usize::from(high & 0x3F) << 8 | usize::from(low);
                hops += 1;
                if target >= barrier || hops > MAX_HOPS {
                    return None;
                }
                (at, barrier) = (target, target);
            }
            _ => return None,
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    let bytes = message.get(at..at + 2)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}
