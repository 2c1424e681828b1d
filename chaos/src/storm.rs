//! Random faults from one seed, then calm: while the storm blows safety must hold, and within a bound
//! after it the array must be at its equilibrium.

mod acts;
mod fault;
mod shapes;
mod shrink;
mod timings;

pub use fault::{Blow, Fault, Whom};
pub use shrink::shrink;

use control::LocalGroup;
use statemachine::{HostId, Placement, Policy, Rebalance, Timing};

use crate::{Breach, Rng, Setup, Weather, World};

/// How long the array has at most to settle after the last fault, in ms: restarts, elections, fences,
/// and leases, each many times over.
const CALM_MS: u64 = 20_000;
/// The same with leases of seconds.
const LONG_CALM_MS: u64 = 60_000;
/// How much longer it has where a failed acquire left a back-off: the longest is 60 s.
const BACKOFF_MS: u64 = 70_000;
/// How often the end is looked at, in ms.
const LOOK_MS: u64 = 500;
/// How often in a row it must be well.
const WELL: u32 = 3;
/// One seed in so many has each host apply for itself, so that their states can be compared.
const UNSHARED: u64 = 16;
/// A release that does not end is waited for before its host is fenced, in ms.
const STUBBORN_MS: u64 = 120_000;

/// A storm before it blows.
#[derive(Clone, Debug)]
pub struct Storm {
    /// The array and its network.
    pub setup: Setup,
    /// When the calm begins, in ms of virtual time.
    pub blows_ms: u64,
    /// What strikes before.
    pub blows: Vec<Blow>,
}

/// How a storm ended.
pub struct Outcome {
    /// What was wrong, if anything.
    pub broken: Option<Breach>,
    /// The world as it is then.
    pub world: World,
}

impl Storm {
    /// The storm of a seed: so many hosts, for so long.
    #[must_use]
    pub fn of(seed: u64, hosts: u64, blows_ms: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5707_1234);
        let setup = setup(seed, hosts, &mut rng);
        let from_ms = rng.between((200, 3_000));
        let blows = acts::draw(&mut rng, &setup.ids(), from_ms, blows_ms);
        Self {
            setup,
            blows_ms,
            blows,
        }
    }

    /// Lets it blow.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let mut world = World::new(self.setup.clone());
        for blow in &self.blows {
            let wait = blow.at_ms.saturating_sub(world.now_ms());
            world.run_ms(wait);
            if world.broken().is_some() {
                break;
            }
            blow.fault.strike(&mut world);
        }
        let wait = self.blows_ms.saturating_sub(world.now_ms());
        world.run_ms(wait);
        let broken = match world.broken() {
            Some(breach) => Some(breach.clone()),
            None => calm(&mut world),
        };
        Outcome { broken, world }
    }
}

fn setup(seed: u64, hosts: u64, rng: &mut Rng) -> Setup {
    let mut setup = Setup::new(seed, hosts);
    if rng.chance(300) {
        setup.spares.insert(HostId(hosts));
    }
    if rng.chance(200) {
        setup.observers.insert(HostId(1));
    }
    if rng.chance(300) {
        setup.voters = 3.min(hosts);
    }
    setup.lean = !seed.is_multiple_of(UNSHARED);
    setup.words = rng.chance(700);
    setup.election_ms = rng.between((100, 1_500));
    setup.timing = timings::draw(rng);
    setup.keep = rng.pick(&[None, Some(0), Some(3), Some(20)]).flatten();
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

/// Ends every fault, waits, and says what is still wrong.
fn calm(world: &mut World) -> Option<Breach> {
    world.heal();
    world.weather(Weather::FAIR);
    world.election_takes(500);
    for id in world.setup().ids() {
        world.go_on(id);
        world.restart(id);
        world.acquire_works(id, true);
        world.apply_takes(id, (100, 1_500));
        world.flush_takes(id, (200, 1_000));
        world.driver_takes(id, (1_000, 5_000));
        world.measure(id, LocalGroup::default());
    }
    let long = world.state().timing.lease_ms > Timing::LAN.lease_ms;
    let mut bound = world.now_ms() + if long { LONG_CALM_MS } else { CALM_MS };
    bound += STUBBORN_MS;
    let mut backed_off = false;
    let mut well = 0;
    loop {
        world.run_ms(LOOK_MS);
        if world.broken().is_some() {
            return world.broken().cloned();
        }
        let overdue = world.overdue().into_iter().next();
        well = if overdue.is_none() { well + 1 } else { 0 };
        if well == WELL {
            return None;
        }
        let ignored = world
            .setup()
            .only
            .is_some_and(|only| Some(only) != overdue.as_ref().map(|o| o.0));
        if ignored && world.now_ms() >= bound {
            return None;
        }
        let Some((law, what)) = overdue.filter(|_| world.now_ms() >= bound) else {
            continue;
        };
        let backs_off = world
            .state()
            .addresses
            .values()
            .any(|a| !a.backoff.is_empty());
        if backs_off && !backed_off {
            (backed_off, bound) = (true, bound + BACKOFF_MS);
            continue;
        }
        let at_ms = world.now_ms();
        let what = format!("long after the storm: {what}");
        return Some(Breach { law, at_ms, what });
    }
}
