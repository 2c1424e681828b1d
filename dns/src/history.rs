//! What a zone was: its last versions as differences, ready to be sent (RFC 1995).
//!
//! Records are kept in wire form with names in full, and shared between versions, so a transfer
//! copies bytes and a difference holds no more than what changed. Kept in memory only: a node
//! that starts knows its newest version, and sends whole zones until others have followed.
//!
//! Invariants: differences are one chain that ends in the newest version; a version has one
//! content, on every node, since both come out of the log.
//!
//! Limits: [`MAX_DIFFERENCES`] and [`MAX_BYTES`] a zone; older versions are forgotten first.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::name::NameKey;
use crate::serial::is_newer;
use crate::zone::Zone;

/// Most differences of a zone: a secondary that was away for so many changes gets it whole.
pub const MAX_DIFFERENCES: usize = 256;

/// Most bytes of a zone's differences. A change of the TTL writes every record twice, about 100
/// bytes: at 1,000 records ten such changes fit.
pub const MAX_BYTES: usize = 1 << 20;

/// Differences that are larger than the zone are only sent where they fit into so many bytes,
/// about one message.
const SMALL: usize = 16_000;

/// A record in wire form, names in full and lower case.
pub(crate) type Wire = Arc<[u8]>;

/// One version of a zone.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) serial: u32,
    pub(crate) soa: Wire,
    /// All other records, sorted.
    records: Arc<[Wire]>,
}

impl Version {
    /// The zone as it is; records that `before` has too are shared with it. `None`: it holds
    /// something that can't be written.
    pub(crate) fn of(zone: &Zone, before: Option<&Version>) -> Option<Version> {
        let soa: Wire = wire_of(zone.soa().records.first()?)?.into();
        let known: &[Wire] = before.map_or(&[], |before| &before.records);
        let mut records = Vec::new();
        for (_, node) in zone.nodes() {
            let sets = node.sets.iter().filter(|set| set.rtype != RecordType::SOA);
            for record in sets.flat_map(|set| &set.records) {
                let wire = wire_of(record)?;
                records.push(match known.binary_search_by(|one| (**one).cmp(&*wire)) {
                    Ok(at) => known.get(at).cloned()?,
                    Err(_) => wire.into(),
                });
            }
        }
        records.sort_unstable();
        Some(Version {
            serial: zone.serial(),
            soa,
            records: records.into(),
        })
    }

    fn bytes(&self) -> usize {
        2 * self.soa.len() + self.records.iter().map(|one| one.len()).sum::<usize>()
    }
}

/// What one change took away and added.
#[derive(Debug)]
struct Difference {
    from: Version0,
    to: Wire,
    deleted: Vec<Wire>,
    added: Vec<Wire>,
    bytes: usize,
}

/// Serial and SOA of an older version.
#[derive(Debug)]
struct Version0 {
    serial: u32,
    soa: Wire,
}

impl Difference {
    fn between(old: &Version, new: &Version) -> Difference {
        let (mut deleted, mut added) = (Vec::new(), Vec::new());
        let (mut olds, mut news) = (old.records.iter().peekable(), new.records.iter().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (Some(old), Some(new)) => old.cmp(new),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            match order {
                Ordering::Less => deleted.extend(olds.next().cloned()),
                Ordering::Greater => added.extend(news.next().cloned()),
                Ordering::Equal => {
                    olds.next();
                    news.next();
                }
            }
        }
        let records = deleted.iter().chain(&added);
        let bytes = old.soa.len() + new.soa.len() + records.map(|one| one.len()).sum::<usize>();
        Difference {
            from: Version0 {
                serial: old.serial,
                soa: old.soa.clone(),
            },
            to: new.soa.clone(),
            deleted,
            added,
            bytes,
        }
    }

    fn write(&self, out: &mut Vec<Wire>) {
        out.push(self.from.soa.clone());
        out.extend(self.deleted.iter().cloned());
        out.push(self.to.clone());
        out.extend(self.added.iter().cloned());
    }
}

/// A zone's newest version and how it came to be.
#[derive(Debug)]
pub(crate) struct History {
    newest: Version,
    differences: VecDeque<Difference>,
    bytes: usize,
}

impl History {
    /// Starts with the zone as it is.
    pub(crate) fn new(newest: Version) -> History {
        History {
            newest,
            differences: VecDeque::new(),
            bytes: 0,
        }
    }

    /// The newest version.
    pub(crate) fn newest(&self) -> &Version {
        &self.newest
    }

    /// Takes the zone as it is now; true if that is another version. A serial that did not go
    /// forward belongs to another life of the zone: what was before is no part of it.
    pub(crate) fn advance(&mut self, zone: &Zone) -> bool {
        if zone.serial() == self.newest.serial {
            return false;
        }
        let Some(next) = Version::of(zone, Some(&self.newest)) else {
            return false;
        };
        if is_newer(next.serial, self.newest.serial) {
            let difference = Difference::between(&self.newest, &next);
            self.bytes += difference.bytes;
            self.differences.push_back(difference);
            self.forget();
        } else {
            self.differences.clear();
            self.bytes = 0;
        }
        self.newest = next;
        true
    }

    fn forget(&mut self) {
        while self.differences.len() > MAX_DIFFERENCES || self.bytes > MAX_BYTES {
            let Some(oldest) = self.differences.pop_front() else {
                return;
            };
            self.bytes = self.bytes.saturating_sub(oldest.bytes);
        }
    }

    /// The whole zone, as AXFR sends it: SOA first and last.
    pub(crate) fn whole(&self) -> Vec<Wire> {
        let Version { soa, records, .. } = &self.newest;
        let inner = records.iter().cloned();
        let soa = || std::iter::once(soa.clone());
        soa().chain(inner).chain(soa()).collect()
    }

    /// What changed since `serial`, as IXFR sends it: the newest SOA alone for who has that or
    /// a newer one, the whole zone for who has one that we don't know.
    pub(crate) fn since(&self, serial: u32) -> Vec<Wire> {
        let newest = &self.newest;
        if !is_newer(newest.serial, serial) && newest.serial.wrapping_sub(serial) != 1 << 31 {
            return vec![newest.soa.clone()];
        }
        let known = self
            .differences
            .iter()
            .position(|difference| difference.from.serial == serial);
        let Some(known) = known else {
            return self.whole();
        };
        let bytes: usize = self.differences.iter().skip(known).map(|d| d.bytes).sum();
        if bytes > SMALL && bytes > newest.bytes() {
            return self.whole();
        }
        let mut out = vec![newest.soa.clone()];
        for difference in self.differences.iter().skip(known) {
            difference.write(&mut out);
        }
        out.push(newest.soa.clone());
        out
    }
}

/// A record in wire form; `None` for a type that no zone of ours holds.
fn wire_of(record: &Record) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(64);
    let name = |name: &Name, out: &mut Vec<u8>| {
        out.extend_from_slice(NameKey::of(name)?.wire());
        Some(())
    };
    name(&record.name, &mut out)?;
    out.extend_from_slice(&u16::from(record.record_type()).to_be_bytes());
    out.extend_from_slice(&u16::from(record.dns_class).to_be_bytes());
    out.extend_from_slice(&record.ttl.to_be_bytes());
    let mut data = Vec::with_capacity(32);
    match &record.data {
        RData::A(a) => data.extend_from_slice(&a.0.octets()),
        RData::AAAA(aaaa) => data.extend_from_slice(&aaaa.0.octets()),
        RData::NS(ns) => name(&ns.0, &mut data)?,
        RData::SOA(soa) => {
            name(&soa.mname, &mut data)?;
            name(&soa.rname, &mut data)?;
            for number in [
                soa.serial,
                soa.refresh as u32,
                soa.retry as u32,
                soa.expire as u32,
                soa.minimum,
            ] {
                data.extend_from_slice(&number.to_be_bytes());
            }
        }
        _ => return None,
    }
    out.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&data);
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::zone::ZoneInput;
    use std::collections::BTreeSet;

    fn zone(serial: u32, hosts: &[u8]) -> Zone {
        Zone::project(&ZoneInput {
            name: "web.example.".into(),
            ttl_s: 5,
            serial,
            withheld: false,
            published: hosts
                .iter()
                .map(|n| (format!("h{n}"), [10, 0, 0, *n].into()))
                .collect(),
            nameservers: vec![("h1".into(), vec![[10, 0, 0, 1].into()])],
        })
        .unwrap()
    }

    fn history(first: u32) -> History {
        History::new(Version::of(&zone(first, &[1]), None).unwrap())
    }

    /// What a secondary makes of an answer to IXFR: its records after it.
    fn follow(have: &BTreeSet<Wire>, answer: &[Wire]) -> BTreeSet<Wire> {
        let is_soa = |wire: &Wire| wire[13..15] == [0, 6];
        let [_, inner @ .., _] = answer else {
            return have.clone();
        };
        if !inner.first().is_some_and(is_soa) {
            return inner.iter().cloned().collect();
        }
        let (mut set, mut adds) = (have.clone(), true);
        for wire in inner {
            match (is_soa(wire), adds) {
                (true, _) => adds = !adds,
                (false, true) => assert!(set.insert(wire.clone()), "added twice"),
                (false, false) => assert!(set.remove(wire), "deleted what was not there"),
            }
        }
        set
    }

    fn content(history: &History) -> BTreeSet<Wire> {
        history.newest.records.iter().cloned().collect()
    }

    /// Goal: whoever has any of the last versions gets the newest, also over the wrap.
    /// Method: 600 changes from just below the wrap; from each version the answer is applied as
    /// a secondary would; those that are forgotten get it whole.
    #[test]
    fn every_version_leads_to_the_newest() {
        let first = u32::MAX - 300;
        let mut history = history(first);
        let mut seen = vec![(first, content(&history))];
        for step in 1..=600_u32 {
            let hosts: Vec<u8> = (1..=9)
                .filter(|n| !(step / 7 + n).is_multiple_of(3))
                .map(|n| n as u8)
                .collect();
            let mut hosts = hosts;
            hosts.push(10 + (step % 5) as u8);
            assert!(history.advance(&zone(first.wrapping_add(step), &hosts)));
            seen.push((first.wrapping_add(step), content(&history)));
        }
        assert_eq!(history.differences.len(), MAX_DIFFERENCES);
        let newest = content(&history);
        for (serial, have) in &seen {
            assert_eq!(follow(have, &history.since(*serial)), newest, "{serial}");
        }
        assert_eq!(history.since(first).len(), history.whole().len());
        assert_eq!(history.since(history.newest.serial).len(), 1);
        assert_eq!(
            history.since(history.newest.serial.wrapping_add(9)).len(),
            1
        );
    }

    /// Goal: the same version changes nothing; a serial that went back starts anew.
    /// Method: advance with both.
    #[test]
    fn another_life_of_a_zone_has_no_history() {
        let mut history = history(7);
        assert!(!history.advance(&zone(7, &[1])));
        assert!(history.advance(&zone(8, &[1, 2])));
        assert_eq!(history.since(7).len(), 1 + 1 + 1 + 2 + 1);
        assert!(history.advance(&zone(3, &[2])));
        assert!(history.differences.is_empty());
    }
}
