//! One fault of a storm: drawn before the storm blows, so that a failing one can be made smaller by
//! leaving faults out.

use std::collections::BTreeSet;

use control::LocalGroup;
use statemachine::{
    AddressCommand, ArrayCommand, Command, GroupCommand, HostId, Policy, State, Timing,
};

use crate::{Block, Weather, World};

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// This host.
    Host(HostId),
    /// Whoever leads then.
    Leader,
}

/// A fault, or its end.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Fault {
    /// The daemon dies; with its warden, and the gate stays as it was armed.
    Kill {
        whom: Whom,
        warden_too: bool,
    },
    /// Whatever is dead starts again.
    RestartAll,
    /// A dead daemon starts again.
    Restart(HostId),
    Pause(Whom),
    /// Whatever is stopped goes on.
    GoOnAll,
    GoOn(HostId),
    /// Stopped between working out a time-out and arming the gate.
    Trap {
        whom: Whom,
        stop_us: u64,
    },
    /// From the first of each pair to the second.
    Block(Vec<(HostId, HostId)>, Block),
    /// Between the leader, whoever it is, and a host; both ways or only towards the leader.
    BlockLeader {
        host: HostId,
        both: bool,
    },
    Heal,
    Weather(Weather),
    Measure(HostId, LocalGroup),
    AcquireWorks(HostId, bool),
    ApplyTakes(HostId, u64),
    FlushTakes(HostId, u64),
    DriverTakes(HostId, u64),
    Revote(BTreeSet<HostId>),
    Retime(Timing),
    /// Every last word that was said comes again.
    Words,
    ElectionsTake(u64),
    Transfer(HostId),
    Quiesce {
        host: HostId,
        drain: bool,
    },
    Resume(HostId),
    /// The address of this rank goes to a host.
    Move {
        rank: usize,
        to: HostId,
    },
    /// The group's marks and minimum change.
    Policy {
        high: u32,
        low: u32,
        least: u32,
    },
}

/// A fault and when it strikes.
#[derive(Clone, Debug)]
pub struct Blow {
    /// In ms of true time.
    pub at_ms: u64,
    /// What.
    pub fault: Fault,
}

impl Whom {
    fn find(self, world: &World) -> Option<HostId> {
        match self {
            Self::Host(id) => Some(id),
            Self::Leader => world.leader(),
        }
    }
}

impl Fault {
    /// Lets it strike.
    pub fn strike(&self, world: &mut World) {
        let ids = world.setup().ids();
        match self {
            Self::Kill { whom, warden_too } => {
                if let Some(id) = whom.find(world) {
                    world.kill(id, *warden_too);
                }
            }
            Self::Restart(id) => world.restart(*id),
            Self::RestartAll => ids.iter().for_each(|id| world.restart(*id)),
            Self::Pause(whom) => {
                if let Some(id) = whom.find(world) {
                    world.pause(id);
                }
            }
            Self::GoOn(id) => world.go_on(*id),
            Self::GoOnAll => ids.iter().for_each(|id| world.go_on(*id)),
            Self::Trap { whom, stop_us } => {
                if let Some(id) = whom.find(world) {
                    world.trap(id, *stop_us);
                }
            }
            Self::Block(pairs, Block::All) => pairs.iter().for_each(|(a, b)| world.cut(*a, *b)),
            Self::Block(pairs, Block::Datagrams) => {
                pairs.iter().for_each(|(a, b)| world.deafen(*a, *b));
            }
            Self::Block(pairs, Block::Connections) => {
                pairs.iter().for_each(|(a, b)| world.mute(*a, *b));
            }
            Self::BlockLeader { host, both } => {
                let Some(leader) = world.leader().filter(|leader| leader != host) else {
                    return;
                };
                world.deafen(*host, leader);
                if *both {
                    world.deafen(leader, *host);
                }
            }
            Self::Heal => world.heal(),
            Self::Weather(weather) => world.weather(*weather),
            Self::Measure(id, measured) => world.measure(*id, *measured),
            Self::AcquireWorks(id, true) => world.acquire_works(*id, true),
            Self::AcquireWorks(id, false) => world.interface_goes(*id),
            Self::ApplyTakes(id, us) => world.apply_takes(*id, (100, *us)),
            Self::FlushTakes(id, us) => world.flush_takes(*id, (200, *us)),
            Self::DriverTakes(id, us) => world.driver_takes(*id, (1_000, *us)),
            Self::Revote(wanted) => {
                world.revote(wanted.clone());
            }
            Self::Words => world.replay_words(),
            Self::ElectionsTake(ms) => world.election_takes(*ms),
            Self::Transfer(id) => world.transfer(*id),
            Self::Retime(_)
            | Self::Quiesce { .. }
            | Self::Resume(_)
            | Self::Move { .. }
            | Self::Policy { .. } => {
                if let Some(command) = self.command(&world.state(), &world.setup().policy) {
                    world.operate(vec![command]);
                }
            }
        }
    }

    /// What an operator asks for.
    fn command(&self, state: &State, first: &Policy) -> Option<Command> {
        let group = None;
        Some(match self {
            Self::Retime(timing) => Command::Array(ArrayCommand::Retime {
                timing: *timing,
                seen: state.timing,
            }),
            Self::Quiesce { host, drain } => Command::Group(GroupCommand::Quiesce {
                host: *host,
                group,
                drain: *drain,
            }),
            Self::Resume(host) => Command::Group(GroupCommand::Resume { host: *host, group }),
            Self::Move { rank, to } => {
                let address = *state.addresses.keys().nth(*rank)?;
                Command::Address(AddressCommand::Move { address, to: *to })
            }
            Self::Policy { high, low, least } => {
                let group = state.groups.get(&first.name)?;
                let policy = Policy {
                    high_water: *high,
                    low_water: *low,
                    min_addresses: *least,
                    ..group.policy.clone()
                };
                Command::Group(GroupCommand::Apply {
                    policy: Box::new(policy),
                    seen: Some(group.generation),
                })
            }
            _ => return None,
        })
    }
}
