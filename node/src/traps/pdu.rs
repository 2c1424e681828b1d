//! Messages of SNMP that carry no secret: the PDUs (RFC 3416) and version 2c around them (RFC 1901).

use super::ber::{self, Reader, SEQUENCE, integer, octets, of_parts, oid};

/// `GetRequest-PDU`: asks a manager who it is.
pub const GET: u8 = 0xa0;
/// `Response-PDU`: the answer to an inform.
pub const RESPONSE: u8 = 0xa2;
/// `InformRequest-PDU`.
pub const INFORM: u8 = 0xa6;
/// `SNMPv2-Trap-PDU`.
pub const TRAP: u8 = 0xa7;
/// `Report-PDU`: what is wrong with a message of version 3.
pub const REPORT: u8 = 0xa8;

/// `snmpV2c` as a version.
const V2C: u64 = 1;

/// A PDU with encoded variable bindings.
pub fn pdu(tag: u8, request: u32, bindings: &[u8]) -> Vec<u8> {
    let no_error = integer(0);
    let head = [integer(request.into()), no_error.clone(), no_error].concat();
    ber::tlv(tag, &[&head, bindings].concat())
}

/// What is of interest in an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// [`RESPONSE`] or [`REPORT`].
    pub tag: u8,
    /// Of which request.
    pub request: u64,
    /// The error that it tells; 0: none.
    pub error: u64,
    /// Encoded name of the first variable.
    pub first: Vec<u8>,
}

/// Reads a PDU.
pub fn read(reader: &mut Reader<'_>) -> Option<Answer> {
    let (tag, inside) = reader.any()?;
    let mut inside = Reader(inside);
    let (request, error, _index) = (inside.integer()?, inside.integer()?, inside.integer()?);
    let mut bindings = inside.inside(SEQUENCE)?;
    let first = bindings
        .inside(SEQUENCE)
        .and_then(|mut one| one.take(ber::OID));
    Some(Answer {
        tag,
        request,
        error,
        first: first.unwrap_or_default().to_vec(),
    })
}

/// A message of version 2c.
pub fn v2c(community: &str, pdu: Vec<u8>) -> Vec<u8> {
    of_parts(SEQUENCE, &[integer(V2C), octets(community.as_bytes()), pdu])
}

/// Reads a message of version 2c.
pub fn read_v2c(bytes: &[u8]) -> Option<Answer> {
    let mut message = Reader(bytes).inside(SEQUENCE)?;
    (message.integer()? == V2C).then_some(())?;
    message.take(ber::OCTETS)?;
    read(&mut message)
}

/// The value of an encoded identifier, as [`Answer::first`] has it.
pub fn name_of(arcs: &[u32]) -> Vec<u8> {
    oid(arcs).split_off(2)
}
