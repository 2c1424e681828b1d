//! Netlink bytes: messages with attributes, written and read.
//!
//! Our own and not `netlink-packet-*`: those know nf_tables in part only, allocate a tree for each
//! message, and would be a dozen crates for two hundred lines of grammar.
//!
//! Numbers of the header are in host order, those of nf_tables attributes big-endian. Reading is
//! total: what does not parse ends the iteration, nothing panics.

/// Bytes of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// Bytes of `struct nlattr`.
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are not flags.
const TYPE_MASK: u16 = 0x3fff;

/// Messages in the order in which the kernel is to read them.
#[derive(Debug)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    first: u32,
    next: u32,
    last_at: usize,
}

impl Messages {
    /// None yet; the first will have the number `first`.
    pub(crate) fn new(first: u32) -> Self {
        Self {
            bytes: Vec::with_capacity(1024),
            first,
            next: first,
            last_at: 0,
        }
    }

    /// Adds a message: `fill` writes its attributes behind `head`. Gives its number.
    pub(crate) fn push(
        &mut self,
        kind: u16,
        flags: u16,
        head: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> u32 {
        let (at, seq) = (self.bytes.len(), self.next);
        self.last_at = at;
        self.next = self.next.wrapping_add(1);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&seq.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(head);
        pad(&mut self.bytes);
        fill(&mut Attributes(&mut self.bytes));
        let length = u32::try_from(self.bytes.len() - at).unwrap_or(u32::MAX);
        overwrite(&mut self.bytes, at, &length.to_ne_bytes());
        seq
    }

    /// Sets `flags` on the message that was added last.
    pub(crate) fn flag_last(&mut self, flags: u16) {
        let at = self.last_at + 6;
        let old = self.bytes.get(at..at + 2).and_then(|b| b.try_into().ok());
        let new = old.map_or(0, u16::from_ne_bytes) | flags;
        overwrite(&mut self.bytes, at, &new.to_ne_bytes());
    }

    /// The number of the first message.
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// The number after that of the last message.
    pub(crate) fn next(&self) -> u32 {
        self.next
    }

    /// What goes to the kernel.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes attributes at the end of a message.
pub(crate) struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.framed(kind, |out| out.extend_from_slice(value));
    }

    /// A string with the NUL that the kernel expects.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        self.framed(kind, |out| {
            out.extend_from_slice(value.as_bytes());
            out.push(0);
        });
    }

    /// A big-endian number, as nf_tables wants it.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A long big-endian number.
    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Attributes inside an attribute.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.framed(kind | NESTED, |out| fill(&mut Attributes(out)));
    }

    fn framed(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 2]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        fill(self.0);
        let length = u16::try_from(self.0.len() - at).unwrap_or(u16::MAX);
        overwrite(self.0, at, &length.to_ne_bytes());
        pad(self.0);
    }
}

/// Everything in netlink starts at a multiple of four.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn overwrite(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

/// A message from the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// The number of the request that it answers.
    pub seq: u32,
    /// The port of the socket whose request caused it.
    pub port: u32,
    /// What stands behind the header.
    pub body: &'a [u8],
}

/// The messages in `bytes`.
pub(crate) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(ne32(bytes, 0)?).ok()?;
        let body = bytes.get(HEADER..length)?;
        let message = Message {
            kind: ne16(bytes, 4)?,
            seq: ne32(bytes, 8)?,
            port: ne32(bytes, 12)?,
            body,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`: type without flags, and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(ne16(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE..length)?;
        let kind = ne16(bytes, 2)? & TYPE_MASK;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A string attribute without its NUL.
pub(crate) fn text(value: &[u8]) -> &str {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    value
        .get(..end)
        .and_then(|text| std::str::from_utf8(text).ok())
        .unwrap_or_default()
}

/// Two bytes in host order.
pub(crate) fn ne16(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..at + 2)?;
    part.try_into().ok().map(u16::from_ne_bytes)
}

/// Four bytes in host order.
pub(crate) fn ne32(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..at + 4)?;
    part.try_into().ok().map(u32::from_ne_bytes)
}

/// A whole attribute as a big-endian number.
pub(crate) fn be32(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A whole attribute as a long big-endian number.
pub(crate) fn be64(value: &[u8]) -> Option<u64> {
    value.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read back, at the right places.
    /// Method: two messages with odd lengths and a nest, read with the iterators.
    #[test]
    fn messages_and_attributes_come_back_as_they_were_written() {
        let mut written = Messages::new(7);
        written.push(0x0a0c, 5, &[1, 0, 0, 0], |a| {
            a.text(1, "abc");
            a.nest(3, |a| a.be64(5, 250));
        });
        let second = written.push(16, 1, &[9], |a| a.bytes(2, &[1, 2, 3]));
        written.flag_last(4);
        assert_eq!((written.first(), second, written.next()), (7, 8, 9));
        let read: Vec<_> = messages(written.bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].seq), (0x0a0c, 7));
        assert_eq!(
            ne16(&written.bytes()[read[0].body.len() + HEADER..], 6),
            Some(5)
        );
        let attrs = &read[0].body[4..];
        assert_eq!(attribute(attrs, 1).map(text), Some("abc"));
        let nest = attribute(attrs, 3).unwrap();
        assert_eq!(attribute(nest, 5).and_then(be64), Some(250));
        assert_eq!(attribute(&read[1].body[4..], 2), Some(&[1, 2, 3][..]));
    }

    /// Goal: bytes that lie about their length end the reading.
    /// Method: each prefix of a good message, and each byte of it spoilt.
    #[test]
    fn spoilt_bytes_end_the_iteration() {
        let mut good = Messages::new(1);
        good.push(1, 0, &[0; 4], |a| a.nest(1, |a| a.text(2, "x")));
        for end in 0..good.bytes().len() {
            assert_eq!(messages(&good.bytes()[..end]).count(), 0);
        }
        for at in 0..good.bytes().len() {
            for value in [0, 1, 3, 0x7f, 0xff] {
                let mut bytes = good.bytes().to_vec();
                bytes[at] = value;
                for message in messages(&bytes).take(100) {
                    let _ = attributes(message.body).take(100).count();
                }
            }
        }
    }

    proptest::proptest! {
        /// Goal: no bytes from a socket can bring the driver down or keep it busy for ever.
        /// Method: arbitrary bytes, and arbitrary bytes behind an honest length, read three deep.
        #[test]
        fn arbitrary_bytes_are_read_without_panic_and_end(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            honest in proptest::prelude::any::<bool>(),
        ) {
            let mut bytes = bytes;
            if honest && bytes.len() >= HEADER {
                let length = u32::try_from(bytes.len()).unwrap();
                bytes[..4].copy_from_slice(&length.to_ne_bytes());
            }
            let mut seen = 0;
            for message in messages(&bytes) {
                seen += 1;
                for (_, value) in attributes(message.body) {
                    seen += 1 + attributes(value).count();
                    let _ = (text(value), be32(value), be64(value), ne16(value, 1), ne32(value, 3));
                }
            }
            proptest::prop_assert!(seen <= bytes.len());
        }
    }
}
