//! Groups as files: applied, compared, refused, deleted.

use crate::array::{Array, service, until};
use crate::ask;

/// Goal: `group apply` shows what it changes, changes nothing in a dry run, and refuses an old view.
/// Method: a changed policy applied dry, for real, and again.
#[test]
fn a_policy_is_compared_before_it_is_applied() {
    let array = Array::start(3);
    let old = array.rais(1, &["group", "show", "web"]).good();
    let new = old
        .replace("ttl = \"5s\"\nfault", "ttl = \"9s\"\nfault")
        .replace("scale = 1000", "scale = 900");
    let file = array.dir.join("new.toml");
    std::fs::write(&file, &new).unwrap();
    let file = file.display().to_string();
    let dry = array
        .rais(2, &["group", "apply", &file, "--dry-run"])
        .good();
    assert!(
        dry.contains("ttl") && dry.contains("scale") && dry.contains("dry run"),
        "{dry}"
    );
    assert_eq!(array.rais(1, &["group", "show", "web"]).good(), old);
    let real = array.rais(2, &["group", "apply", &file]).good();
    assert!(real.contains("group web applied"), "{real}");
    assert_eq!(
        array.rais(3, &["group", "show", "web", "--toml"]).good(),
        new
    );
    let again = array.json(1, &["group", "apply", &file]);
    assert_eq!(again["changes"], serde_json::json!([]));
    assert!(again["index"].is_null());
    until("every name server has the new time to live", 10, || {
        let zones = (1..=3).map(|host| array.json(host, &["zone", "web"])["ttl_s"].as_u64());
        zones.into_iter().all(|ttl| ttl == Some(9)).then_some(())
    });
}

/// Goal: of two operators that change a policy at once, one is told to look again.
/// Method: many applies of different policies side by side; each success has a generation of its own.
#[test]
fn of_two_applies_from_one_view_only_one_succeeds() {
    let array = Array::start(3);
    let old = array.rais(1, &["group", "show", "web"]).good();
    let generation = |array: &Array| {
        array.json(1, &["group", "show", "web"])["generation"]
            .as_u64()
            .unwrap()
    };
    let before = generation(&array);
    let said = std::thread::scope(|scope| {
        let apply = |n: u8| {
            let file = array.dir.join(format!("policy{n}.toml"));
            std::fs::write(
                &file,
                old.replace("min_addresses = 1", &format!("min_addresses = {n}")),
            )
            .unwrap();
            let array = &array;
            scope.spawn(move || array.rais(1, &["group", "apply", &file.display().to_string()]))
        };
        let threads: Vec<_> = (2..10).map(apply).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    let mut applied = 0;
    for one in said {
        match one.code {
            0 => applied += 1,
            _ => drop(one.refused(&["plan is stale", "look again and retry"])),
        }
    }
    assert!(applied >= 1);
    assert!(generation(&array) > before);
    let shown = array.rais(1, &["group", "show", "web"]).good();
    assert!(
        (2..10).any(|n| shown.contains(&format!("min_addresses = {n}\n"))),
        "{shown}"
    );
}

/// Goal: a zone belongs to one group.
/// Method: a second group with the first one's zone, then with its own.
#[test]
fn two_groups_with_one_zone_are_refused() {
    let array = Array::start(3);
    let file = array.dir.join("mail.toml");
    let path = file.display().to_string();
    std::fs::write(&file, "name = \"mail\"\nzone = \"web.example.\"\n").unwrap();
    array.rais(1, &["group", "apply", &path]).refused(&[
        "web.example.",
        "already belongs to group web",
        "next:",
    ]);
    std::fs::write(&file, "name = \"mail\"\nzone = \"mail.example.\"\n").unwrap();
    array.rais(1, &["group", "apply", &path]).good();
    let groups = array.json(2, &["groups"]);
    assert_eq!(groups.as_array().unwrap().len(), 2);
    array
        .rais(1, &["group", "show", "ftp"])
        .refused(&["there is no group ftp", "rais groups"]);
    std::fs::write(
        &file,
        "name = \"mail\"\nzone = \"mail.example\"\nscale = 7\n",
    )
    .unwrap();
    let said = array
        .rais(1, &["group", "apply", &path])
        .refused(&["mail.toml:2:", "mail.toml:3:"]);
    assert!(said.contains("scale"), "{said}");
}

/// Goal: a deleted group lets go of its addresses and its zone, and can be made anew.
/// Method: `group delete`, HTTP and DNS; then the same policy is applied again.
#[test]
fn a_deleted_group_releases_its_addresses_and_comes_back_when_applied_again() {
    let mut array = Array::start(3);
    let file = array.dir.join("web.toml").display().to_string();
    let epoch = ask::http(service(1), array.http_port()).unwrap().epoch;
    let serial = ask::serial(array.dns(1)).unwrap();
    array.rais(2, &["group", "delete", "web"]).good();
    until(
        "nobody answers, and no name server knows the zone",
        20,
        || {
            let silent = (1..=3).all(|host| ask::http(service(host), array.http_port()).is_none());
            let unknown = (1..=3).all(|host| ask::published(array.dns(host)).is_none());
            (silent && unknown).then_some(())
        },
    );
    array.rais(1, &["group", "apply", &file]).good();
    array.whole();
    assert!(ask::http(service(1), array.http_port()).unwrap().epoch > epoch);
    assert!(
        ask::serial(array.dns(1)).unwrap() > serial,
        "secondaries would not follow"
    );
}
