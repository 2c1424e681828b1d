//! Invariant 6: the epochs of an address strictly grow.

use std::collections::BTreeMap;
use std::net::IpAddr;

use statemachine::{Applied, Epoch, Happening};

/// The newest epoch that each address was assigned under.
#[derive(Debug, Default)]
pub struct Epochs {
    newest: BTreeMap<IpAddr, Epoch>,
}

impl Epochs {
    /// What an entry did wrong, if anything. To be called once for each index, in order.
    pub fn check(&mut self, applied: &Applied) -> Option<String> {
        for effect in &applied.effects {
            let (Happening::Assigned { epoch }, Some(ip)) = (&effect.what, effect.address) else {
                continue;
            };
            let before = self.newest.insert(ip, *epoch).unwrap_or_default();
            if *epoch <= before {
                return Some(format!("{ip} got epoch {epoch} after {before}"));
            }
        }
        None
    }
}
