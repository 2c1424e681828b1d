//! Tests, loads and scripts of a group: a service that fails loses its address, and gets it back.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::array::{Array, service, until};

/// Adds `text` to the group's policy and applies it.
pub fn apply(array: &Array, text: &str) {
    let policy = array.rais(1, &["group", "show", "web"]).good();
    let file = array.dir.join("tested.toml");
    std::fs::write(&file, format!("{policy}\n{text}")).unwrap();
    let file = file.display().to_string();
    array.rais(1, &["group", "apply", &file]).good();
}

/// A service of host `number`'s address, and the one that it is tested at while it serves nothing.
fn listen(address: impl Into<SocketAddr>) -> TcpListener {
    TcpListener::bind(address.into()).unwrap()
}

fn healthy(array: &Array, asked: u8, host: &str) -> Option<bool> {
    let status = array.try_json(asked, &["status"])?;
    let members = status["groups"][0]["members"].as_array()?.clone();
    let member = members.into_iter().find(|member| member["host"] == host)?;
    member["healthy"].as_bool()
}

/// Goal: a host whose service fails lets go of its address by itself, another serves it, and it comes
/// home when the service is back. Method: a `tcp` test against listeners of this test's.
#[test]
fn a_service_that_fails_loses_its_address_and_gets_it_back() {
    let mut array = Array::start(3);
    let port = array.http_port() + 1;
    let mut services: Vec<Option<TcpListener>> = (1..=3)
        .map(|host| Some(listen((service(host), port))))
        .collect();
    apply(
        &array,
        &format!(
            "[[test]]\nname = \"port\"\ntcp = {{ target = \"{{address}}:{port}\" }}\n\
             interval = \"100ms\"\ntimeout = \"90ms\"\nrise = 2\nfall = 2\n"
        ),
    );
    services[1] = None;
    until("h2's address is served elsewhere", 10, || {
        let address = array.address(1, service(2))?;
        (address["state"] == "online" && address["host"] != "h2").then_some(())
    });
    assert_eq!(healthy(&array, 1, "h2"), Some(false));
    let status = array.json(1, &["status"]);
    assert!(
        status["hosts"]
            .as_array()
            .unwrap()
            .iter()
            .all(|host| host["up"] == true)
    );
    let told = until("the event is told", 5, || event(&array, "testFailed", "h2"));
    assert!(told.contains("test port: cannot connect to"), "{told}");
    let why = array.rais(1, &["why", &service(2).to_string()]).good();
    assert!(
        why.contains("its tests fail: test port: cannot connect"),
        "{why}"
    );
    let tests = array.json(2, &["tests"]);
    let test = &tests["tests"][0];
    assert_eq!(
        (&test["name"], &test["good"]),
        (&"port".into(), &false.into())
    );
    assert_eq!(test["looks_at"], format!("tcp 127.0.0.1:{port}"));
    let groups = array.rais(1, &["groups"]).good();
    assert!(
        groups.contains("fail: test port: cannot connect"),
        "{groups}"
    );
    // Nothing is served there while it is away: the test looks at this host itself.
    let _here = listen((Ipv4Addr::LOCALHOST, port));
    services[1] = Some(listen((service(2), port)));
    array.whole();
    assert_eq!(healthy(&array, 3, "h2"), Some(true));
}

/// A folder that only root can write, with a log that anybody can, and programs in it.
pub struct Programs(PathBuf);

impl Programs {
    /// In a directory of its own, which goes with it.
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("rais-e2e-{}-{name}", std::process::id()));
        let log = dir.join("log");
        std::fs::create_dir_all(&log).unwrap();
        mode(&dir, 0o755);
        mode(&log, 0o777);
        Self(dir)
    }

    /// Where a program of this name is.
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Makes a program of this name (again).
    pub fn write(&self, name: &str, body: &str) {
        let (next, path) = (self.0.join(format!("{name}.new")), self.0.join(name));
        std::fs::write(&next, format!("#!/bin/sh\n{body}\n")).unwrap();
        mode(&next, 0o755);
        // One that runs is not written to.
        std::fs::rename(next, path).unwrap();
    }

    /// What the programs wrote, line by line.
    pub fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.0.join("log/acts")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        let _rest = std::fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn event(array: &Array, kind: &str, host: &str) -> Option<String> {
    let events = array.events(1);
    let found = |event: &&serde_json::Value| event["kind"] == kind && event["host"] == host;
    let event = events.iter().rev().find(found)?;
    Some(event["reason"].as_str().unwrap_or_default().to_owned())
}

/// Goal: a program decides whether a host is well, as a user without rights; one that anybody could
/// change is not run. Method: a test that fails where a file is.
#[test]
fn a_program_tests_a_host() {
    let (mut array, programs) = (Array::start(3), Programs::new("exec"));
    programs.write("check", "test ! -e $(dirname $0)/down-$RAIS_HOST");
    apply(
        &array,
        &format!(
            "[[test]]\nname = \"check\"\nexec = {{ command = [\"{}\"] }}\n\
             interval = \"200ms\"\ntimeout = \"190ms\"\nrise = 2\nfall = 2\n",
            programs.path("check")
        ),
    );
    let down = programs.path("down-h2");
    std::fs::write(&down, "").unwrap();
    until("h2's address is served elsewhere", 10, || {
        let address = array.address(1, service(2))?;
        (address["state"] == "online" && address["host"] != "h2").then_some(())
    });
    std::fs::remove_file(&down).unwrap();
    array.whole();
    mode(Path::new(&programs.path("check")), 0o777);
    until("nobody runs what anybody can write", 10, || {
        (1..=3)
            .all(|host| healthy(&array, 1, &format!("h{host}")) == Some(false))
            .then_some(())
    });
}

/// Goal: scripts run around a move, in order, and know what for; one that hangs holds up the address no
/// longer than its bound; one that fails keeps it from being served there, and says why.
/// Method: moves of one address, with scripts that write down what they are told.
#[test]
fn scripts_run_around_a_move_in_order_and_within_their_time() {
    let (mut array, programs) = (Array::start(3), Programs::new("scripts"));
    let note = "echo $RAIS_HOST $RAIS_GROUP $RAIS_ADDRESS $RAIS_REASON $(basename $0) >> $(dirname $0)/log/acts";
    programs.write("acquire", note);
    programs.write("release", note);
    apply(
        &array,
        &format!(
            "[scripts]\nacquire = \"{}\"\nrelease = \"{}\"\ntimeout = \"700ms\"\n",
            programs.path("acquire"),
            programs.path("release")
        ),
    );
    let ip = service(1).to_string();
    let at = |array: &Array, host: &str| {
        until(&format!("{ip} is served by {host}"), 10, || {
            let address = array.address(1, service(1))?;
            (address["state"] == "online" && address["host"] == host).then_some(())
        });
    };
    array.rais(1, &["move", &ip, "--to", "h2"]).good();
    at(&array, "h2");
    let expected = [
        format!("h1 web {ip} released release"),
        format!("h2 web {ip} assigned acquire"),
    ];
    assert_eq!(programs.log(), expected);
    programs.write("release", "echo it hangs; sleep 1000");
    array.rais(1, &["move", &ip, "--to", "h1"]).good();
    at(&array, "h1");
    let told = until("the release script's end is told", 5, || {
        event(&array, "releaseFail", "h2")
    });
    assert!(
        told.contains("release script: did not end in time"),
        "{told}"
    );
    programs.write(
        "acquire",
        "if [ $RAIS_HOST = h3 ]; then echo no licence; exit 3; fi",
    );
    programs.write("release", "true");
    array.rais(1, &["move", &ip, "--to", "h3"]).good();
    let told = until("the acquire script's failure is told", 10, || {
        event(&array, "acquireFail", "h3")
    });
    assert!(
        told.contains("acquire script: exit code 3: no licence"),
        "{told}"
    );
    array.whole();
}

/// Goal: a daemon that is told to end runs the release script of what it served, and waits for it no longer
/// than its bound. Method: SIGTERM to two hosts, one of whose scripts hangs.
#[test]
fn a_daemon_that_ends_runs_its_release_scripts_last() {
    let (array, programs) = (Array::start(3), Programs::new("ends"));
    let note = "echo $RAIS_HOST $RAIS_ADDRESS $RAIS_REASON >> $(dirname $0)/log/acts";
    programs.write(
        "release",
        &format!("{note}; test $RAIS_HOST = h2 || sleep 1000"),
    );
    apply(
        &array,
        &format!(
            "[scripts]\nrelease = \"{}\"\ntimeout = \"700ms\"\n",
            programs.path("release")
        ),
    );
    for host in [2, 3] {
        until("the policy is known there", 5, || {
            let policy = array.rais(host, &["group", "show", "web", "--toml"]).out;
            policy.contains("release = ").then_some(())
        });
        array.stop(host);
        let log = programs.log();
        let expected = format!("h{host} {} stopped", service(host));
        let lines = log.iter().filter(|line| **line == expected);
        assert_eq!(lines.count(), 1, "{log:?}");
    }
}

/// Goal: a daemon that waits for its last scripts has no vote any more and answers no names: it has no
/// control, and must neither lead nor tell what it no longer hears.
/// Method: SIGTERM under a release script that waits for the test; its store is closed, its DNS port free.
#[test]
fn a_daemon_that_waits_for_its_last_scripts_has_no_vote() {
    let (array, programs) = (Array::start(3), Programs::new("voteless"));
    let wait = "echo began >> $(dirname $0)/log/acts; \
        until test -e $(dirname $0)/log/go; do sleep 0.1; done";
    programs.write("release", wait);
    let release = programs.path("release");
    apply(
        &array,
        &format!("[scripts]\nrelease = \"{release}\"\ntimeout = \"9s\"\n"),
    );
    until("the policy is known there", 5, || {
        let policy = array.rais(2, &["group", "show", "web", "--toml"]).out;
        policy.contains("release = ").then_some(())
    });
    let (store, files) = (
        array.data(2).join("raft"),
        format!("/proc/{}/fd", array.daemon(2)),
    );
    let opens = || {
        let files = std::fs::read_dir(&files).unwrap().flatten();
        let mut at = files.flat_map(|file| std::fs::read_link(file.path()));
        at.any(|at| at.starts_with(&store))
    };
    assert!(opens(), "{}", store.display());
    std::thread::scope(|scope| {
        let ends = scope.spawn(|| array.stop(2));
        until("the script runs", 5, || {
            (programs.log() == ["began"]).then_some(())
        });
        until("it is no voter, and no name server", 4, || {
            let free = UdpSocket::bind(array.dns(2)).is_ok();
            (free && !opens()).then_some(())
        });
        assert!(!ends.is_finished());
        std::fs::write(Path::new(&release).with_file_name("log").join("go"), "").unwrap();
    });
}

/// Goal: the death of a process that is tested is noticed at once, not at the next look, and needs no count.
/// Method: a look each minute, nine failures asked for, and a process that is killed.
#[test]
fn a_process_that_dies_is_noticed_at_once() {
    let array = Array::start(3);
    let mut process = std::process::Command::new("/bin/sleep");
    let mut process = process.arg("1000").spawn().unwrap();
    let file = array.dir.join("service.pid");
    std::fs::write(&file, format!("{}\n", process.id())).unwrap();
    apply(
        &array,
        &format!(
            "[[test]]\nname = \"alive\"\nprocess = {{ pid_file = \"{}\" }}\n\
             interval = \"1m\"\ntimeout = \"500ms\"\nrise = 1\nfall = 9\n",
            file.display()
        ),
    );
    until("each host has looked, within a second or so", 10, || {
        let looked = |host| {
            let tests = array.try_json(host, &["tests"])?;
            (tests["tests"][0]["found"] == "passed").then_some(())
        };
        (1..=3).all(|host| looked(host).is_some()).then_some(())
    });
    process.kill().unwrap();
    process.wait().unwrap();
    let noticed = || {
        (1..=3)
            .all(|host| healthy(&array, 1, &format!("h{host}")) == Some(false))
            .then_some(())
    };
    until("each host has noticed", 5, noticed);
    let told = until("the event is told", 5, || event(&array, "testFailed", "h2"));
    assert_eq!(
        told,
        format!("test alive: process {} has ended", process.id())
    );
}
