//! What tools read: the names in `status --json` and `events --json` are a contract (interface.md).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::array::{Array, name, service, until};
use crate::life::{served_by, served_elsewhere};

/// Says of what kind a field is.
type Is = fn(&Value) -> bool;

/// Checks that `value` has all of `fields`, each of the kind that `is` says.
fn has(value: &Value, fields: &[(&str, Is)]) {
    for (field, is) in fields {
        let found = value
            .get(*field)
            .unwrap_or_else(|| panic!("no field `{field}` in {value}"));
        assert!(is(found), "`{field}` is {found}");
    }
}

fn is_word(value: &Value) -> bool {
    value.is_string()
}

fn is_number(value: &Value) -> bool {
    value.is_u64()
}

fn is_number_or_null(value: &Value) -> bool {
    value.is_u64() || value.is_null()
}

fn is_flag(value: &Value) -> bool {
    value.is_boolean()
}

fn is_list(value: &Value) -> bool {
    value.is_array()
}

/// Goal: `status --json` has every name of the contract, of the right kind.
/// Method: each level of the answer of each host.
#[test]
fn status_has_the_fields_of_the_contract() {
    let array = Array::start(3);
    for asked in 1..=3 {
        let status = array.json(asked, &["status"]);
        has(
            &status,
            &[
                ("array", is_word),
                ("leader", is_word),
                ("term", is_number),
                ("quorum", is_flag),
            ],
        );
        has(
            &status,
            &[
                ("version", is_word),
                ("hosts", is_list),
                ("groups", is_list),
            ],
        );
        for host in status["hosts"].as_array().unwrap() {
            has(
                host,
                &[
                    ("name", is_word),
                    ("id", is_number),
                    ("role", is_word),
                    ("up", is_flag),
                    ("observer", is_flag),
                ],
            );
            has(
                host,
                &[
                    ("control", is_list),
                    ("last_heard_ms", is_number_or_null),
                    ("lease_ms", is_number_or_null),
                ],
            );
            assert_eq!(host["role"], "voter");
            assert!(
                host["last_heard_ms"].as_u64().is_some_and(|ms| ms < 5_000),
                "h{asked} of {host}"
            );
        }
        let group = &status["groups"][0];
        has(
            group,
            &[
                ("name", is_word),
                ("zone", is_word),
                ("serial", is_number),
                ("published", is_list),
            ],
        );
        for member in group["members"].as_array().unwrap() {
            has(
                member,
                &[
                    ("host", is_word),
                    ("preferred", is_list),
                    ("spare", is_flag),
                    ("healthy", is_flag),
                ],
            );
            has(
                member,
                &[("quiesced", is_flag), ("utilization", is_number_or_null)],
            );
        }
        for address in group["addresses"].as_array().unwrap() {
            has(
                address,
                &[
                    ("address", is_word),
                    ("state", is_word),
                    ("host", is_word),
                    ("preferred_host", is_word),
                ],
            );
            has(
                address,
                &[("epoch", is_number), ("orphan_expires_s", Value::is_null)],
            );
        }
    }
    for command in ["hosts", "addresses", "groups"] {
        assert!(
            array
                .json(1, &[command])
                .as_array()
                .is_some_and(|all| !all.is_empty()),
            "{command}"
        );
    }
}

/// Goal: `events --json` is NDJSON with the names of the contract; a failover tells its phases, and
/// every host tells the same.
/// Method: a host killed and brought back; the events of two hosts.
#[test]
fn events_are_the_same_everywhere_and_tell_a_failovers_phases() {
    let mut array = Array::start(3);
    let (victim, leader) = array.follower_and_leader();
    let other = (1..=3)
        .find(|host| ![victim, leader].contains(host))
        .unwrap();
    array.kill(victim);
    served_elsewhere(&array, service(victim), &[victim]);
    array.restart(victim);
    served_by(&array, service(victim), victim);
    array.whole();
    let events = until("two hosts tell the same", 10, || {
        let (one, two) = (array.events(leader), array.events(other));
        (one == two).then_some(one)
    });
    let known = ["at", "index", "kind", "group", "address", "host", "reason"];
    for event in &events {
        assert!(
            known.iter().all(|field| event.get(*field).is_some()),
            "{event}"
        );
        let at = event["at"].as_str().unwrap();
        assert!(at.ends_with('Z') && at.as_bytes()[10] == b'T', "{at}");
    }
    let kinds: BTreeSet<&str> = events
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "hostJoined",
        "hostUp",
        "leaderChanged",
        "acquire",
        "zoneChanged",
        "hostFencing",
        "hostDown",
        "release",
    ];
    for kind in expected {
        assert!(kinds.contains(kind), "no {kind} in {kinds:?}");
    }
    let of = |kind: &str| {
        events
            .iter()
            .rfind(|e| e["kind"] == kind && e["host"] == name(victim))
            .unwrap()
            .clone()
    };
    assert!(
        of("hostFencing")["phases"]["detect"]
            .as_u64()
            .is_some_and(|ms| ms >= 250)
    );
    assert!(of("hostDown")["phases"]["fence"].is_u64());
    let taken = events.iter().find(|event| {
        let elsewhere = event["host"] != name(victim) && event["phases"]["detect"].is_u64();
        event["kind"] == "acquire" && event["address"] == service(victim).to_string() && elsewhere
    });
    let phases = taken.unwrap()["phases"].as_object().unwrap();
    let all = ["detect", "fence", "commit", "acquire", "announce"];
    let sum: u64 = all.map(|part| phases[part].as_u64().unwrap()).iter().sum();
    let failover = array.address(leader, service(victim)).unwrap()["failover"].clone();
    assert_eq!(
        (&failover["from"], &failover["ms"]),
        (&json!(name(victim)), &json!(sum))
    );
    let last = events.last().unwrap()["index"].to_string();
    let since = array
        .rais(leader, &["events", "--since", &last, "--json"])
        .good();
    assert_eq!(since, "");
    assert_eq!(
        array
            .rais(leader, &["events", "--limit", "2", "--json"])
            .good()
            .lines()
            .count(),
        2
    );
}
