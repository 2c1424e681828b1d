//! The zones as bytes: every answer that they can give, written before anybody asks.
//!
//! One hash table for all zones, from lower-cased wire name to the sets of that name. An
//! address set stands there twice in a row, so that each rotation of it is one piece. Negative
//! answers are one template for each zone, with the places of the pointers that depend on how
//! long the question is. Built with the zones ([`crate::Zones::project`]) and swapped in with
//! them, by the encoder that the other path uses.
//!
//! Limits: a name that two zones have belongs to the one whose apex is longer, as in `answer`.

use hickory_proto::rr::{Record, RecordType};

use crate::answer::ANY_PREFERENCE;
use crate::compose::{Composer, Owner, QUESTION_AT, Unwritable};
use crate::name::NameKey;
use crate::question::{Question, hash};
use crate::zone::{Node, RrSet, Zone};
use crate::zones::Zones;

/// The zones in wire form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compiled {
    /// Open addressing: index into `names` plus one, or zero. At most half full.
    table: Box<[u32]>,
    names: Vec<CompiledName>,
    zones: Vec<CompiledZone>,
    /// Distinct label counts of the apexes, longest first.
    depths: Vec<usize>,
}

/// One name that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledName {
    wire: Box<[u8]>,
    hash: u64,
    zone: usize,
    is_apex: bool,
    sets: Box<[CompiledSet]>,
    /// Which of `sets` answers a question of type ANY.
    any: Option<usize>,
}

/// One set of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledSet {
    rtype: u16,
    /// How many records.
    pub(crate) count: u16,
    /// Bytes of one record, where the set rotates: then all have the same and stand twice.
    unit: Option<usize>,
    len: usize,
    bytes: Box<[u8]>,
    /// Sets that save the client a question.
    pub(crate) additional: Box<[u8]>,
    /// How many records these are.
    pub(crate) additional_count: u16,
}

/// What all names of a zone share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompiledZone {
    /// See [`Zone::is_withheld`].
    withheld: bool,
    /// Length of the apex in wire form.
    pub(crate) apex_len: usize,
    /// The SOA as a negative answer carries it.
    pub(crate) soa: Box<[u8]>,
    /// Where in `soa` a pointer to the apex goes.
    pub(crate) pointers: Box<[usize]>,
}

/// What the zones have for a question.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found<'c> {
    /// The set asked for.
    Set(&'c CompiledSet),
    /// The name is there, the type is not.
    NoData(&'c CompiledZone),
    /// There is no such name; the number tells zones apart.
    NoName(&'c CompiledZone, u64),
    /// The name is in a zone that this node may not answer for now.
    Withheld,
    /// The name is in no zone of ours.
    NotOurs,
}

impl Compiled {
    /// Writes all answers of the zones. What can't be written is left out, and then the
    /// compiled zones answer nothing at all: the other path does.
    pub(crate) fn of(zones: &Zones) -> Option<Compiled> {
        let mut compiled = Compiled {
            depths: zones.depths().to_vec(),
            ..Compiled::default()
        };
        for (index, zone) in zones.all().into_iter().enumerate() {
            compiled.zones.push(CompiledZone::of(zone).ok()?);
            let mut nodes: Vec<_> = zone.nodes().collect();
            nodes.sort_by_key(|(wire, _)| *wire);
            for (wire, node) in nodes {
                let key = NameKey::from_wire(wire)?;
                // A deeper zone has this name.
                if !zones
                    .find(&key)
                    .is_some_and(|owner| std::ptr::eq(owner, zone))
                {
                    continue;
                }
                let name = CompiledName::of(zone, index, &key, node).ok()?;
                compiled.names.push(name);
            }
        }
        compiled.fill_table()?;
        Some(compiled)
    }

    fn fill_table(&mut self) -> Option<()> {
        let slots = (self.names.len() * 2).next_power_of_two();
        self.table = vec![0; slots].into_boxed_slice();
        for (index, name) in self.names.iter().enumerate() {
            let mut at = name.hash as usize;
            while *self.table.get(at & (slots - 1))? != 0 {
                at += 1;
            }
            *self.table.get_mut(at & (slots - 1))? = u32::try_from(index + 1).ok()?;
        }
        Some(())
    }

    /// What there is for a question of class IN. `name_hash` is that of its whole name.
    #[inline]
    pub(crate) fn find(&self, question: &Question, name_hash: u64) -> Found<'_> {
        if let Some(name) = self.name(question, 0, name_hash) {
            return match (name.set(question.rtype), self.zones.get(name.zone)) {
                (_, Some(zone)) if zone.withheld => Found::Withheld,
                (Some(set), _) => Found::Set(set),
                (None, Some(zone)) => Found::NoData(zone),
                (None, None) => Found::NotOurs,
            };
        }
        for labels in &self.depths {
            let Some(start) = question.suffix(*labels) else {
                continue;
            };
            let apex = self.name(question, start, question.hash(start));
            let Some(apex) = apex.filter(|name| name.is_apex) else {
                continue;
            };
            match self.zones.get(apex.zone) {
                Some(zone) if zone.withheld => return Found::Withheld,
                Some(zone) => return Found::NoName(zone, apex.hash),
                None => {}
            }
        }
        Found::NotOurs
    }

    #[inline]
    fn name(&self, question: &Question, start: usize, hash: u64) -> Option<&CompiledName> {
        let mask = self.table.len().checked_sub(1)?;
        let mut at = hash as usize;
        loop {
            // Half of the table is zero, so this ends.
            let index = (*self.table.get(at & mask)? as usize).checked_sub(1)?;
            let name = self.names.get(index)?;
            if name.hash == hash && *name.wire == *question.wire(start) {
                return Some(name);
            }
            at += 1;
        }
    }
}

impl CompiledName {
    fn of(zone: &Zone, index: usize, key: &NameKey, node: &Node) -> Result<Self, Unwritable> {
        let sets = node
            .sets
            .iter()
            .map(|set| CompiledSet::of(zone, key, set))
            .collect::<Result<Box<[_]>, _>>()?;
        let any = ANY_PREFERENCE.iter().find_map(|rtype| {
            let wanted = u16::from(*rtype);
            sets.iter().position(|set| set.rtype == wanted)
        });
        let apex = NameKey::of(zone.apex()).ok_or(Unwritable)?;
        Ok(CompiledName {
            wire: key.wire().into(),
            hash: hash(key.wire()),
            zone: index,
            is_apex: apex.wire() == key.wire(),
            sets,
            any,
        })
    }

    #[inline]
    fn set(&self, rtype: u16) -> Option<&CompiledSet> {
        if rtype == ANY {
            return self.any.and_then(|index| self.sets.get(index));
        }
        self.sets.iter().find(|set| set.rtype == rtype)
    }
}

/// Type code of ANY.
pub(crate) const ANY: u16 = 255;

impl CompiledSet {
    fn of(zone: &Zone, key: &NameKey, set: &RrSet) -> Result<Self, Unwritable> {
        let base = QUESTION_AT + key.wire().len() + 4;
        let apex = NameKey::of(zone.apex()).ok_or(Unwritable)?;
        let apex_at = QUESTION_AT + key.wire().len() - apex.wire().len();
        let mut out = Vec::new();
        let mut composer = Composer::new(&mut out, base, zone.apex(), apex_at)?;
        let count = composer.records(Owner::Question, set.records.iter())?;
        let len = composer.written();
        let mut additional_count = 0;
        if set.rtype == RecordType::NS {
            for set in zone.glue() {
                additional_count += composer.records(owner_of(&set.records), set.records.iter())?;
            }
        }
        drop(composer);
        let additional = out.split_off(len).into_boxed_slice();
        let rotates = matches!(set.rtype, RecordType::A | RecordType::AAAA);
        let unit = rotates.then(|| len.checked_div(count.into())).flatten();
        if unit.is_some() {
            out.extend_from_within(..);
        }
        Ok(CompiledSet {
            rtype: set.rtype.into(),
            count,
            unit,
            len,
            bytes: out.into_boxed_slice(),
            additional,
            additional_count,
        })
    }

    /// The set in the order of this turn.
    #[inline]
    pub(crate) fn rotated(&self, turn: u64) -> &[u8] {
        let start = match self.unit {
            Some(unit) => crate::answer::rotation_start(turn, self.count.into()) * unit,
            None => 0,
        };
        self.bytes.get(start..start + self.len).unwrap_or_default()
    }
}

/// The owner of a set in the additional section.
pub(crate) fn owner_of(records: &[Record]) -> Owner<'_> {
    match records.first() {
        Some(first) => Owner::Other(&first.name),
        None => Owner::Apex,
    }
}

impl CompiledZone {
    fn of(zone: &Zone) -> Result<Self, Unwritable> {
        let mut soa = Vec::new();
        let mut composer = Composer::new(&mut soa, QUESTION_AT, zone.apex(), QUESTION_AT)?;
        composer.records(Owner::Apex, zone.soa().records.iter())?;
        let pointers = std::mem::take(&mut composer.apex_pointers);
        drop(composer);
        Ok(CompiledZone {
            withheld: zone.is_withheld(),
            apex_len: NameKey::of(zone.apex()).ok_or(Unwritable)?.wire().len(),
            soa: soa.into_boxed_slice(),
            pointers: pointers.into_boxed_slice(),
        })
    }
}
