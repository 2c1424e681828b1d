//! Writes records into an answer: the one encoder behind both paths.
//!
//! An answer of ours has one shape: names end in the apex, and the question ends in it too. So
//! every name is written as its labels below the apex and one pointer into the question, which
//! keeps the case that was asked for and makes an answer's bytes depend on nothing but the
//! question's length. That is what lets [`crate::compiled`] write them before anybody asks;
//! hickory's encoder compares spellings, so its bytes change with the case of the question.
//!
//! Limits: the types that a zone holds (A, AAAA, NS, SOA); any other is an error.

use hickory_proto::rr::{Name, RData, Record};

use crate::name::MAX_NAME;

/// Where the question's name starts in every message: after the header.
pub(crate) const QUESTION_AT: usize = 12;

/// The two bits that make a name's byte a pointer. RFC 1035, 4.1.4.
const POINTER: u16 = 0xC000;

/// Largest offset that a pointer can name.
const MAX_POINTER: usize = 0x3FFF;

/// Bytes of an OPT record without options. RFC 6891, 6.1.2.
pub(crate) const OPT_LEN: usize = 11;

/// Bytes of the cookie option with a server cookie of 16 bytes. RFC 9018, 4.
pub(crate) const COOKIE_OPTION_LEN: usize = 4 + 24;

/// EDNS option code of a cookie. RFC 7873, 8.
pub(crate) const COOKIE_CODE: u16 = 10;

/// A record type that a zone does not hold, or an answer beyond what lengths can say.
#[derive(Debug)]
pub(crate) struct Unwritable;

/// Whose name a record carries.
#[derive(Clone, Copy)]
pub(crate) enum Owner<'z> {
    /// The name that was asked for.
    Question,
    /// The zone's.
    Apex,
    /// Another one; it points to where a record before it was seen to name it.
    Other(&'z Name),
}

/// Writes records to the end of a buffer.
pub(crate) struct Composer<'o, 'z> {
    out: &'o mut Vec<u8>,
    /// Offset in the message of the buffer's first byte.
    base: usize,
    apex: &'z Name,
    apex_at: u16,
    named: Vec<(&'z Name, u16)>,
    /// Offsets in the buffer of the pointers to the apex.
    pub(crate) apex_pointers: Vec<usize>,
}

impl<'o, 'z> Composer<'o, 'z> {
    /// `base`: where in the message `out` starts. `apex_at`: where in the question the apex does.
    pub(crate) fn new(
        out: &'o mut Vec<u8>,
        base: usize,
        apex: &'z Name,
        apex_at: usize,
    ) -> Result<Self, Unwritable> {
        Ok(Composer {
            out,
            base,
            apex,
            apex_at: pointer(apex_at)?,
            named: Vec::new(),
            apex_pointers: Vec::new(),
        })
    }

    /// Bytes in the buffer.
    pub(crate) fn written(&self) -> usize {
        self.out.len()
    }

    /// Writes each record; returns how many.
    pub(crate) fn records(
        &mut self,
        owner: Owner<'z>,
        records: impl Iterator<Item = &'z Record>,
    ) -> Result<u16, Unwritable> {
        let mut count = 0_u16;
        for record in records {
            self.record(owner, record)?;
            count = count.checked_add(1).ok_or(Unwritable)?;
        }
        Ok(count)
    }

    fn record(&mut self, owner: Owner<'z>, record: &'z Record) -> Result<(), Unwritable> {
        match owner {
            Owner::Question => self.word(POINTER | QUESTION_AT as u16),
            Owner::Apex => self.apex(),
            Owner::Other(name) => match self.named.iter().find(|(known, _)| *known == name) {
                Some((_, at)) => self.word(*at),
                None => self.name(name)?,
            },
        }
        self.word(record.record_type().into());
        self.word(record.dns_class.into());
        self.long(record.ttl);
        let length_at = self.out.len();
        self.word(0);
        match &record.data {
            RData::A(a) => self.out.extend_from_slice(&a.0.octets()),
            RData::AAAA(aaaa) => self.out.extend_from_slice(&aaaa.0.octets()),
            RData::NS(ns) => self.name(&ns.0)?,
            RData::SOA(soa) => {
                self.name(&soa.mname)?;
                self.name(&soa.rname)?;
                for number in [
                    soa.serial,
                    soa.refresh as u32,
                    soa.retry as u32,
                    soa.expire as u32,
                    soa.minimum,
                ] {
                    self.long(number);
                }
            }
            _ => return Err(Unwritable),
        }
        let length = u16::try_from(self.out.len() - length_at - 2).map_err(|_| Unwritable)?;
        match self.out.get_mut(length_at..length_at + 2) {
            Some(room) => room.copy_from_slice(&length.to_be_bytes()),
            None => return Err(Unwritable),
        }
        Ok(())
    }

    /// A name in full but for the apex, remembered for records that it will own.
    fn name(&mut self, name: &'z Name) -> Result<(), Unwritable> {
        if let Ok(at) = pointer(self.base + self.out.len()) {
            self.named.push((name, at));
        }
        let under = self.apex.zone_of(name);
        let below = match under {
            true => usize::from(name.num_labels()).saturating_sub(self.apex.num_labels().into()),
            false => MAX_NAME,
        };
        for label in name.iter().take(below) {
            self.out
                .push(u8::try_from(label.len()).map_err(|_| Unwritable)?);
            self.out.extend_from_slice(label);
        }
        match under {
            true => self.apex(),
            false => self.out.push(0),
        }
        Ok(())
    }

    fn apex(&mut self) {
        self.apex_pointers.push(self.out.len());
        self.word(self.apex_at);
    }

    fn word(&mut self, word: u16) {
        self.out.extend_from_slice(&word.to_be_bytes());
    }

    fn long(&mut self, long: u32) {
        self.out.extend_from_slice(&long.to_be_bytes());
    }
}

/// The pointer to an offset.
fn pointer(at: usize) -> Result<u16, Unwritable> {
    match u16::try_from(at) {
        Ok(at) if usize::from(at) <= MAX_POINTER => Ok(POINTER | at),
        _ => Err(Unwritable),
    }
}

/// What our OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opt {
    /// The upper eight bits of the response code.
    pub(crate) rcode_high: u8,
    /// The DO bit, which is copied (RFC 3225).
    pub(crate) dnssec_ok: bool,
    /// The client's cookie and ours.
    pub(crate) cookie: Option<[u8; 24]>,
}

impl Opt {
    /// Bytes of the record.
    pub(crate) fn len(&self) -> usize {
        match self.cookie {
            Some(_) => OPT_LEN + COOKIE_OPTION_LEN,
            None => OPT_LEN,
        }
    }

    /// The record in a buffer that is long enough for any; [`Opt::len`] bytes of it count.
    pub(crate) fn bytes(&self, payload: u16) -> [u8; OPT_LEN + COOKIE_OPTION_LEN] {
        let mut out = [0; OPT_LEN + COOKIE_OPTION_LEN];
        let [high, low] = payload.to_be_bytes();
        let flags = if self.dnssec_ok { 0x80 } else { 0 };
        out[..9].copy_from_slice(&[0, 0, 41, high, low, self.rcode_high, 0, flags, 0]);
        if let Some(cookie) = self.cookie {
            out[10] = COOKIE_OPTION_LEN as u8;
            out[12] = COOKIE_CODE as u8;
            out[14] = cookie.len() as u8;
            out[15..].copy_from_slice(&cookie);
        }
        out
    }
}
