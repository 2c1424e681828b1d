//! The last resort from a core's own outputs: one of three hosts, each with an address in a group that asks
//! for it and one in a group that does not.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::{
    Core, EntryId, Event, Heartbeat, HostAction, HostEvent, Instant, Message, Output, RaftStatus,
    Took,
};
use statemachine::{
    Address, AddressState, ArrayId, Boot, Epoch, Group, Host, HostId, HostState, Incarnation,
    LogTime, Member, MemberSpec, Policy, PreferredAddress, QuorumLoss, State, Timing, Zone,
};

const ME: HostId = HostId(1);
const PEER: HostId = HostId(2);
const BOOT: Boot = Boot(3);
const AFTER_MS: u64 = 1_000;

/// The voters that all know of.
const VOTERS: EntryId = EntryId {
    term: 1,
    leader: PEER,
    index: 4,
};

/// The address of `host` in the group that asks for the last resort.
fn risky(host: u8) -> IpAddr {
    IpAddr::from([10, 77, 1, host])
}

/// Its address in the group that does not.
fn safe(host: u8) -> IpAddr {
    IpAddr::from([10, 77, 2, host])
}

fn state() -> State {
    let mut state = State {
        array: Some(ArrayId([7; 16])),
        timing: Timing::LAN,
        index: 9,
        ..State::default()
    };
    for (name, of, quorum_loss) in [
        ("risky", risky as fn(u8) -> IpAddr, QuorumLoss::LastResort),
        ("safe", safe, QuorumLoss::Hold),
    ] {
        let policy = Policy {
            quorum_loss,
            last_resort_after_ms: AFTER_MS,
            ..Policy::new(name, &format!("{name}.example."))
        };
        let mut members = BTreeMap::new();
        for id in 1..=3_u8 {
            let host = HostId(u64::from(id));
            let preferred = PreferredAddress {
                ip: of(id),
                prefix_len: 24,
            };
            members.insert(host, Member::new(vec![preferred]));
            let mut address = Address::new(name.into(), 24, host, LogTime(0));
            address.epoch = Epoch(1);
            address.state = AddressState::Online { host };
            state.addresses.insert(of(id), address);
            let known = state.hosts.entry(host).or_insert_with(|| Host {
                incarnation: Incarnation(2),
                boot: BOOT,
                control: vec![SocketAddr::from(([10, 77, 0, id], 7400))],
                ..Host::new(host, "h", HostState::Up)
            });
            known.members.push(MemberSpec {
                group: name.into(),
                preferred: vec![preferred],
            });
        }
        let group = Group {
            policy,
            generation: 1,
            deleting: false,
            members,
            zone: Zone::new(1, 5),
        };
        state.groups.insert(name.into(), group);
    }
    state
}

struct World {
    now: Instant,
    core: Core,
    /// Whether a peer acknowledges at once; both others are dead to this host otherwise.
    answered: bool,
    on: BTreeSet<IpAddr>,
    /// Releases so far.
    let_go: usize,
    /// Releases of these are not performed.
    stuck: BTreeSet<IpAddr>,
    /// The driver was told to renew up to there.
    renewed: Instant,
}

impl World {
    /// All is well: this host serves both of its addresses.
    fn new() -> Self {
        let now = Instant(10_000_000);
        let core = Core::new(ME, BOOT, Arc::new(state()), LogTime(0), 7, now);
        let mut world = Self {
            now,
            core,
            answered: true,
            on: BTreeSet::new(),
            let_go: 0,
            stuck: BTreeSet::new(),
            renewed: Instant::default(),
        };
        world.step(Event::Raft(RaftStatus {
            voters: vec![[1, 2, 3].map(HostId).into()],
            membership: VOTERS,
            ..RaftStatus::default()
        }));
        world.run(1_000);
        assert_eq!(world.on, [risky(1), safe(1)].into());
        world
    }

    /// No quorum, and for long enough: this host serves every address of the one group.
    fn in_last_resort() -> Self {
        let mut world = Self::new();
        world.answered = false;
        world.run(AFTER_MS + 500);
        assert!(world.core.is_last_resort());
        assert_eq!(world.on, [1, 2, 3].map(risky).into());
        world
    }

    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for output in self.core.step(self.now, event) {
                match output {
                    Output::Perform(HostAction::Acquire { address, epoch, .. }) => {
                        self.on.insert(address);
                        let result = Ok(Took::default());
                        events.push_back(Event::Host(HostEvent::Acquired {
                            address,
                            epoch,
                            result,
                        }));
                    }
                    Output::Perform(HostAction::Release { address, epoch, .. }) => {
                        self.let_go += 1;
                        if !self.stuck.contains(&address) {
                            self.on.remove(&address);
                            let told = HostEvent::Released { address, epoch };
                            events.push_back(Event::Host(told));
                        }
                    }
                    Output::Perform(HostAction::Renew { deadline }) => self.renewed = deadline,
                    Output::Send {
                        to: PEER,
                        message: Message::Heartbeat(heartbeat),
                    } if self.answered => events.push_back(acknowledged(&heartbeat)),
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now < end {
            self.step(Event::Woke);
            self.now = self.core.next_wake().max(self.now.plus_ms(1)).min(end);
        }
    }

    /// A heartbeat of the peer, which has a lease.
    fn hear_a_lease(&mut self) {
        let heartbeat = Heartbeat {
            incarnation: Incarnation(2),
            boot: BOOT,
            seq: self.now.0,
            applied: 9,
            membership: VOTERS,
            lease_ms: 300,
            lease_ok: true,
            ..Heartbeat::default()
        };
        self.step(Event::Received {
            from: PEER,
            network: 0,
            message: Message::Heartbeat(heartbeat),
        });
    }
}

fn acknowledged(heartbeat: &Heartbeat) -> Event {
    let message = Message::Ack {
        incarnation: heartbeat.incarnation,
        boot: heartbeat.boot,
        seq: heartbeat.seq,
        membership: VOTERS,
    };
    Event::Received {
        from: PEER,
        network: 0,
        message,
    }
}

/// Goal: what a host grants itself is for groups that ask for it. Method: a quorum is heard of, by which this
/// host may well be down; its own log gives it an address of the other group still.
#[test]
fn an_address_of_a_group_that_holds_is_served_under_a_real_lease_alone() {
    let mut world = World::in_last_resort();
    world.hear_a_lease();
    for _ in 0..100 {
        world.run(10);
        assert!(!world.on.contains(&safe(1)));
    }
    assert_eq!(world.on, BTreeSet::new(), "no lease within D");
    world.answered = true;
    world.run(500);
    assert_eq!(world.on, [risky(1), safe(1)].into());
}

/// Goal: the gate has one deadline for all that is held, so what the log gives waits until the real lease
/// reaches further than the one that the host granted itself. Method: a first acknowledgement that says less.
#[test]
fn the_log_is_followed_once_the_lease_reaches_further() {
    let mut world = World::in_last_resort();
    world.answered = true;
    for _ in 0..60 {
        world.run(10);
        let lease = world.core.lease_deadline();
        if world.on.contains(&safe(1)) {
            assert!(
                lease >= Some(world.renewed),
                "{lease:?} {:?}",
                world.renewed
            );
        }
    }
    assert!(world.on.contains(&safe(1)));
}

/// Goal: what was held under a lease is gone before a host grants itself one, or its gate would be opened
/// again. Method: a release that does not end.
#[test]
fn nothing_is_served_while_a_former_address_is_not_let_go() {
    let mut world = World::new();
    world.stuck.insert(safe(1));
    (world.answered, world.renewed) = (false, Instant::default());
    world.run(300);
    let lapsed = world.renewed;
    world.run(5_000);
    assert!(!world.core.is_last_resort());
    assert_eq!(
        (world.on.clone(), world.renewed),
        ([safe(1)].into(), lapsed)
    );
    let epoch = Epoch(1);
    let address = safe(1);
    world.on.remove(&address);
    world.step(Event::Host(HostEvent::Released { address, epoch }));
    world.run(500);
    assert_eq!(world.on, [1, 2, 3].map(risky).into());
}

/// Goal: a pause shorter than the lease costs nothing, a longer one only what it takes to acquire again; the
/// dead are not heard of anew.
#[test]
fn a_pause_of_this_host_brings_no_quorum_back() {
    let mut world = World::in_last_resort();
    for (pause, silent) in [(160, false), (2_000, true)] {
        let before = world.let_go;
        world.now = world.now.plus_ms(pause);
        world.step(Event::Woke);
        assert_eq!(world.let_go > before, silent, "{pause} ms");
        world.run(400);
        assert_eq!(world.on, [1, 2, 3].map(risky).into(), "{pause} ms");
    }
}

/// Goal: a pause in a healthy array is none of the time without a quorum.
#[test]
fn who_was_stopped_takes_nothing_when_it_goes_on() {
    let mut world = World::new();
    world.now = world.now.plus_ms(60_000);
    world.answered = false;
    world.run(AFTER_MS - 100);
    assert!(!world.core.is_last_resort());
    world.hear_a_lease();
    world.answered = true;
    world.run(2_000);
    assert_eq!(world.on, [risky(1), safe(1)].into());
}

/// Goal: a host that the array has forgotten hears no heartbeats any more, and must not take that for the
/// loss of a quorum.
#[test]
fn a_forgotten_host_serves_nothing() {
    let mut world = World::in_last_resort();
    world.step(Event::Forgotten);
    world.run(60_000);
    assert_eq!(world.on, BTreeSet::new());
    let known: BTreeMap<_, _> = world.core.state().hosts.clone();
    assert_eq!(known.len(), 3, "its log does not know");
}
