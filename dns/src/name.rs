//! Names as the zone looks them up: lower-cased wire form, in a buffer on the stack.
//!
//! Wire form and not text, because a label may hold any byte, a dot included, and because the
//! suffix of a wire name at a label's start is again a wire name: that is how the zone of a
//! question is found without a walk from the root.

use hickory_proto::rr::Name;

/// Longest name in wire form, the terminating zero included. RFC 1035, 2.3.4.
pub const MAX_NAME: usize = 255;

/// Most labels a name can have: one byte of length and one of content each, and the root.
pub const MAX_LABELS: usize = MAX_NAME / 2;

/// A lower-cased name in wire form and where its labels start.
#[derive(Clone, Debug)]
pub struct NameKey {
    wire: [u8; MAX_NAME],
    len: u8,
    starts: [u8; MAX_LABELS],
    labels: u8,
}

impl NameKey {
    /// The key of `name`; `None` if it is longer than a name may be.
    pub fn of(name: &Name) -> Option<NameKey> {
        let mut key = NameKey {
            wire: [0; MAX_NAME],
            len: 0,
            starts: [0; MAX_LABELS],
            labels: 0,
        };
        let mut at = 0;
        for label in name.iter() {
            let end = at + 1 + label.len();
            *key.starts.get_mut(usize::from(key.labels))? = u8::try_from(at).ok()?;
            key.labels += 1;
            *key.wire.get_mut(at)? = u8::try_from(label.len()).ok()?;
            let room = key.wire.get_mut(at + 1..end)?;
            room.copy_from_slice(label);
            room.make_ascii_lowercase();
            at = end;
        }
        // The terminating zero stands there already; there must be room for it.
        if at >= MAX_NAME {
            return None;
        }
        key.len = u8::try_from(at + 1).ok()?;
        Some(key)
    }

    /// The key of a lower-cased wire name; `None` if it is none.
    pub(crate) fn from_wire(wire: &[u8]) -> Option<NameKey> {
        let mut key = NameKey {
            wire: [0; MAX_NAME],
            len: u8::try_from(wire.len()).ok()?,
            starts: [0; MAX_LABELS],
            labels: 0,
        };
        key.wire.get_mut(..wire.len())?.copy_from_slice(wire);
        let mut at = 0;
        while *wire.get(at)? != 0 {
            *key.starts.get_mut(usize::from(key.labels))? = u8::try_from(at).ok()?;
            key.labels += 1;
            at += 1 + usize::from(*wire.get(at)?);
        }
        Some(key)
    }

    /// The whole name in wire form.
    pub fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.len)]
    }

    /// How many labels the name has, the root not counted.
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// The last `labels` labels in wire form; `None` if the name has fewer.
    pub fn suffix(&self, labels: usize) -> Option<&[u8]> {
        let skipped = self.labels().checked_sub(labels)?;
        let start = if labels == 0 {
            usize::from(self.len) - 1
        } else {
            usize::from(*self.starts.get(skipped)?)
        };
        self.wire().get(start..)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Goal: a name is found whatever its case, and its suffixes are names.
    /// Method: the key of a mixed-case name, cut at each label.
    #[test]
    fn key_is_lower_case_and_its_suffixes_are_names() {
        let key = NameKey::of(&Name::from_ascii("H1.WeB.example.").unwrap()).unwrap();
        assert_eq!(key.wire(), b"\x02h1\x03web\x07example\x00");
        assert_eq!(key.labels(), 3);
        assert_eq!(key.suffix(2).unwrap(), b"\x03web\x07example\x00");
        assert_eq!(key.suffix(0).unwrap(), b"\x00");
        assert_eq!(key.suffix(4), None);
    }

    /// Goal: the longest legal names fit.
    /// Method: 127 labels of one byte; four labels that fill 255 bytes.
    #[test]
    fn longest_names_fit() {
        let many = Name::from_labels(vec!["a"; 127]).unwrap();
        assert_eq!(NameKey::of(&many).unwrap().labels(), 127);
        let (full, rest) = ("b".repeat(63), "c".repeat(61));
        let long = Name::from_labels([full.as_str(), &full, &full, &rest]).unwrap();
        assert_eq!(NameKey::of(&long).unwrap().wire().len(), MAX_NAME);
        assert_eq!(NameKey::of(&Name::root()).unwrap().wire(), b"\x00");
    }
}
