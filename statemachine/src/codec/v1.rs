//! Encoding version 1, frozen: `[1][crc32c, little-endian][bincode standard configuration]`.

use alloc::vec::Vec;
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CodecError;

/// First byte of every record of this version.
const VERSION: u8 = 1;
/// Version byte and checksum.
const HEADER: usize = 5;

fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard()
        .with_fixed_int_encoding()
        .with_limit::<LIMIT>()
}

pub(super) fn encode<T: Serialize, const LIMIT: usize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let body = bincode::serde::encode_to_vec(value, config::<LIMIT>())
        .map_err(|_| CodecError::Malformed)?;
    let len = body.len() + HEADER;
    if len > LIMIT {
        return Err(CodecError::TooLong { len, limit: LIMIT });
    }
    let mut record = Vec::with_capacity(len);
    record.push(VERSION);
    record.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    record.extend_from_slice(&body);
    Ok(record)
}

pub(super) fn decode<T: DeserializeOwned, const LIMIT: usize>(
    bytes: &[u8],
) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong {
            len: bytes.len(),
            limit: LIMIT,
        });
    }
    let (&version, rest) = bytes.split_first().ok_or(CodecError::Short)?;
    if version != VERSION {
        return Err(CodecError::UnknownVersion(version));
    }
    let (sum, body) = rest.split_first_chunk::<4>().ok_or(CodecError::Short)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(CodecError::Damaged);
    }
    let (value, read) = bincode::serde::decode_from_slice(body, config::<LIMIT>())
        .map_err(|_| CodecError::Malformed)?;
    match body.len() - read {
        0 => Ok(value),
        left => Err(CodecError::Trailing(left)),
    }
}
