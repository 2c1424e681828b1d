//! `quorum_loss = "last_resort"`: hosts without a quorum serve what they can, outside the promise.
//!
//! Survivors that hear each other give each address to one of them; a minority that the link tells of holders
//! takes nothing; and where neither the control networks nor the link join the halves of a split, both
//! serve everything. That last one is unsafe on purpose, and shown.

use super::{Done, LEASE, broken, split};
use crate::drill::{Drill, DrillError, GAP, HOME, RESOLVED, is_busy};
use crate::lab::array::Array;
use crate::lab::{AddressReport, At, Fault, Follower, LabError, Network, Scope, now};
use std::net::IpAddr;
use std::time::Duration;

/// How long a group waits for its quorum, and what it takes to serve then.
const AFTER: Duration = Duration::from_secs(2);
const SERVED: Duration = Duration::from_secs(1);
/// A split lasts for so long, in ms: all is served on both sides by then.
const SPLIT_MS: u64 = 6_000;
/// One host after the other is asked for so long whether it answers.
const LOOK: Duration = Duration::from_millis(20);

pub fn last_resort(drill: &mut Drill<'_>, _: bool) -> Done {
    policy(drill, "hold")?;
    let (side, other) = halves(drill)?;
    let words = format!("split {side:?} | {other:?}, link and control");
    let struck = drill.strike(&format!("{words}, hold"), &side, true, |drill| {
        drill.hold(&link_too(&side), SPLIT_MS).map(drop)
    })?;
    none_dual(drill, "hold", struck.began)?;
    policy(drill, "last_resort")?;
    let done = told_by_the_link(drill).and_then(|()| survivors(drill));
    let done = done.and_then(|()| both_halves(drill));
    // Others play on this array after it.
    done.and(policy(drill, "hold"))
}

/// Sets what the group does without a quorum.
fn policy(drill: &Drill<'_>, quorum_loss: &str) -> Done {
    let file = drill.lab.logs().join("resort.toml");
    let after = AFTER.as_secs();
    let text = format!(
        "name = \"web\"\nzone = \"web.example.\"\nquorum_loss = \"{quorum_loss}\"\nlast_resort_after = \"{after}s\"\n"
    );
    std::fs::write(&file, text).map_err(|source| LabError::System {
        what: "write the policy".to_owned(),
        source,
    })?;
    let (leader, _) = drill.leader_and_owner()?;
    let file = file.display().to_string();
    drill.array.rais(leader, &["group", "apply", &file])?;
    Ok(())
}

/// Two hosts without the leader, and the others.
fn halves(drill: &Drill<'_>) -> Result<(Vec<u8>, Vec<u8>), DrillError> {
    let (leader, _) = drill.leader_and_owner()?;
    let side: Vec<u8> = super::beside(drill, &[leader])
        .into_iter()
        .take(2)
        .collect();
    let other = super::beside(drill, &side);
    Ok((side, other))
}

/// Nothing passes between the halves; clients reach both.
fn link_too(side: &[u8]) -> [Fault; 2] {
    Network::ALL.map(|network| Fault::Split {
        side: side.to_vec(),
        network,
    })
}

/// When two hosts answered one question last since `from`, of each address of which they did.
fn duals(drill: &Drill<'_>, from: At) -> Vec<At> {
    let seen = drill.observer.so_far();
    let last = |one: &AddressReport| {
        let since = one.seen.duals.iter().filter(|dual| dual.from >= from);
        since.map(|dual| dual.to).max()
    };
    seen.addresses.iter().filter_map(last).collect()
}

fn none_dual(drill: &mut Drill<'_>, what: &str, from: At) -> Done {
    if !duals(drill, from).is_empty() {
        return broken(format!("{what}: two hosts answer"));
    }
    drill.note(format!("{what}: no question was answered by two"));
    Ok(())
}

/// The host says that it serves without a quorum.
fn is_at_it(array: &Array<'_>, host: u8) -> bool {
    array
        .status(host)
        .is_ok_and(|status| status["last_resort"] == true)
}

/// An event that each of `hosts` tells of itself.
fn told(hosts: &[u8], events: &[Follower], kind: &str) -> Done {
    let silent = hosts.iter().zip(events);
    let mut silent = silent.filter(|(_, events)| events.wait(kind, HOME).is_none());
    match silent.next() {
        Some((host, _)) => broken(format!("h{host} does not tell of {kind}")),
        None => Ok(()),
    }
}

fn follow(drill: &Drill<'_>, hosts: &[u8]) -> Result<Vec<Follower>, DrillError> {
    let all = hosts.iter().map(|host| drill.array.follow(*host));
    Ok(all.collect::<Result<_, _>>()?)
}

/// Cut off from the control traffic of a majority that the link still reaches: its question finds each
/// holder, so nothing is taken.
fn told_by_the_link(drill: &mut Drill<'_>) -> Done {
    let (side, other) = halves(drill)?;
    let words = format!("split {side:?} | {other:?}, control alone, last_resort");
    let events = follow(drill, &side)?;
    let struck = drill.strike(&words, &side, true, |drill| {
        drill.hold(&split(&side, &other), SPLIT_MS).map(drop)
    })?;
    // They were at it, and had leave to take.
    told(&side, &events, "lastResort")?;
    none_dual(drill, &words, struck.began)
}

/// Three of five die: the two that are left serve everything, each address by one of them.
fn survivors(drill: &mut Drill<'_>) -> Done {
    let (left, gone) = halves(drill)?;
    let words = format!("{gone:?} of five killed, last_resort");
    let line = AFTER + LEASE + SERVED;
    let (mut took, mut back) = (Duration::ZERO, now());
    let events = follow(drill, &left)?;
    drill.strike(&words, &gone, true, |drill| {
        let mut at = now();
        for host in &gone {
            at = drill.array.kill(*host, Scope::Family)?;
        }
        let by_one = |address: &IpAddr| {
            let mut left = left.iter();
            left.any(|host| drill.observer.wait(*address, &[*host], LOOK))
        };
        let all = |array: &Array<'_>| array.addresses().iter().all(by_one);
        drill
            .array
            .until(HOME, "the survivors serve everything", all)?;
        took = longest(drill, at);
        if !left.iter().all(|host| is_at_it(&drill.array, *host)) {
            return broken("the survivors' status does not say last_resort");
        }
        told(&left, &events, "lastResort")?;
        back = now();
        for host in &gone {
            drill.array.start(*host)?;
        }
        Ok(())
    })?;
    told(&left, &events, "lastResortOver")?;
    let figure = format!("{words}: longest gap {took:.1?}, wanted {line:.1?}");
    within(drill, figure, took, line)?;
    let took = longest(drill, back);
    let figure = format!("{words}, their return: longest gap {took:.0?}, wanted {RESOLVED:.0?}");
    within(drill, figure, took, RESOLVED)
}

/// The longest gap of any address that ended after `at`.
fn longest(drill: &Drill<'_>, at: At) -> Duration {
    let gaps = (1..=drill.array.hosts()).map(|host| drill.gap(host, at));
    gaps.max().unwrap_or_default()
}

/// Notes a figure and holds its line; on a busy machine [`GAP`] more.
fn within(drill: &mut Drill<'_>, figure: String, took: Duration, line: Duration) -> Done {
    drill.note(figure.clone());
    let most = if is_busy() { line + GAP } else { line };
    if took > most { broken(figure) } else { Ok(()) }
}

/// The halves hear each other nowhere, and clients reach both: two hosts answer until the heal.
fn both_halves(drill: &mut Drill<'_>) -> Done {
    let (side, other) = halves(drill)?;
    let words = format!("split {side:?} | {other:?}, link and control, last_resort");
    let events = follow(drill, &side)?;
    let struck = drill.strike_unsafely(&words, &side, |drill| {
        drill.hold(&link_too(&side), SPLIT_MS).map(drop)
    })?;
    told(&side, &events, "lastResort")?;
    told(&side, &events, "lastResortOver")?;
    let duals = duals(drill, struck.began);
    if duals.len() < drill.array.addresses().len() {
        return broken(format!(
            "{words}: both halves answer for {} only",
            duals.len()
        ));
    }
    let after = duals.into_iter().map(|last| last.since(struck.undone));
    let after = after.max().unwrap_or_default();
    let figure = format!(
        "UNSAFE, as documented: {words}: two hosts answer for each address; {after:.0?} after the heal one does, wanted {RESOLVED:.0?}"
    );
    within(drill, figure, after, RESOLVED)
}
