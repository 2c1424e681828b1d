//! Random faults from one seed, then calm: while the storm blows safety must hold, and within a bound
//! after it the array must be at its equilibrium.

use std::collections::BTreeSet;

use control::LocalGroup;
use statemachine::{
    AddressCommand, Command, GroupCommand, HostId, Placement, Policy, Rebalance, Timing,
};

use crate::{Rng, Setup, Weather, World};

/// How long the array has to settle after the last fault, in ms: restarts, elections, fences, and
/// leases, each many times over.
const CALM_MS: u64 = 20_000;
/// How much longer it has where a failed acquire left a back-off: the longest is 60 s.
const BACKOFF_MS: u64 = 70_000;
/// How often, and how far apart in ms, the end is looked at until it is well.
const LOOKS: u64 = 10;
/// See above.
const LOOK_MS: u64 = 300;
/// Time between two blows, in ms.
const PAUSE_MS: (u64, u64) = (50, 2_500);

/// A storm before it blows.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// How many hosts.
    pub hosts: u64,
    /// For how long it blows, in ms of virtual time.
    pub blows_ms: u64,
}

/// How a storm ended.
pub struct Outcome {
    /// What was wrong, if anything.
    pub broken: Option<String>,
    /// The world as it is then.
    pub world: World,
}

impl Storm {
    /// Lets the storm of one seed blow.
    #[must_use]
    pub fn run(self, seed: u64) -> Outcome {
        let mut rng = Rng::new(seed ^ 0x5707_1234);
        let mut world = World::new(self.setup(seed, &mut rng));
        world.run_ms(rng.between((0, 3_000)));
        while world.now_ms() < self.blows_ms && world.broken().is_none() {
            let blows = rng.between((1, 3));
            (0..blows).for_each(|_| blow(&mut world, &mut rng));
            world.run_ms(rng.between(PAUSE_MS));
        }
        let broken = world.broken().map(str::to_owned);
        let broken = broken.or_else(|| calm(&mut world));
        Outcome { broken, world }
    }

    fn setup(self, seed: u64, rng: &mut Rng) -> Setup {
        let mut setup = Setup::new(seed, self.hosts);
        if rng.chance(300) {
            setup.spares.insert(HostId(self.hosts));
        }
        if rng.chance(200) {
            setup.observers.insert(HostId(1));
        }
        if rng.chance(300) {
            setup.voters = 3.min(self.hosts);
        }
        setup.election_ms = rng.between((100, 1_500));
        setup.timing = rng
            .pick(&[Timing::LAN, Timing::LAN, Timing::FAST, Timing::WAN])
            .unwrap_or_default();
        setup.policy = Policy {
            rebalance: rng
                .pick(&[Rebalance::Prefer, Rebalance::Prefer, Rebalance::Sticky])
                .unwrap_or_default(),
            placement: rng
                .pick(&[Placement::Balanced, Placement::Random])
                .unwrap_or_default(),
            orphan_ttl_ms: rng
                .pick(&[None, Some(3_000), Some(20_000), Some(86_400_000)])
                .flatten(),
            ..setup.policy
        };
        setup
    }
}

fn blow(world: &mut World, rng: &mut Rng) {
    let ids = world.setup().ids();
    let Some(id) = rng.pick(&ids) else {
        return;
    };
    match rng.below(100) {
        0..10 => world.kill(id, rng.chance(300)),
        10..28 => {
            if let Some(dead) = ids.iter().find(|id| !world.is_alive(**id)) {
                world.restart(*dead);
            }
        }
        28..38 => world.pause(id),
        38..52 => ids.iter().for_each(|id| world.go_on(*id)),
        52..60 => part(world, rng, &ids),
        60..68 => world.heal(),
        68..74 => world.weather(storm_weather(rng)),
        74..78 => {
            let healthy = rng.chance(600);
            let load = u32::try_from(rng.below(1_100)).unwrap_or(0);
            let capacity = 1_000;
            world.measure(
                id,
                LocalGroup {
                    healthy,
                    load,
                    capacity,
                },
            );
        }
        78..81 => world.acquire_works(id, rng.chance(600)),
        81..84 => world.apply_takes(id, (100, rng.between((100, 900_000)))),
        84..87 => {
            let wanted: BTreeSet<HostId> =
                ids.iter().copied().filter(|_| rng.chance(600)).collect();
            world.revote(wanted);
        }
        _ => operate(world, rng, id),
    }
}

/// Blocks one direction, one pair, one host, or one half from the other.
fn part(world: &mut World, rng: &mut Rng, ids: &[HostId]) {
    let (Some(a), Some(b)) = (rng.pick(ids), rng.pick(ids)) else {
        return;
    };
    match rng.below(5) {
        0 if a != b => world.cut(a, b),
        1 if a != b => world.deafen(a, b),
        2 => ids
            .iter()
            .filter(|id| **id != a)
            .for_each(|id| world.deafen(*id, a)),
        3 => ids.iter().filter(|id| **id != a).for_each(|id| {
            world.cut(a, *id);
            world.cut(*id, a);
        }),
        _ => {
            let side: BTreeSet<HostId> = ids.iter().copied().filter(|_| rng.chance(500)).collect();
            for (one, other) in ids.iter().flat_map(|x| ids.iter().map(move |y| (*x, *y))) {
                if side.contains(&one) != side.contains(&other) {
                    world.cut(one, other);
                }
            }
        }
    }
}

fn storm_weather(rng: &mut Rng) -> Weather {
    match rng.below(3) {
        0 => Weather::FAIR,
        1 => Weather {
            delay_us: (100, rng.between((1_000, 80_000))),
            loss_per_mille: rng.below(300),
            double_per_mille: rng.below(500),
        },
        _ => Weather {
            delay_us: (100, rng.between((50_000, 1_500_000))),
            loss_per_mille: rng.below(100),
            double_per_mille: rng.below(200),
        },
    }
}

fn operate(world: &mut World, rng: &mut Rng, host: HostId) {
    let group = None;
    let ips: Vec<_> = world.state().addresses.keys().copied().collect();
    let command = match (rng.below(6), rng.pick(&ips)) {
        (0, _) => Command::Group(GroupCommand::Quiesce {
            host,
            group,
            drain: rng.chance(500),
        }),
        (1 | 2, _) => Command::Group(GroupCommand::Resume { host, group }),
        (_, Some(address)) => Command::Address(AddressCommand::Move { address, to: host }),
        (_, None) => Command::Tick,
    };
    world.operate(vec![command]);
}

/// Ends every fault, waits, and says what is still wrong.
fn calm(world: &mut World) -> Option<String> {
    world.heal();
    world.weather(Weather::FAIR);
    for id in world.setup().ids() {
        world.go_on(id);
        world.restart(id);
        world.acquire_works(id, true);
        world.apply_takes(id, (100, 1_500));
        world.measure(id, LocalGroup::default());
    }
    world.run_ms(if world.setup().timing == Timing::WAN {
        3 * CALM_MS
    } else {
        CALM_MS
    });
    let backs_off = |world: &World| {
        let state = world.state();
        state.addresses.values().any(|a| !a.backoff.is_empty())
    };
    if !world.overdue().is_empty() && backs_off(world) {
        world.run_ms(BACKOFF_MS);
    }
    // An orphan may run out at this very moment: what is under way gets its time.
    for _ in 0..LOOKS {
        if world.overdue().is_empty() {
            break;
        }
        world.run_ms(LOOK_MS);
    }
    let now = world.now_ms();
    let late = world.overdue().into_iter().next();
    let late = late.map(|late| format!("{now} ms, long after the storm: {late}"));
    world.broken().map(str::to_owned).or(late)
}
