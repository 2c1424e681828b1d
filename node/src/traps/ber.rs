//! The basic encoding rules, as far as SNMP needs them (RFC 3417, section 8): definite lengths, no sets.
//!
//! By hand and not with an ASN.1 crate: what is sent is five types, and what is read is an answer
//! of a manager, of at most one datagram. Reading is total: any bytes give a value or nothing.

/// `INTEGER`.
pub const INTEGER: u8 = 0x02;
/// `OCTET STRING`.
pub const OCTETS: u8 = 0x04;
/// `OBJECT IDENTIFIER`.
pub const OID: u8 = 0x06;
/// `SEQUENCE`.
pub const SEQUENCE: u8 = 0x30;

/// Type, length, value.
pub fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 4);
    out.push(tag);
    match u8::try_from(value.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = value.len().to_be_bytes();
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let kept = bytes.get(zeros..).unwrap_or_default();
            out.push(0x80 | u8::try_from(kept.len()).unwrap_or(0));
            out.extend_from_slice(kept);
        }
    }
    out.extend_from_slice(value);
    out
}

/// What has parts, one after the other.
pub fn of_parts(tag: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// A whole number in as few bytes as it needs.
pub fn number(tag: u8, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let kept = bytes.get(zeros..).unwrap_or_default();
    // The first bit is a sign.
    let padded = match kept.first() {
        Some(first) if *first < 0x80 => kept.to_vec(),
        _ => [&[0], kept].concat(),
    };
    tlv(tag, &padded)
}

/// An `INTEGER` that is not negative.
pub fn integer(value: u64) -> Vec<u8> {
    number(INTEGER, value)
}

/// An `OCTET STRING`.
pub fn octets(value: &[u8]) -> Vec<u8> {
    tlv(OCTETS, value)
}

/// An `OBJECT IDENTIFIER`, which begins with 1.3.
pub fn oid(arcs: &[u32]) -> Vec<u8> {
    let mut value = vec![0x2b];
    for arc in arcs.iter().skip(2) {
        let groups = (0..5).rev().map(|n| (arc >> (7 * n)) & 0x7f);
        let kept: Vec<u32> = groups.skip_while(|group| *group == 0).collect();
        let (last, first) = kept.split_last().unwrap_or((&0, &[]));
        value.extend(
            first
                .iter()
                .filter_map(|group| u8::try_from(group | 0x80).ok()),
        );
        value.extend(u8::try_from(*last));
    }
    tlv(OID, &value)
}

/// Reads what stands one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next value with its tag.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            // More bytes than a datagram's length has make no length.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
                let length = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// The next value, which must have this tag.
    pub fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.any()
            .filter(|(found, _)| *found == tag)
            .map(|(_, value)| value)
    }

    /// The parts of the next value.
    pub fn inside(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.take(tag).map(Reader)
    }

    /// The next value as an `INTEGER` that is not negative.
    pub fn integer(&mut self) -> Option<u64> {
        let bytes = self.take(INTEGER)?;
        let (first, fits) = (bytes.first()?, bytes.len() <= 8);
        let value = bytes
            .iter()
            .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        (fits && *first < 0x80).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: bytes are those of X.690. Method: examples known from there and from captures.
    #[test]
    fn values_are_encoded_as_the_rules_say() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(127), [2, 1, 127]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(number(0x46, u64::MAX)[..4], [0x46, 9, 0, 0xff]);
        assert_eq!(
            oid(&[1, 3, 6, 1, 4, 1, 32473, 0]),
            [6, 9, 0x2b, 6, 1, 4, 1, 0x81, 0xfd, 0x59, 0]
        );
        assert_eq!(tlv(4, &[7; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[7; 300])[..4], [4, 0x82, 1, 44]);
    }

    /// Goal: what is written reads back, and nothing else panics. Method: a message, cut at each byte.
    #[test]
    fn what_is_cut_short_gives_nothing() {
        let whole = of_parts(SEQUENCE, &[integer(300), octets(&[9; 300])]);
        let read = |bytes| {
            let mut inside = Reader(bytes).inside(SEQUENCE)?;
            Some((inside.integer()?, inside.take(OCTETS)?.len()))
        };
        assert_eq!(read(&whole), Some((300, 300)));
        for end in 0..whole.len() {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        for bytes in [
            &[0x30, 0x84, 1, 1, 1, 1][..],
            &[0x30, 0x80],
            &[0x30, 0x83, 0xff, 0xff, 0xff],
            &[2, 0],
            &[2, 1, 0x80],
        ] {
            assert_eq!(read(bytes), None);
            assert_eq!(Reader(bytes).integer(), None);
        }
    }
}
