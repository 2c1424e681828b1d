//! Dynamic updates (RFC 2136) that bring a zone into a primary that people already run.
//!
//! One message replaces the addresses of all names at once, so nobody sees half of a change. A mark
//! beside them (TXT at `_rais.ZONE`) says whose they are, how new, and which names they have. It is the
//! update's prerequisite, word for word as it was read: of two who push at once the second is refused,
//! looks again, and an older version never replaces a newer one (docs/adr/0028).
//!
//! Pure: makes and reads messages; who calls sends them, and signs them with [`crate::tsig`].
//!
//! Limits: it touches A and AAAA of the zone's name and of the hosts below it, and the mark; nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData};

use crate::name::NameKey;
use crate::serial::is_newer;

/// Label of the mark, below the zone's name.
const MARK_LABEL: &str = "_rais";
/// First word of a mark; another version has another one.
const MARK_WORD: &str = "rais1";
/// Most names of one update; a group has at most one for each host.
const MAX_NAMES: usize = 256;

/// Type codes.
const A: u16 = 1;
const CNAME: u16 = 5;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
/// Class codes: of data, of "does not exist", of "delete the set".
const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;
/// First byte of the flags of an update: operation 5.
const UPDATE_FLAGS: u8 = 5 << 3;
/// Most bytes of one string of a TXT record.
const MAX_STRING: usize = 255;

/// What the primary is to have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The primary's zone that the names are in.
    pub zone: String,
    /// The name that the published addresses stand at.
    pub apex: String,
    /// Time to live of every record, in seconds.
    pub ttl_s: u32,
    /// Addresses by name: the apex, and names with one label more.
    pub sets: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Whose zone it is.
    pub array: String,
    /// Version of the zone.
    pub serial: u32,
}

/// The mark as the primary has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Whose names these are.
    pub array: String,
    /// Version of the zone that they are of.
    pub serial: u32,
    /// The labels below the apex that were pushed.
    pub labels: BTreeSet<String>,
    /// The record, byte by byte.
    rdata: Vec<u8>,
}

/// Why there is nothing to send, or why a reply is none to go on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// A name that can't be in a message.
    #[error("`{0}` is no name that an update can have; write it in full, as in web.example.")]
    Name(String),
    /// The names are not in the primary's zone.
    #[error("{name} is not in the zone {zone}: name the primary's zone")]
    OutOfZone {
        /// The name.
        name: String,
        /// The zone.
        zone: String,
    },
    /// Too many names.
    #[error("the zone has {0} names, more than one update can carry")]
    TooMany(usize),
    /// The reply is not to what was asked.
    #[error("the primary's reply can't be read, or is to another question")]
    Unreadable,
    /// A TXT record that is none of ours.
    #[error("{0} has TXT records that rais did not write; remove them first")]
    Foreign(String),
    /// Someone else's names.
    #[error(
        "these names are another array's ({0}); if that is gone, remove the TXT record at _rais first"
    )]
    OtherArray(String),
    /// The primary has a newer version.
    #[error("the primary has serial {theirs} already, newer than {ours}")]
    Newer {
        /// The serial there.
        theirs: u32,
        /// The serial here.
        ours: u32,
    },
    /// A prerequisite did not hold: the mark changed, or other records stand in the way.
    #[error(
        "the primary's records changed meanwhile, or a host's name has a CNAME or addresses there that rais did not write"
    )]
    Conflict,
    /// The primary said no.
    #[error("the primary says {0}: {1}")]
    Refused(ResponseCode, &'static str),
}

impl UpdateError {
    /// Whether asking again may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Conflict | Self::Unreadable | Self::Refused(ResponseCode::ServFail, _)
        )
    }
}

/// A query for the mark of `apex`.
///
/// # Errors
/// [`UpdateError::Name`].
pub fn ask_mark(id: u16, apex: &str) -> Result<Vec<u8>, UpdateError> {
    let mut message = header(id, 0, [1, 0, 0]);
    put_name(&mut message, &mark_name(apex))?;
    put(&mut message, &[TXT, IN]);
    Ok(message)
}

/// The mark in the reply to [`ask_mark`]; none where there is none yet.
///
/// # Errors
/// [`UpdateError::Unreadable`], [`UpdateError::Foreign`], [`UpdateError::Refused`].
pub fn read_mark(id: u16, apex: &str, reply: &[u8]) -> Result<Option<Mark>, UpdateError> {
    let reply = read(id, reply)?;
    match reply.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        other => return Err(refused(other)),
    }
    let mut marks = reply
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(&txt.txt_data),
            _ => None,
        });
    let foreign = || UpdateError::Foreign(mark_name(apex));
    match (marks.next(), marks.next()) {
        (None, _) => Ok(None),
        (Some(strings), None) => Mark::read(strings).ok_or_else(foreign).map(Some),
        (Some(_), Some(_)) => Err(foreign()),
    }
}

/// The update that brings `wanted` in where the mark is `found`.
///
/// # Errors
/// What speaks against it: a newer version there, another array's names, names that can't be.
pub fn update(id: u16, wanted: &Wanted, found: Option<&Mark>) -> Result<Vec<u8>, UpdateError> {
    if let Some(found) = found {
        if found.array != wanted.array {
            return Err(UpdateError::OtherArray(found.array.clone()));
        }
        if is_newer(found.serial, wanted.serial) {
            let (theirs, ours) = (found.serial, wanted.serial);
            return Err(UpdateError::Newer { theirs, ours });
        }
    }
    let names = wanted.names(found);
    if names.len() > MAX_NAMES {
        return Err(UpdateError::TooMany(names.len()));
    }
    let mut message = header(id, UPDATE_FLAGS, [1, 0, 0]);
    put_name(&mut message, &wanted.zone)?;
    put(&mut message, &[SOA, IN]);
    let prerequisites = wanted.prerequisites(found, &mut message)?;
    let mut changes = 0;
    for name in &names {
        for kind in [A, AAAA] {
            changes += put_empty(&mut message, name, kind, ANY)?;
        }
        for address in wanted.sets.get(name).into_iter().flatten() {
            changes += wanted.put_address(&mut message, name, *address)?;
        }
    }
    let mark = mark_name(&wanted.apex);
    changes += put_empty(&mut message, &mark, TXT, ANY)?;
    changes += put_record(&mut message, &mark, TXT, wanted.ttl_s, &wanted.mark())?;
    for (at, count) in [(6, prerequisites), (8, changes)] {
        if let Some(room) = message.get_mut(at..at + 2) {
            room.copy_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    Ok(message)
}

/// Whether the update was taken.
///
/// # Errors
/// [`UpdateError::Conflict`], [`UpdateError::Refused`], [`UpdateError::Unreadable`].
pub fn read_outcome(id: u16, reply: &[u8]) -> Result<(), UpdateError> {
    match read(id, reply)?.response_code {
        ResponseCode::NoError => Ok(()),
        ResponseCode::YXRRSet | ResponseCode::NXRRSet => Err(UpdateError::Conflict),
        other => Err(refused(other)),
    }
}

impl Wanted {
    /// Every name that is written or cleared.
    fn names(&self, found: Option<&Mark>) -> BTreeSet<String> {
        let before = found.map(|mark| mark.labels.iter()).into_iter().flatten();
        let before = before.map(|label| format!("{label}.{}", self.apex));
        let apex = std::iter::once(self.apex.clone());
        apex.chain(before)
            .chain(self.sets.keys().cloned())
            .collect()
    }

    fn prerequisites(
        &self,
        found: Option<&Mark>,
        message: &mut Vec<u8>,
    ) -> Result<usize, UpdateError> {
        let mark = mark_name(&self.apex);
        let mut count = match found {
            Some(found) => put_record_of(message, &mark, TXT, IN, 0, &found.rdata)?,
            None => put_empty(message, &mark, TXT, NONE)?,
        };
        // An address beside a CNAME would be ignored without a word (RFC 2136, 3.4.2.2).
        let names: BTreeSet<&String> = self.sets.keys().chain([&self.apex]).collect();
        for name in names {
            if !in_zone(name, &self.zone) {
                let (name, zone) = (name.clone(), self.zone.clone());
                return Err(UpdateError::OutOfZone { name, zone });
            }
            count += put_empty(message, name, CNAME, NONE)?;
            // What stands at a host's name and is not ours is somebody's; the apex is what was asked for.
            let known = |found: &Mark| found.labels.iter().any(|label| self.is_label(name, label));
            if *name != self.apex && !found.is_some_and(known) {
                count += put_empty(message, name, A, NONE)?;
                count += put_empty(message, name, AAAA, NONE)?;
            }
        }
        Ok(count)
    }

    fn is_label(&self, name: &str, label: &str) -> bool {
        let rest = name
            .strip_prefix(label)
            .and_then(|rest| rest.strip_prefix('.'));
        rest == Some(&*self.apex)
    }

    fn put_address(
        &self,
        message: &mut Vec<u8>,
        name: &str,
        address: IpAddr,
    ) -> Result<usize, UpdateError> {
        match address {
            IpAddr::V4(v4) => put_record(message, name, A, self.ttl_s, &v4.octets()),
            IpAddr::V6(v6) => put_record(message, name, AAAA, self.ttl_s, &v6.octets()),
        }
    }

    /// The mark's data: strings, each with its length.
    fn mark(&self) -> Vec<u8> {
        let below = format!(".{}", self.apex);
        let labels = self
            .sets
            .keys()
            .filter_map(|name| name.strip_suffix(&below));
        let words = [
            MARK_WORD.to_owned(),
            format!("array={}", self.array),
            format!("serial={}", self.serial),
        ];
        let words = words
            .into_iter()
            .chain(labels.map(|label| format!("name={label}")));
        let mut rdata = Vec::new();
        for word in words {
            let bytes = word.as_bytes();
            let bytes = bytes.get(..bytes.len().min(MAX_STRING)).unwrap_or_default();
            rdata.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
            rdata.extend_from_slice(bytes);
        }
        rdata
    }
}

impl Mark {
    fn read(strings: &[Box<[u8]>]) -> Option<Mark> {
        let mut mark = Mark::default();
        let mut serial = None;
        for (at, string) in strings.iter().enumerate() {
            mark.rdata.push(u8::try_from(string.len()).ok()?);
            mark.rdata.extend_from_slice(string);
            let word = std::str::from_utf8(string).ok()?;
            match word.split_once('=') {
                None if at == 0 && word == MARK_WORD => {}
                Some(("array", array)) if at > 0 => mark.array = array.to_owned(),
                Some(("serial", number)) if at > 0 => serial = number.parse().ok(),
                Some(("name", label)) if at > 0 && is_label(label) => {
                    mark.labels.insert(label.to_owned());
                }
                _ => return None,
            }
        }
        mark.serial = serial?;
        Some(mark)
    }
}

fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&text.len()) && text.bytes().all(fits)
}

fn mark_name(apex: &str) -> String {
    format!("{MARK_LABEL}.{apex}")
}

fn in_zone(name: &str, zone: &str) -> bool {
    let (name, zone) = (name.to_ascii_lowercase(), zone.to_ascii_lowercase());
    name == zone || name.ends_with(&format!(".{zone}"))
}

fn refused(rcode: ResponseCode) -> UpdateError {
    let remedy = match rcode {
        ResponseCode::Refused => "allow updates for this key and address there",
        ResponseCode::NotAuth => "it is not primary for the zone, or does not take the key",
        ResponseCode::NotZone => "name the zone that the names are in",
        ResponseCode::NotImp => "it takes no dynamic updates",
        ResponseCode::FormErr => "please report this",
        _ => "its log says more",
    };
    UpdateError::Refused(rcode, remedy)
}

fn read(id: u16, reply: &[u8]) -> Result<Message, UpdateError> {
    let message = Message::from_vec(reply).map_err(|_| UpdateError::Unreadable)?;
    match message.id == id {
        true => Ok(message),
        false => Err(UpdateError::Unreadable),
    }
}

fn header(id: u16, flags: u8, counts: [u16; 3]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([flags, 0]);
    put(&mut message, &counts);
    put(&mut message, &[0]);
    message
}

fn put(message: &mut Vec<u8>, words: &[u16]) {
    for word in words {
        message.extend_from_slice(&word.to_be_bytes());
    }
}

fn put_name(message: &mut Vec<u8>, name: &str) -> Result<(), UpdateError> {
    let bad = || UpdateError::Name(name.to_owned());
    let name = Name::from_ascii(name).map_err(|_| bad())?;
    let key = NameKey::of(&name)
        .filter(|_| name.is_fqdn())
        .ok_or_else(bad)?;
    message.extend_from_slice(key.wire());
    Ok(())
}

/// A record without data: a prerequisite of class NONE, or the deletion of a set of class ANY.
fn put_empty(
    message: &mut Vec<u8>,
    name: &str,
    kind: u16,
    class: u16,
) -> Result<usize, UpdateError> {
    put_record_of(message, name, kind, class, 0, &[])
}

fn put_record(
    message: &mut Vec<u8>,
    name: &str,
    kind: u16,
    ttl_s: u32,
    data: &[u8],
) -> Result<usize, UpdateError> {
    put_record_of(message, name, kind, IN, ttl_s, data)
}

/// Writes one record and returns how many that are.
fn put_record_of(
    message: &mut Vec<u8>,
    name: &str,
    kind: u16,
    class: u16,
    ttl_s: u32,
    data: &[u8],
) -> Result<usize, UpdateError> {
    put_name(message, name)?;
    put(message, &[kind, class]);
    message.extend_from_slice(&ttl_s.to_be_bytes());
    let length = u16::try_from(data.len()).map_err(|_| UpdateError::Name(name.to_owned()))?;
    put(message, &[length]);
    message.extend_from_slice(data);
    Ok(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn wanted(serial: u32) -> Wanted {
        let ip = |last: u8| IpAddr::from([10, 77, 0, last]);
        let sets = [
            ("web.example.", vec![ip(1), ip(2)]),
            ("h1.web.example.", vec![ip(1)]),
            ("h2.web.example.", vec![ip(2), "fd00::2".parse().unwrap()]),
        ];
        Wanted {
            zone: "example.".into(),
            apex: "web.example.".into(),
            ttl_s: 5,
            sets: sets
                .into_iter()
                .map(|(name, ips)| (name.to_owned(), ips.into_iter().collect()))
                .collect(),
            array: "00ff".into(),
            serial,
        }
    }

    /// The mark that a primary has after `wanted`.
    fn marked(wanted: &Wanted) -> Mark {
        let mut strings = Vec::new();
        let mark = wanted.mark();
        let mut rest = &mark[..];
        while let Some((length, bytes)) = rest.split_first() {
            let (string, next) = bytes.split_at(usize::from(*length));
            strings.push(string.into());
            rest = next;
        }
        Mark::read(&strings).unwrap()
    }

    /// Goal: a message is a well-formed update, with the mark as its first prerequisite.
    /// Method: read back by hickory's parser.
    #[test]
    fn an_update_is_read_back_by_another_parser() {
        let first = wanted(7);
        let message = Message::from_vec(&update(9, &first, None).unwrap()).unwrap();
        assert_eq!((message.id, message.queries.len()), (9, 1));
        // The mark, no CNAME at any of three names, and no addresses at the hosts' two.
        assert_eq!(message.answers.len(), 4 + 4);
        // Two deletions for each of three names, five addresses, the mark's deletion and the mark.
        assert_eq!(message.authorities.len(), 6 + 5 + 2);
        let names: Vec<String> = message
            .authorities
            .iter()
            .map(|record| record.name.to_string())
            .collect();
        assert_eq!(names.last().map(String::as_str), Some("_rais.web.example."));
    }

    /// Goal: what is gone is cleared, also a name of which only the mark knows.
    /// Method: an update after one that had a host more.
    #[test]
    fn names_that_were_pushed_before_are_cleared() {
        let before = marked(&wanted(7));
        assert_eq!(before.serial, 7);
        assert_eq!(before.labels, ["h1".to_owned(), "h2".to_owned()].into());
        let mut now = wanted(8);
        now.sets.remove("h2.web.example.");
        assert!(now.names(Some(&before)).contains("h2.web.example."));
        let message = Message::from_vec(&update(9, &now, Some(&before)).unwrap()).unwrap();
        let gone = message.authorities.iter();
        assert_eq!(
            gone.filter(|r| r.name.to_string() == "h2.web.example.")
                .count(),
            2
        );
    }

    /// Goal: an older version, another array, a name outside of the zone and a strange mark stop it.
    /// Method: one of each.
    #[test]
    fn what_speaks_against_it_is_told() {
        let before = marked(&wanted(7));
        assert_eq!(
            update(1, &wanted(6), Some(&before)),
            Err(UpdateError::Newer { theirs: 7, ours: 6 })
        );
        assert!(update(1, &wanted(7), Some(&before)).is_ok());
        let wrapped = marked(&wanted(u32::MAX));
        assert!(update(1, &wanted(1), Some(&wrapped)).is_ok());
        let other = Wanted {
            array: "aa".into(),
            ..wanted(9)
        };
        assert_eq!(
            update(1, &other, Some(&before)),
            Err(UpdateError::OtherArray("00ff".into()))
        );
        let outside = Wanted {
            zone: "other.".into(),
            ..wanted(9)
        };
        assert!(matches!(
            update(1, &outside, Some(&before)),
            Err(UpdateError::OutOfZone { .. })
        ));
        for strange in [
            &["v=spf1"][..],
            &[],
            &["rais1", "serial=x"],
            &["rais1", "name=a.b"],
        ] {
            let strings: Vec<Box<[u8]>> = strange.iter().map(|s| s.as_bytes().into()).collect();
            assert_eq!(Mark::read(&strings), None, "{strange:?}");
        }
    }
}
