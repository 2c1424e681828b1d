//! An upgrade and what may come at the wrong moment: another L, certificates that run out, a clock that is
//! years off, heartbeats of an old boot sent again.

use super::{Done, LEASE, broken};
use crate::drill::{Drill, HOME};
use crate::lab::array::built_binary;
use crate::lab::{Fault, LabError};

/// Every certificate made before has run out: they last two years.
const TWO_YEARS_AND_MORE_S: i64 = 750 * 24 * 3600;
/// So much later at least ends the certificate that is made then.
const MUCH_LATER_S: u64 = 700 * 24 * 3600;
/// The host in a rolling upgrade after which L changes and all certificates run out.
const MIDDLE: u8 = 3;
/// So many heartbeats are sent again.
const REPLAYED: usize = 20;
/// Hosts that were dialled and refused for the dates of their certificate.
const REFUSED: &str = "rais_certificates_refused_total{side=\"client\"}";
/// When a host's certificate ends, and how many hosts are connected to it.
const EXPIRES: &str = "rais_certificate_expires_timestamp_seconds";
const CONNECTED: &str = "rais_transport_connected_hosts";
/// Datagrams sealed under a key that is no more.
const OF_NO_SESSION: &str = "rais_datagrams_total{fate=\"unknown_session\"}";

pub fn upgraded(drill: &mut Drill<'_>, _: bool) -> Done {
    for (words, lease) in [
        (
            "upgrade, L to 400 ms and all certificates out in the middle",
            400,
        ),
        ("downgrade, L back to 300 ms", 300),
    ] {
        gapless(drill, &format!("rolling {words}"), |drill| {
            rolled(drill, lease)
        })?;
    }
    gapless(drill, "a host restarted two years ahead", out_of_time)?;
    gapless(drill, "heartbeats of an old boot sent again", replayed)
}

/// No address of any host is silent for longer than L while `work` is done.
fn gapless(
    drill: &mut Drill<'_>,
    words: &str,
    mut work: impl FnMut(&mut Drill<'_>) -> Done,
) -> Done {
    drill.line(&format!("{words}, longest gap"), LEASE, |drill| {
        let struck = drill.strike(words, &[], false, &mut work)?;
        let all = 1..=drill.array.hosts();
        let gaps = all.map(|host| drill.gap(host, struck.began));
        Ok(gaps.max().unwrap_or_default())
    })
}

/// Installs and restarts one host after the other; in the middle of the way up L changes, and every wall clock
/// goes two years ahead, until the last one is done. One host restarts at once, among certificates that have run
/// out; for the next the array is whole again.
fn rolled(drill: &mut Drill<'_>, lease: u32) -> Done {
    let is_up = lease == 400;
    let file = drill.lab.logs().join("timing.toml");
    let text = format!("preset = \"lan\"\nsuspect = \"{lease}ms\"\nlease = \"{lease}ms\"\n");
    std::fs::write(&file, text).map_err(|source| LabError::System {
        what: "write the timing".to_owned(),
        source,
    })?;
    let own = built_binary()?;
    let binary = drill.other.clone().filter(|_| is_up).unwrap_or(own);
    let (mut ahead, mut expires) = (Vec::new(), Vec::new());
    for host in 1..=drill.array.hosts() {
        drill.array.install(host, &binary)?;
        drill.array.restart(host)?;
        drill.array.bring_home(&drill.observer, HOME)?;
        for (host, before) in (1..).zip(expires.iter().copied()) {
            let others = u64::from(drill.array.hosts()) - 1;
            counted(
                drill,
                "a new certificate",
                host,
                EXPIRES,
                before + MUCH_LATER_S,
            )?;
            counted(drill, "all are connected", host, CONNECTED, others)?;
        }
        if host == MIDDLE {
            let file = file.display().to_string();
            drill.array.rais(host, &["timing", "apply", &file])?;
            let out = (1..=drill.array.hosts()).filter(|_| is_up);
            for host in out {
                let by_s = TWO_YEARS_AND_MORE_S;
                expires.push(drill.array.metric(host, EXPIRES)?);
                ahead.push(drill.array.inject(&Fault::Clock { host, by_s })?);
            }
        }
    }
    for one in ahead {
        one.undo()?;
    }
    Ok(())
}

/// A host that starts with its clock two years ahead stays outside: it finds the others' certificates run out,
/// and they find its own not good yet. With the clock set right it comes back.
fn out_of_time(drill: &mut Drill<'_>) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let before = drill.array.metric(leader, REFUSED)?;
    let by_s = TWO_YEARS_AND_MORE_S;
    let ahead = drill.array.inject(&Fault::Clock { host: owner, by_s })?;
    drill.array.restart(owner)?;
    counted(
        drill,
        "the leader refuses the host of the future",
        leader,
        REFUSED,
        before + 1,
    )?;
    counted(
        drill,
        "that host refuses certificates of the past",
        owner,
        REFUSED,
        1,
    )?;
    drill.stop.pause(1_000);
    let status = drill.array.status(leader)?;
    let mut hosts = status["hosts"].as_array().into_iter().flatten();
    let name = format!("h{owner}");
    if !hosts.any(|host| host["name"] == name.as_str() && host["up"] == false) {
        return broken(format!("{name} is let in: {}", status["hosts"]));
    }
    ahead.undo()?;
    Ok(())
}

/// What a host said before its restart is sent again to somebody who knows of the new boot.
fn replayed(drill: &mut Drill<'_>) -> Done {
    let (leader, owner) = drill.leader_and_owner()?;
    let heartbeats = drill.lab.record(owner, leader, REPLAYED)?;
    drill.array.restart(owner)?;
    drill.array.bring_home(&drill.observer, HOME)?;
    let before = drill.array.metric(leader, OF_NO_SESSION)?;
    drill.lab.replay(leader, &heartbeats)?;
    let all = u64::try_from(REPLAYED).unwrap_or(u64::MAX);
    counted(
        drill,
        "each of them is refused",
        leader,
        OF_NO_SESSION,
        before + all,
    )
}

fn counted(drill: &Drill<'_>, what: &str, host: u8, name: &str, least: u64) -> Done {
    let came = |metric: Result<u64, _>| metric.is_ok_and(|count| count >= least);
    let array = &drill.array;
    array.until(HOME, what, |array| came(array.metric(host, name)))?;
    Ok(())
}
