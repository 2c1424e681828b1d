//! The zone as people and resolvers see it: who is out and why, the shorter time to live, the floor, and
//! a name server that has lost the quorum.

use serde_json::Value;

use crate::array::{Array, service, until};
use crate::ask::{self, ZONE};
use crate::orphan::apply_with;

/// The line of `rais zone` about a host.
fn member(array: &Array, asked: u8, host: &str) -> Option<Value> {
    let zone = array.try_json(asked, &["zone", "web"])?;
    let mut members = zone["members"].as_array()?.iter();
    members.find(|one| one["host"] == host).cloned()
}

fn ttl(array: &Array, asked: u8) -> Option<u32> {
    ask::addresses(array.dns(asked), ZONE)?.ttl
}

/// Goal: a host that died is out of the zone with its reason, and answers live shorter until it is back.
/// Method: kill one of three, look at every other name server, start it again.
#[test]
fn a_killed_host_is_told_as_out_and_answers_live_shorter() {
    let array = Array::start(3);
    let here = member(&array, 1, "h3").unwrap();
    assert_eq!(
        (&here["published"], &here["rule"]),
        (&true.into(), &"serving".into()),
        "{here}"
    );
    until("the usual time to live", 10, || {
        (ttl(&array, 1) == Some(5)).then_some(())
    });
    array.kill(3);
    for asked in [1, 2] {
        until("h3 is out", 20, || {
            let gone = member(&array, asked, "h3")?;
            (gone["published"] == false && gone["rule"] == "host_down").then_some(())
        });
        until("answers live shorter", 5, || {
            (ttl(&array, asked) == Some(1)).then_some(())
        });
    }
    let text = array.rais(1, &["zone", "web"]).good();
    for words in [
        "its host is down",
        "host down",
        "fault_ttl",
        "out above 800",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    array.restart(3);
    until("as before", 30, || {
        let all = [1, 2].map(|asked| (ttl(&array, asked), ask::serial(array.dns(asked))));
        let back = ask::published(array.dns(1))?.contains(&service(3));
        (back && all[0].0 == Some(5) && all[0] == all[1]).then_some(())
    });
}

/// Goal: a name server out of touch with the quorum says SERVFAIL once the bound has passed, says so in
/// `status`, and answers again with the quorum.
/// Method: the policy asks for it after a second; two of three daemons are killed, one comes back.
#[test]
fn a_name_server_without_a_quorum_gives_servfail_until_it_is_back() {
    let array = Array::start(3);
    apply_with(
        &array,
        &[
            ("stale = \"serve\"", "stale = \"servfail\""),
            ("stale_after = \"30s\"", "stale_after = \"1s\""),
        ],
    );
    let withheld = || {
        let status = array.try_json(1, &["status"])?;
        status["groups"][0]["withheld"].as_bool()
    };
    assert_eq!(withheld(), Some(false));
    array.kill(2);
    array.kill(3);
    for name in [ZONE, "h1.web.example.", "nobody.web.example."] {
        until("SERVFAIL", 20, || {
            let answer = ask::addresses(array.dns(1), name)?;
            (answer.rcode == 2 && answer.addresses.is_empty()).then_some(())
        });
    }
    assert_eq!(ask::serial(array.dns(1)), None);
    assert_eq!(withheld(), Some(true));
    let status = array.rais(1, &["status"]).good();
    assert!(status.contains("SERVFAIL"), "{status}");
    assert!(array.json(1, &["status"])["current_ms"].as_u64().unwrap() >= 1_000);
    array.restart(2);
    until("an answer again", 30, || {
        (ask::addresses(array.dns(1), ZONE)?.rcode == 0).then_some(())
    });
    until("status says so", 5, || {
        (withheld() == Some(false)).then_some(())
    });
}

/// Goal: by default a name server without a quorum goes on answering; with a floor the zone is not empty
/// when nothing may be published.
/// Method: two of three daemons killed; before that, every host but one quiesced and that one killed.
#[test]
fn by_default_the_last_answer_stands_and_a_floor_holds_the_last_address() {
    let array = Array::start(3);
    apply_with(
        &array,
        &[("all_down = \"empty\"", "all_down = \"last_known\"")],
    );
    let (_, leader) = array.follower_and_leader();
    let others: Vec<u8> = (1..=3).filter(|host| *host != leader).collect();
    let (dies, stays) = (others[0], others[1]);
    for host in [leader, stays] {
        array.rais(leader, &["quiesce", &format!("h{host}")]).good();
    }
    until("one address left", 10, || {
        (ask::published(array.dns(stays))? == [service(dies)].into()).then_some(())
    });
    array.kill(dies);
    until("its host is down, and it is named still", 20, || {
        let line = member(&array, stays, &format!("h{dies}"))?;
        let zone = array.json(stays, &["zone", "web"]);
        (line["rule"] == "host_down" && line["published"] == true && zone["last_known"] == true)
            .then_some(())
    });
    assert_eq!(
        ask::published(array.dns(stays)),
        Some([service(dies)].into())
    );
    array.kill(leader);
    until("no quorum", 20, || {
        let status = array.try_json(stays, &["status"])?;
        (status["quorum"] == false && status["current_ms"].as_u64()? > 2_000).then_some(())
    });
    assert_eq!(
        ask::published(array.dns(stays)),
        Some([service(dies)].into())
    );
}
