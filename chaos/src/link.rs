//! The network between hosts: delay, loss, duplicates for datagrams; cuts for all that passes.
//!
//! Raft's packets go over connections: they are delayed and cut, never lost singly or doubled.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::HostId;

use crate::Rng;

/// How the network behaves now.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest delay, in microseconds.
    pub delay_us: (u64, u64),
    /// Datagrams lost, of a thousand.
    pub loss_per_mille: u64,
    /// Datagrams doubled, of a thousand.
    pub double_per_mille: u64,
}

impl Weather {
    /// A quiet LAN.
    pub const FAIR: Self = Self {
        delay_us: (100, 400),
        loss_per_mille: 0,
        double_per_mille: 0,
    };
}

/// The network.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    pub(crate) weather: Weather,
    cut: BTreeSet<(HostId, HostId)>,
    deaf: BTreeSet<(HostId, HostId)>,
    /// When the last packet of each connection arrives.
    last: BTreeMap<(HostId, HostId), u64>,
}

impl Links {
    pub(crate) fn new(weather: Weather) -> Self {
        Self {
            weather,
            cut: BTreeSet::new(),
            deaf: BTreeSet::new(),
            last: BTreeMap::new(),
        }
    }

    /// Blocks everything from one host to another.
    pub(crate) fn cut(&mut self, from: HostId, to: HostId) {
        self.cut.insert((from, to));
    }

    /// Blocks only datagrams from one host to another: connections go on.
    pub(crate) fn deafen(&mut self, from: HostId, to: HostId) {
        self.deaf.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.deaf.clear();
    }

    /// A connection needs both directions.
    pub(crate) fn connects(&self, a: HostId, b: HostId) -> bool {
        a == b || !(self.cut.contains(&(a, b)) || self.cut.contains(&(b, a)))
    }

    /// When the next packet of a connection arrives, in microseconds from now: never before the last.
    pub(crate) fn packet(&mut self, rng: &mut Rng, from: HostId, to: HostId, now: u64) -> u64 {
        let last = self.last.entry((from, to)).or_default();
        *last = (*last).max(now + rng.between(self.weather.delay_us));
        *last - now
    }

    /// When each copy of a datagram arrives, in microseconds from now; empty when it is lost.
    pub(crate) fn datagram(&self, rng: &mut Rng, from: HostId, to: HostId) -> Vec<u64> {
        let blocked = self.cut.contains(&(from, to)) || self.deaf.contains(&(from, to));
        if blocked || rng.chance(self.weather.loss_per_mille) {
            return Vec::new();
        }
        let copies = 1 + u64::from(rng.chance(self.weather.double_per_mille));
        (0..copies)
            .map(|_| rng.between(self.weather.delay_us))
            .collect()
    }
}
