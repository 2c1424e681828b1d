//! What a host has the gate guard, from the core's own outputs: one host that is an array of its own,
//! whose log commits at once and whose driver does what it is told when the test lets it.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use control::{
    Core, EntryId, Event, HostAction, HostEvent, Instant, LogMark, Output, RaftStatus, Took,
};
use statemachine::{
    ArrayCommand, ArrayId, Boot, Command, Entry, GroupCommand, HostCommand, HostId, LogTime,
    MemberSpec, Policy, PreferredAddress, State, Timing, apply, note_membership,
};

/// The address.
const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 101));
/// Wake-ups within which all that is to happen has happened; far more than it takes.
const STEPS: usize = 200;

fn configure(group: Option<&str>) -> Command {
    let preferred = PreferredAddress {
        ip: IP,
        prefix_len: 24,
    };
    let member = |group: &str| MemberSpec {
        group: group.into(),
        preferred: vec![preferred],
    };
    Command::Host(HostCommand::Configure {
        host: HostId(1),
        control: vec![SocketAddr::from(([10, 77, 0, 1], 7400))],
        dns: vec![],
        observer: false,
        members: group.into_iter().map(member).collect(),
    })
}

struct World {
    now: Instant,
    log: State,
    core: Core,
    /// What the driver was told, but for renewals.
    told: Vec<HostAction>,
}

impl World {
    fn new() -> Self {
        let mut log = State::default();
        let found = Command::Array(ArrayCommand::Found {
            array: ArrayId([1; 16]),
            timing: Timing::LAN,
            name: "h1".into(),
            control: vec![SocketAddr::from(([10, 77, 0, 1], 7400))],
        });
        let group = Command::Group(GroupCommand::Apply {
            policy: Box::new(Policy::new("web", "web.example.")),
            seen: None,
        });
        enter(&mut log, vec![found, group, configure(Some("web"))]);
        let voters = vec![[HostId(1)].into()];
        note_membership(&mut log, 2, voters.clone());
        let state = Arc::new(log.clone());
        let core = Core::new(HostId(1), Boot(1), state, LogTime(0), 7, Instant(0));
        let mut world = Self {
            now: Instant(0),
            log,
            core,
            told: Vec::new(),
        };
        world.step(Event::Raft(RaftStatus {
            term: 1,
            leader: Some(HostId(1)),
            am_leader: true,
            voters,
            membership: EntryId {
                index: 2,
                ..EntryId::default()
            },
            learners: [].into(),
            ..RaftStatus::default()
        }));
        world
    }

    fn step(&mut self, event: Event) {
        for output in self.core.step(self.now, event) {
            match output {
                Output::Propose { id, commands, .. } => {
                    enter(&mut self.log, commands);
                    self.applied();
                    self.step(Event::Proposed { id });
                }
                Output::Perform(HostAction::Renew { .. }) => {}
                Output::Perform(action) => self.told.push(action),
                Output::Send { .. } | Output::Elect { .. } => {}
            }
        }
    }

    fn applied(&mut self) {
        let index = self.log.index;
        self.step(Event::Log(LogMark::Durable { index }));
        let state = Arc::new(self.log.clone());
        self.step(Event::Applied { state });
    }

    /// Time passes until the driver is told something that `wanted` picks, which is given.
    fn until(&mut self, wanted: impl Fn(&HostAction) -> bool) -> HostAction {
        for _ in 0..STEPS {
            if let Some(found) = self.told.iter().position(&wanted) {
                return self.told.drain(..=found).next_back().unwrap();
            }
            self.now = self.core.next_wake().max(self.now.plus_ms(1));
            self.step(Event::Woke);
        }
        panic!("it never came: {:?}", self.told);
    }
}

fn enter(state: &mut State, commands: Vec<Command>) {
    let entry = Entry {
        at: state.at,
        wall: 0,
        origin: None,
        commands,
    };
    let applied = apply(state, state.index + 1, &entry);
    assert!(applied.outcomes.iter().all(Result::is_ok), "{applied:?}");
}

/// Goal: a group that a host leaves is guarded until its address is let go in order: its release script
/// runs while the address is served (ADR-0032), and a gate that drops it tells nobody.
/// Method: an address that is served; the host leaves its group; nothing less is guarded before the release
/// has ended, and after it nothing is.
#[test]
fn an_address_stays_guarded_until_it_is_let_go() {
    let mut world = World::new();
    let acquire = world.until(|told| matches!(told, HostAction::Acquire { .. }));
    let HostAction::Acquire { epoch, .. } = acquire else {
        panic!("{acquire:?}");
    };
    world.step(Event::Host(HostEvent::Acquired {
        address: IP,
        epoch,
        result: Ok(Took::default()),
    }));
    enter(&mut world.log, vec![configure(None)]);
    world.applied();
    let next = world.until(|told| !matches!(told, HostAction::Tickle { .. }));
    assert!(matches!(next, HostAction::Release { .. }), "{next:?}");
    assert_eq!(world.told, []);
    world.step(Event::Host(HostEvent::Released { address: IP, epoch }));
    let addresses = Vec::new();
    assert_eq!(world.told, [HostAction::Manage { addresses }]);
}
