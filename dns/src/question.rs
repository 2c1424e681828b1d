//! A query of the usual shape, read without a parser: one plain question and at most EDNS.
//!
//! Whatever is not exactly so (another operation or flag, a pointer, several questions, other
//! records, unknown options, a trailing byte) is not read here, and hickory's parser decides.
//! Reads into a buffer that is used again and again, so nothing is cleared or allocated.

use std::ops::Range;

use crate::compose::{COOKIE_CODE, OPT_LEN, QUESTION_AT};
use crate::limit::mix;
use crate::name::{MAX_LABELS, MAX_NAME};

/// Bytes that are hashed at once.
const WORD: usize = 8;

/// Longest cookie that is read here: a client's and one of ours.
const USUAL_COOKIE: usize = 24;

/// The name, type and class of a question.
#[derive(Debug)]
pub(crate) struct Question {
    /// Lower-cased wire name; zeros after it, up to a whole word.
    lower: [u8; MAX_NAME + 1 + WORD],
    len: usize,
    starts: [u8; MAX_LABELS + 1],
    labels: usize,
    /// Type asked for.
    pub(crate) rtype: u16,
    /// Class asked for.
    pub(crate) class: u16,
}

impl Question {
    pub(crate) fn new() -> Question {
        Question {
            lower: [0; MAX_NAME + 1 + WORD],
            len: 0,
            starts: [0; MAX_LABELS + 1],
            labels: 0,
            rtype: 0,
            class: 0,
        }
    }

    /// Reads the first question of a message, and says where it ends; `None` if its name is
    /// cut off, compressed or too long.
    #[inline]
    pub(crate) fn read(&mut self, message: &[u8]) -> Option<usize> {
        let mut at = QUESTION_AT;
        self.labels = 0;
        loop {
            match *message.get(at)? {
                0 => break,
                length @ 1..=63 => {
                    *self.starts.get_mut(self.labels)? = (at - QUESTION_AT) as u8;
                    self.labels += 1;
                    at += 1 + usize::from(length);
                    if at >= QUESTION_AT + MAX_NAME {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        let name = message.get(QUESTION_AT..=at)?;
        self.len = name.len();
        // A length is below 64 and `A` is 65: lengths stay what they are.
        for (lower, byte) in self.lower.iter_mut().zip(name) {
            *lower = byte.to_ascii_lowercase();
        }
        self.lower.get_mut(self.len..self.len + WORD)?.fill(0);
        let [t0, t1, c0, c1] = *message.get(at + 1..)?.first_chunk()?;
        self.rtype = u16::from_be_bytes([t0, t1]);
        self.class = u16::from_be_bytes([c0, c1]);
        Some(at + 5)
    }

    /// Length of the name in wire form.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where the last `labels` labels start; `None` if there are fewer.
    pub(crate) fn suffix(&self, labels: usize) -> Option<usize> {
        match self.labels.checked_sub(labels)? {
            skipped if skipped == self.labels => Some(self.len - 1),
            skipped => self.starts.get(skipped).map(|start| usize::from(*start)),
        }
    }

    /// The lower-cased wire name from `start` on.
    pub(crate) fn wire(&self, start: usize) -> &[u8] {
        self.lower.get(start..self.len).unwrap_or_default()
    }

    /// Hash of the name from `start` on: that of [`hash`].
    #[inline]
    pub(crate) fn hash(&self, start: usize) -> u64 {
        hash(self.wire(start))
    }
}

/// Hash of a lower-cased wire name. Nobody but the operator puts names into the table, so it
/// need not withstand an attacker.
#[inline]
pub(crate) fn hash(wire: &[u8]) -> u64 {
    let (words, rest) = wire.as_chunks::<WORD>();
    let mut hash = wire.len() as u64;
    for word in words {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; WORD];
    for (room, byte) in last.iter_mut().zip(rest) {
        *room = *byte;
    }
    mix(hash, u64::from_le_bytes(last))
}

/// EDNS of a query, version 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsualEdns {
    /// Largest answer that the client takes.
    pub(crate) payload: u16,
    /// The DO bit.
    pub(crate) dnssec_ok: bool,
    /// Where the content of its cookie stands, if it has one.
    pub(crate) cookie: Option<Range<usize>>,
}

/// Whether the header is that of a usual query; then whether one more record follows.
#[inline]
pub(crate) fn usual_header(message: &[u8]) -> Option<bool> {
    let header = message.first_chunk::<QUESTION_AT>()?;
    // RD, AD and CD may be set.
    if header[2] & !0x01 != 0 || header[3] & !0x30 != 0 {
        return None;
    }
    match header[4..] {
        [0, 1, 0, 0, 0, 0, 0, more @ 0..=1] => Some(more == 1),
        _ => None,
    }
}

/// EDNS that starts at `at` and ends with the message: without options or with one cookie.
#[inline]
pub(crate) fn usual_edns(message: &[u8], at: usize) -> Option<UsualEdns> {
    let (fixed, options) = message.get(at..)?.split_first_chunk::<OPT_LEN>()?;
    let [0, 0, 41, p0, p1, 0, 0, flags @ (0 | 0x80), 0, l0, l1] = *fixed else {
        return None;
    };
    if usize::from(u16::from_be_bytes([l0, l1])) != options.len() {
        return None;
    }
    let cookie = match options.split_first_chunk::<4>() {
        None if options.is_empty() => None,
        Some(([0, code, 0, length], content))
            if u16::from(*code) == COOKIE_CODE
                && usize::from(*length) == content.len()
                && matches!(content.len(), 8 | USUAL_COOKIE) =>
        {
            Some(at + OPT_LEN + 4..message.len())
        }
        _ => return None,
    };
    Some(UsualEdns {
        payload: u16::from_be_bytes([p0, p1]),
        dnssec_ok: flags != 0,
        cookie,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(name: &[u8]) -> Vec<u8> {
        let mut message = vec![0; QUESTION_AT];
        message.extend(name);
        message.extend([0, 1, 0, 1]);
        message
    }

    /// Goal: a name has one hash and form whatever its case, and its suffixes are names.
    /// Method: read a name twice, after a longer one; cut it at each label.
    #[test]
    fn question_is_lower_case_and_its_suffixes_are_names() {
        let mut question = Question::new();
        question
            .read(&message(&[&[60; 61][..], b"\x03com\x00"].concat()))
            .unwrap();
        let mixed = message(b"\x02H1\x03WeB\x07example\x00");
        assert_eq!(question.read(&mixed), Some(mixed.len()));
        assert_eq!(question.wire(0), b"\x02h1\x03web\x07example\x00");
        let apex = question.suffix(2).unwrap();
        assert_eq!(question.wire(apex), b"\x03web\x07example\x00");
        assert_eq!(question.hash(apex), hash(b"\x03web\x07example\x00"));
        assert_eq!(question.wire(question.suffix(0).unwrap()), b"\x00");
        assert_eq!(question.suffix(4), None);
    }

    /// Goal: the longest legal names are read, the next longer ones are not.
    /// Method: names of 255 and 256 bytes, of 127 labels, cut off, compressed.
    #[test]
    fn names_up_to_their_limit_are_read() {
        let mut question = Question::new();
        let name = |last: usize| {
            let mut name = Vec::new();
            for length in [63, 63, 63, last] {
                name.push(length as u8);
                name.extend(vec![b'x'; length]);
            }
            name.push(0);
            message(&name)
        };
        assert!(question.read(&name(61)).is_some());
        assert_eq!(question.len(), MAX_NAME);
        assert!(question.read(&name(62)).is_none());
        let labels = |count: usize| message(&[b"\x01a".repeat(count).as_slice(), b"\0"].concat());
        assert!(question.read(&labels(127)).is_some());
        assert!(question.read(&labels(128)).is_none());
        assert!(question.read(&message(b"\x03web\xc0\x0c")).is_none());
        assert!(question.read(&message(b"\x03web\x00")[..18]).is_none());
        assert!(question.read(b"short").is_none());
    }
}
