//! What changes under a running array: a host's file by SIGHUP, a group's policy by `group apply`.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use crate::array::{Array, name, service, until};
use crate::monitor::{Programs, apply};

/// How long what is asked for may take, in s, on a loaded machine.
const SOON_S: u64 = 20;

/// What host `number` makes of its file, once it was read again after `before`.
fn reloaded(array: &Array, number: u8, before: &Value) -> Value {
    until("the file is read again", SOON_S, || {
        let now = array.try_json(number, &["status"])?["reloaded"].clone();
        (now != Value::Null && now["at"] != before["at"]).then_some(now)
    })
}

/// Edits host `number`'s file, has it read again, and gives what became of that.
fn reload(array: &Array, number: u8, edit: impl FnOnce(&str) -> String) -> Value {
    let file = array.data(number).join("rais.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let before = array.json(number, &["status"])["reloaded"].clone();
    std::fs::write(&file, edit(&text)).unwrap();
    array.hang_up(number);
    reloaded(array, number, &before)
}

/// Under which epoch each host's address stands; it grows with each assignment.
fn epochs(array: &Array) -> Vec<Value> {
    let of = |host| array.address(1, service(host)).unwrap()["epoch"].clone();
    (1..=array.hosts).map(of).collect()
}

/// Goal: a host joins and leaves a group without a restart and without a move of anything else; a broken
/// file changes nothing and says where it is broken; what needs a restart is named.
/// Method: one host's file, edited and read again by SIGHUP; epochs and process id stay.
#[test]
fn a_host_follows_its_file_without_a_restart() {
    let array = Array::start(3);
    let mail: IpAddr = Ipv4Addr::new(127, 77, 2, 2).into();
    let policy = array.dir.join("mail.toml");
    std::fs::write(&policy, "name = \"mail\"\nzone = \"mail.example.\"\n").unwrap();
    let policy = policy.display().to_string();
    array.rais(1, &["group", "apply", &policy]).good();
    let (before, daemon) = (epochs(&array), array.daemon(2));
    let file = array.data(2).join("rais.toml");
    let first = std::fs::read_to_string(&file).unwrap();
    let member =
        format!("\n[[member]]\ngroup = \"mail\"\npreferred = [\"{mail}/8\"]\ninterface = \"lo\"\n");

    let told = reload(&array, 2, |text| format!("{text}{member}"));
    assert_eq!(
        (&told["error"], &told["restart"]),
        (&Value::Null, &Value::Array(vec![]))
    );
    until("mail is served by h2", SOON_S, || {
        let address = array.address(1, mail)?;
        (address["state"] == "online" && address["host"] == "h2").then_some(())
    });

    let told = reload(&array, 2, |text| {
        text.replace("group = \"mail\"", "group = mail")
    });
    let error = told["error"].as_str().unwrap();
    let line = first.lines().count() + 3;
    assert!(error.contains(&format!("rais.toml:{line}:")), "{error}");
    let status = array.rais(2, &["status"]).good();
    assert!(status.contains("nothing of it taken"), "{status}");
    assert!(array.address(1, mail).is_some());

    let told = reload(&array, 2, |_| {
        format!("{first}\n[programs]\nuser = \"root\"\n")
    });
    assert_eq!(told["restart"], serde_json::json!(["[programs] user"]));
    let status = array.rais(2, &["status"]).good();
    assert!(
        status.contains("restart its daemon for [programs] user"),
        "{status}"
    );
    until("mail is nobody's", SOON_S, || {
        let status = array.try_json(1, &["status"])?;
        let groups = status["groups"].as_array()?;
        let mail = groups.iter().find(|group| group["name"] == "mail")?;
        mail["members"].as_array()?.is_empty().then_some(())
    });
    assert_eq!((epochs(&array), array.daemon(2)), (before, daemon));
}

/// Goal: a policy changes under a running array without a flap: tests come, change their pace and go, and no
/// address moves, no test is told as failed.
/// Method: policies with tests that pass, one after the other; epochs stay.
#[test]
fn tests_come_and_go_without_a_flap() {
    let array = Array::start(3);
    let check = |name: &str, every: &str| {
        format!(
            "[[test]]\nname = \"{name}\"\ninterface = {{ name = \"lo\" }}\n\
             interval = \"{every}\"\ntimeout = \"190ms\"\nrise = 3\nfall = 3\n"
        )
    };
    let before = epochs(&array);
    let policies = [
        check("a", "200ms"),
        check("a", "200ms") + &check("b", "300ms"),
        check("a", "500ms") + &check("b", "300ms"),
        check("b", "300ms"),
        String::new(),
        check("c", "200ms"),
    ];
    for policy in policies {
        // Each policy says all: what the last one had is gone.
        let bare = array.dir.join("bare.toml");
        let text = format!("name = \"web\"\nzone = \"web.example.\"\n{policy}");
        std::fs::write(&bare, text).unwrap();
        array
            .rais(1, &["group", "apply", &bare.display().to_string()])
            .good();
        let wanted = policy.matches("[[test]]").count();
        until("every host follows, and has looked", SOON_S, || {
            let looked = |host| {
                let told = array.try_json(host, &["tests"])?;
                let tests = told["tests"].as_array()?.clone();
                let passed = tests.iter().all(|test| test["found"] == "passed");
                (tests.len() == wanted && passed).then_some(())
            };
            (1..=array.hosts)
                .all(|host| looked(host).is_some())
                .then_some(())
        });
    }
    assert_eq!(epochs(&array), before);
    let failed = |event: &&Value| event["kind"] == "testFailed";
    assert_eq!(array.events(1).iter().filter(failed).count(), 0);
}

/// Goal: a script that is changed while it runs ends as it began, and the next act runs the new one.
/// Method: a slow release script; while it drains, a policy that names another.
#[test]
fn a_script_that_changes_while_it_runs_ends_as_it_began() {
    let (array, programs) = (Array::start(3), Programs::new("changed"));
    let note = "echo $RAIS_HOST $(basename $0) >> $(dirname $0)/log/acts";
    programs.write("first", &format!("{note}; sleep 1; {note}"));
    programs.write("second", note);
    let scripts = |name: &str| {
        format!(
            "[scripts]\nrelease = \"{}\"\ntimeout = \"5s\"\n",
            programs.path(name)
        )
    };
    apply(&array, &scripts("first"));
    let ip = service(1).to_string();
    array.rais(1, &["move", &ip, "--to", "h2"]).good();
    until("it runs", SOON_S, || {
        (programs.log().len() == 1).then_some(())
    });
    let bare = array.dir.join("bare.toml");
    let text = format!(
        "name = \"web\"\nzone = \"web.example.\"\n{}",
        scripts("second")
    );
    std::fs::write(&bare, text).unwrap();
    array
        .rais(1, &["group", "apply", &bare.display().to_string()])
        .good();
    let at = |host: u8| {
        until("the address has moved", SOON_S, || {
            let address = array.address(1, service(1))?;
            (address["state"] == "online" && address["host"] == name(host)).then_some(())
        });
    };
    at(2);
    assert_eq!(programs.log(), ["h1 first", "h1 first"]);
    array.rais(1, &["move", &ip, "--to", "h1"]).good();
    at(1);
    assert_eq!(programs.log(), ["h1 first", "h1 first", "h2 second"]);
}
