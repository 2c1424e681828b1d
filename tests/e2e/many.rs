//! Several groups on one array: members, zones and policies of their own, and what operators do to one of them.
//!
//! A demo has one group; the others come by `rais group apply` and a changed configuration of its hosts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::admin::{ask, send};
use crate::array::{Array, name, service, until};
use crate::ask;
use crate::life::published_everywhere;
use crate::monitor::Programs;
use crate::orphan::apply_with;

/// How long what an order changes may take, in s, on a loaded machine.
const SOON_S: u64 = 20;

/// Host `number`'s preferred address in the group `mail`.
fn mail(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 77, 2, number).into()
}

/// The preferred address of the group `news`.
fn news() -> IpAddr {
    Ipv4Addr::new(127, 77, 3, 3).into()
}

fn group(array: &Array, policy: &str) {
    let file = array.dir.join("group.toml");
    std::fs::write(&file, policy).unwrap();
    let file = file.display().to_string();
    array.rais(1, &["group", "apply", &file]).good();
}

fn member(group: &str, preferred: &str) -> String {
    format!("\n[[member]]\ngroup = \"{group}\"\npreferred = [{preferred}]\ninterface = \"lo\"\n")
}

/// The group's part of host `asked`'s status.
fn status(array: &Array, asked: u8, group: &str) -> Option<Value> {
    let status = array.try_json(asked, &["status"])?;
    let mut groups = status["groups"].as_array()?.clone().into_iter();
    groups.find(|one| one["name"] == group)
}

/// A host's standing in a group, as host `asked` knows it.
fn standing(array: &Array, asked: u8, group: &str, host: u8) -> Option<Value> {
    let group = status(array, asked, group)?;
    let mut members = group["members"].as_array()?.clone().into_iter();
    members.find(|one| one["host"] == name(host))
}

/// Waits until every host knows that `flag` of a member is `value`.
fn told(array: &Array, group: &str, host: u8, flag: &str, value: bool) {
    until(
        &format!("h{host} in {group}: {flag} is {value}"),
        SOON_S,
        || {
            let all = (1..=array.hosts).all(|asked| {
                standing(array, asked, group, host).is_some_and(|one| one[flag] == value)
            });
            all.then_some(())
        },
    );
}

/// Waits until every host knows that `ip` is online at `host`.
fn online(array: &Array, ip: IpAddr, host: u8) {
    until(&format!("{ip} is online at h{host}"), SOON_S, || {
        let at = |asked| {
            let one = array.address(asked, ip)?;
            (one["state"] == "online" && one["host"] == name(host)).then_some(())
        };
        (1..=array.hosts)
            .all(|asked| at(asked).is_some())
            .then_some(())
    });
}

/// Waits until all name servers give exactly `expected` for `zone`.
fn named(array: &Array, zone: &str, expected: &[IpAddr]) {
    let expected: BTreeSet<IpAddr> = expected.iter().copied().collect();
    until(&format!("{zone} is {expected:?}"), SOON_S, || {
        let gives = |host| -> Option<BTreeSet<IpAddr>> {
            let answer = ask::addresses(array.dns(host), zone)?;
            Some(answer.addresses.into_iter().collect())
        };
        (1..=array.hosts)
            .all(|host| gives(host).as_ref() == Some(&expected))
            .then_some(())
    });
}

/// Three hosts in `web`; h1 and h2 also serve `mail`, with h3 as its spare; h3 serves `news`, with h2 as
/// its spare. `mail` is tested by a program that fails where a file `down-hN` is.
fn three_groups(programs: &Programs) -> Array {
    let array = Array::start(3);
    programs.write("check", "test ! -e $(dirname $0)/down-$RAIS_HOST");
    let check = programs.path("check");
    let policy = |rebalance| {
        format!(
            "name = \"mail\"\nzone = \"mail.example.\"\nttl = \"7s\"\nrebalance = \"{rebalance}\"\n\
             [[test]]\nname = \"check\"\nexec = {{ command = [\"{check}\"] }}\n\
             interval = \"200ms\"\ntimeout = \"190ms\"\nrise = 2\nfall = 2\n"
        )
    };
    group(&array, &policy("prefer"));
    group(
        &array,
        "name = \"news\"\nzone = \"news.example.\"\nscale = 100\nhigh_water = 90\nlow_water = 50\n",
    );
    let (spare_mail, spare_news) = (member("mail", ""), member("news", ""));
    let own = |host| member("mail", &format!("\"{}/8\"", mail(host)));
    let more = [
        own(1),
        own(2) + &spare_news,
        spare_mail + &member("news", &format!("\"{}/8\"", news())),
    ];
    for (host, more) in (1..).zip(more) {
        array.reconfigure(host, |text| text.to_owned() + &more);
    }
    for (ip, host) in [
        (service(1), 1),
        (service(2), 2),
        (service(3), 3),
        (mail(1), 1),
        (mail(2), 2),
        (news(), 3),
    ] {
        online(&array, ip, host);
    }
    group(&array, &policy("sticky"));
    array
}

/// Goal: groups of one array have members, zones and policies of their own; what happens to a host in one
/// of them costs it nothing in the others. Method: three groups, hosts in several; quiesce and a failing
/// test in one, then the death of a host that was in all.
#[test]
fn groups_of_one_array_go_their_own_ways() {
    let programs = Programs::new("many");
    let mut array = three_groups(&programs);
    let web = [1, 2, 3].map(service);
    named(&array, "web.example.", &web);
    named(&array, "mail.example.", &[mail(1), mail(2)]);
    named(&array, "news.example.", &[news()]);
    let epoch = |ip| array.address(1, ip).unwrap()["epoch"].clone();
    let before = epoch(service(2));
    array.rais(3, &["quiesce", "h2", "--group", "mail"]).good();
    told(&array, "mail", 2, "quiesced", true);
    named(&array, "mail.example.", &[mail(1)]);
    named(&array, "web.example.", &web);
    told(&array, "web", 2, "quiesced", false);
    array.rais(1, &["resume", "h2", "--group", "mail"]).good();
    named(&array, "mail.example.", &[mail(1), mail(2)]);
    // Its tests of one group fail: that group's spare takes over, and gives nothing back by itself.
    std::fs::write(programs.path("down-h2"), "").unwrap();
    online(&array, mail(2), 3);
    told(&array, "mail", 2, "healthy", false);
    told(&array, "web", 2, "healthy", true);
    let why = array.rais(2, &["why", &mail(2).to_string()]).good();
    assert!(
        why.contains("its tests fail: test check: exit code 1"),
        "{why}"
    );
    assert!(why.contains("hot spare"), "{why}");
    std::fs::remove_file(programs.path("down-h2")).unwrap();
    told(&array, "mail", 2, "healthy", true);
    assert_eq!(array.json(1, &["plan"])["steps"], json!([]), "sticky");
    let why = array.rais(3, &["why", &mail(2).to_string()]).good();
    assert!(why.contains("until an operator moves it"), "{why}");
    array
        .rais(2, &["move", &mail(2).to_string(), "--to", "h2"])
        .good();
    online(&array, mail(2), 2);
    named(&array, "web.example.", &web);
    assert_eq!(
        epoch(service(2)),
        before,
        "web's address moved for mail's sake"
    );
    // A host that is in all of them dies: each group goes by its own members.
    array.kill(2);
    until("each group has its own heir", SOON_S, || {
        let heir = |ip| array.address(1, ip).filter(|one| one["state"] == "online");
        let (web, mail) = (heir(service(2))?, heir(mail(2))?);
        (web["host"] != "h2" && mail["host"] == "h3").then_some(())
    });
    assert_eq!(array.address(1, news()).unwrap()["host"], "h3");
    array.end();
}

/// Goal: an address is of one group and one host, and who brings it again is told whose it is.
/// Method: a file that names it twice; then a host that brings another's, to another group.
#[test]
fn an_address_belongs_to_one_group() {
    let array = Array::start(3);
    group(&array, "name = \"mail\"\nzone = \"mail.example.\"\n");
    let own = std::fs::read_to_string(array.data(2).join("rais.toml")).unwrap();
    let twice = array.dir.join("twice.toml");
    std::fs::write(
        &twice,
        own + &member("mail", &format!("\"{}/8\"", service(2))),
    )
    .unwrap();
    let said = array.bare(&["check", &twice.display().to_string()]);
    said.refused(&["127.77.1.2 is given twice", "an address has one group"]);
    array.reconfigure(2, |text| {
        text.to_owned() + &member("mail", &format!("\"{}/8\"", service(1)))
    });
    until(
        "h2 is told why its configuration is not taken over",
        SOON_S,
        || {
            let log = std::fs::read_to_string(array.data(2).join("rais.log")).ok()?;
            let whose = "address 127.77.1.1 is already the preferred address of h1 in group web";
            (log.contains(whose) && log.contains("take it out of one")).then_some(())
        },
    );
    online(&array, service(1), 1);
    online(&array, service(2), 2);
    let address = array.address(3, service(1)).unwrap();
    assert_eq!(address["preferred_host"], "h1");
    assert_eq!(status(&array, 1, "mail").unwrap()["members"], json!([]));
}

/// Goal: what operators order over the API is the same order as on the command line: every host knows it,
/// and `why` explains it. Method: quiesce, drain, resume, move and a sticky policy, each asked of another host.
#[test]
fn orders_over_the_api_are_known_to_all_and_explained() {
    let mut array = Array::start(3);
    let order = |asked: u8, method: &str, path: &str, body: &str| {
        let (code, said) = send(&array, asked, Some(1), method, path, body);
        assert_eq!(code, 200, "{method} {path}: {said}");
    };
    let why = |asked: u8| {
        let (code, said) = ask(&array, asked, None, "GET", "/v1/addresses/127.77.1.2/why");
        assert_eq!(code, 200, "{said}");
        said
    };
    order(1, "POST", "/v1/hosts/h2/quiesce", "{\"group\": \"web\"}");
    told(&array, "web", 2, "quiesced", true);
    named(&array, "web.example.", &[service(1), service(3)]);
    online(&array, service(2), 2);
    order(2, "POST", "/v1/hosts/h2/quiesce", "{\"drain\": true}");
    told(&array, "web", 2, "draining", true);
    until("h2 is empty", SOON_S, || {
        let address = array.address(3, service(2))?;
        (address["state"] == "online" && address["host"] != "h2").then_some(())
    });
    assert!((1..=3).all(|asked| why(asked).contains("an operator quiesced it")));
    order(3, "POST", "/v1/hosts/h2/resume", "");
    told(&array, "web", 2, "quiesced", false);
    online(&array, service(2), 2);
    order(
        1,
        "POST",
        "/v1/addresses/127.77.1.2/move",
        "{\"to\": \"h3\"}",
    );
    online(&array, service(2), 3);
    assert!((1..=3).all(|asked| why(asked).contains("an operator moved it")));
    order(
        2,
        "POST",
        "/v1/addresses/127.77.1.2/move",
        "{\"to\": \"h2\"}",
    );
    online(&array, service(2), 2);
    let (_, shown) = ask(&array, 3, None, "GET", "/v1/groups/web");
    let mut policy = serde_json::from_str::<Value>(&shown).unwrap()["policy"].clone();
    policy["rebalance"] = "sticky".into();
    order(3, "PUT", "/v1/groups/web", &policy.to_string());
    until("every host has the policy", SOON_S, || {
        let has = |asked| {
            array
                .rais(asked, &["group", "show", "web"])
                .good()
                .contains("sticky")
        };
        (1..=3).all(has).then_some(())
    });
    array.whole();
    for (path, body) in [
        ("/v1/hosts/h9/quiesce", ""),
        ("/v1/hosts/h2/quiesce", "{\"group\": \"ftp\"}"),
    ] {
        let (code, said) = send(&array, 1, Some(1), "POST", path, body);
        assert_eq!(code, 404, "{said}");
    }
}

/// Goal: a hot spare and an observer, which a host's own file makes, are what they are at every door.
/// Method: h2 without a preferred address, h3 as observer; command line, API, DNS, `why` and `plan`.
#[test]
fn spares_and_observers_are_told_by_every_door() {
    let mut array = Array::start(3);
    apply_with(
        &array,
        &[("orphan_ttl = \"30d\"", "orphan_ttl = \"never\"")],
    );
    array.reconfigure(2, |text| {
        text.replace("preferred = [\"127.77.1.2/8\"]", "preferred = []")
    });
    told(&array, "web", 2, "spare", true);
    until("the spare could take h3's address", SOON_S, || {
        let plan = array.rais(1, &["plan", "--if", "down h3"]);
        plan.out.contains("give 127.77.1.3 to h2").then_some(())
    });
    array.reconfigure(3, |text| {
        let (rest, _member) = text.split_once("[[member]]").unwrap();
        format!("observer = true\n{rest}")
    });
    until("every host knows the observer", SOON_S, || {
        let is = |asked| Some(array.try_json(asked, &["hosts"])?[2]["observer"] == true);
        (1..=3).all(|asked| is(asked) == Some(true)).then_some(())
    });
    assert!(
        standing(&array, 1, "web", 3).is_none(),
        "an observer is in no group"
    );
    // What they brought stays served, by the spare, and is not named.
    online(&array, service(3), 2);
    assert_eq!(array.address(1, service(2)).unwrap()["state"], "online");
    published_everywhere(&array, &[1, 2, 3], &[1]);
    let hosts = array.rais(1, &["hosts"]).good();
    assert!(
        hosts
            .lines()
            .any(|line| line.starts_with("h3") && line.contains("observer")),
        "{hosts}"
    );
    let groups = array.rais(1, &["groups"]).good();
    assert!(
        groups
            .lines()
            .any(|line| line.starts_with("h2") && line.contains("spare")),
        "{groups}"
    );
    let (_, hosts) = ask(&array, 2, None, "GET", "/v1/hosts");
    assert_eq!(
        serde_json::from_str::<Value>(&hosts).unwrap()[2]["observer"],
        true
    );
    let why = array.rais(3, &["why", "127.77.1.3"]).good();
    assert!(why.contains("hot spare"), "{why}");
    let plan = array.rais(1, &["plan", "--if", "down h1"]).good();
    assert!(plan.contains("give 127.77.1.1 to h2"), "{plan}");
    let plan = array
        .rais(1, &["plan", "--if", "down h1", "--if", "down h2"])
        .good();
    assert!(!plan.contains("to h3"), "{plan}");
    array.end();
}
