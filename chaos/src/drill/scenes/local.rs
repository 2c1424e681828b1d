//! What is done to one host: its clock, disk, rules and addresses, its name server.

use super::{Done, MENDED, beside, broken, fences, stop_for, wake};
use crate::drill::{Drill, HOME, flood};
use crate::lab::array::{Array, home_addresses, with_prefix};
use crate::lab::{Fault, Scope, now};
use std::time::Duration;

/// Another program holds RTNL so long, in ms.
const HELD_MS: u64 = 5_000;
/// Changes to the array while a disk is full, twice as many entries.
const WRITES: usize = 15;

pub fn leader_paused(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let ms = if is_long { 10_000 } else { 3_000 };
    let (leader, teller) = drill.leader_and_owner()?;
    let began = now();
    let stopped = fences(drill, teller, |drill| {
        let words = format!("leader h{leader} stopped, {ms} ms");
        drill.strike(&words, &[leader], false, |drill| {
            stop_for(drill, leader, Scope::Family, ms)
        })?;
        Ok(())
    })?;
    if stopped.iter().any(|host| *host != format!("h{leader}")) {
        return broken(format!(
            "leader h{leader} stopped, and fenced were {stopped:?}"
        ));
    }
    drill.no_gap(beside(drill, &[leader]), began)?;
    let (leader, teller) = drill.leader_and_owner()?;
    let began = now();
    let frozen = fences(drill, teller, |drill| {
        let words = format!("disk of the leader h{leader} frozen, {ms} ms");
        drill
            .during(&[Fault::Freeze { host: leader }], ms, &words, &[leader])
            .map(drop)
    })?;
    if frozen.iter().any(|host| *host != format!("h{leader}")) {
        return broken(format!(
            "the disk of h{leader} hung, and fenced were {frozen:?}"
        ));
    }
    drill.no_gap(beside(drill, &[leader]), began)
}

pub fn clocks(drill: &mut Drill<'_>, _: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let (began, hour) = (now(), 3_600);
    let fenced = fences(drill, leader, |drill| {
        for (host, by_s) in [
            (leader, hour),
            (owner, -hour),
            (owner, hour),
            (leader, -hour),
        ] {
            let words = format!("wall clock of h{host} off by {by_s} s");
            drill.during(&[Fault::Clock { host, by_s }], 1_000, &words, &[host])?;
        }
        drill.strike("all wall clocks strobed by an hour", &[], false, |drill| {
            for by_s in [hour, -hour].repeat(5) {
                let all: Vec<Fault> = (1..=drill.array.hosts())
                    .map(|host| Fault::Clock { host, by_s })
                    .collect();
                drill.hold(&all, 100)?;
            }
            Ok(())
        })?;
        Ok(())
    })?;
    if !fenced.is_empty() {
        return broken(format!("fenced: {fenced:?}"));
    }
    drill.no_gap(1..=drill.array.hosts(), began)
}

pub fn hands(drill: &mut Drill<'_>, _: bool) -> Done {
    let (_, owner) = drill.leader_and_owner()?;
    drill.line(
        "nft flush ruleset and each table deleted, gap",
        MENDED,
        |drill| {
            let struck = drill.strike(
                &format!("tables of h{owner} deleted by hand"),
                &[owner],
                false,
                |drill| {
                    drop(drill.array.inject(&Fault::FlushRules { host: owner })?);
                    let host = drill.lab.host(owner)?;
                    for table in host.nft_list(&["list", "tables"])?.lines() {
                        // From kernel 6.9 on they are the warden's own, and this is refused.
                        let refused = host.nft(&format!("delete {table}\n")).is_err();
                        drill.stop.say(format_args!(
                            "      delete {table}: {}",
                            if refused { "refused" } else { "done" }
                        ));
                    }
                    drill.stop.pause(1_000);
                    Ok(())
                },
            )?;
            Ok(drill.gap(owner, struck.began))
        },
    )?;
    for address in home_addresses(owner) {
        drill.line(
            &format!("{address} deleted by hand, gap"),
            MENDED,
            |drill| {
                let struck = drill.strike(
                    &format!("{address} of h{owner} deleted by hand"),
                    &[owner],
                    false,
                    |drill| {
                        let address =
                            format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
                        drop(drill.array.inject(&Fault::DeleteAddress {
                            host: owner,
                            address,
                        })?);
                        drill.stop.pause(500);
                        Ok(())
                    },
                )?;
                Ok(drill.gap(owner, struck.began))
            },
        )?;
    }
    let thief = owner % drill.array.hosts() + 1;
    let steal = |address| Fault::AddAddress {
        host: thief,
        address: with_prefix(address),
    };
    let faults = home_addresses(owner).map(steal);
    let began = now();
    drill.during(
        &faults,
        1_000,
        &format!("h{owner}'s addresses added to h{thief} by hand"),
        &[owner, thief],
    )?;
    drill.no_gap([owner], began)
}

/// Sets of nftables that take the kernel long to build, under its lock.
fn slow_rules(elements: u32) -> String {
    let one = |n: u32| {
        let (a, b) = (n / 250 % 250, n % 250);
        format!("10.{a}.{b}.1-10.{a}.{b}.9 . 10.{b}.{a}.1-10.{b}.{a}.7")
    };
    let all: Vec<String> = (0..elements).map(one).collect();
    let all = all.join(", ");
    format!(
        "add table ip hog\nadd set ip hog slow {{ type ipv4_addr . ipv4_addr; flags interval; elements = {{ {all} }}; }}\ndelete table ip hog\n"
    )
}

pub fn netlink_held(drill: &mut Drill<'_>, is_long: bool) -> Done {
    nftables_held(drill, is_long)?;
    for _ in 0..if is_long { 5 } else { 1 } {
        rtnl_held(drill, false)?;
        rtnl_held(drill, true)?;
    }
    Ok(())
}

/// RTNL held: with nothing else, or while an owner is stopped whose addresses others must put on.
fn rtnl_held(drill: &mut Drill<'_>, stops: bool) -> Done {
    let (_, owner) = drill.leader_and_owner()?;
    let fault = Fault::Rtnl { ms: HELD_MS };
    let (words, hosts) = if stops {
        (format!("{fault}, while h{owner} is stopped"), vec![owner])
    } else {
        (fault.to_string(), Vec::new())
    };
    let mut waited = Duration::ZERO;
    let struck = drill.strike(&words, &hosts, true, |drill| {
        let held = drill.array.inject(&fault)?;
        if stops {
            drill.array.stop(owner, Scope::Family)?;
        }
        drill.lab.client().ip(&["link", "set", "lo", "up"])?;
        waited = now().since(held.done);
        held.undo()?;
        wake(drill, owner)
    })?;
    let gaps = (1..=drill.array.hosts()).map(|host| drill.gap(host, struck.began));
    let gaps: Vec<Duration> = gaps.collect();
    let figure = format!("{words}: `ip link` elsewhere waited {waited:.1?}; gaps {gaps:.0?}");
    drill.note(figure.clone());
    if waited < Duration::from_millis(HELD_MS / 2) {
        return broken(format!("the lock was not held: {figure}"));
    }
    // Nobody can take over, and nobody else need notice.
    drill.no_gap(beside(drill, &hosts), struck.began)
}

/// Transactions that hold nftables' own lock.
fn nftables_held(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let rounds = if is_long { 20 } else { 4 };
    let (_, owner) = drill.leader_and_owner()?;
    let rules = slow_rules(40_000);
    drill.strike(
        &format!("nftables' lock held on h{owner}"),
        &[owner],
        true,
        |drill| {
            // A transaction keeps a core for as long, and this lab has few.
            drill.array.wardens_may_hang();
            let host = drill.lab.host(owner)?;
            for _ in 0..rounds {
                let began = now();
                host.nft(&rules)?;
                drill.stop.say(format_args!(
                    "      a transaction of {:.1?}",
                    now().since(began)
                ));
            }
            Ok(())
        },
    )?;
    Ok(())
}

pub fn disk_full(drill: &mut Drill<'_>, _: bool) -> Done {
    for is_leader in [false, true] {
        let (leader, owner) = drill.leader_and_owner()?;
        let host = if is_leader { leader } else { owner };
        let part = if is_leader { ", the leader" } else { "" };
        let log = drill.array.daemon(host)?.log().to_owned();
        let read = || std::fs::read_to_string(&log).unwrap_or_default();
        let (before, began) = (read().len(), now());
        let mut goes_on = false;
        drill.strike(
            &format!("disk of h{host} full{part}"),
            &[host],
            false,
            |drill| {
                let full = drill.array.inject(&Fault::Full { host })?;
                // Something to write.
                let other = host % drill.array.hosts() + 1;
                let name = format!("h{other}");
                for _ in 0..WRITES {
                    // The leader may be the one that can't write.
                    let _refused = drill.array.rais(other, &["quiesce", &name]);
                    let _refused = drill.array.rais(other, &["resume", &name]);
                }
                goes_on = drill.array.daemon(host).is_ok();
                full.undo()?;
                let resumed = |array: &Array<'_>| array.rais(other, &["resume", &name]).is_ok();
                Ok(drill.array.until(HOME, "it is resumed", resumed)?)
            },
        )?;
        let said = read().get(before..).unwrap_or_default().to_lowercase();
        drill
            .stop
            .say(format_args!("      with a full disk it goes on: {goes_on}"));
        if !goes_on && !said.contains("space") {
            return broken(format!(
                "h{host} ended, and its log does not say that the disk is full: {said}"
            ));
        }
        drill.no_gap(beside(drill, &[host]), began)?;
    }
    Ok(())
}

pub fn flooded(drill: &mut Drill<'_>, is_long: bool) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let (ms, began) = (if is_long { 10_000 } else { 3_000 }, now());
    let fenced = fences(drill, leader, |drill| {
        drill.strike(
            &format!("DNS of h{owner} flooded"),
            &[owner],
            false,
            |drill| {
                let sent = flood::flood(drill.lab, owner, ms, &drill.stop)?;
                drill.figures.push(format!("{sent} queries in {ms} ms"));
                Ok(())
            },
        )?;
        Ok(())
    })?;
    if !fenced.is_empty() {
        return broken(format!("fenced: {fenced:?}"));
    }
    drill.no_gap([owner], began)
}
