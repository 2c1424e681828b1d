//! The API's values against the contract, and over the wire.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::cli::sample;
use statemachine::{Effect, Epoch, Happening, HostId, Policy, Reason, Rejected, State};

/// The example of interface.md, its placeholders filled in.
fn contract() -> Value {
    json!({"array": "…", "leader": "h1", "term": 3, "quorum": true, "version": "0.1.0",
     "hosts": [{"name": "h1", "id": 1, "role": "voter", "up": true, "observer": false, "control": ["10.77.0.1:7400"], "last_heard_ms": 41, "lease_ms": 259}],
     "groups": [{"name": "web", "zone": "web.example.", "serial": 17, "published": ["10.77.0.101"],
       "members": [{"host": "h1", "preferred": ["10.77.0.101"], "spare": false, "healthy": true, "quiesced": false, "utilization": 312}],
       "addresses": [{"address": "10.77.0.101", "state": "online", "host": "h1", "preferred_host": "h1",
                      "epoch": 4, "orphan_expires_s": null}]}]})
}

/// The fields of the contract that `ours` lacks or holds with another type.
fn differences(path: &str, contract: &Value, ours: Option<&Value>) -> Vec<String> {
    match (contract, ours) {
        (_, None) => vec![format!("{path} is missing")],
        (Value::Object(want), Some(Value::Object(have))) => want
            .iter()
            .flat_map(|(key, value)| differences(&format!("{path}.{key}"), value, have.get(key)))
            .collect(),
        (Value::Array(want), Some(Value::Array(have))) => {
            differences(&format!("{path}[]"), &want[0], have.first())
        }
        (want, Some(have)) => {
            let same = std::mem::discriminant(want) == std::mem::discriminant(have);
            if same {
                Vec::new()
            } else {
                vec![format!("{path} is {have}, the contract has {want}")]
            }
        }
    }
}

/// Goal: tools that read `status --json` by the contract go on reading it.
/// Method: each field of the contract's example is there, with its type.
#[test]
fn status_has_every_field_of_the_contract() {
    let ours = serde_json::to_value(sample::status()).unwrap();
    assert_eq!(
        differences("status", &contract(), Some(&ours)),
        Vec::<String>::new()
    );
    let words = [
        AddressWord::Unserved,
        AddressWord::Acquiring,
        AddressWord::Online,
        AddressWord::Releasing,
    ];
    assert_eq!(
        serde_json::to_value(words).unwrap(),
        json!(words.map(AddressWord::as_str))
    );
    assert_eq!(
        serde_json::to_value([HostRole::Voter, HostRole::Learner]).unwrap(),
        json!(["voter", "learner"])
    );
}

/// Goal: an event reads as the contract says.
/// Method: the record of a zone change and of a failover.
#[test]
fn events_are_named_dated_and_carry_their_phases() {
    let zone = Effect::new(Happening::ZoneChanged {
        serial: 7,
        published: BTreeSet::new(),
        ttl_s: 1,
    })
    .group(&"web".into());
    let record =
        serde_json::to_value(EventRecord::of(&zone, 12, 1_000, &State::default(), None)).unwrap();
    let wanted = json!({"at": "1970-01-01T00:00:01.000Z", "index": 12, "kind": "zoneChanged", "group": "web",
        "address": null, "host": null, "reason": "serial 7 publishes nothing, ttl 1s", "phases": null});
    assert_eq!(record, wanted);
    let acquired = Effect::new(Happening::Acquire {
        epoch: Epoch(3),
        acquire_ms: 9,
        announce_ms: 1,
    })
    .host(HostId(4))
    .reason(Reason::Spare);
    let phases = Some(Phases {
        acquire: Some(9),
        ..Phases::default()
    });
    let record =
        serde_json::to_value(EventRecord::of(&acquired, 13, 0, &State::default(), phases)).unwrap();
    assert_eq!(
        (&record["host"], &record["phases"]["acquire"]),
        (&json!("host-4"), &json!(9))
    );
    assert!(record["reason"].as_str().unwrap().contains("hot spare"));
}

/// Goal: the calendar is right at its edges.
/// Method: leap days, ends of years, the first and last instants; nonsense is refused.
#[test]
fn wall_time_is_written_and_read() {
    let table = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (1_583_020_799_999, "2020-02-29T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (1_795_240_321_123, "2026-11-21T05:52:01.123Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ];
    for (ms, text) in table {
        assert_eq!(WallTime(ms).to_string(), text);
        assert_eq!(text.parse(), Ok(WallTime(ms)));
    }
    assert_eq!(WallTime(u64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
    assert_eq!(
        "2026-11-21T05:52:01Z".parse(),
        Ok(WallTime(1_795_240_321_000))
    );
    for bad in [
        "",
        "2023-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-1-1T0:0:60Z",
        "1969-01-01T00:00:00Z",
        "2026-11-21 05:52:01",
        "-1-1-1T0:0:0Z",
    ] {
        assert!(bad.parse::<WallTime>().is_err(), "{bad}");
    }
}

/// Goal: a supposition is understood, or the person is told how to put it.
/// Method: each form, printed again; then each mistake.
#[test]
fn hypotheses_are_read_or_refused_clearly() {
    for text in [
        "down h2",
        "up h2",
        "quiesce h2",
        "quiesce h2 web",
        "resume h2 web",
    ] {
        assert_eq!(text.parse::<Hypothesis>().unwrap().to_string(), text);
    }
    let table = [
        ("", "the supposition is empty"),
        ("kill h2", "`kill` can't be supposed"),
        ("down", "`down` names no host"),
        ("down H2", "write `h2`"),
        ("down h2 web", "`down` takes no group, but `web` is given"),
        ("quiesce h2 web x", "`x` is one word too many"),
    ];
    for (text, wanted) in table {
        let told = text.parse::<Hypothesis>().unwrap_err().to_string();
        assert!(told.contains(wanted), "{text}: {told}");
    }
}

/// Goal: each value that goes over the wire arrives as it was sent.
/// Method: bincode through serde and back, for one value of each kind.
#[test]
fn values_survive_the_wire() {
    let config = bincode::config::standard();
    let requests = vec![
        Request::Status,
        Request::Why {
            address: "fd00::1".parse().unwrap(),
        },
        Request::Plan {
            hypotheses: vec!["quiesce h2 web".parse().unwrap()],
        },
        Request::GroupApply {
            policy: Box::new(Policy::new("web", "web.example.")),
            seen: Some(3),
            dry_run: true,
        },
        Request::TokenCreate {
            ttl_s: 3_600,
            uses: 1,
        },
    ];
    for request in requests {
        let bytes = bincode::serde::encode_to_vec(&request, config).unwrap();
        let (back, used): (Request, usize) =
            bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!((back, used), (request, bytes.len()));
    }
    for response in sample::responses() {
        let bytes = bincode::serde::encode_to_vec(&response, config).unwrap();
        let (back, used): (Response, usize) =
            bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!((back, used), (response.clone(), bytes.len()));
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response);
    }
}

/// Goal: what changes the array is known as such, and only that.
/// Method: a dry run, a real run, a look, an explanation.
#[test]
fn writes_go_to_the_leader() {
    let apply = |dry_run| Request::GroupApply {
        policy: Box::new(Policy::new("w", "w.")),
        seen: None,
        dry_run,
    };
    assert!(apply(false).is_write() && !apply(true).is_write() && apply(true).needs_leader());
    assert!(!Request::Status.needs_leader());
    let plan = Request::Plan {
        hypotheses: Vec::new(),
    };
    assert!(plan.needs_leader() && !plan.is_write());
}

/// Goal: a refusal of the state machine reaches the person with a way out.
/// Method: three refusals of different kinds.
#[test]
fn refusals_carry_a_remedy() {
    let table = [
        (
            Rejected::UnknownHost(HostId(9)),
            ProblemKind::NotFound,
            "rais hosts",
        ),
        (
            Rejected::BadToken,
            ProblemKind::Forbidden,
            "rais token create",
        ),
        (
            Rejected::Stale {
                planned: 1,
                current: 2,
            },
            ProblemKind::Conflict,
            "retry",
        ),
    ];
    for (rejected, kind, remedy) in table {
        let problem = Problem::rejected(&rejected);
        assert_eq!(problem.kind, kind);
        assert!(problem.remedy.contains(remedy) && problem.kind.http_status() >= 400);
    }
}

/// Goal: the projection of an empty log is an empty status, not a panic.
/// Method: default state, default view.
#[test]
fn an_empty_log_gives_an_empty_status() {
    let status = project(&State::default(), &Live::default());
    assert!(
        status.hosts.is_empty()
            && status.groups.is_empty()
            && !status.quorum
            && status.leader.is_none()
    );
}

/// Goal: `rais why` has words of its own for each finding of the placement table.
/// Method: every verdict; none empty, none like another, each a full phrase.
#[test]
fn every_verdict_has_words_of_its_own() {
    use control::Verdict as V;
    let until = statemachine::LogTime(900);
    let all = [
        V::Chosen {
            reason: Reason::Preferred,
        },
        V::Chosen {
            reason: Reason::Spare,
        },
        V::Chosen {
            reason: Reason::Balanced,
        },
        V::Chosen {
            reason: Reason::Random,
        },
        V::Chosen {
            reason: Reason::Claimed,
        },
        V::Chosen {
            reason: Reason::Operator,
        },
        V::Down,
        V::Fencing,
        V::Silent,
        V::Observer,
        V::Quiesced,
        V::Unhealthy { why: None },
        V::Backoff { until },
        V::NotPinned,
        V::NotPreferred,
        V::NotClaiming,
        V::NotSpare,
        V::HoldsMore { held: 3 },
        V::UsedMore { utilization: 700 },
        V::Lot,
    ];
    let words: BTreeSet<String> = all
        .iter()
        .map(|verdict| verdict_words(verdict, &State::default()))
        .collect();
    assert_eq!(words.len(), all.len());
    assert!(words.iter().all(
        |text| text.starts_with("chosen because ") || text.starts_with("passed over because ")
    ));
    assert!(
        words
            .iter()
            .any(|text| text.ends_with("tried again in 900 ms"))
    );
}

/// Goal: the explanation ends in what happens next, with the time where time decides.
/// Method: an address nobody can serve, an orphan abroad, one at home.
#[test]
fn why_says_what_happens_next() {
    use statemachine::{Address, AddressState, LogTime};
    let ip = "10.77.0.101".parse().unwrap();
    let mut address = Address::new("web".into(), 24, HostId(1), LogTime(0));
    let explain = |address: &Address, orphan_expires_ms| {
        let why = control::Why {
            rule: address.reason,
            choice: None,
            candidates: vec![control::Candidate {
                host: HostId(1),
                verdict: control::Verdict::Down,
            }],
            next: Vec::new(),
            orphan_expires_ms,
            address: address.clone(),
        };
        why_report(ip, &why, &State::default())
    };
    let stranded = explain(&address, Some(5_000));
    assert!(
        stranded
            .next
            .contains("leaves the group as an orphan in 5 s"),
        "{}",
        stranded.next
    );
    assert_eq!((stranded.next_in_ms, stranded.holder), (Some(5_000), None));
    address.state = AddressState::Online { host: HostId(2) };
    assert!(
        explain(&address, Some(1))
            .next
            .starts_with("nothing until host-1 takes it again")
    );
    address.state = AddressState::Online { host: HostId(1) };
    assert_eq!(
        explain(&address, None).next,
        "nothing: this is the equilibrium"
    );
}
