//! Owners that are lost: killed, stopped, deaf, cut off; and whoever dies while their fence goes on.

use super::{
    Done, ELECTION, INTO_A_FENCE, TAKEN, beside, broken, fences, lost, silent, split, stop_for,
};
use crate::drill::blow::in_a_fence;
use crate::drill::{Drill, DrillError, GAP, HOME};
use crate::lab::array::home_addresses;
use crate::lab::{Fault, Network, Scope, now};
use std::time::Duration;

pub fn killed(drill: &mut Drill<'_>, _: bool) -> Done {
    for (whom, words) in [(Scope::Alone, ""), (Scope::Family, " and its children")] {
        let what = format!("kill -9 of an owner's daemon{words}, taken over after");
        drill.line(&what, TAKEN, |drill| {
            let ((_, owner), mut at) = (drill.leader_and_owner()?, now());
            drill.strike(
                &format!("kill -9 of h{owner}{words}"),
                &[owner],
                false,
                |drill| {
                    at = drill.array.kill(owner, whom)?;
                    drill.stop.pause(1_000);
                    Ok(())
                },
            )?;
            silent(drill, owner, at)?;
            Ok(drill.taken(owner, at))
        })?;
    }
    Ok(())
}

pub fn stopped(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let all: &[u64] = if is_long {
        &[100, 1_000, 10_000, 100_000]
    } else {
        &[100, 1_000, 3_000]
    };
    for ms in all {
        let (_, owner) = drill.leader_and_owner()?;
        drill.strike(
            &format!("h{owner} stopped, {ms} ms"),
            &[owner],
            false,
            |drill| stop_for(drill, owner, Scope::Family, *ms),
        )?;
    }
    Ok(())
}

pub fn deaf_owner(drill: &mut Drill<'_>, _: bool) -> Done {
    for (datagrams, what) in [
        (true, "no voter's heartbeats"),
        (false, "no voter, not even Raft"),
    ] {
        drill.line(
            &format!("an owner that hears {what}, taken over after"),
            TAKEN,
            |drill| {
                let (_, owner) = drill.leader_and_owner()?;
                let faults = lost(&beside(drill, &[owner]), &[owner], datagrams);
                let at =
                    drill.during(&faults, 1_500, &format!("h{owner} hears {what}"), &[owner])?;
                silent(drill, owner, at)?;
                Ok(drill.taken(owner, at))
            },
        )?;
    }
    Ok(())
}

/// Somebody is killed at moments into a fence; the best and each of the gaps.
fn killed_in_a_fence(drill: &mut Drill<'_>, is_leader: bool, line: Duration) -> Done {
    let mut all = INTO_A_FENCE.into_iter().cycle();
    let whom = if is_leader { "the leader" } else { "a voter" };
    // Each moment once; the line is held by the best of the last ones.
    for after in all.by_ref().take(INTO_A_FENCE.len() - 1) {
        let took = one_in_a_fence(drill, is_leader, after)?;
        drill.stop.say(format_args!("      gap {took:.0?}"));
    }
    drill.line(&format!("{whom} killed in a fence, gap"), line, |drill| {
        one_in_a_fence(drill, is_leader, all.next().unwrap_or_default())
    })
}

fn one_in_a_fence(
    drill: &mut Drill<'_>,
    is_leader: bool,
    after: u64,
) -> Result<Duration, DrillError> {
    let (leader, owner) = drill.leader_and_owner()?;
    let voter = if is_leader {
        leader
    } else {
        owner % drill.array.hosts() + 1
    };
    let words = format!("h{owner} stopped; h{voter} killed {after} ms into its fence");
    let struck = drill.strike(&words, &[owner, voter], false, |drill| {
        in_a_fence(drill, owner, voter, after, 500)
    })?;
    let took = drill.gap(owner, struck.began);
    if took > GAP {
        return broken(format!("h{owner}'s addresses were silent for {took:?}"));
    }
    Ok(took)
}

pub fn voter_in_fence(drill: &mut Drill<'_>, _: bool) -> Done {
    killed_in_a_fence(drill, false, TAKEN)
}

pub fn leader_in_fence(drill: &mut Drill<'_>, _: bool) -> Done {
    killed_in_a_fence(drill, true, TAKEN + ELECTION)
}

/// Who votes, as `host` knows.
fn voters(drill: &Drill<'_>, host: u8) -> Vec<u8> {
    let status = drill.array.status(host).unwrap_or_default();
    let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
    let voting = hosts.iter().filter(|one| one["role"] == "voter");
    voting
        .filter_map(|one| one["name"].as_str()?.strip_prefix('h')?.parse().ok())
        .collect()
}

pub fn voters_replaced(drill: &mut Drill<'_>, _: bool) -> Done {
    let (leader, _) = drill.leader_and_owner()?;
    let old = voters(drill, leader);
    let out: Vec<u8> = old
        .iter()
        .copied()
        .filter(|host| *host != leader)
        .take(3)
        .collect();
    let [owner, second, third] = out[..] else {
        return broken(format!("five voters are wanted, there are {old:?}"));
    };
    let words = format!("h{owner} and the voters h{second}, h{third} cut off and replaced");
    drill.strike(&words, &out, false, |drill| {
        // Two at first: the other three can replace them, and only then a third.
        let gone = |drill: &Drill<'_>, cut: &[u8]| {
            let cut = cut.to_vec();
            drill.array.until(HOME, "they are replaced", move |array| {
                let Some(leads) = array.leader_beside(&cut) else {
                    return false;
                };
                let status = array.status(leads).unwrap_or_default();
                let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
                let votes = |one: &&serde_json::Value| one["role"] == "voter";
                let voting: Vec<String> = hosts
                    .iter()
                    .filter(votes)
                    .map(|one| one["name"].to_string())
                    .collect();
                voting.len() == 5
                    && !cut
                        .iter()
                        .any(|host| voting.contains(&format!("\"h{host}\"")))
            })
        };
        let mut cut = Vec::new();
        for fault in split(&[owner, second], &beside(drill, &[owner, second])) {
            cut.push(drill.array.inject(&fault)?);
        }
        gone(drill, &[owner, second])?;
        for fault in split(&[third], &beside(drill, &out)) {
            cut.push(drill.array.inject(&fault)?);
        }
        gone(drill, &[owner, second, third])?;
        // A majority of the voters of before hear one another now: their word must count nothing.
        drill.stop.pause(2_000);
        let served = home_addresses(owner).into_iter().all(|address| {
            !drill
                .observer
                .wait(address, &[owner], Duration::from_millis(50))
        });
        for one in cut {
            one.undo()?;
        }
        if served {
            Ok(())
        } else {
            broken(format!("h{owner} serves by the word of former voters"))
        }
    })?;
    Ok(())
}

pub fn networks(drill: &mut Drill<'_>, _: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let began = now();
    let fenced = fences(drill, leader, |drill| {
        for network in Network::ALL {
            let all = split(&[owner], &beside(drill, &[owner]));
            let of = |fault: &Fault| matches!(fault, Fault::Control { network: on, .. } if *on == network);
            let faults: Vec<Fault> = all.into_iter().filter(of).collect();
            let words = format!("h{owner} cut off on {}", network.name());
            drill.during(&faults, 2_000, &words, &[owner])?;
        }
        Ok(())
    })?;
    if !fenced.is_empty() {
        return broken(format!("one network lost, and fenced were {fenced:?}"));
    }
    drill.no_gap(1..=drill.array.hosts(), began)?;
    drill.line(
        "both control networks lost, taken over after",
        TAKEN,
        |drill| {
            let (_, owner) = drill.leader_and_owner()?;
            let faults = split(&[owner], &beside(drill, &[owner]));
            let at = drill.during(
                &faults,
                1_500,
                &format!("h{owner} cut off on both networks"),
                &[owner],
            )?;
            silent(drill, owner, at)?;
            Ok(drill.taken(owner, at))
        },
    )
}
