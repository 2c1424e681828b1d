//! An array of four hosts for the tests of `plan`: states that random commands reach, and hosts that
//! obey, fail, or are dead.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use control::{EntryId, GroupReport, Heartbeat, HeldPhase, HeldReport, Instant, Report, View};
use proptest::prelude::*;
use statemachine::{
    AddressCommand, AddressState, ArrayCommand, ArrayId, Boot, Command, Entry, Epoch, GroupCommand,
    Host, HostCommand, HostId, HostState, LogTime, MemberSpec, Placement, Policy, PreferredAddress,
    Reason, Rebalance, State, Timing, TokenCommand, TokenId, apply, note_membership,
};

/// Its hosts, in the order of their ids.
pub const HOSTS: u64 = 4;

pub fn ip(last: u64) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 77, 1, last as u8))
}

fn control(last: u64) -> Vec<SocketAddr> {
    let own = IpAddr::V4(Ipv4Addr::new(10, 77, 0, last as u8));
    vec![SocketAddr::new(own, 7400)]
}

/// Applies commands as the next entry and says what became of each.
pub fn enter(state: &mut State, at: LogTime, commands: Vec<Command>) -> Vec<bool> {
    let entry = Entry {
        at,
        wall: 0,
        origin: None,
        commands,
    };
    let applied = apply(state, state.index + 1, &entry);
    applied.outcomes.iter().map(Result::is_ok).collect()
}

fn configure(id: u64, spare: bool, observer: bool) -> Command {
    let preferred = PreferredAddress {
        ip: ip(id),
        prefix_len: 24,
    };
    Command::Host(HostCommand::Configure {
        host: HostId(id),
        control: control(id),
        dns: control(id),
        observer,
        members: vec![MemberSpec {
            group: "web".into(),
            preferred: if spare { vec![] } else { vec![preferred] },
        }],
    })
}

/// Four hosts that joined and are members of `web`; the last may be a spare. None is up yet.
pub fn founded(policy: Policy, spare: bool) -> State {
    let mut state = State::default();
    let found = Command::Array(ArrayCommand::Found {
        array: ArrayId([7; 16]),
        timing: Timing::LAN,
        name: "h1".into(),
        control: control(1),
    });
    let token = Command::Token(TokenCommand::Create {
        token: TokenId(9),
        secret_hash: [1; 32],
        ttl_ms: 60_000,
        uses: 9,
    });
    enter(&mut state, LogTime(0), vec![found, token]);
    for id in 2..=HOSTS {
        let join = HostCommand::Join {
            token: TokenId(9),
            secret_hash: [1; 32],
            name: format!("h{id}").as_str().into(),
            control: control(id),
        };
        enter(&mut state, LogTime(0), vec![Command::Host(join)]);
    }
    let voters = (1..=HOSTS).map(HostId).collect();
    note_membership(&mut state, HOSTS + 1, vec![voters]);
    let group = Command::Group(GroupCommand::Apply {
        policy: Box::new(policy),
        seen: None,
    });
    let configured = (1..=HOSTS).map(|id| configure(id, spare && id == HOSTS, false));
    let commands = [group].into_iter().chain(configured).collect();
    assert!(enter(&mut state, LogTime(0), commands).iter().all(|ok| *ok));
    state
}

/// How one host is, all through a test.
#[derive(Clone, Debug)]
pub struct Nature {
    pub alive: bool,
    pub fails: bool,
    pub healthy: bool,
    pub leased: bool,
    pub load: u32,
    /// How far behind the log its reports are.
    pub lag: u64,
    /// It says nothing of what it holds.
    pub silent: bool,
}

pub fn natures() -> impl Strategy<Value = Vec<Nature>> {
    let mostly = || proptest::bool::weighted(0.8);
    let rarely = || proptest::bool::weighted(0.2);
    let one = (
        mostly(),
        rarely(),
        mostly(),
        mostly(),
        0..1200u32,
        0..3u64,
        rarely(),
    );
    let nature = one.prop_map(
        |(alive, fails, healthy, leased, load, lag, silent)| Nature {
            alive,
            fails,
            healthy,
            leased,
            load,
            lag,
            silent,
        },
    );
    proptest::collection::vec(nature, HOSTS as usize)
}

/// What a host says that does what the log tells it to.
pub fn heartbeat(state: &State, host: &Host, nature: &Nature, seq: u64) -> Heartbeat {
    let held = state.held_by(host.id).filter_map(|(ip, address)| {
        let phase = match address.state {
            _ if host.is_down() || nature.silent => return None,
            AddressState::Acquiring { .. } if nature.fails => HeldPhase::Failed {
                error: "cannot".into(),
            },
            AddressState::Acquiring { .. } | AddressState::Online { .. } => HeldPhase::Online {
                acquire_ms: 1,
                announce_ms: 1,
            },
            AddressState::Releasing { .. } | AddressState::Unserved => return None,
        };
        Some(HeldReport {
            address: ip,
            epoch: address.epoch,
            contested: None,
            phase,
        })
    });
    Heartbeat {
        incarnation: host.incarnation,
        boot: Boot(host.boot.0.max(1)),
        seq,
        applied: state.index.saturating_sub(nature.lag),
        membership: EntryId {
            index: state.membership.index,
            ..EntryId::default()
        },
        lease_ms: state.timing.lease_ms,
        lease_ok: nature.leased && host.is_up(),
        vow: None,
        report: Report {
            held: held.collect(),
            groups: vec![GroupReport {
                group: "web".into(),
                healthy: nature.healthy,
                load: nature.load,
                capacity: 1000,
                why: None,
            }],
        },
    }
}

/// Time between two looks, in microseconds: longer than D, so that nothing is waited for twice.
const ROUND_US: u64 = 400_000;

/// What a leader hears of hosts of these natures.
pub fn hear(view: &mut View, state: &State, natures: &[Nature], seq: u64) {
    let now = Instant(seq * ROUND_US);
    view.look(state, now);
    for (host, nature) in state.hosts.values().zip(natures) {
        if nature.alive {
            view.observe(host.id, heartbeat(state, host, nature, seq), now);
        }
    }
}

/// What the fences would bring into the next plan: silent hosts are fenced, and every
/// fence ends.
pub fn fences(state: &State, natures: &[Nature]) -> Vec<Command> {
    let step = |(host, nature): (&Host, &Nature)| match host.state {
        HostState::Up if nature.alive => None,
        HostState::Up => Some(HostCommand::Fence {
            host: host.id,
            incarnation: host.incarnation,
            silent_ms: 300,
        }),
        HostState::Fencing { index } => Some(HostCommand::Down {
            host: host.id,
            fence: index,
            membership: state.membership.index,
            fence_ms: 1,
        }),
        HostState::Down { .. } => None,
    };
    let steps = state.hosts.values().zip(natures).filter_map(step);
    steps.map(Command::Host).collect()
}

pub fn policies() -> impl Strategy<Value = Policy> {
    let placement = prop_oneof![Just(Placement::Balanced), Just(Placement::Random)];
    let rebalance = prop_oneof![Just(Rebalance::Prefer), Just(Rebalance::Sticky)];
    let ttl = prop_oneof![Just(None), Just(Some(86_400_000))];
    (placement, rebalance, ttl, 0..4u32).prop_map(|(placement, rebalance, orphan_ttl_ms, min)| {
        Policy {
            placement,
            rebalance,
            orphan_ttl_ms,
            min_addresses: min,
            ..Policy::new("web", "web.example.")
        }
    })
}

/// A wish that is often possible where the state stands; the numbers choose.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub what: u8,
    pub host: u64,
    pub address: u64,
}

pub fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    let wish = (0..14u8, 1..=HOSTS, 1..=HOSTS).prop_map(|(what, host, address)| Wish {
        what,
        host,
        address,
    });
    proptest::collection::vec(wish, 0..60)
}

impl Wish {
    /// The command, with the tokens that the state has now.
    pub fn command(self, state: &State) -> Command {
        let (host, group) = (HostId(self.host), Some("web".into()));
        let known = state.hosts.get(&host);
        let incarnation = known.map(|h| h.incarnation).unwrap_or_default();
        let fence = known.and_then(|h| h.fence()).unwrap_or(0);
        let membership = state.membership.index;
        match self.what {
            0 | 1 => Command::Host(HostCommand::Up {
                host,
                seen: incarnation,
                boot: Boot(1),
            }),
            2 => Command::Host(HostCommand::Fence {
                host,
                incarnation,
                silent_ms: 1,
            }),
            3 => Command::Host(HostCommand::Down {
                host,
                fence,
                membership,
                fence_ms: 1,
            }),
            4 => Command::Host(HostCommand::Unfence { host, fence }),
            5 => Command::Group(GroupCommand::Quiesce {
                host,
                group,
                drain: self.address.is_multiple_of(2),
            }),
            6 => Command::Group(GroupCommand::Resume { host, group }),
            7 => Command::Group(GroupCommand::Health {
                host,
                group: "web".into(),
                healthy: self.address.is_multiple_of(2),
            }),
            8 => configure(self.host, self.address == 1, self.address == 2),
            _ => Command::Address(self.of_address(state)),
        }
    }

    fn of_address(self, state: &State) -> AddressCommand {
        let (address, to) = (ip(self.address), HostId(self.host));
        let known = state.addresses.get(&address);
        let held_under: Epoch = known.map(|a| a.epoch).unwrap_or_default();
        let reason = Reason::Balanced;
        match self.what {
            9 | 10 => AddressCommand::Assign {
                address,
                to,
                held_under,
                reason,
            },
            11 => AddressCommand::Online {
                address,
                held_under,
                acquire_ms: 1,
                announce_ms: 1,
            },
            12 => AddressCommand::Release {
                address,
                held_under,
                reason,
            },
            _ => AddressCommand::Move { address, to },
        }
    }
}

/// The state that wishes lead to from the founding.
pub fn reached(policy: Policy, spare: bool, wishes: &[Wish]) -> State {
    let mut state = founded(policy, spare);
    for wish in wishes {
        let at = LogTime(state.at.0 + 10);
        let command = wish.command(&state);
        enter(&mut state, at, vec![command]);
    }
    state
}

/// Every group of the array.
pub fn sampled() -> BTreeSet<statemachine::GroupName> {
    [statemachine::GroupName::from("web")].into()
}
