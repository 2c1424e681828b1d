//! A core's lease from its datagrams alone: one of three voters, whose peers are the test.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use control::{Core, EntryId, Event, Heartbeat, Instant, Message, Output, RaftStatus};
use statemachine::{Boot, Host, HostId, HostState, Incarnation, LogTime, State, Timing};

const ME: HostId = HostId(1);
const BOOT: Boot = Boot(3);
const INCARNATION: Incarnation = Incarnation(2);

fn entry(term: u64, index: u64) -> EntryId {
    EntryId {
        term,
        leader: HostId(2),
        index,
    }
}

struct World {
    now: Instant,
    core: Core,
}

impl World {
    fn new() -> Self {
        let mut state = State {
            timing: Timing::LAN,
            index: 9,
            ..State::default()
        };
        for id in 1..=3 {
            let host = Host {
                incarnation: INCARNATION,
                boot: BOOT,
                ..Host::new(HostId(id), "h", HostState::Up)
            };
            state.hosts.insert(HostId(id), host);
        }
        // Later than any promise of a former start.
        let now = Instant(10_000_000);
        let core = Core::new(ME, BOOT, Arc::new(state), LogTime(0), 7, now);
        Self { now, core }
    }

    /// Raft speaks, and knows of these voters.
    fn knowing(membership: EntryId) -> Self {
        let mut world = Self::new();
        let voters = [1, 2, 3].map(HostId).into();
        let status = RaftStatus {
            voters: vec![voters],
            membership,
            ..RaftStatus::default()
        };
        world.step(Event::Raft(status));
        world
    }

    fn step(&mut self, event: Event) -> Vec<Output> {
        self.core.step(self.now, event)
    }

    /// Time passes up to the next heartbeat, which it gives.
    fn beat(&mut self) -> Heartbeat {
        loop {
            self.now = self.core.next_wake().max(self.now);
            let out = self.step(Event::Woke);
            if let Some(heartbeat) = beat_in(out) {
                return heartbeat;
            }
        }
    }

    /// A peer acknowledges a heartbeat, at once. The heartbeat that it brings about, if any.
    fn ack(&mut self, heartbeat: &Heartbeat, membership: EntryId) -> Option<Heartbeat> {
        let message = Message::Ack {
            incarnation: INCARNATION,
            boot: BOOT,
            seq: heartbeat.seq,
            membership,
        };
        let out = self.step(Event::Received {
            from: HostId(2),
            network: 0,
            message,
        });
        beat_in(out)
    }

    /// Whether a heartbeat of a peer that asks for so much is acknowledged.
    fn acknowledges(&mut self, seq: u64, lease_ms: u32) -> bool {
        let heartbeat = Heartbeat {
            incarnation: INCARNATION,
            boot: BOOT,
            seq,
            applied: 9,
            lease_ms,
            ..Heartbeat::default()
        };
        let out = self.step(Event::Received {
            from: HostId(2),
            network: 0,
            message: Message::Heartbeat(heartbeat),
        });
        let ack = |output: &Output| match output {
            Output::Send { message, .. } => matches!(message, Message::Ack { .. }),
            _ => false,
        };
        out.iter().any(ack)
    }
}

fn beat_in(out: Vec<Output>) -> Option<Heartbeat> {
    let mut beats = out.into_iter().filter_map(|output| match output {
        Output::Send {
            message: Message::Heartbeat(heartbeat),
            ..
        } => Some(heartbeat),
        _ => None,
    });
    beats.next_back()
}

/// Goal: voters promise nothing to a host that no longer hears them: it asks for nothing, until it hears a
/// quorum again, and then at once. Method: one peer acknowledges, is silent, acknowledges again.
#[test]
fn a_host_that_hears_no_quorum_asks_for_no_lease_until_it_does() {
    let mut world = World::knowing(entry(1, 5));
    let first = world.beat();
    assert_eq!(first.lease_ms, 300, "at the start it asks");
    world.ack(&first, entry(1, 5));
    let lapse = world.core.lease_deadline().unwrap();
    while world.now < lapse {
        let held = world.beat();
        assert_eq!(held.lease_ms > 0, world.now < lapse, "at {:?}", world.now);
    }
    let (one, other) = (world.beat(), world.beat());
    assert_eq!((one.lease_ms, one.lease_ok, other.lease_ms), (0, false, 0));
    let asks = world.ack(&other, entry(1, 5)).unwrap();
    assert_eq!(asks.lease_ms, 300, "at once");
    // Its answer is lost: one question for each word.
    assert_eq!(world.beat().lease_ms, 0);
    assert!(world.core.lease_deadline().unwrap() <= world.now);
    world.ack(&asks, entry(1, 5));
    assert!(world.core.lease_deadline().unwrap() > world.now);
}

/// Goal: a heartbeat that asks for nothing is answered, and nothing is promised.
#[test]
fn a_voter_promises_only_what_is_asked_for() {
    let mut world = World::knowing(entry(1, 5));
    world.now = world.now.plus_ms(1_000);
    assert!(world.acknowledges(1, 0));
    assert!(world.core.promised_until(HostId(2)) <= world.now);
    assert!(world.acknowledges(2, 300));
    let promised = world.core.promised_until(HostId(2));
    assert_eq!(promised, world.now.plus_ms(300));
}

/// Goal: an acknowledgement that names voters whom this host does not know does not renew its lease, and
/// does not end it: they must be asked first (lease.md, step 3).
#[test]
fn an_acknowledgement_of_unknown_voters_neither_renews_nor_ends_a_lease() {
    let mut world = World::knowing(entry(1, 5));
    let first = world.beat();
    world.ack(&first, entry(1, 5));
    let until = world.core.lease_deadline();
    assert!(until.is_some());
    let second = world.beat();
    world.ack(&second, entry(2, 5));
    assert_eq!(world.core.lease_deadline(), until);
    world.ack(&second, entry(1, 5));
    assert!(world.core.lease_deadline() > until);
}

/// Goal: what the log held at the start may fence a host, so a voter acknowledges nothing before Raft has
/// spoken, which it does after that.
#[test]
fn a_voter_is_silent_before_raft_has_spoken() {
    let mut world = World::new();
    world.now = world.now.plus_ms(1_000);
    assert!(!world.acknowledges(1, 300));
}
