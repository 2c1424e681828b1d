//! Bytes of entries and states: version byte, CRC-32C, then bincode; size-limited, nothing trailing.
//!
//! bincode accepts trailing bytes silently and is unmaintained (docs/adr/0002), so it stands only
//! behind this door, always with a limit. `v1` is frozen by golden files in `tests/golden`.

mod v1;

use alloc::vec::Vec;

use crate::{Entry, State};

/// Longest encoded entry, in bytes.
pub const MAX_ENTRY: usize = 1 << 20;
/// Longest encoded state, in bytes.
pub const MAX_STATE: usize = 64 << 20;

/// Why bytes were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Longer than allowed.
    #[error("{len} bytes are more than the limit of {limit}")]
    TooLong {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Written by a newer rais, or not by rais.
    #[error("unknown encoding version {0}; a newer rais may have written it")]
    UnknownVersion(u8),
    /// Shorter than its own header.
    #[error("record is cut short")]
    Short,
    /// The checksum does not match.
    #[error("checksum does not match: the record is damaged")]
    Damaged,
    /// Not a value of the expected shape.
    #[error("record does not decode")]
    Malformed,
    /// Bytes were left over.
    #[error("{0} bytes are left over after the record")]
    Trailing(usize),
}

/// Encodes an entry.
///
/// # Errors
/// [`CodecError::TooLong`] above [`MAX_ENTRY`].
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>, CodecError> {
    v1::encode::<_, MAX_ENTRY>(entry)
}

/// Decodes an entry.
///
/// # Errors
/// Every [`CodecError`]; random bytes never panic.
pub fn decode_entry(bytes: &[u8]) -> Result<Entry, CodecError> {
    v1::decode::<_, MAX_ENTRY>(bytes)
}

/// Encodes a state, for a snapshot.
///
/// # Errors
/// [`CodecError::TooLong`] above [`MAX_STATE`].
pub fn encode_state(state: &State) -> Result<Vec<u8>, CodecError> {
    v1::encode::<_, MAX_STATE>(state)
}

/// Decodes a state.
///
/// # Errors
/// Every [`CodecError`]; random bytes never panic.
pub fn decode_state(bytes: &[u8]) -> Result<State, CodecError> {
    v1::decode::<_, MAX_STATE>(bytes)
}

/// A hash of the state, equal on all hosts at equal index (lease.md, invariant 11).
#[must_use]
pub fn fingerprint(state: &State) -> u32 {
    encode_state(state).map_or(0, |bytes| crc32c::crc32c(&bytes))
}
