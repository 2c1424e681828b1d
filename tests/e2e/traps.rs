//! SNMP and webhooks from a real array: net-snmp's `snmptrapd` and an HTTP server of this test's.
//!
//! Managers run on loopback ports of their own, with their state in the array's directory.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::array::{Array, service, until};

/// Everything of RAIS-MIB stands below.
const MIB: &str = ".1.3.6.1.4.1.32473.1";
/// The eleven, in the order of the MIB; the twelfth is the trial's.
const KINDS: [&str; 12] = [
    "acquire",
    "acquireFail",
    "release",
    "releaseFail",
    "testFailed",
    "cannotAssign",
    "hostDown",
    "hostUp",
    "leaderChanged",
    "orphanExpired",
    "zoneChanged",
    "test",
];
const PASSWORDS: [(&str, &str); 3] = [
    ("auth", "a password that signs"),
    ("priv", "a password that hides"),
    ("hook", "a key that signs webhooks"),
];
/// A notification may take so long, in s.
const ARRIVES_S: u64 = 20;

/// Gives a host the secrets, as its operator would.
fn add_secrets(array: &Array, number: u8) {
    let data = array.data(number);
    let file = |name: &str| data.join(format!("secret-{name}"));
    for (name, secret) in PASSWORDS {
        let options = || {
            OpenOptions::new()
                .create_new(true)
                .write(true)
                .mode(0o600)
                .open(file(name))
        };
        writeln!(options().unwrap(), "{secret}").unwrap();
    }
    let mut config = OpenOptions::new()
        .append(true)
        .open(data.join("rais.toml"))
        .unwrap();
    let (auth, hide) = (file("auth"), file("priv"));
    for (user, how) in [("trapper", "sha256"), ("informer", "sha512")] {
        writeln!(
            config,
            "\n[[traps.user]]\nname = \"{user}\"\nauth = \"{how}\"\nauth_file = \"{}\"\npriv = \"aes128\"\npriv_file = \"{}\"",
            auth.display(),
            hide.display()
        )
        .unwrap();
    }
    let key = file("hook");
    writeln!(
        config,
        "\n[[traps.key]]\nname = \"hooks\"\nsecret_file = \"{}\"",
        key.display()
    )
    .unwrap();
}

/// An array whose hosts have the secrets.
fn start() -> Array {
    let mut array = Array::start(3);
    array.end();
    (1..=3).for_each(|number| add_secrets(&array, number));
    array.resume();
    array.whole();
    array
}

/// Applies the group's policy with `text` in place of what this test added before.
fn apply(array: &Array, text: &str) {
    let shown = array.rais(1, &["group", "show", "web"]).good();
    let own = ["[[test]]", "[scripts]", "[traps]"];
    let end = own.iter().filter_map(|title| shown.find(title)).min();
    let policy = &shown[..end.unwrap_or(shown.len())];
    let policy = policy.replace("orphan_ttl = \"30d\"", "orphan_ttl = \"1m\"");
    let file = array.dir.join("told.toml");
    std::fs::write(&file, format!("{policy}\n{text}")).unwrap();
    array
        .rais(1, &["group", "apply", &file.display().to_string()])
        .good();
}

/// A manager; ends when dropped.
struct Manager {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Manager {
    /// `None`, said aloud: it is not installed.
    fn start(array: &Array, name: &'static str) -> Option<Self> {
        let dir = array.dir.join(format!("manager-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        let address = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let id = array.json(1, &["status"])["array"]
            .as_str()
            .unwrap()
            .to_owned();
        let [(_, auth), (_, hide), _] = PASSWORDS;
        // 0x80 and the number of the enterprise, 5 for bytes of our own, the array's identity.
        let config = format!(
            "authCommunity log public\n\
             createUser -e 0x80007ed905{id} trapper SHA-256 \"{auth}\" AES \"{hide}\"\n\
             createUser informer SHA-512 \"{auth}\" AES \"{hide}\"\n\
             authUser log trapper priv\nauthUser log informer priv\n"
        );
        let (conf, log) = (dir.join("snmptrapd.conf"), dir.join("log"));
        std::fs::write(&conf, config).unwrap();
        let out = File::create(&log).unwrap();
        let started = Command::new("snmptrapd")
            .args(["-f", "-Lo", "-On", "-n", "-m", "", "-C", "-c"])
            .arg(&conf)
            .args(["-F", "%v\\n"])
            .arg(format!("udp:{address}"))
            .env("SNMP_PERSISTENT_DIR", &dir)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn();
        match started {
            Ok(child) => Some(Self {
                name,
                child,
                address,
                log,
            }),
            Err(error) => {
                eprintln!(
                    "snmptrapd does not start (package snmptrapd): {error}: nothing was tested"
                );
                None
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let log = std::fs::read(&self.log).unwrap();
        String::from_utf8_lossy(&log)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// The kinds and log indexes that have arrived.
    fn arrived(&self) -> BTreeSet<(usize, u64)> {
        self.lines().iter().filter_map(|line| read(line)).collect()
    }
}

/// Kind and log index of a notification.
fn read(line: &str) -> Option<(usize, u64)> {
    let after = |name: &str| {
        line.split(&format!("{name} = "))
            .nth(1)?
            .split(['\t', '\n'])
            .next()
    };
    let kind = after(".1.3.6.1.6.3.1.1.4.1.0")?.strip_prefix(&format!("OID: {MIB}.0."))?;
    let index = after(&format!("{MIB}.1.2.0"))?.strip_prefix("Counter64: ")?;
    Some((kind.trim().parse().ok()?, index.trim().parse().ok()?))
}

impl Drop for Manager {
    fn drop(&mut self) {
        // Not reaped yet, so this id is still the manager's.
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _gone = kill_process(id, Signal::TERM);
        let _reaped = self.child.wait();
    }
}

/// Waits until every manager has been told of `kind` once more than in `before`.
fn arrives(managers: &[Manager], kind: &str) {
    let number = KINDS.iter().position(|one| *one == kind).unwrap() + 1;
    for manager in managers {
        let (name, log) = (manager.name, manager.log.display());
        until(
            &format!("{kind} ({number}) arrives at {name}: {log}"),
            ARRIVES_S,
            || {
                manager
                    .arrived()
                    .iter()
                    .any(|(one, _)| *one == number)
                    .then_some(())
            },
        );
    }
}

/// What the log made happen after `index`, as managers are to be told of it.
fn happened(array: &Array, asked: u8, index: u64) -> BTreeSet<(usize, u64)> {
    let number = |event: &Value| {
        let kind = KINDS.iter().position(|kind| event["kind"] == *kind)?;
        Some((kind + 1, event["index"].as_u64()?))
    };
    let all = array
        .events(asked)
        .iter()
        .filter_map(number)
        .collect::<BTreeSet<_>>();
    all.into_iter().filter(|(_, at)| *at > index).collect()
}

/// Goal: each of the eleven reaches managers, by every version and way, and none is lost when the leader
/// changes. Method: three of net-snmp's managers; faults and mistakes that make each of them happen; at the
/// end every event of the log is looked for.
#[test]
fn each_of_the_eleven_reaches_managers_of_both_versions() {
    let mut array = start();
    let names = ["traps-2c", "traps-3", "informs-3", "informs-2c"];
    let managers: Vec<Manager> = names
        .iter()
        .filter_map(|name| Manager::start(&array, name))
        .collect();
    let [v2c, v3, inform3, inform2] = managers.as_slice() else {
        return;
    };
    let traps = format!(
        "[traps]\nsnmp = [{{ target = \"{}\", version = \"2c\", community = \"public\" }}, \
         {{ target = \"{}\", version = \"3\", user = \"trapper\" }}, \
         {{ target = \"{}\", version = \"3\", user = \"informer\", inform = true }}, \
         {{ target = \"{}\", version = \"2c\", community = \"public\", inform = true }}]\n",
        v2c.address, v3.address, inform3.address, inform2.address
    );
    apply(&array, &traps);
    let from = array.json(1, &["status"])["index"].as_u64().unwrap();
    until("a trial succeeds", ARRIVES_S, || {
        let said = array.rais(2, &["traps", "test", "web", "--json"]);
        (said.code == 0).then_some(said.out)
    });
    arrives(&managers, "test");

    // A host that is away from now on: down, its address elsewhere and then, as an orphan, gone.
    let leader = array.leader(1);
    let away = (2..=3).find(|host| *host != leader).unwrap();
    let other = 6 - leader - away;
    array.kill(away);
    for kind in ["hostDown", "acquire", "zoneChanged"] {
        arrives(&managers, kind);
    }
    array
        .rais(leader, &["transfer-leader", &format!("h{other}")])
        .good();
    arrives(&managers, "leaderChanged");

    // Scripts that are not there.
    apply(
        &array,
        &format!("[scripts]\nacquire = \"/nonexistent/a\"\nrelease = \"/nonexistent/r\"\n{traps}"),
    );
    let ip = service(leader).to_string();
    array
        .rais(other, &["move", &ip, "--to", &format!("h{other}")])
        .good();
    for kind in ["release", "releaseFail", "acquireFail"] {
        arrives(&managers, kind);
    }

    // A test that nobody passes.
    apply(
        &array,
        &format!(
            "[[test]]\nname = \"never\"\ntcp = {{ target = \"127.0.0.1:1\" }}\ninterval = \"200ms\"\ntimeout = \"100ms\"\nrise = 1\nfall = 1\n\n{traps}"
        ),
    );
    for kind in ["testFailed", "cannotAssign"] {
        arrives(&managers, kind);
    }
    apply(&array, &traps);
    array.let_others_go_on();
    until("the orphan's time is over", 90, || {
        let told = v2c.arrived();
        told.iter()
            .any(|(kind, _)| KINDS[kind - 1] == "orphanExpired")
            .then_some(())
    });
    array.restart(away);
    arrives(&managers, "hostUp");
    for manager in &managers {
        until(&format!("{} has all", manager.name), ARRIVES_S, || {
            let (wanted, arrived) = (happened(&array, other, from), manager.arrived());
            wanted.is_subset(&arrived).then_some(())
        });
        let kinds: BTreeSet<usize> = manager.arrived().iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, (1..=12).collect(), "{}", manager.name);
    }
    let shown = array.json(1, &["traps"]);
    for target in shown["targets"].as_array().unwrap() {
        assert_eq!(
            (&target["dropped"], &target["error"]),
            (&0.into(), &Value::Null),
            "{target}"
        );
    }
    let host_down = format!("{MIB}.0.7\t");
    let line = v3
        .lines()
        .into_iter()
        .find(|line| line.contains(&host_down))
        .unwrap();
    assert!(
        line.contains(&format!("{MIB}.1.7.0 = STRING: \"h{away}\"")),
        "{line}"
    );
    no_secret_is_told(&array);
}

/// Neither logs nor answers hold a password or a key.
fn no_secret_is_told(array: &Array) {
    let mut said = array.rais(1, &["group", "show", "web"]).good();
    said += &array.rais(1, &["traps"]).good();
    for number in 1..=3 {
        let log = std::fs::read_dir(array.data(number)).unwrap();
        let logs = log.filter_map(|entry| Some(entry.ok()?.path()));
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.for_each(|path| said += &std::fs::read_to_string(path).unwrap());
    }
    said += &std::fs::read_to_string(array.dir.join("demo.out")).unwrap();
    for (name, secret) in PASSWORDS {
        assert!(!said.contains(secret), "{name} is told");
    }
}

/// One post: its head, by lines, and its body.
fn take(listener: &TcpListener) -> (TcpStream, Vec<String>, String) {
    let (stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = header(&head, "content-length").parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (stream, head, String::from_utf8(body).unwrap())
}

fn header(head: &[String], name: &str) -> String {
    let prefix = format!("{name}: ");
    head.iter()
        .find_map(|line| line.strip_prefix(&prefix))
        .unwrap()
        .to_owned()
}

/// Goal: what a leader could not tell to its end, its successor tells, as the same delivery. Method: a
/// webhook that leaves the leader without an answer until it is dead.
#[test]
fn what_a_dead_leader_did_not_tell_its_successor_tells() {
    let array = start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/rais", listener.local_addr().unwrap());
    apply(
        &array,
        &format!("[traps]\nwebhook = [{{ url = \"{url}\", key = \"hooks\" }}]\n"),
    );
    let (follower, leader) = array.follower_and_leader();
    array
        .rais(leader, &["quiesce", &format!("h{follower}")])
        .good();
    let (_unanswered, head, body) = loop {
        let (mut stream, head, body) = take(&listener);
        if header(&head, "rais-event") == "quiesced" {
            break (stream, head, body);
        }
        stream.write_all(b"HTTP/1.1 204 Good\r\n\r\n").unwrap();
    };
    assert!(header(&head, "rais-signature").starts_with("t="));
    array.kill(leader);
    let again = loop {
        let (mut stream, head, again) = take(&listener);
        stream.write_all(b"HTTP/1.1 204 Good\r\n\r\n").unwrap();
        if header(&head, "rais-event") == "quiesced" {
            break (header(&head, "rais-delivery"), again);
        }
    };
    assert_eq!(again, (header(&head, "rais-delivery"), body));
    let events = array.events(follower);
    let told: Value = serde_json::from_str(&again.1).unwrap();
    assert!(
        events.contains(&told),
        "{told} is an event as `rais events --json` shows it"
    );
}

/// Goal: `smilint` at its strictest finds nothing in the MIB. Method: the file as it is, then with a word
/// changed, which must be found.
#[test]
fn smilint_finds_nothing_in_the_mib() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = root.join("../docs/mib/RAIS-MIB.txt");
    let lint = |file: &std::path::Path| {
        let run = Command::new("smilint")
            .args(["-l", "6", "-s"])
            .arg(file)
            .env("SMIPATH", root.join("mibs"))
            .output();
        let output = run.ok()?;
        Some([output.stdout, output.stderr].concat())
    };
    let Some(found) = lint(&file) else {
        eprintln!("smilint does not start (package smitools): nothing was tested");
        return;
    };
    assert_eq!(String::from_utf8(found).unwrap(), "");
    let wrong = std::env::temp_dir().join(format!("rais-mib-{}.txt", std::process::id()));
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &wrong,
        text.replacen("InetAddressType\n    MAX", "Integer32\n    MAX", 1),
    )
    .unwrap();
    let found = lint(&wrong).unwrap();
    std::fs::remove_file(&wrong).unwrap();
    assert!(!found.is_empty(), "smilint finds nothing in anything");
}
