//! What operators do to a living array: quiesce, drain, move, plan, forget.

use crate::array::{Array, name, service, until};
use crate::ask;
use crate::life::{published_everywhere, served_by, served_elsewhere};
use crate::orphan::apply_with;

/// Goal: a quiesced host keeps what it has, gets nothing new, and leaves the zone; `--drain` empties it.
/// Method: quiesce, plan, drain, resume; each seen by HTTP and DNS.
#[test]
fn a_quiesced_host_keeps_its_address_and_a_drained_one_gives_it_away() {
    let mut array = Array::start(3);
    array.rais(1, &["quiesce", "h2"]).good();
    published_everywhere(&array, &[1, 2, 3], &[1, 3]);
    assert_eq!(ask::http(service(2), array.http_port()).unwrap().host, "h2");
    let plan = array.rais(2, &["plan", "--if", "down h3"]).good();
    assert!(plan.contains("give 127.77.1.3 to h1"), "{plan}");
    array
        .rais(3, &["quiesce", "h2", "--group", "web", "--drain"])
        .good();
    let drained = served_elsewhere(&array, service(2), &[2]);
    published_everywhere(&array, &[1, 2, 3], &[1, 3]);
    array.rais(1, &["resume", "h2"]).good();
    assert!(served_by(&array, service(2), 2).epoch > drained.epoch);
    published_everywhere(&array, &[1, 2, 3], &[1, 2, 3]);
    array.whole();
    let audit = array.json(2, &["audit"]);
    assert_eq!(audit["broken"], serde_json::json!([]), "{audit}");
    array
        .rais(1, &["quiesce", "h9"])
        .refused(&["no host is named h9", "rais hosts"]);
    array
        .rais(1, &["quiesce", "h2", "--group", "mail"])
        .refused(&["mail", "rais groups"]);
}

/// Goal: an operator's move is carried out, holds, and can be undone.
/// Method: moves an address away and home again, through daemons that do not lead.
#[test]
fn a_moved_address_stays_where_it_was_put_until_it_is_moved_back() {
    let mut array = Array::start(3);
    let (follower, _) = array.follower_and_leader();
    array
        .rais(follower, &["move", "127.77.1.1", "--to", "h2"])
        .good();
    let moved = served_by(&array, service(1), 2);
    published_everywhere(&array, &[1, 2, 3], &[2, 3]);
    assert_eq!(array.json(1, &["plan"])["steps"], serde_json::json!([]));
    let why = array.rais(3, &["why", "127.77.1.1"]).good();
    assert!(why.contains("an operator moved it"), "{why}");
    array
        .rais(follower, &["move", "127.77.1.1", "--to", "h1"])
        .good();
    assert!(served_by(&array, service(1), 1).epoch > moved.epoch);
    published_everywhere(&array, &[1, 2, 3], &[1, 2, 3]);
    array.whole();
    array
        .rais(1, &["move", "127.77.1.9", "--to", "h1"])
        .refused(&["127.77.1.9", "rais addresses"]);
    array
        .rais(1, &["move", "127.77.1.1", "--to", "h9"])
        .refused(&["no host is named h9"]);
}

/// Goal: `rebalance = "sticky"` leaves an address where it went, until an operator says otherwise.
/// Method: kills a host, brings it back, looks for a plan; then moves its address home.
#[test]
fn a_sticky_group_does_not_take_an_address_back_by_itself() {
    let mut array = Array::start(3);
    apply_with(
        &array,
        &[("rebalance = \"prefer\"", "rebalance = \"sticky\"")],
    );
    let (victim, leader) = array.follower_and_leader();
    array.kill(victim);
    let taken = served_elsewhere(&array, service(victim), &[victim]);
    array.restart(victim);
    until("the host is up, and nothing is planned", 20, || {
        let status = array.try_json(leader, &["status"])?;
        let up = status["hosts"]
            .as_array()?
            .iter()
            .all(|host| host["up"] == true);
        (up && array.json(leader, &["plan"])["steps"] == serde_json::json!([])).then_some(())
    });
    assert_eq!(ask::http(service(victim), array.http_port()), Some(taken));
    array
        .rais(
            leader,
            &["move", &service(victim).to_string(), "--to", &name(victim)],
        )
        .good();
    served_by(&array, service(victim), victim);
    array.whole();
}

/// Goal: `plan --if` tells what would be done and does nothing.
/// Method: suppositions of each kind; the log index and the epochs stay.
#[test]
fn a_supposed_plan_is_told_in_words_and_changes_nothing() {
    let array = Array::start(3);
    let before = array.address(1, service(2)).unwrap();
    assert!(array.rais(1, &["plan"]).good().contains("nothing to do"));
    let down = array.json(2, &["plan", "--if", "down h2"]);
    assert_eq!(down["hypotheses"], serde_json::json!(["down h2"]));
    let words = down["steps"][0]["words"].as_str().unwrap();
    assert!(words.starts_with("give 127.77.1.2 to h"), "{words}");
    let nobody = array
        .rais(
            3,
            &[
                "plan",
                "--if",
                "quiesce h1",
                "--if",
                "quiesce h3",
                "--if",
                "down h2",
            ],
        )
        .good();
    assert!(nobody.contains("leave 127.77.1.2 unserved"), "{nobody}");
    assert_eq!(array.address(1, service(2)).unwrap(), before);
    array
        .rais(1, &["plan", "--if", "down h9"])
        .refused(&["no host is named h9"]);
    assert_eq!(array.rais(1, &["plan", "--if", "burn h1"]).code, 2);
}

/// Goal: a forgotten host is out for good; only a new join brings it back.
/// Method: forgets a dead host, starts its daemon again, asks the array and the address.
#[test]
fn a_forgotten_host_is_not_let_in_again_with_its_old_certificate() {
    let mut array = Array::start(3);
    let (victim, leader) = array.follower_and_leader();
    array.kill(victim);
    served_elsewhere(&array, service(victim), &[victim]);
    array.rais(leader, &["forget", &name(victim)]).good();
    let status = array.json(leader, &["status"]);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2);
    let orphan = array.address(leader, service(victim)).unwrap();
    assert!(
        orphan["preferred_host"].is_null() && orphan["orphan_expires_s"].is_u64(),
        "{orphan}"
    );
    let dir = array.dir.display().to_string();
    let data = array.data(victim);
    let log = data.join("rais.log");
    let length = std::fs::metadata(&log).unwrap().len();
    let _said = array.bare(&["demo", "--restart", &name(victim), "--dir", &dir]);
    until("the forgotten host says why it is not let in", 20, || {
        let text = std::fs::read_to_string(&log).ok()?;
        let new = text.get(usize::try_from(length).ok()?..)?.to_owned();
        new.contains("forgotten").then_some(())
    });
    let served = ask::http(service(victim), array.http_port()).unwrap();
    assert_ne!(served.host, name(victim));
    assert_eq!(
        array.json(leader, &["status"])["hosts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    array
        .rais(leader, &["forget", &name(victim)])
        .refused(&["no host is named"]);
    array.end();
}

/// Goal: nobody forgets a host that lives, by a slip.
/// Method: `forget` of a host that is up, and of the leader.
#[test]
fn a_living_host_is_not_forgotten() {
    let mut array = Array::start(3);
    let (follower, leader) = array.follower_and_leader();
    for host in [follower, leader] {
        array
            .rais(1, &["forget", &name(host)])
            .refused(&["not possible now", "next:"]);
    }
    array.whole();
}

/// Goal: leadership can be handed over, and no address moves for it.
/// Method: `transfer-leader`; the epochs before and after.
#[test]
fn leadership_is_handed_over_without_moving_an_address() {
    let mut array = Array::start(3);
    let (follower, leader) = array.follower_and_leader();
    let epochs = |array: &Array| {
        (1..=3)
            .map(|host| ask::http(service(host), array.http_port()))
            .collect::<Vec<_>>()
    };
    let before = epochs(&array);
    array
        .rais(leader, &["transfer-leader", &name(follower)])
        .good();
    until("the other leads", 20, || {
        (array.leader(1) == follower).then_some(())
    });
    array.whole();
    assert_eq!(epochs(&array), before);
    array
        .rais(1, &["transfer-leader", "h9"])
        .refused(&["no host is named h9"]);
}
