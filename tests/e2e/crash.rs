//! All at once: every daemon killed, and what the disk holds afterwards.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::array::{Array, WHOLE_S, service, until};
use crate::ask;
use crate::life::{published_everywhere, served_by};
use crate::orphan::{apply_with, remaining_ms};

/// The epoch of each address, as host `asked` knows it.
fn epochs(array: &Array, asked: u8) -> BTreeMap<IpAddr, u64> {
    let of = |host: u8| {
        (
            service(host),
            array.address(asked, service(host)).unwrap()["epoch"]
                .as_u64()
                .unwrap(),
        )
    };
    (1..=array.hosts).map(of).collect()
}

/// What must outlive a crash, whatever else happened.
fn lasting(status: &Value) -> Value {
    let hosts = status["hosts"].as_array().unwrap().iter();
    let hosts: Vec<Value> = hosts
        .map(|host| serde_json::json!([host["name"], host["id"], host["control"]]))
        .collect();
    let group = &status["groups"][0];
    let members: Vec<&Value> = group["members"].as_array().unwrap().iter().collect();
    let addresses = group["addresses"].as_array().unwrap().iter();
    let addresses: Vec<Value> = addresses
        .map(|a| serde_json::json!([a["address"], a["preferred_host"]]))
        .collect();
    serde_json::json!([
        status["array"],
        hosts,
        group["name"],
        group["zone"],
        members,
        addresses
    ])
}

/// Goal: a power failure of the whole array loses nothing and repeats no epoch.
/// Method: SIGKILL of all daemons within milliseconds, the demo goes on in the same directory.
#[test]
fn after_all_daemons_were_killed_the_array_goes_on_as_it_was() {
    let mut array = Array::start(3);
    let policy = apply_with(&array, &[("ttl = \"5s\"", "ttl = \"7s\"")]);
    array.rais(1, &["quiesce", "h3"]).good();
    let (before, old) = (array.json(1, &["status"]), epochs(&array, 1));
    let serial = ask::serial(array.dns(1)).unwrap();
    for host in 1..=3 {
        array.kill(host);
    }
    array.end();
    array.resume();
    let what = "every address is served by somebody under a new epoch";
    let new = until(what, WHOLE_S, || {
        let mut seen = BTreeMap::new();
        for host in 1..=3 {
            let served = ask::http(service(host), array.http_port())?;
            seen.insert(service(host), served.epoch);
        }
        let quiet = array
            .try_json(1, &["plan"])
            .is_some_and(|plan| plan["steps"].as_array().is_some_and(Vec::is_empty));
        quiet.then_some(seen)
    });
    for (address, epoch) in &new {
        assert!(
            epoch > &old[address],
            "{address}: epoch {epoch} after {}",
            old[address]
        );
    }
    let mut both: Vec<u64> = old.values().chain(new.values()).copied().collect();
    both.sort_unstable();
    both.dedup();
    assert_eq!(both.len(), 6, "an epoch was given twice: {old:?}, {new:?}");
    assert_eq!(lasting(&array.json(1, &["status"])), lasting(&before));
    assert_eq!(array.rais(2, &["group", "show", "web"]).good(), policy);
    assert!(ask::serial(array.dns(1)).unwrap() >= serial);
    array.rais(1, &["resume", "h3"]).good();
    array.whole();
}

/// Goal: a crash of the whole array neither stops nor hurries an orphan's timer; when it ends, the
/// address leaves the group until its host brings it back.
/// Method: one host dead, `orphan_ttl` of 60 s, the shortest; all others killed and started again; the
/// time left is compared with the time that really went by. Then the end is awaited.
#[test]
fn an_orphans_timer_goes_on_through_a_crash_of_all_hosts_and_ends() {
    let mut array = Array::start(3);
    apply_with(&array, &[("orphan_ttl = \"30d\"", "orphan_ttl = \"60s\"")]);
    let (victim, asked) = (3, 1);
    array.kill(victim);
    let (before, at) = until("h3's address is an orphan", 20, || {
        Some((
            remaining_ms(&array, asked, service(victim))?,
            std::time::Instant::now(),
        ))
    });
    assert!(before <= 60_000, "{before}");
    for host in [1, 2] {
        array.kill(host);
    }
    array.end();
    // Its place stays empty: a demo starts every host that has an identity.
    let (identity, hidden) = (
        array.data(victim).join("identity.toml"),
        array.data(victim).join("hidden"),
    );
    std::fs::rename(&identity, &hidden).unwrap();
    array.resume();
    let (after, read_at) = until("h3's address is an orphan still", WHOLE_S, || {
        let left = remaining_ms(&array, asked, service(victim))?;
        Some((left, std::time::Instant::now()))
    });
    let elapsed = u64::try_from(read_at.duration_since(at).as_millis()).unwrap();
    assert!(
        after < before,
        "the timer began anew: {before} ms, then {after} ms"
    );
    // Rounding of two reads, and the drift of a clock, but never twice as fast.
    assert!(
        before - after <= elapsed + 500,
        "the timer ran {} ms in {elapsed} ms",
        before - after
    );
    std::fs::rename(&hidden, &identity).unwrap();
    array.let_others_go_on();
    expires_and_returns(&mut array, asked, victim);
}

/// The orphan's end: the address leaves the group, and its host brings it back.
fn expires_and_returns(array: &mut Array, asked: u8, victim: u8) {
    let address = service(victim);
    let epoch = array.address(asked, address).unwrap()["epoch"].as_u64();
    until(
        "the orphan has left the group and nobody answers",
        90,
        || {
            let gone = array.address(asked, address).is_none();
            (gone && ask::http(address, array.http_port()).is_none()).then_some(())
        },
    );
    let events = array.events(asked);
    let expired = events.iter().filter(|e| e["kind"] == "orphanExpired");
    assert_eq!(expired.count(), 1);
    let why = array.rais(asked, &["why", &address.to_string()]);
    why.refused(&["there is no address", "rais addresses"]);
    // The demo was started without this host, so it is started anew with it.
    array.end();
    array.resume();
    let back = served_by(array, address, victim);
    assert!(
        Some(back.epoch) > epoch,
        "epoch {} after {epoch:?}",
        back.epoch
    );
    published_everywhere(array, &[1, 2, 3], &[1, 2, 3]);
}
