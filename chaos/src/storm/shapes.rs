//! The shapes in which a network falls apart: pairs of hosts, from the first to the second.

use std::collections::BTreeSet;

use statemachine::HostId;

use crate::Rng;

/// Pairs between which nothing goes, from the first to the second.
pub(super) type Pairs = Vec<(HostId, HostId)>;

/// Draws a shape.
pub(super) fn draw(rng: &mut Rng, ids: &[HostId]) -> Pairs {
    let mut ids = ids.to_vec();
    for at in (1..ids.len()).rev() {
        ids.swap(at, rng.below(at as u64 + 1) as usize);
    }
    let one = ids.first().copied().unwrap_or_default();
    let half: BTreeSet<HostId> = ids.iter().copied().take(ids.len() / 2).collect();
    match rng.below(9) {
        // One way, one pair.
        0 => ids.windows(2).take(1).map(|w| (w[0], w[1])).collect(),
        1 => both_ways(ids.windows(2).take(1).map(|w| (w[0], w[1])).collect()),
        // One host: nobody hears it, it hears nobody, or both.
        2 => others(&ids, one).map(|id| (one, id)).collect(),
        3 => others(&ids, one).map(|id| (id, one)).collect(),
        4 => split(&ids, &[one].into()),
        // Halves; halves with a bridge; a chain; a ring.
        5 => split(&ids, &half),
        6 => {
            let bridge = ids.last().copied();
            let mut pairs = split(&ids, &half);
            pairs.retain(|(a, b)| Some(*a) != bridge && Some(*b) != bridge);
            pairs
        }
        7 => unless(&ids, |a, b| a.abs_diff(b) == 1),
        _ => {
            let last = ids.len() - 1;
            unless(&ids, |a, b| a.abs_diff(b) == 1 || a.abs_diff(b) == last)
        }
    }
}

/// Everything between `side` and the rest.
pub(super) fn split(ids: &[HostId], side: &BTreeSet<HostId>) -> Pairs {
    let mut pairs = all(ids);
    pairs.retain(|(a, b)| side.contains(a) != side.contains(b));
    pairs
}

fn all(ids: &[HostId]) -> Pairs {
    let pairs = ids.iter().flat_map(|a| ids.iter().map(|b| (*a, *b)));
    pairs.filter(|(a, b)| a != b).collect()
}

fn others(ids: &[HostId], one: HostId) -> impl Iterator<Item = HostId> {
    ids.iter().copied().filter(move |id| *id != one)
}

fn both_ways(pairs: Pairs) -> Pairs {
    pairs
        .into_iter()
        .flat_map(|(a, b)| [(a, b), (b, a)])
        .collect()
}

/// Everything but between hosts whose places are joined.
fn unless(ids: &[HostId], joined: impl Fn(usize, usize) -> bool) -> Pairs {
    let place = |id: HostId| ids.iter().position(|other| *other == id).unwrap_or(0);
    let mut pairs = all(ids);
    pairs.retain(|(a, b)| !joined(place(*a), place(*b)));
    pairs
}
