//! Random faults, one after the other, from a seed. A seed gives the same faults but for those that are
//! aimed at whoever leads then, and never the same scheduling.

use super::{Blow, Drill, DrillError, Stop, Told};
use crate::Rng;
use crate::lab::array::ArraySpec;
use crate::lab::{Lab, disks_available, now};
use std::path::PathBuf;
use std::time::Duration;

/// A planned move home ends after the answer does: so long after each fault, in ms.
const REST: (u64, u64) = (100, 400);

/// What is wanted: it ends with whichever bound comes first.
#[derive(Clone, Debug)]
pub struct Random {
    /// How many hosts.
    pub hosts: u8,
    /// Draws the faults.
    pub seed: u64,
    /// At most for so long.
    pub lasts: Duration,
    /// At most so many.
    pub faults: u64,
    /// Another build of `rais`, to upgrade to and back; none: the same.
    pub other: Option<PathBuf>,
}

/// Plagues an array in `lab` until a bound, a wish of `stop`, or something that it does not get over.
///
/// # Errors
/// The array does not come up. What a fault brought about is in [`Told::broken`].
pub fn random(lab: &Lab, wanted: &Random, stop: &Stop) -> Result<Told, DrillError> {
    let mut spec = ArraySpec::new(wanted.hosts);
    spec.clocks = true;
    spec.disks = match disks_available() {
        Ok(()) => true,
        Err(error) => {
            eprintln!("!!! no disk is frozen or filled: {error}");
            false
        }
    };
    let disks = spec.disks;
    let mut drill = Drill::begin(lab, spec, stop)?;
    drill.with_other(wanted.other.clone());
    let (mut rng, end) = (Rng::new(wanted.seed), now().after(wanted.lasts));
    let mut broken = Vec::new();
    for _ in 0..wanted.faults {
        if now() >= end || !broken.is_empty() || stop.is_told() {
            break;
        }
        let blow = Blow::draw(&mut rng, drill.array.leader().unwrap_or(1), wanted.hosts);
        if blow.needs_disk() && !disks {
            continue;
        }
        let (words, hosts) = (blow.to_string(), blow.hosts());
        let struck = drill.strike(&words, &hosts, blow.hides(), |drill| blow.strike(drill));
        if let Err(error) = struck.map(drop)
            && !matches!(error, DrillError::Stopped)
        {
            broken.push(error.to_string());
        }
        stop.pause(rng.between(REST));
    }
    drill.end(&format!("random faults, seed {}", wanted.seed), broken)
}
