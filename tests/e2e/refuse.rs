//! Bad input from the operator's side: files, tokens, directories. Each is refused with exit code 1 and
//! words that say what to do; the array does not notice.

use std::path::{Path, PathBuf};

use crate::array::{Array, name, service, until};
use crate::ask;
use crate::life::served_by;

fn write(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// Goal: `rais check` names every mistake of a file with line, column and remedy.
/// Method: files with mistakes of each kind; a good file and usage errors for comparison.
#[test]
fn check_names_each_mistake_with_its_place() {
    let array = Array::start(1);
    let good = array.data(1).join("rais.toml").display().to_string();
    assert!(
        array
            .bare(&["check", &good])
            .good()
            .contains("a good host configuration: h1")
    );
    let text = std::fs::read_to_string(&good).unwrap();
    // What is replaced, by what, and what must be said; `:L:C:` is where.
    let rows: [(&str, &str, &[&str]); 6] = [
        ("name = \"h1\"", "name = \"h 1\"", &[":1:8:", "h 1"]),
        ("name = \"h1\"", "nmae = \"h1\"", &[":1:1:", "nmae"]),
        ("name = \"h1\"", "name = \"h1", &[":1:"]),
        (
            "listen = [\"127.77.0.1:",
            "listen = [\"127.77.0.1",
            &["127.77.0.1"],
        ),
        ("/8\"", "/99\"", &["/99"]),
        ("group = \"web\"", "group = 7", &["group"]),
    ];
    for (old, new, words) in rows {
        assert!(text.contains(old), "{text}");
        let bad = write(&array.dir, "bad.toml", &text.replacen(old, new, 1));
        let said = array.bare(&["check", &bad]).refused(words);
        assert!(said.contains("bad.toml:"), "{said}");
        let said = array.bare(&["node", "--config", &bad]).refused(words);
        assert!(said.contains("bad.toml:"), "{said}");
    }
    let two = write(
        &array.dir,
        "two.toml",
        "name = \"web\"\nzone = \"web.example\"\nttl = \"5 parsecs\"\n",
    );
    array
        .bare(&["check", &two])
        .refused(&["two.toml:2:", "two.toml:3:", "5 parsecs"]);
    array
        .bare(&["check", "/nowhere/at/all.toml"])
        .refused(&["/nowhere/at/all.toml"]);
    for usage in [
        &["check"][..],
        &["frobnicate"],
        &["move", "127.77.1.1"],
        &["status", "--jsn"],
    ] {
        assert_eq!(array.bare(usage).code, 2, "{usage:?}");
    }
}

/// What a join with this token and name says; `extra` makes its directory and port.
fn join(array: &Array, token: &str, host: &str, extra: u8) -> crate::array::Said {
    let dir = array
        .dir
        .join(format!("joiner{extra}"))
        .display()
        .to_string();
    let control = format!("127.77.0.{extra}:{}", array.control(1).port());
    let peer = array.control(1).to_string();
    array.bare(&[
        "join",
        "--data-dir",
        &dir,
        "--name",
        host,
        "--control",
        &control,
        "--token",
        token,
        "--peer",
        &peer,
    ])
}

/// Goal: only a good token lets in, only once, and only to its own array.
/// Method: a mangled token, one of another array, one used up, a name that is taken.
#[test]
fn joins_with_a_bad_token_or_a_taken_name_are_refused() {
    let mut array = Array::start(1);
    let other = Array::start_beside(&array, 1);
    let create = |array: &Array| array.rais(1, &["token", "create"]).good().trim().to_owned();
    let token = create(&array);
    join(&array, "no-token-at-all", "h7", 70).refused(&["next:"]);
    // Its last character carries spare bits; one in the middle of the secret counts.
    let (head, tail) = token.split_at(token.len() - 8);
    let turned = if tail.starts_with('A') { 'B' } else { 'A' };
    join(&array, &format!("{head}{turned}{}", &tail[1..]), "h7", 70).refused(&["token"]);
    join(&array, &create(&other), "h7", 70).refused(&["token", "--peer"]);
    join(&array, &token, "h1", 70).refused(&["a host named h1 is in the array already"]);
    join(&array, &token, "h7", 70).good();
    join(&array, &token, "h8", 71).refused(&["join token refused", "rais token create"]);
    join(&array, &token, "h8", 70).refused(&["already holds a host", "--data-dir"]);
    let hosts = array.json(1, &["hosts"]);
    assert_eq!(hosts.as_array().unwrap().len(), 2, "{hosts}");
    assert_eq!(ask::http(service(1), array.http_port()).unwrap().host, "h1");
    array.end();
}

/// Goal: one daemon for each data directory, and only the one whose directory it is.
/// Method: a second daemon on h1's directory; h2's configuration with h1's directory; an empty one; a
/// question to a daemon that does not run.
#[test]
fn a_data_directory_in_use_of_another_host_or_empty_is_refused() {
    let mut array = Array::start(3);
    let config = |host: u8| array.data(host).join("rais.toml");
    let pid = array.daemon(1);
    array
        .bare(&["node", "--config", &config(1).display().to_string()])
        .refused(&["in use by another rais daemon", "stop"]);
    assert_eq!(
        array.daemon(1),
        pid,
        "the second daemon took the first one's place"
    );
    let text = std::fs::read_to_string(config(2)).unwrap();
    let of = |dir: &Path| {
        text.replace(
            &array.data(2).display().to_string(),
            &dir.display().to_string(),
        )
    };
    let wrong = write(&array.dir, "wrong.toml", &of(&array.data(1)));
    array.bare(&["node", "--config", &wrong]).refused(&[
        "host h2",
        "host h1",
        "correct `name` or `data_dir`",
    ]);
    let empty = array.dir.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let none = write(&array.dir, "none.toml", &of(&empty));
    array
        .bare(&["node", "--config", &none])
        .refused(&["not initialised", "rais init"]);
    array
        .bare(&["status", "--data-dir", &empty.display().to_string()])
        .refused(&["there is no array", "--data-dir"]);
    array.kill(3);
    let down = |array: &Array| array.rais(3, &["status"]).code == 1;
    until("the killed daemon does not answer", 10, || {
        down(&array).then_some(())
    });
    array.rais(3, &["status"]).refused(&["rais node --config"]);
    array.restart(3);
    array.whole();
}

/// The store's log file of a host.
fn database(array: &Array, host: u8) -> PathBuf {
    array.data(host).join("raft").join("sled").join("db")
}

/// Goal: a damaged store is refused with the remedy, and harms nobody else; the remedy works.
/// Method: bytes flipped all over the log of a killed host, its daemon started by hand; then the intact
/// file is put back and the host returns.
#[test]
fn a_damaged_store_is_refused_and_the_others_go_on() {
    let mut array = Array::start(3);
    let (victim, leader) = array.follower_and_leader();
    let config = array.data(victim).join("rais.toml").display().to_string();
    array.kill(victim);
    until("the killed daemon has gone", 10, || {
        (array.rais(victim, &["status"]).code == 1).then_some(())
    });
    let file = database(&array, victim);
    let intact = std::fs::read(&file).unwrap();
    let mut bytes = intact.clone();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in (512..used).step_by(97) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&file, &bytes).unwrap();
    let said = array.bare(&["node", "--config", &config]);
    said.refused(&["store is damaged", "move the directory away", "rais forget"]);
    assert_ne!(
        std::fs::read(&file).unwrap().len(),
        0,
        "what is left was thrown away"
    );
    for host in (1..=3).filter(|host| *host != victim) {
        assert_eq!(
            ask::http(service(host), array.http_port()).unwrap().host,
            name(host)
        );
    }
    until("the others know that it is down", 20, || {
        let hosts = array.try_json(leader, &["hosts"])?;
        let up = hosts.as_array()?.iter().filter(|host| host["up"] == true);
        (up.count() == 2).then_some(())
    });
    // Nothing was mended behind the operator's back: with the intact file the host goes on.
    std::fs::write(&file, &intact).unwrap();
    array.restart(victim);
    served_by(&array, service(victim), victim);
    array.whole();
}
