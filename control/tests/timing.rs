//! Any timing that `Timing::check` lets pass keeps leases alive, also while it is being changed.
//!
//! Three cores on an ideal network (each datagram takes 2 ms) with one log that commits at once.
//! What a host applies it may apply late. No clock drifts and nobody fails, so any lapse of a lease
//! and any fence is a fault of the timing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use control::{Core, EntryId, Event, Instant, Message, Output, RaftStatus};
use proptest::prelude::*;
use statemachine::{
    ArrayCommand, ArrayId, Boot, Command, Entry, HostCommand, HostId, LogTime, State, Timing,
    TokenCommand, TokenId, apply, note_membership,
};

/// How long a datagram takes.
const WAY_US: u64 = 2_000;
/// Hosts of the array, all of them voters.
const HOSTS: u64 = 3;

struct World {
    now: u64,
    log: State,
    cores: BTreeMap<HostId, Core>,
    /// What arrives when, in order of time and then of sending.
    queue: BTreeMap<(u64, u64), (HostId, Event)>,
    sent: u64,
    /// Whose next heartbeat is lost.
    loses: Option<HostId>,
    /// The heartbeat that is lost: whose, and its number; it goes to several voters.
    lost: Option<(HostId, u64)>,
    /// How long each host takes to apply what is committed, in us.
    lag_us: BTreeMap<HostId, u64>,
    /// What was proposed.
    proposed: Vec<Command>,
    /// From when on every host has a lease, in us; none before all do.
    leased: bool,
}

fn enter(state: &mut State, at: LogTime, commands: Vec<Command>) {
    let entry = Entry {
        at,
        wall: 0,
        origin: None,
        commands,
    };
    let index = state.index + 1;
    let applied = apply(state, index, &entry);
    assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
}

fn founded(timing: Timing) -> State {
    let control = |id: u64| vec![SocketAddr::from(([10, 0, 0, id as u8], 7400))];
    let mut state = State::default();
    let found = ArrayCommand::Found {
        array: ArrayId([1; 16]),
        timing,
        name: "h1".into(),
        control: control(1),
    };
    let token = TokenCommand::Create {
        token: TokenId(1),
        secret_hash: [0; 32],
        ttl_ms: 60_000,
        uses: 9,
    };
    let commands = vec![Command::Array(found), Command::Token(token)];
    enter(&mut state, LogTime(0), commands);
    for id in 2..=HOSTS {
        let join = HostCommand::Join {
            token: TokenId(1),
            secret_hash: [0; 32],
            name: format!("h{id}").as_str().into(),
            control: control(id),
        };
        enter(&mut state, LogTime(0), vec![Command::Host(join)]);
    }
    note_membership(
        &mut state,
        HOSTS + 1,
        vec![(1..=HOSTS).map(HostId).collect()],
    );
    state
}

impl World {
    fn new(timing: Timing) -> Self {
        let log = founded(timing);
        let voters: BTreeSet<HostId> = (1..=HOSTS).map(HostId).collect();
        let mut world = Self {
            now: 0,
            cores: BTreeMap::new(),
            queue: BTreeMap::new(),
            sent: 0,
            loses: None,
            lost: None,
            lag_us: BTreeMap::new(),
            proposed: Vec::new(),
            leased: false,
            log,
        };
        for id in voters.clone() {
            let state = Arc::new(world.log.clone());
            let core = Core::new(id, Boot(1), state, LogTime(0), 7, Instant(0));
            world.cores.insert(id, core);
            let status = RaftStatus {
                term: 1,
                leader: Some(HostId(1)),
                am_leader: id == HostId(1),
                voters: vec![voters.clone()],
                membership: EntryId {
                    index: HOSTS + 1,
                    ..EntryId::default()
                },
                learners: BTreeSet::new(),
                ..RaftStatus::default()
            };
            world.post(0, id, Event::Raft(status));
        }
        world
    }

    fn post(&mut self, at: u64, to: HostId, event: Event) {
        self.sent += 1;
        self.queue.insert((at, self.sent), (to, event));
    }

    fn commit(&mut self, commands: Vec<Command>) {
        enter(&mut self.log, LogTime(self.now / 1000), commands);
        let state = Arc::new(self.log.clone());
        for id in (1..=HOSTS).map(HostId) {
            let lag = self.lag_us.get(&id).copied().unwrap_or(0);
            let state = Arc::clone(&state);
            self.post(self.now + lag, id, Event::Applied { state });
        }
    }

    fn retime(&mut self, timing: Timing) {
        let seen = self.log.timing;
        let retime = ArrayCommand::Retime { timing, seen };
        self.commit(vec![Command::Array(retime)]);
    }

    fn step(&mut self, id: HostId, event: Event) {
        let outputs = self
            .cores
            .get_mut(&id)
            .unwrap()
            .step(Instant(self.now), event);
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    let lost = self.is_lost(id, &message);
                    if !lost {
                        let event = Event::Received {
                            from: id,
                            network: 0,
                            message,
                        };
                        self.post(self.now + WAY_US, to, event);
                    }
                }
                Output::Propose {
                    id: number,
                    commands,
                    ..
                } => {
                    self.proposed.extend(commands.iter().cloned());
                    self.commit(commands);
                    self.post(self.now, id, Event::Proposed { id: number });
                }
                Output::Perform(_) | Output::Elect { .. } => {}
            }
        }
    }

    fn is_lost(&mut self, from: HostId, message: &Message) -> bool {
        let Message::Heartbeat(beat) = message else {
            return false;
        };
        if self.loses == Some(from) {
            self.loses = None;
            self.lost = Some((from, beat.seq));
        }
        self.lost == Some((from, beat.seq))
    }

    /// Goes on for `ms`; from when all hosts have a lease on, none may be without.
    fn run(&mut self, ms: u64) {
        let end = self.now + ms * 1000;
        while self.now < end {
            let wake = self
                .cores
                .iter()
                .map(|(id, core)| (core.next_wake().0, *id))
                .min();
            let (wake, id) = wake.unwrap();
            let first = self.queue.first_key_value().map(|((at, _), _)| *at);
            if first.is_some_and(|at| at <= wake) {
                let ((at, _), (to, event)) = self.queue.pop_first().unwrap();
                self.now = self.now.max(at);
                self.step(to, event);
            } else {
                self.now = self.now.max(wake);
                self.step(id, Event::Woke);
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let now = Instant(self.now);
        let without = self
            .cores
            .iter()
            .find(|(_, core)| core.lease_deadline().is_none_or(|end| end <= now));
        match without {
            None => self.leased = true,
            Some((id, core)) => assert!(
                !self.leased,
                "h{id} is without a lease at {} us: {:?}, {:?}",
                self.now,
                core.lease_deadline(),
                core.state().timing
            ),
        }
    }

    fn nobody_was_fenced(&self) {
        let fence = self
            .proposed
            .iter()
            .find(|command| matches!(command, Command::Host(HostCommand::Fence { .. })));
        assert_eq!(fence, None);
    }
}

/// Timings that pass the check, many of them only just.
fn safe() -> impl Strategy<Value = Timing> {
    let more = |most: u32| prop_oneof![Just(0), 0..most];
    let any = (10..400u32, more(200), more(600), 10..300u32).prop_map(|(h, d, l, raft)| Timing {
        heartbeat_ms: h,
        suspect_ms: 3 * h + d,
        lease_ms: ((2 * h + 30) * 10).div_ceil(9).max(80) + l,
        raft_heartbeat_ms: raft,
        election_min_ms: 2 * raft,
        election_max_ms: 3 * raft,
    });
    let preset = prop_oneof![Just(Timing::FAST), Just(Timing::LAN), Just(Timing::WAN)];
    prop_oneof![any, preset]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Goal: one lost heartbeat costs no lease under any timing that the check lets pass.
    /// Method: the lost one is drawn; every lease is looked at after every step.
    #[test]
    fn a_checked_timing_survives_one_lost_heartbeat(timing in safe(), whose in 1..=HOSTS, after in 1..4u64) {
        prop_assert_eq!(timing.check(), Ok(()));
        let mut world = World::new(timing);
        let h = u64::from(timing.heartbeat_ms);
        world.run(4 * h + 100);
        prop_assert!(world.leased, "no lease after four heartbeats");
        for _ in 0..8 {
            world.loses = Some(HostId(whose));
            world.run(h * (after + 1));
            prop_assert_eq!(world.loses, None, "it was not lost");
        }
        world.nobody_was_fenced();
    }

    /// Goal: no change of timing costs a lease or a fence, in whatever order the hosts apply it, and each
    /// settles. Method: some changes on the heels of one another, hosts that lag, then time to settle.
    #[test]
    fn no_change_of_timing_costs_a_lease(
        first in safe(),
        changes in proptest::collection::vec((safe(), 0..3_000u64), 1..4),
        lags in proptest::collection::vec(0..25u64, HOSTS as usize)
    ) {
        let mut world = World::new(first);
        world.run(4 * u64::from(first.heartbeat_ms) + 100);
        prop_assert!(world.leased);
        // What the leader commits it has applied; only the others lag.
        world.lag_us = (2..=HOSTS).map(HostId).zip(lags.iter().map(|ms| ms * 1000)).collect();
        let mut longest = first.lease_ms;
        for (timing, pause) in changes {
            if timing == world.log.timing {
                continue;
            }
            longest = longest.max(timing.lease_ms);
            world.retime(timing);
            world.run(pause);
        }
        world.run(2 * u64::from(longest) + 2_000);
        prop_assert!(world.log.is_settled(), "{:?}", world.log);
        world.nobody_was_fenced();
    }
}

/// Goal: the presets follow one another in any order without a lapse. Method: each after each, one host
/// late by a second, as if its disk stood still.
#[test]
fn presets_follow_one_another_without_a_lapse() {
    for from in [Timing::FAST, Timing::LAN, Timing::WAN] {
        for to in [Timing::FAST, Timing::LAN, Timing::WAN] {
            if from == to {
                continue;
            }
            let mut world = World::new(from);
            world.run(5_000);
            assert!(world.leased);
            world.lag_us = [(HostId(3), 1_000_000)].into();
            world.retime(to);
            world.run(12_000);
            assert!(world.log.is_settled(), "{from:?} to {to:?}");
            world.nobody_was_fenced();
        }
    }
}

/// Goal: silence is acted on when its time is over, though a datagram that says nothing new comes before
/// the leader's timer does. Method: a host dies; each wake of the leader is 1 us late and comes behind the
/// last heartbeat of another once more.
#[test]
fn silence_is_seen_though_a_datagram_comes_first() {
    let (leader, other, dead) = (HostId(1), HostId(2), HostId(3));
    let mut world = World::new(Timing::LAN);
    world.run(1_000);
    let died = world.now;
    world.cores.remove(&dead);
    world.proposed.clear();
    let mut last = None;
    while world.proposed.is_empty() {
        let wake = world.cores.iter();
        let (wake, id) = wake
            .map(|(id, core)| (core.next_wake().0, *id))
            .min()
            .unwrap();
        let first = world.queue.first_key_value().map(|((at, _), _)| *at);
        if first.is_some_and(|at| at <= wake) {
            let ((at, _), (to, event)) = world.queue.pop_first().unwrap();
            world.now = world.now.max(at);
            if let Event::Received {
                from,
                message: Message::Heartbeat(_),
                ..
            } = &event
                && (*from, to) == (other, leader)
            {
                last = Some(event.clone());
            }
            if to != dead {
                world.step(to, event);
            }
        } else {
            world.now = world.now.max(wake);
            if let (true, Some(again)) = (id == leader, last.clone()) {
                world.now += 1;
                world.step(id, again);
            }
            world.step(id, Event::Woke);
        }
        assert!(world.now < died + 10_000_000, "nobody was fenced");
    }
    let fences = |command: &Command| matches!(command, Command::Host(HostCommand::Fence { host, .. }) if *host == dead);
    assert!(world.proposed.iter().any(fences), "{:?}", world.proposed);
    let patience = world.log.patience_ms() * 1_000;
    let took = world.now - died;
    assert!(took <= patience + WAY_US + 10, "{took} us");
}
