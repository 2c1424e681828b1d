//! `rais why`, for the rows of the placement table that a demo can show (the stories in
//! `tests/scenarios` have all of them).

use crate::array::{Array, name, service, until};
use crate::life::served_elsewhere;

/// The verdict on a host, and whether it was chosen.
fn verdict(why: &serde_json::Value, host: u8) -> (bool, String) {
    let all = why["candidates"].as_array().unwrap();
    let one = all.iter().find(|one| one["host"] == name(host)).unwrap();
    (
        one["chosen"] == true,
        one["verdict"].as_str().unwrap().to_owned(),
    )
}

/// Goal: an address at home is explained by the first row of the table.
/// Method: `why` at each host, in words and in JSON.
#[test]
fn why_explains_an_address_at_home() {
    let array = Array::start(3);
    for asked in 1..=3 {
        let why = array.json(asked, &["why", "127.77.1.2"]);
        assert_eq!(
            (&why["holder"], &why["state"]),
            (&"h2".into(), &"online".into())
        );
        let (chosen, words) = verdict(&why, 2);
        assert!(
            chosen && words.contains("its preferred host is up"),
            "{words}"
        );
        assert!(verdict(&why, 1).1.contains("the preferred host goes first"));
    }
    let words = array.rais(1, &["why", "127.77.1.2"]).good();
    assert!(
        words.contains("nothing: this is the equilibrium"),
        "{words}"
    );
    let first = array.json(1, &["why", "127.77.1.2"])["since_ms"]
        .as_u64()
        .unwrap();
    until("its time at home goes on", 10, || {
        let now = array.json(1, &["why", "127.77.1.2"])["since_ms"].as_u64()?;
        (now >= first + 1_000).then_some(())
    });
    array
        .rais(1, &["why", "127.77.1.99"])
        .refused(&["there is no address 127.77.1.99", "rais addresses"]);
    assert_eq!(array.rais(1, &["why", "here"]).code, 2);
}

/// Goal: an orphan's place is explained: who is down, who was chosen by which rule, when it runs out.
/// Method: `why` after a kill.
#[test]
fn why_explains_an_orphan_at_another_host() {
    let array = Array::start(3);
    let (victim, leader) = array.follower_and_leader();
    let other = (1..=3)
        .find(|host| ![victim, leader].contains(host))
        .unwrap();
    array.kill(victim);
    let served = served_elsewhere(&array, service(victim), &[victim]);
    let why = until("the log says who serves it", 20, || {
        let why = array.json(other, &["why", &service(victim).to_string()]);
        (why["state"] == "online").then_some(why)
    });
    assert_eq!(why["holder"], served.host);
    assert!(
        why["rule"]
            .as_str()
            .unwrap()
            .contains("held the fewest addresses"),
        "{why}"
    );
    assert!(verdict(&why, victim).1.contains("it is down"));
    let next = why["next"].as_str().unwrap();
    assert!(next.contains(&format!("until {} ", name(victim))), "{next}");
    assert!(why["next_in_ms"].as_u64().unwrap() > 29 * 24 * 3_600_000);
}

/// Goal: with nobody to serve an address, that is said once and loudly, and why.
/// Method: all hosts quiesced, one killed: its address stays unserved until one is resumed.
#[test]
fn why_explains_that_nobody_is_eligible() {
    let mut array = Array::start(3);
    for host in 1..=3 {
        array.rais(1, &["quiesce", &name(host)]).good();
    }
    let (victim, leader) = array.follower_and_leader();
    array.kill(victim);
    let why = until("the address is unserved", 20, || {
        let why = array.json(leader, &["why", &service(victim).to_string()]);
        (why["state"] == "unserved").then_some(why)
    });
    assert!(why["holder"].is_null(), "{why}");
    let (chosen, words) = verdict(&why, leader);
    assert!(
        !chosen && words.contains("an operator quiesced it"),
        "{words}"
    );
    assert!(
        why["next"]
            .as_str()
            .unwrap()
            .contains("as soon as a member can"),
        "{why}"
    );
    let stranded = until("an event says so", 20, || {
        let events = array.events(leader);
        let found = events
            .iter()
            .filter(|e| e["kind"] == "cannotAssign")
            .count();
        (found > 0).then_some(found)
    });
    assert_eq!(stranded, 1);
    array.rais(leader, &["resume", &name(leader)]).good();
    assert_eq!(
        served_elsewhere(&array, service(victim), &[victim]).host,
        name(leader)
    );
    array.end();
}
