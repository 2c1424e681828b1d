//! All zones of the array at one log index, and which of them a question belongs to.
//!
//! A node swaps in a new value when an applied entry changed a zone; readers keep the old one
//! for as long as they answer from it. The zone of a name is the longest apex that it ends in:
//! one hash look-up for each *distinct number of labels* among the apexes, not for each label
//! of the question, so a question of 127 labels costs no more than one of three.
//!
//! Limits: a zone inside another one is answered from, but not delegated to by, its parent.

use std::collections::HashMap;

use crate::compiled::Compiled;
use crate::name::NameKey;
use crate::zone::{Zone, ZoneError, ZoneInput};

/// Every zone that this node answers for. Immutable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    by_apex: HashMap<Box<[u8]>, Zone>,
    /// Distinct label counts of the apexes, longest first.
    depths: Vec<usize>,
    refused: Vec<ZoneError>,
    inputs: Vec<ZoneInput>,
    compiled: Option<Compiled>,
}

impl Zones {
    /// Builds all zones. One that can't be built costs no other: see [`Zones::refused`].
    pub fn project(inputs: Vec<ZoneInput>) -> Zones {
        let mut zones = Zones::default();
        for input in &inputs {
            if let Err(why) = zones.add(input) {
                zones.refused.push(why);
            }
        }
        zones.inputs = inputs;
        zones.compiled = Compiled::of(&zones);
        zones
    }

    fn add(&mut self, input: &ZoneInput) -> Result<(), ZoneError> {
        let zone = Zone::project(input)?;
        let bad = || ZoneError::BadName {
            name: input.name.clone(),
        };
        let key = NameKey::of(zone.apex()).ok_or_else(bad)?;
        if self.by_apex.contains_key(key.wire()) {
            return Err(ZoneError::Duplicate {
                name: input.name.clone(),
            });
        }
        if !self.depths.contains(&key.labels()) {
            self.depths.push(key.labels());
            self.depths.sort_unstable_by(|a, b| b.cmp(a));
        }
        self.by_apex.insert(key.wire().into(), zone);
        Ok(())
    }

    /// The zone that a name belongs to; `None`: we are not asked about our own.
    pub fn find(&self, name: &NameKey) -> Option<&Zone> {
        self.depths
            .iter()
            .filter_map(|labels| name.suffix(*labels))
            .find_map(|apex| self.by_apex.get(apex))
    }

    /// The same zones in wire form; `None`: they have something that can't be written there.
    pub(crate) fn compiled(&self) -> Option<&Compiled> {
        self.compiled.as_ref()
    }

    /// Distinct label counts of the apexes, longest first.
    pub(crate) fn depths(&self) -> &[usize] {
        &self.depths
    }

    /// The zones, by name.
    pub fn all(&self) -> Vec<&Zone> {
        let mut all: Vec<&Zone> = self.by_apex.values().collect();
        all.sort_by(|a, b| a.apex().cmp(b.apex()));
        all
    }

    /// What these zones were built from, to see cheaply whether a new state changed any.
    pub fn inputs(&self) -> &[ZoneInput] {
        &self.inputs
    }

    /// Groups that have no zone, and why.
    pub fn refused(&self) -> &[ZoneError] {
        &self.refused
    }
}
