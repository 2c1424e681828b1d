//! Laws of `plan`, over states and views that random commands and hosts of every kind lead to: it is a
//! function, it proposes only what is accepted, it takes nothing away in vain, and it comes to rest.
#![allow(missing_docs, clippy::unwrap_used)]

mod array;

use std::net::IpAddr;

use array::{
    Nature, enter, fences, founded, hear, ip, natures, policies, reached, sampled, wishes,
};
use control::{Heartbeat, HeldPhase, HeldReport, Instant, Report, View, place, plan};
use proptest::prelude::*;
use statemachine::{
    Address, AddressCommand, AddressState, Boot, Command, Epoch, HostCommand, HostId, Incarnation,
    LogTime, Policy, Reason, Rebalance, State, audit, truly_served,
};

/// Plans that an array may need to come to rest: fence, down, up, assign, online, and twice release and
/// assign, each with a round for what it waits for.
const ROUNDS: u64 = 24;

fn seen(state: &State, natures: &[Nature]) -> View {
    let mut view = View::default();
    hear(&mut view, state, natures, 1);
    view
}

/// Obeys and plans until two plans in a row are empty; none when they never are.
fn rest(state: &mut State, natures: &[Nature], now: LogTime, dice: u64) -> Option<View> {
    let mut view = View::default();
    let mut empty = 0;
    for round in 1..=ROUNDS {
        hear(&mut view, state, natures, round);
        let first = fences(state, natures);
        let steps = plan(state, &view, now, dice + round, first, &sampled()).steps;
        empty = if steps.is_empty() { empty + 1 } else { 0 };
        if empty == 2 {
            return Some(view);
        }
        assert!(enter(state, now, steps).iter().all(|ok| *ok));
        assert_eq!(audit(state), vec![]);
    }
    None
}

fn able(state: &State, view: &View, now: LogTime, ip: IpAddr) -> Vec<HostId> {
    let found = place(state, view, now, ip, 0).candidates.into_iter();
    found
        .filter(|c| c.verdict.is_able())
        .map(|c| c.host)
        .collect()
}

/// Where an address stands against where failover.md wants it.
fn misplaced(
    state: &State,
    view: &View,
    now: LogTime,
    ip: IpAddr,
    address: &Address,
) -> Option<String> {
    let able = able(state, view, now, ip);
    let holder = match address.state {
        AddressState::Online { host } => host,
        _ if able.is_empty() => return None,
        other => return Some(format!("{ip} is {other:?}, {able:?} could serve")),
    };
    let wanted = match (
        address.pin,
        state.groups.get(&address.group)?.policy.rebalance,
    ) {
        (Some(pin), _) => Some(pin),
        (None, Rebalance::Prefer) => address.preferred,
        (None, Rebalance::Sticky) => None,
    };
    let better = wanted.filter(|id| able.contains(id) && *id != holder)?;
    Some(format!("{ip} is at {holder}, {better} should have it"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: a plan is a function, and nothing in it is refused.
    /// Method: drawn twice, then entered where it was drawn.
    #[test]
    fn a_plan_is_a_function_and_is_accepted_whole(
        policy in policies(), spare: bool, wishes in wishes(), natures in natures(), passed in 0..100_000u64,
        dice: u64, sample: bool,
    ) {
        let mut state = reached(policy, spare, &wishes);
        let view = seen(&state, &natures);
        let now = LogTime(state.at.0 + passed);
        let due = if sample { sampled() } else { Default::default() };
        let draw = || plan(&state, &view, now, dice, fences(&state, &natures), &due);
        let (once, twice) = (draw(), draw());
        prop_assert_eq!(&once.steps, &twice.steps);
        let (steps, after) = (once.steps, once.after.into_owned());
        let outcomes = enter(&mut state, now, steps.clone());
        prop_assert!(outcomes.iter().all(|ok| *ok), "{:?} of {:?}", outcomes, steps);
        prop_assert_eq!(audit(&state), vec![]);
        if !steps.is_empty() {
            prop_assert_eq!(state, after);
        }
    }

    /// Goal: no address is taken from where it is served unless another can take it.
    /// Method: of each release for order's sake, somebody else must be able once the plan is entered.
    #[test]
    fn an_address_is_released_for_order_only_when_somebody_takes_it(
        policy in policies(), spare: bool, wishes in wishes(), natures in natures(), dice: u64,
    ) {
        let mut state = reached(policy, spare, &wishes);
        let view = seen(&state, &natures);
        let now = LogTime(state.at.0 + 200_000);
        let before = state.clone();
        let steps = plan(&state, &view, now, dice, fences(&state, &natures), &sampled()).steps;
        enter(&mut state, now, steps.clone());
        for step in steps {
            let Command::Address(AddressCommand::Release { address, reason, .. }) = step else {
                continue;
            };
            let holder = before.addresses[&address].state.host();
            let must = matches!(reason, Reason::Drained | Reason::Operator | Reason::PreferredReturned);
            let able = able(&state, &view, now, address);
            prop_assert!(
                !must || able.iter().any(|id| Some(*id) != holder),
                "{} is released ({:?}) and nobody can take it", address, reason
            );
        }
    }

    /// Goal: the array comes to rest, at the equilibrium of failover.md, and then stays there.
    /// Method: hosts obey, fail, lag or are dead; plans are entered until one is empty.
    #[test]
    fn plans_lead_to_the_equilibrium_and_then_there_are_none(
        policy in policies(), spare: bool, wishes in wishes(), natures in natures(), dice in 0..1_000_000u64,
    ) {
        let mut state = reached(policy, spare, &wishes);
        let natures: Vec<Nature> =
            natures.into_iter().map(|n| Nature { lag: 0, silent: false, ..n }).collect();
        let now = LogTime(state.at.0 + 200_000);
        let Some(view) = rest(&mut state, &natures, now, dice) else {
            return Err(TestCaseError::fail(format!("no rest after {ROUNDS} plans: {state:#?}")));
        };
        for (ip, address) in &state.addresses {
            let wrong = misplaced(&state, &view, now, *ip, address);
            prop_assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        }
        for host in state.hosts.values().zip(&natures).filter(|(_, n)| n.alive).map(|(h, _)| h) {
            prop_assert!(host.is_up(), "{} is heard and {:?}", host.name, host.state);
        }
    }

    /// Goal: load alone never takes the zone below `min_addresses`, and what is out by load is above low.
    /// Method: four healthy hosts whose loads change at each sample.
    #[test]
    fn load_alone_never_takes_the_zone_below_its_minimum(
        policy in policies(), loads in proptest::collection::vec([0..1200u32, 0..1200, 0..1200, 0..1200], 1..8),
        dice in 0..1_000_000u64,
    ) {
        let mut state = founded(policy.clone(), false);
        let mut now = LogTime(1_000);
        for loads in loads {
            now = now.plus(1_000);
            let natures: Vec<Nature> = loads
                .map(|load| Nature {
                    alive: true, fails: false, healthy: true, leased: true, load, lag: 0, silent: false,
                })
                .into();
            prop_assert!(rest(&mut state, &natures, now, dice).is_some());
            let group = &state.groups[&policy.name];
            let served = truly_served(&state, &policy.name);
            prop_assert_eq!(served.len(), 4);
            let least = served.len().min(policy.min_addresses as usize);
            prop_assert!(group.zone.published.len() >= least);
            for (id, load) in (1..).zip(loads) {
                let published = group.zone.published.contains(&ip(id));
                let shed = group.members[&HostId(id)].shed;
                prop_assert!(published || shed);
                prop_assert_eq!(shed && load <= policy.low_water, false);
                prop_assert_eq!(!shed && load > policy.high_water, false);
            }
        }
    }
}

/// Goal: when two hosts claim an address that the log gave to nobody, one keeps it, a spare first.
/// Method: two members report that they hold it, as after `last_resort`; then the preferred host is there.
#[test]
fn of_two_that_claim_an_address_the_spare_keeps_it_unless_the_preferred_host_can() {
    let mut state = founded(Policy::new("web", "web.example."), true);
    for id in 1..=4 {
        let up = HostCommand::Up {
            host: HostId(id),
            seen: Incarnation(0),
            boot: Boot(1),
        };
        enter(&mut state, LogTime(1), vec![Command::Host(up)]);
    }
    let claim = |claims: bool| Heartbeat {
        incarnation: Incarnation(1),
        boot: Boot(1),
        seq: 1,
        lease_ok: true,
        report: Report {
            held: claims
                .then(|| HeldReport {
                    address: ip(1),
                    epoch: Epoch(0),
                    contested: None,
                    phase: HeldPhase::Online {
                        acquire_ms: 1,
                        announce_ms: 1,
                    },
                })
                .into_iter()
                .collect(),
            groups: vec![],
        },
        ..Heartbeat::default()
    };
    let mut view = View::default();
    view.look(&state, Instant(0));
    view.observe(HostId(2), claim(false), Instant(0));
    view.observe(HostId(3), claim(true), Instant(0));
    let chosen = |view: &View| place(&state, view, LogTime(2), ip(1), 7).chosen;
    assert_eq!(chosen(&view), Some((HostId(3), Reason::Claimed)));
    view.observe(HostId(4), claim(true), Instant(0));
    assert_eq!(chosen(&view), Some((HostId(4), Reason::Claimed)));
    view.observe(HostId(1), claim(false), Instant(0));
    assert_eq!(chosen(&view), Some((HostId(1), Reason::Preferred)));
}
