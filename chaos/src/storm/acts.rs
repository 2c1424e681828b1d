//! How a storm is drawn: acts of some seconds, each with a theme of its own, most of them followed by a
//! calm in which the array comes back, so that there is something to lose in the next.
//!
//! Faults drawn evenly keep an array on its knees, where it serves nothing and breaks no law; each
//! theme brings the orders of events near that one rule of the protocol is there for.

use std::collections::BTreeSet;

use control::LocalGroup;
use statemachine::{HostId, Timing};

use super::fault::{Blow, Fault, Whom};
use super::{shapes, timings};
use crate::{Block, Rng, Weather};

/// Shortest and longest act, in ms.
const ACT_MS: (u64, u64) = (3_000, 14_000);
/// Shortest and longest calm between two, in ms.
const REST_MS: (u64, u64) = (500, 3_500);

/// Draws the faults of a storm.
pub(super) fn draw(rng: &mut Rng, ids: &[HostId], from_ms: u64, to_ms: u64) -> Vec<Blow> {
    let mut script = Script {
        rng,
        ids,
        now: from_ms,
        end: 0,
        blows: Vec::new(),
    };
    while script.now < to_ms {
        script.end = (script.now + script.rng.between(ACT_MS)).min(to_ms);
        script.act();
        script.now = script.end;
        if script.rng.chance(750) {
            script.rest();
        }
    }
    let mut blows = script.blows;
    blows.retain(|blow| blow.at_ms < to_ms);
    blows.sort_by_key(|blow| blow.at_ms);
    blows
}

struct Script<'a> {
    rng: &'a mut Rng,
    ids: &'a [HostId],
    now: u64,
    end: u64,
    blows: Vec<Blow>,
}

impl Script<'_> {
    fn act(&mut self) {
        match self.rng.below(11) {
            0 | 1 => self.mixed(),
            2 => self.bounces(),
            3 => self.voters(),
            4 => self.muted(),
            5 => self.at_the_gate(),
            6 => self.retimed(),
            7 => self.weather(),
            8 => self.parted(),
            9 => self.operators(),
            _ => self.leaders(),
        }
    }

    /// Ends what an act left.
    fn rest(&mut self) {
        for fault in [
            Fault::GoOnAll,
            Fault::RestartAll,
            Fault::Heal,
            Fault::Weather(Weather::FAIR),
        ] {
            self.at(0, fault);
        }
        for id in self.ids {
            self.at(0, Fault::ApplyTakes(*id, 1_500));
            self.at(0, Fault::FlushTakes(*id, 1_000));
            self.at(0, Fault::DriverTakes(*id, 5_000));
        }
        self.now += self.rng.between(REST_MS);
    }

    fn at(&mut self, after: u64, fault: Fault) {
        let at_ms = self.now + after;
        self.blows.push(Blow { at_ms, fault });
    }

    fn some(&mut self) -> HostId {
        self.rng.pick(self.ids).unwrap_or_default()
    }

    fn two(&mut self) -> (HostId, HostId) {
        let one = self.some();
        let others: Vec<HostId> = self.ids.iter().copied().filter(|id| *id != one).collect();
        (one, self.rng.pick(&others).unwrap_or_default())
    }

    fn whom(&mut self) -> Whom {
        if self.rng.chance(300) {
            Whom::Leader
        } else {
            Whom::Host(self.some())
        }
    }

    fn subset(&mut self, per_mille: u64) -> BTreeSet<HostId> {
        let mut set = self.ids.to_vec();
        set.retain(|_| self.rng.chance(per_mille));
        set.into_iter().collect()
    }

    /// A time whose logarithm is even: as many short ones as long ones.
    fn long(&mut self, from: u64, to: u64) -> u64 {
        let doublings = u64::from((to / from).max(1).ilog2());
        let scale = from << self.rng.below(doublings + 1);
        self.rng.between((scale, (2 * scale).min(to)))
    }

    /// Repeats until the act ends.
    fn each(&mut self, pause: (u64, u64), mut what: impl FnMut(&mut Self)) {
        while self.now < self.end {
            what(self);
            self.now += self.rng.between(pause);
        }
    }

    fn kill(&mut self, whom: Whom, back_ms: (u64, u64)) {
        let warden_too = self.rng.chance(300);
        self.at(0, Fault::Kill { whom, warden_too });
        let back = self.long(back_ms.0, back_ms.1);
        let fault = match whom {
            Whom::Host(id) => Fault::Restart(id),
            Whom::Leader => Fault::RestartAll,
        };
        self.at(back, fault);
    }

    fn pause(&mut self, whom: Whom, for_ms: (u64, u64)) {
        self.at(0, Fault::Pause(whom));
        let back = self.long(for_ms.0, for_ms.1);
        let fault = match whom {
            Whom::Host(id) => Fault::GoOn(id),
            Whom::Leader => Fault::GoOnAll,
        };
        self.at(back, fault);
    }

    fn block(&mut self, heal_ms: (u64, u64)) {
        let what = self
            .rng
            .pick(&[Block::All, Block::All, Block::Datagrams, Block::Connections]);
        let pairs = shapes::draw(self.rng, self.ids);
        self.at(0, Fault::Block(pairs, what.unwrap_or(Block::All)));
        let heal = self.long(heal_ms.0, heal_ms.1);
        self.at(heal, Fault::Heal);
    }

    fn mixed(&mut self) {
        self.each((30, 1_800), |s| {
            let whom = s.whom();
            if s.rng.chance(100) {
                s.at(0, Fault::Words);
            }
            match s.rng.below(9) {
                0 | 1 => s.kill(whom, (5, 8_000)),
                2 | 3 => s.pause(whom, (5, 20_000)),
                4 | 5 => s.block((20, 5_000)),
                6 => s.slow(),
                7 => s.revote(),
                _ => s.operate(),
            }
        });
    }

    fn slow(&mut self) {
        let id = self.some();
        let us = self.long(1_000, 900_000);
        match self.rng.below(3) {
            0 => self.at(0, Fault::ApplyTakes(id, us)),
            1 => self.at(0, Fault::FlushTakes(id, us)),
            _ => self.at(0, Fault::DriverTakes(id, us)),
        }
    }

    fn revote(&mut self) {
        let mut wanted = match self.rng.below(4) {
            0 => self.subset(300),
            _ => self.subset(650),
        };
        if wanted.is_empty() {
            wanted.insert(self.some());
        }
        self.at(0, Fault::Revote(wanted));
    }

    /// Voters that come back at once, while some host is not heard by somebody.
    fn bounces(&mut self) {
        self.each((200, 2_500), |s| {
            let host = s.some();
            match s.rng.below(4) {
                0 => s.block((100, 3_000)),
                1 => {
                    let both = s.rng.chance(400);
                    s.at(0, Fault::BlockLeader { host, both });
                    let heal = s.long(200, 3_000);
                    s.at(heal, Fault::Heal);
                }
                2 => s.pause(Whom::Host(host), (50, 3_000)),
                _ => s.kill(Whom::Host(host), (50, 2_000)),
            }
            for _ in 0..s.rng.between((1, 3)) {
                let (id, warden_too) = (s.some(), false);
                if s.rng.chance(400) {
                    // What it took into its log is not on its disk when it dies.
                    let us = s.long(50_000, 900_000);
                    s.at(0, Fault::FlushTakes(id, us));
                }
                let whom = Whom::Host(id);
                let first = s.rng.below(900);
                s.at(first, Fault::Kill { whom, warden_too });
                let back = first + s.long(1, 200);
                s.at(back, Fault::Restart(id));
            }
        });
    }

    /// Other voters, while hosts are cut off, together with those that lose their vote or not.
    fn voters(&mut self) {
        self.each((300, 3_000), |s| {
            let wanted = s.subset(550);
            let (owner, other) = s.two();
            let mut side: BTreeSet<HostId> = s.ids.iter().copied().collect();
            side.retain(|id| !wanted.contains(id));
            side.insert(owner);
            if s.rng.chance(300) {
                side.insert(other);
            }
            if !wanted.is_empty() {
                s.at(0, Fault::Revote(wanted));
            }
            let after = s.rng.between((0, 3));
            match s.rng.below(5) {
                0 => s.pause(Whom::Host(owner), (50, 3_000)),
                1 => s.kill(Whom::Host(owner), (50, 3_000)),
                2 => s.block((100, 3_000)),
                _ => {
                    let pairs = shapes::split(s.ids, &side);
                    s.at(after, Fault::Block(pairs, Block::All));
                    let heal = s.long(200, 4_000);
                    s.at(heal, Fault::Heal);
                }
            }
            if s.rng.chance(300) {
                let soon = s.rng.between((1, 400));
                s.now += soon;
                s.revote();
            }
        });
    }

    /// Raft stands still for a host whose heartbeats go on, and others apply late.
    fn muted(&mut self) {
        self.each((300, 2_500), |s| {
            let (host, other) = s.two();
            let ids = s.ids.iter().filter(|id| **id != host);
            let pairs: Vec<_> = ids.map(|id| (*id, host)).collect();
            s.at(0, Fault::Block(pairs.clone(), Block::Connections));
            let us = s.long(10_000, 1_500_000);
            s.at(0, Fault::ApplyTakes(other, us));
            let silent = s.rng.between((0, 500));
            let how = s.rng.below(4);
            match how {
                0 => s.at(silent, Fault::Pause(Whom::Host(host))),
                1 => s.at(silent, Fault::Block(pairs, Block::Datagrams)),
                2 => {
                    let back = pairs.iter().map(|(id, host)| (*host, *id)).collect();
                    s.at(silent, Fault::Block(back, Block::Datagrams));
                }
                _ => {
                    let both = s.rng.chance(500);
                    s.at(silent, Fault::BlockLeader { host, both });
                }
            }
            let back = silent + s.long(100, 3_000);
            if how == 0 {
                s.at(back, Fault::GoOn(host));
            } else {
                s.at(back, Fault::Heal);
                // Heartbeats come back before the log does.
                let pairs = s.ids.iter().filter(|id| **id != host);
                let pairs = pairs.map(|id| (*id, host)).collect();
                s.at(back, Fault::Block(pairs, Block::Connections));
            }
            if s.rng.chance(500) {
                let id = s.some();
                let whom = Whom::Host(id);
                let warden_too = false;
                s.at(back, Fault::Kill { whom, warden_too });
                s.at(back + 20, Fault::Restart(id));
            }
            let heal = back + s.long(100, 2_000);
            s.at(heal, Fault::Heal);
            s.now += s.rng.below(heal + 300);
        });
    }

    /// Stops between clock and gate, and what makes them matter.
    fn at_the_gate(&mut self) {
        self.each((100, 2_000), |s| {
            let id = s.some();
            let whom = Whom::Host(id);
            let stop_us = 1000 * s.long(5, 3_000);
            s.at(0, Fault::Trap { whom, stop_us });
            let after =
                s.rng.between((20, 400)) + if s.rng.chance(500) { stop_us / 1000 } else { 0 };
            s.now += after;
            match s.rng.below(4) {
                0 => s.pause(whom, (100, 4_000)),
                1 => {
                    let warden_too = true;
                    s.at(0, Fault::Kill { whom, warden_too });
                    let back = s.long(500, 4_000);
                    s.at(back, Fault::Restart(id));
                }
                2 => s.block((100, 3_000)),
                _ => {}
            }
        });
    }

    /// Other timings, one soon after another, while voters restart and hosts are cut off.
    fn retimed(&mut self) {
        self.each((200, 2_500), |s| {
            let timing = timings::draw(s.rng);
            s.at(0, Fault::Retime(timing));
            let host = s.some();
            let whom = Whom::Host(host);
            match s.rng.below(5) {
                0 => s.block((100, 4_000)),
                1 => s.pause(whom, (50, 4_000)),
                2 => s.kill(whom, (5, 1_000)),
                3 => s.slow(),
                _ => {}
            }
        });
        self.at(0, Fault::Retime(Timing::LAN));
    }

    fn weather(&mut self) {
        self.each((300, 3_000), |s| {
            let weather = match s.rng.below(4) {
                0 => Weather::FAIR,
                1 => Weather {
                    delay_us: (100, s.rng.between((50_000, 1_500_000))),
                    loss_per_mille: s.rng.below(100),
                    double_per_mille: s.rng.below(200),
                    replay_per_mille: s.rng.below(500),
                },
                _ => Weather {
                    delay_us: (100, s.rng.between((400, 80_000))),
                    loss_per_mille: s.rng.below(300),
                    double_per_mille: s.rng.below(500),
                    replay_per_mille: s.rng.below(500),
                },
            };
            s.at(0, Fault::Weather(weather));
            let whom = s.whom();
            match s.rng.below(4) {
                0 => s.block((100, 3_000)),
                1 => s.pause(whom, (100, 4_000)),
                2 => s.kill(whom, (20, 3_000)),
                _ => {}
            }
        });
    }

    fn parted(&mut self) {
        self.each((300, 3_500), |s| {
            s.block((100, 6_000));
            if s.rng.chance(300) {
                let id = s.some();
                s.at(50, Fault::Transfer(id));
            }
        });
    }

    fn operate(&mut self) {
        let (host, to) = self.two();
        let fault = match self.rng.below(8) {
            0 => {
                let drain = self.rng.chance(500);
                Fault::Quiesce { host, drain }
            }
            1 | 2 => Fault::Resume(host),
            3 => Fault::AcquireWorks(host, self.rng.chance(600)),
            4 => {
                let measured = LocalGroup {
                    healthy: self.rng.chance(700),
                    load: self.rng.below(1_100) as u32,
                    capacity: 1_000,
                };
                Fault::Measure(host, measured)
            }
            5 => {
                let low = self.rng.between((100, 700)) as u32;
                let high = low + self.rng.below(300) as u32;
                let least = self.rng.below(4) as u32;
                Fault::Policy { high, low, least }
            }
            _ => {
                let rank = self.rng.below(self.ids.len() as u64) as usize;
                Fault::Move { rank, to }
            }
        };
        self.at(0, fault);
    }

    /// Operators, tests and loads; sometimes a driver that does not let go.
    fn operators(&mut self) {
        self.each((50, 1_200), |s| {
            s.operate();
            if s.rng.chance(60) {
                let id = s.some();
                s.at(0, Fault::DriverTakes(id, 20_000_000));
            }
            if s.rng.chance(150) {
                let whom = s.whom();
                s.kill(whom, (20, 2_000));
            }
        });
    }

    /// Leaders that change, are stopped, or are long in coming.
    fn leaders(&mut self) {
        let take = self.rng.between((100, 6_000));
        self.at(0, Fault::ElectionsTake(take));
        if self.rng.chance(400) {
            let few = self
                .ids
                .iter()
                .copied()
                .take(self.rng.between((1, 2)) as usize);
            self.at(0, Fault::Revote(few.collect()));
        }
        self.each((200, 3_500), |s| match s.rng.below(6) {
            0 | 1 => s.pause(Whom::Leader, (20, 12_000)),
            2 => s.kill(Whom::Leader, (20, 6_000)),
            3 => {
                let id = s.some();
                s.at(0, Fault::Transfer(id));
            }
            4 => {
                for id in s.ids {
                    s.at(0, Fault::Pause(Whom::Host(*id)));
                }
                let back = s.long(50, 5_000);
                s.at(back, Fault::GoOnAll);
            }
            _ => {
                let (host, both) = (s.some(), s.rng.chance(300));
                s.at(0, Fault::BlockLeader { host, both });
                let heal = s.long(200, 8_000);
                s.at(heal, Fault::Heal);
                s.now += s.rng.below(heal);
            }
        });
        self.at(0, Fault::ElectionsTake(500));
    }
}
