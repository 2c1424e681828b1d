//! Laws of the zone's judgement: it is the table of failover.md, load alone never takes it below its
//! minimum, and a load that hovers at a mark moves it once at most.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
mod array;

use std::collections::BTreeSet;

use array::{
    HOSTS, Nature, enter, fences, founded, hear, ip, natures, policies, reached, sampled, wishes,
};
use control::{View, judge_zone, plan};
use proptest::prelude::*;
use statemachine::{Group, HostId, LogTime, Policy, State, truly_served};

/// Rounds in which four hosts come up and take their addresses.
const ROUNDS: u64 = 8;

fn web(state: &State) -> &Group {
    state.groups.values().next().unwrap()
}

fn well(load: u32) -> Nature {
    Nature {
        alive: true,
        fails: false,
        healthy: true,
        leased: true,
        load,
        lag: 0,
        silent: false,
    }
}

/// One look of the leader's at everything, load included; what the hosts report is entered.
fn look(state: &mut State, view: &mut View, loads: &[u32], round: u64) {
    let natures: Vec<Nature> = loads.iter().map(|load| well(*load)).collect();
    hear(view, state, &natures, round);
    let now = LogTime(round * 1_000);
    let first = fences(state, &natures);
    let steps = plan(state, view, now, 0, first, &sampled()).steps;
    assert!(enter(state, now, steps).iter().all(|ok| *ok));
}

/// An array whose hosts all serve their own addresses, and what was heard of them.
fn serving(policy: Policy, loads: &[u32]) -> (State, View) {
    let (mut state, mut view) = (founded(policy, false), View::default());
    for round in 1..=ROUNDS {
        look(&mut state, &mut view, loads, round);
    }
    assert_eq!(truly_served(&state, &"web".into()).len(), HOSTS as usize);
    (state, view)
}

/// failover.md, the zone, rules 2 and 3, in the seed's own steps: who stays, and who is shed.
fn by_the_book(
    members: &[(HostId, u32, bool)],
    policy: &Policy,
) -> (BTreeSet<HostId>, BTreeSet<HostId>) {
    let delta = policy.high_water - policy.low_water;
    let mut shed = BTreeSet::new();
    let mut bb = Vec::new();
    for (host, util, was_shed) in members {
        let weighted_util = if *util > policy.high_water {
            shed.insert(*host);
            util + delta
        } else if *util > policy.low_water {
            if *was_shed {
                shed.insert(*host);
                util + delta
            } else {
                *util
            }
        } else {
            *util
        };
        bb.push((weighted_util, *host));
    }
    let least = policy.min_addresses as usize;
    if bb.len() > least {
        bb.sort_unstable();
        let mut index = least;
        while index < bb.len() {
            if bb[index].0 > policy.high_water {
                bb.remove(index);
            } else {
                index += 1;
            }
        }
    }
    (bb.into_iter().map(|(_, host)| host).collect(), shed)
}

fn marks() -> impl Strategy<Value = Policy> {
    (1..900u32, 1..100u32, 0..6u32).prop_map(|(low_water, gap, min_addresses)| Policy {
        low_water,
        high_water: low_water + gap,
        min_addresses,
        ..Policy::new("web", "web.example.")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: the judgement is the table of failover.md, neither more nor less.
    /// Method: four hosts that serve, any loads, marks, minimum and flags; compared with the seed's steps.
    #[test]
    fn the_judgement_is_the_table_of_the_book(
        policy in marks(), loads in proptest::collection::vec(0..1200u32, 4),
        flags in proptest::collection::vec(any::<bool>(), 4),
    ) {
        let (mut state, mut view) = serving(policy, &loads);
        for (member, shed) in state.groups.values_mut().next().unwrap().members.values_mut().zip(&flags) {
            member.shed = *shed;
        }
        let natures: Vec<Nature> = loads.iter().map(|load| well(*load)).collect();
        hear(&mut view, &state, &natures, ROUNDS + 1);
        let ids = (1..=HOSTS).map(HostId);
        let members: Vec<(HostId, u32, bool)> =
            ids.zip(&loads).zip(&flags).map(|((id, load), shed)| (id, *load, *shed)).collect();
        let (stay, shed) = by_the_book(&members, &web(&state).policy);
        let judged = judge_zone(&state, &view, web(&state), true);
        prop_assert_eq!(&judged.shed, &shed);
        prop_assert_eq!(judged.published(), stay.iter().map(|id| ip(id.0)).collect::<BTreeSet<_>>());
    }

    /// Goal: load alone never takes a zone below its minimum; what is not served is never named.
    /// Method: any state that commands lead to, any hosts, with and without a look at the load.
    #[test]
    fn load_alone_never_takes_a_zone_below_its_minimum(
        policy in policies(), spare: bool, wishes in wishes(), natures in natures(), sample: bool,
    ) {
        let state = reached(policy, spare, &wishes);
        let mut view = View::default();
        hear(&mut view, &state, &natures, 1);
        let judged = judge_zone(&state, &view, web(&state), sample).published();
        let served = truly_served(&state, &"web".into());
        let least = served.len().min(web(&state).policy.min_addresses as usize);
        prop_assert!(judged.len() >= least, "{:?} of {:?}", judged, served);
        prop_assert!(judged.is_subset(&served));
    }

    /// Goal: the judgement is a function of the state and the reports, in whatever order they came.
    /// Method: judged twice, and once more after the hosts were heard in reverse.
    #[test]
    fn the_judgement_is_a_function_of_what_was_heard(
        policy in policies(), spare: bool, wishes in wishes(), natures in natures(), sample: bool,
    ) {
        let state = reached(policy, spare, &wishes);
        let (mut view, mut reversed) = (View::default(), View::default());
        hear(&mut view, &state, &natures, 1);
        for host in (0..natures.len()).rev() {
            let mut only = natures.clone();
            only.iter_mut().enumerate().for_each(|(at, one)| one.alive &= at == host);
            hear(&mut reversed, &state, &only, 1);
        }
        let once = judge_zone(&state, &view, web(&state), sample);
        prop_assert_eq!(&once, &judge_zone(&state, &view, web(&state), sample));
        prop_assert_eq!(&once, &judge_zone(&state, &reversed, web(&state), sample));
    }

    /// Goal: no flapping: a load that hovers at a mark, by less than the marks are apart, changes the zone
    /// once at most. Method: fifty looks at one host's load around either mark, the others idle.
    #[test]
    fn a_load_that_hovers_at_a_mark_changes_the_zone_once_at_most(
        policy in marks(), hover in proptest::collection::vec(0..1000u32, 50), at_high: bool, host in 0..4usize,
    ) {
        let gap = policy.high_water - policy.low_water;
        let mark = if at_high { policy.high_water } else { policy.low_water };
        // From just above the other mark, or just below it, to as far on the other side of this one.
        let (from, width) = if at_high { (policy.low_water + 1, 2 * gap) } else { (0, mark + gap) };
        let mut loads = [0; 4];
        if !at_high {
            loads[host] = policy.high_water + 1;
        }
        let (mut state, mut view) = serving(policy, &loads);
        let (mut changes, mut round) = (0, ROUNDS);
        for step in hover {
            let before = web(&state).zone.clone();
            loads[host] = from + step % width.max(1);
            round += 1;
            look(&mut state, &mut view, &loads, round);
            changes += u32::from(web(&state).zone.published != before.published);
            prop_assert_eq!(web(&state).zone.published == before.published, web(&state).zone.serial == before.serial);
        }
        prop_assert!(changes <= 1, "{} changes", changes);
    }
}
