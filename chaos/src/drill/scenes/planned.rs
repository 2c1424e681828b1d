//! What operators plan: restarts, upgrades, drains, also while something else goes wrong.

use super::{Done, LEASE, RESTARTED, beside, broken, unheard, wake};
use crate::drill::{Drill, HOME, TRIES};
use crate::lab::array::{built_binary, home_addresses};
use crate::lab::{Fault, Network, Scope};
use rustix::process::Signal;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Restarts one host after the other, each once the one before is at home again; with `binary`, if given.
pub fn roll(drill: &mut Drill<'_>, binary: Option<&Path>) -> Done {
    for host in 1..=drill.array.hosts() {
        if drill.stop.is_told() {
            break;
        }
        if let Some(binary) = binary {
            drill.array.install(host, binary)?;
        }
        drill.array.restart(host)?;
        drill.array.bring_home(&drill.observer, HOME)?;
    }
    Ok(())
}

/// Rolls to the other build, or back from it.
pub fn upgrade(drill: &mut Drill<'_>) -> Done {
    let own = built_binary()?;
    let other = drill.other.clone().filter(|_| !drill.is_upgraded);
    roll(drill, Some(&other.unwrap_or(own)))?;
    drill.is_upgraded = !drill.is_upgraded;
    Ok(())
}

pub fn restarts(drill: &mut Drill<'_>, _: bool) -> Done {
    let all = 1..=drill.array.hosts();
    for (signal, words) in [
        (Signal::TERM, "restarted"),
        (Signal::KILL, "killed and started"),
    ] {
        let words = format!("all daemons {words} at once");
        drill.line(&format!("{words}, gap"), RESTARTED, |drill| {
            let struck = drill.strike(&words, &[], true, |drill| {
                Ok(drill.array.restart_all(signal)?)
            })?;
            let gaps = all.clone().map(|host| drill.gap(host, struck.began));
            Ok(gaps.max().unwrap_or_default())
        })?;
    }
    drill.line("rolling restart, longest gap", LEASE, |drill| {
        let struck = drill.strike("rolling restart", &[], false, |drill| roll(drill, None))?;
        Ok(all
            .clone()
            .map(|host| drill.gap(host, struck.began))
            .max()
            .unwrap_or_default())
    })
}

/// Drains a host, and waits until others serve its addresses; then takes that back.
fn drain(drill: &Drill<'_>, host: u8) -> Done {
    let name = format!("h{host}");
    drill.array.rais(host, &["quiesce", &name, "--drain"])?;
    let away = |address: &IpAddr| {
        let mut others = beside(drill, &[host]).into_iter();
        others.any(|other| {
            drill
                .observer
                .wait(*address, &[other], Duration::from_millis(50))
        })
    };
    let gone = (0..TRIES * 20).any(|_| home_addresses(host).iter().all(away));
    drill.array.rais(host, &["resume", &name])?;
    if gone {
        Ok(())
    } else {
        broken(format!("{name} is drained and serves on"))
    }
}

pub fn drains(drill: &mut Drill<'_>, _: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let drained = owner % drill.array.hosts() + 1;
    drill.strike(
        &format!("h{drained} drained while h{owner} is stopped"),
        &[drained, owner],
        false,
        |drill| {
            drill.array.stop(owner, Scope::Family)?;
            drill.stop.pause(100);
            let done = drain(drill, drained);
            wake(drill, owner)?;
            done
        },
    )?;
    let cut = unheard(&[owner], &[leader]);
    under(
        drill,
        &cut,
        drained,
        &format!("h{drained} drained while the leader does not hear h{owner}"),
        false,
    )?;
    let percent = 30;
    let of = |network| Fault::Loss {
        host: owner,
        network,
        percent,
    };
    under(
        drill,
        &Network::ALL.map(of),
        drained,
        &format!("h{drained} drained under loss at h{owner}"),
        true,
    )
}

fn under(drill: &mut Drill<'_>, faults: &[Fault], drained: u8, words: &str, hides: bool) -> Done {
    drill.strike(words, &[drained], hides, |drill| {
        let mut injected = Vec::new();
        for fault in faults {
            injected.push(drill.array.inject(fault)?);
        }
        let done = drain(drill, drained);
        for one in injected {
            one.undo()?;
        }
        done
    })?;
    Ok(())
}
