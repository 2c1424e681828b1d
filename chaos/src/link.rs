//! The network between hosts: delay, loss, duplicates and replays for datagrams; cuts for all that
//! passes.
//!
//! Raft's packets go over connections: they are delayed and cut, never lost singly or doubled.

use std::collections::VecDeque;

use control::Message;
use statemachine::HostId;

use crate::Rng;

/// Most hosts of a world: a bit for each, and none for number 0.
pub const MOST_HOSTS: u64 = 63;
/// Places for hosts, by number.
const HOSTS: usize = MOST_HOSTS as usize + 1;
/// Datagrams that may come again later.
const REMEMBERED: usize = 256;
/// Longest time after which an old datagram comes again, in microseconds.
const REPLAY_US: (u64, u64) = (0, 1_000_000);

/// How the network behaves now.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest and longest delay, in microseconds.
    pub delay_us: (u64, u64),
    /// Datagrams lost, of a thousand.
    pub loss_per_mille: u64,
    /// Datagrams doubled, of a thousand.
    pub double_per_mille: u64,
    /// Datagrams with which an old one comes again, of a thousand.
    pub replay_per_mille: u64,
}

impl Weather {
    /// A quiet LAN.
    pub const FAIR: Self = Self {
        delay_us: (100, 400),
        loss_per_mille: 0,
        double_per_mille: 0,
        replay_per_mille: 0,
    };

    fn is_fair(&self) -> bool {
        self.delay_us.1 <= Self::FAIR.delay_us.1
            && self.loss_per_mille + self.double_per_mille + self.replay_per_mille == 0
    }
}

/// What is blocked from one host to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Everything.
    All,
    /// Datagrams: connections go on.
    Datagrams,
    /// Connections: datagrams go on.
    Connections,
}

/// A datagram that was sent once: from, to, what.
type Old = (HostId, HostId, Message);

/// The network.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    weather: Weather,
    fair_since: u64,
    /// For each host a bit for each to which it cannot connect, and cannot send datagrams.
    unconnected: [u64; HOSTS],
    deaf: [u64; HOSTS],
    /// When something was blocked last between two, by the lower number and the higher.
    rough: Vec<u64>,
    /// When the last packet of each connection arrives.
    last: Vec<u64>,
    old: VecDeque<Old>,
}

fn at(from: HostId, to: HostId) -> usize {
    slot(from) * HOSTS + slot(to)
}

fn slot(id: HostId) -> usize {
    id.0 as usize % HOSTS
}

fn bit(id: HostId) -> u64 {
    1 << slot(id)
}

impl Links {
    pub(crate) fn new(weather: Weather) -> Self {
        Self {
            weather,
            fair_since: 0,
            unconnected: [0; HOSTS],
            deaf: [0; HOSTS],
            rough: vec![0; HOSTS * HOSTS],
            last: vec![0; HOSTS * HOSTS],
            old: VecDeque::new(),
        }
    }

    pub(crate) fn set_weather(&mut self, weather: Weather, now: u64) {
        if !(self.weather.is_fair() && weather.is_fair()) {
            self.fair_since = now;
        }
        self.weather = weather;
    }

    /// Since when nothing is lost or late.
    pub(crate) fn fair_since(&self) -> u64 {
        if self.weather.is_fair() {
            self.fair_since
        } else {
            u64::MAX / 2
        }
    }

    /// Blocks what goes from one host to another.
    pub(crate) fn block(&mut self, from: HostId, to: HostId, what: Block) {
        if what != Block::Datagrams {
            self.unconnected[slot(from)] |= bit(to);
        }
        if what != Block::Connections {
            self.deaf[slot(from)] |= bit(to);
        }
    }

    pub(crate) fn heal(&mut self, now: u64) {
        for from in 0..HOSTS {
            let blocked = self.unconnected[from] | self.deaf[from];
            for to in (0..HOSTS).filter(|to| blocked >> to & 1 == 1) {
                let (a, b) = (from.min(to), from.max(to));
                self.rough[a * HOSTS + b] = now;
            }
        }
        (self.unconnected, self.deaf) = ([0; HOSTS], [0; HOSTS]);
    }

    /// When something was blocked last between two hosts; `now` if it is.
    pub(crate) fn rough_at(&self, a: HostId, b: HostId, now: u64) -> u64 {
        let (a, b) = (a.min(b), a.max(b));
        let one = (self.unconnected[slot(a)] | self.deaf[slot(a)]) & bit(b);
        let other = (self.unconnected[slot(b)] | self.deaf[slot(b)]) & bit(a);
        if one | other != 0 {
            return now;
        }
        self.rough[at(a, b)]
    }

    /// A connection needs both directions.
    pub(crate) fn connects(&self, a: HostId, b: HostId) -> bool {
        a == b || (self.unconnected[slot(a)] & bit(b) | self.unconnected[slot(b)] & bit(a)) == 0
    }

    /// When the next packet of a connection arrives, in microseconds from now: never before the last.
    pub(crate) fn packet(&mut self, rng: &mut Rng, from: HostId, to: HostId, now: u64) -> u64 {
        let last = &mut self.last[at(from, to)];
        *last = (*last).max(now + rng.between(self.weather.delay_us));
        *last - now
    }

    /// When a datagram and its double arrive, in microseconds from now; none when it is lost.
    pub(crate) fn datagram(&self, rng: &mut Rng, from: HostId, to: HostId) -> [Option<u64>; 2] {
        let blocked = self.deaf[slot(from)] & bit(to) != 0;
        if blocked || rng.chance(self.weather.loss_per_mille) {
            return [None; 2];
        }
        let doubled = rng.chance(self.weather.double_per_mille);
        let first = Some(rng.between(self.weather.delay_us));
        [first, doubled.then(|| rng.between(self.weather.delay_us))]
    }

    /// Remembers a datagram, and may give an old one that comes again, and after how long.
    pub(crate) fn replay(
        &mut self,
        rng: &mut Rng,
        sent: (HostId, HostId, &Message),
    ) -> Option<(u64, Old)> {
        if self.weather.replay_per_mille == 0 {
            return None;
        }
        if self.old.len() == REMEMBERED {
            // Some stay for long: another than the oldest may go.
            let goes = rng.below(REMEMBERED as u64) as usize;
            self.old.swap_remove_back(goes);
        }
        self.old.push_back((sent.0, sent.1, sent.2.clone()));
        if !rng.chance(self.weather.replay_per_mille) {
            return None;
        }
        let which = rng.below(self.old.len() as u64) as usize;
        let old = self.old.get(which)?.clone();
        let blocked = self.deaf[slot(old.0)] & bit(old.1) != 0;
        let after = rng.between(REPLAY_US);
        (!blocked).then_some((after, old))
    }
}
