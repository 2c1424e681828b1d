//! Networks that lose something: between two hosts, between halves, at random.

use super::{Done, LEASE_MS, beside, broken, fences, split, unheard};
use crate::drill::Drill;
use crate::lab::{Fault, Network, Wire, now};
use std::time::Duration;

pub fn unheard_by_leader(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let ms = if is_long { 20_000 } else { 3_000 };
    let (all, began) = (1..=drill.array.hosts(), now());
    let words = format!("h{owner} not heard by the leader h{leader}");
    let fenced = fences(drill, leader, |drill| {
        drill
            .during(&unheard(&[owner], &[leader]), ms, &words, &[owner, leader])
            .map(drop)
    })?;
    if !fenced.is_empty() {
        return broken(format!("fenced: {fenced:?}"));
    }
    drill.no_gap(all, began)
}

pub fn healed(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let busy = owner % drill.array.hosts() + 1;
    let ms = if is_long { 10_000 } else { 3_000 };
    drill.strike(
        &format!("h{owner} cut off while the log grows"),
        &[owner],
        false,
        |drill| {
            let mut cut = Vec::new();
            for fault in split(&[owner], &beside(drill, &[owner])) {
                cut.push(drill.array.inject(&fault)?);
            }
            let end = now().after(Duration::from_millis(ms));
            let busy = format!("h{busy}");
            while now() < end && !drill.stop.is_told() {
                drill.array.rais(leader, &["quiesce", &busy])?;
                drill.array.rais(leader, &["resume", &busy])?;
            }
            for one in cut {
                one.undo()?;
            }
            Ok(())
        },
    )?;
    Ok(())
}

pub fn partitions(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let ms = if is_long { 10_000 } else { 2_000 };
    // Positions on a line; the leader sits in the middle.
    type Linked = fn(u8, u8) -> bool;
    let shapes: [(&str, Linked); 5] = [
        ("halves", |a, b| (a < 2) == (b < 2)),
        ("ring", |a, b| a.abs_diff(b) == 1 || a.abs_diff(b) == 4),
        ("bridge", |a, b| a == 2 || b == 2 || (a < 2) == (b < 2)),
        ("chain", |a, b| a.abs_diff(b) == 1),
        ("quorum loss", |a, b| a >= 3 && b >= 3),
    ];
    for (name, linked) in shapes {
        let (leader, _) = drill.leader_and_owner()?;
        let mut line = beside(drill, &[leader]);
        line.insert(2, leader);
        let at = |host: &u8| {
            (0_u8..)
                .zip(&line)
                .find(|(_, one)| *one == host)
                .map_or(0, |(n, _)| n)
        };
        let (mut faults, mut keep) = (Vec::new(), Vec::new());
        for host in &line {
            let lost = |other: &&u8| *other != host && !linked(at(host), at(other));
            let lost: Vec<u8> = line.iter().filter(lost).copied().collect();
            if !lost.is_empty() {
                faults.extend(unheard(&[*host], &lost));
            }
            // Who reaches a quorum, itself counted, and is heard by a leader that does.
            let reaches = |host: u8, lost: usize| {
                line.len() - lost > line.len() / 2 && (host == leader || linked(at(&host), 2))
            };
            if reaches(*host, lost.len()) {
                keep.push(*host);
            }
        }
        let hides = name == "quorum loss";
        let struck = drill.strike(&format!("partition: {name}"), &[], hides, |drill| {
            drill.hold(&faults, ms).map(drop)
        })?;
        drill
            .stop
            .say(format_args!("      keep their leases: {keep:?}"));
        if !hides {
            drill.no_gap(keep, struck.began)?;
        }
    }
    Ok(())
}

pub fn loss(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let percent = 30;
    let of = |host| {
        Network::ALL.map(|network| Fault::Loss {
            host,
            network,
            percent,
        })
    };
    let all: Vec<Fault> = (1..=drill.array.hosts()).flat_map(of).collect();
    let (short, long) = if is_long { (60, 600) } else { (8, 8) };
    let most = Some(1);
    // The observer's questions and answers are lost as well.
    let seen = Bad { hides: true, most };
    bad_network(drill, "30 % of all frames lost", &all, short, seen)?;
    let seed = now().0;
    drill.stop.say(format_args!("      seed {seed}"));
    for (wire, seconds) in [(Wire::bad(seed), long), (Wire::worse(seed), short)] {
        let faults = Network::ALL.map(|network| Fault::Wire { network, wire });
        // Where acknowledgements take as long as leases, leases end and hosts are rightly fenced.
        let hides = wire.outlasts(LEASE_MS);
        let most = most.filter(|_| !hides);
        let words = format!("control traffic: {wire}");
        bad_network(drill, &words, &faults, seconds, Bad { hides, most })?;
    }
    Ok(())
}

/// What a bad network may cost.
struct Bad {
    /// Addresses may be out of reach for as long as it lasts.
    hides: bool,
    /// So many failovers; none: any number.
    most: Option<usize>,
}

/// Lets `faults` work for so long, and counts who was fenced.
fn bad_network(
    drill: &mut Drill<'_>,
    words: &str,
    faults: &[Fault],
    seconds: u64,
    may: Bad,
) -> Done {
    let began = now();
    let fenced = fences(drill, 1, |drill| {
        drill.strike(words, &[], may.hides, |drill| {
            drill.hold(faults, seconds * 1_000).map(drop)
        })?;
        Ok(())
    })?;
    let gaps = (1..=drill.array.hosts()).map(|host| drill.gap(host, began));
    let (gap, fenced) = (gaps.max().unwrap_or_default(), fenced.len());
    let figure = format!("{words}, {seconds} s: {fenced} failovers, longest gap {gap:.0?}");
    drill.stop.say(format_args!("      {figure}"));
    drill.figures.push(figure.clone());
    if may.most.is_some_and(|most| fenced > most) {
        broken(figure)
    } else {
        Ok(())
    }
}
