//! Each record under its own version byte and CRC-32C, cut into parts that sled keeps inline.
//!
//! sled splits a leaf by its number of values (16), not by their size, and writes a page above a
//! quarter of its segment (128 KiB) to `blobs/`, whose durability nobody has tested. A part of 4 KiB
//! keeps a full leaf at 17 x 4.1 = 70 KiB. The sum covers the key, so a misplaced record is refused.
//!
//! Layout: version u8, crc32c u32, part u16, parts u16 (little endian), body.

use super::backend::SealedPart;
use super::error::StoreError;

/// Bytes of one part.
pub(super) const PART: usize = 4 << 10;
/// The layout above.
const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 2 + 2;

fn sum(key: &[u8], part: u16, parts: u16, body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(key);
    let sum = crc32c::crc32c_append(sum, &part.to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &parts.to_le_bytes());
    crc32c::crc32c_append(sum, body)
}

/// Seals one part of a record.
pub(super) fn seal(key: &[u8], part: u16, parts: u16, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(VERSION);
    out.extend_from_slice(&sum(key, part, parts, body).to_le_bytes());
    out.extend_from_slice(&part.to_le_bytes());
    out.extend_from_slice(&parts.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// One part that verified.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) part: u16,
    pub(super) parts: u16,
    pub(super) body: &'a [u8],
}

/// Verifies one part.
pub(super) fn unseal<'a>(key: &[u8], value: &'a [u8]) -> Result<Part<'a>, StoreError> {
    let fault = |what: &str| StoreError::corrupt(format!("record {key:02x?}: {what}"));
    let Some((head, body)) = value.split_at_checked(HEADER) else {
        return Err(fault("cut short"));
    };
    let &[version, c0, c1, c2, c3, p0, p1, n0, n1] = head else {
        return Err(fault("cut short"));
    };
    if version != VERSION {
        return Err(fault(&format!(
            "unknown version {version}; a newer rais may have written it"
        )));
    }
    let part = u16::from_le_bytes([p0, p1]);
    let parts = u16::from_le_bytes([n0, n1]);
    if sum(key, part, parts, body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(fault("checksum does not match"));
    }
    if part >= parts {
        return Err(fault("part out of range"));
    }
    Ok(Part { part, parts, body })
}

/// The key of one part: the record's number, then the part's, both so that byte order is their order.
pub(super) fn part_key(number: u64, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The record's number and the part's, from a key.
pub(super) fn split_key(key: &[u8]) -> Result<(u64, u16), StoreError> {
    let fault = || StoreError::corrupt(format!("key {key:02x?} has a wrong length"));
    let (number, part) = key.split_at_checked(8).ok_or_else(fault)?;
    let number = u64::from_be_bytes(number.try_into().map_err(|_| fault())?);
    let part = u16::from_be_bytes(part.try_into().map_err(|_| fault())?);
    Ok((number, part))
}

/// Cuts a record into sealed parts with their keys.
pub(super) fn cut(number: u64, bytes: &[u8]) -> Result<Vec<SealedPart>, StoreError> {
    let count = bytes.len().div_ceil(PART).max(1);
    let parts = u16::try_from(count).map_err(|_| {
        StoreError::io(
            "cut a record",
            format!("{} bytes are too many", bytes.len()),
        )
    })?;
    let one = |part: u16| {
        let from = usize::from(part) * PART;
        let body = &bytes[from..bytes.len().min(from + PART)];
        let key = part_key(number, part);
        (key, seal(&key, part, parts, body))
    };
    Ok((0..parts).map(one).collect())
}

/// Puts parts together again, in the order of their keys.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    open: Option<(u64, u16, u16)>,
    bytes: Vec<u8>,
}

impl Joiner {
    /// Takes the next part; gives the record when it is whole.
    pub(super) fn take(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<(u64, Vec<u8>)>, StoreError> {
        let (number, at) = split_key(key)?;
        let part = unseal(key, value)?;
        let expected = self.open.unwrap_or((number, 0, part.parts));
        if (number, at, part.parts) != expected || at != part.part {
            return Err(StoreError::corrupt(format!(
                "record {number}: part {at} is out of order"
            )));
        }
        self.bytes.extend_from_slice(part.body);
        if at + 1 == part.parts {
            self.open = None;
            return Ok(Some((number, std::mem::take(&mut self.bytes))));
        }
        self.open = Some((number, at + 1, part.parts));
        Ok(None)
    }

    /// Says whether the last record was whole.
    pub(super) fn end(&self) -> Result<(), StoreError> {
        match self.open {
            None => Ok(()),
            Some((number, part, _)) => Err(StoreError::corrupt(format!(
                "record {number}: part {part} is missing"
            ))),
        }
    }
}
