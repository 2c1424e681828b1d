//! BIND follows an array's zone: three primaries, a key in each host's file, changes by operators
//! and by a dead leader. dns/tests/secondaries.rs has the other name servers and the thousands.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::array::{Array, until};
use crate::ask;

const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";

/// A change may take so long to reach BIND, in s.
const FOLLOWS_S: u64 = 20;

/// BIND as a secondary of the array's three name servers; ends when dropped.
struct Bind {
    child: Child,
    address: SocketAddr,
}

impl Bind {
    /// `None`, said aloud: it is not installed.
    fn start(array: &Array) -> Option<Bind> {
        let dir = array.dir.join("bind");
        std::fs::create_dir_all(&dir).unwrap();
        let address = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let (shown, port) = (dir.display(), address.port());
        let primaries: String = (1..=array.hosts)
            .map(|host| {
                let primary = array.dns(host);
                format!("{} port {} key xfer-key; ", primary.ip(), primary.port())
            })
            .collect();
        let config = format!(
            "options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n  \
             pid-file \"{shown}/pid\"; session-keyfile \"{shown}/session.key\"; recursion no; dnssec-validation no; notify no;\n  serial-query-rate 1000; }};\n\
             controls {{ }};\n\
             key xfer-key {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"web.example\" {{ type secondary; file \"web.example.db\"; primaries {{ {primaries}}}; }};\n"
        );
        let file = dir.join("named.conf");
        std::fs::write(&file, config).unwrap();
        let log = File::create(dir.join("log")).unwrap();
        let named = Command::new("named")
            .args(["-g", "-n", "1", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        match named {
            Ok(child) => Some(Bind { child, address }),
            Err(error) => {
                eprintln!("named does not start (package bind9): {error}: nothing was tested");
                None
            }
        }
    }

    /// Waits until it answers as host `number` of the array does, beyond `old`; the new serial.
    fn follows(&self, array: &Array, number: u8, old: u32) -> u32 {
        until("BIND follows", FOLLOWS_S, || {
            let ours = ask::serial(array.dns(number)).filter(|serial| *serial != old)?;
            let same = ask::serial(self.address) == Some(ours)
                && ask::published(self.address) == ask::published(array.dns(number));
            same.then_some(ours)
        })
    }
}

impl Drop for Bind {
    fn drop(&mut self) {
        // Not reaped yet, so this id is still BIND's.
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        let _gone = kill_process(id, Signal::TERM);
        let _reaped = self.child.wait();
    }
}

/// Gives a host the key, as its operator would.
fn add_key(array: &Array, number: u8) {
    let data = array.data(number);
    let secret = data.join("xfer-key");
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&secret)
        .unwrap();
    writeln!(file, "{SECRET}").unwrap();
    let mut config = OpenOptions::new()
        .append(true)
        .open(data.join("rais.toml"))
        .unwrap();
    writeln!(
        config,
        "\n[[dns.key]]\nname = \"xfer-key\"\nsecret_file = \"{}\"",
        secret.display()
    )
    .unwrap();
}

/// The zone's policy with what BIND needs.
fn let_follow(array: &Array, secondary: SocketAddr) {
    let policy = array.rais(1, &["group", "show", "web"]).good();
    let transfer = format!(
        "\n[transfer]\nnotify = [\"{secondary}\"]\nallow = [\"127.0.0.0/8\"]\ntsig = \"xfer-key\"\n"
    );
    let file = array.dir.join("followed.toml");
    std::fs::write(&file, policy + &transfer).unwrap();
    array
        .rais(1, &["group", "apply", &file.display().to_string()])
        .good();
}

/// All hosts give the same zone for a serial, whole and as differences.
fn assert_one_zone(array: &Array, serial: u32) {
    let dig = |number: u8, rtype: &str| {
        let server = array.dns(number);
        let key = format!("hmac-sha256:xfer-key:{SECRET}");
        let output = Command::new("dig")
            .args([
                "+tcp",
                "+nocookie",
                "-y",
                &key,
                "-p",
                &server.port().to_string(),
            ])
            .args([&format!("@{}", server.ip()), "web.example.", rtype])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let records = text
            .lines()
            .filter(|line| !line.starts_with(';') && !line.contains("TSIG"));
        records
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let changes = format!("IXFR={}", serial - 3);
    for rtype in ["AXFR", &changes] {
        let first = dig(1, rtype);
        assert!(
            first.len() > 6 && first[0].contains(&format!(" {serial} ")),
            "{first:#?}"
        );
        for number in 2..=array.hosts {
            assert_eq!(dig(number, rtype), first, "{rtype} of host {number}");
        }
    }
}

/// Goal: BIND follows what operators and faults change, whichever name server is left; a host
/// without the key says so.
/// Method: three hosts, at first without the key, then with it; quiesce and resume, then a dead
/// leader and its return, each awaited at BIND.
#[test]
fn bind_follows_an_array() {
    let mut array = Array::start(3);
    let Some(bind) = Bind::start(&array) else {
        return;
    };
    let_follow(&array, bind.address);
    let text = until("the lack of the key is told", 10, || {
        let said = array.rais(1, &["zone", "web"]).good();
        said.contains("xfer-key").then_some(said)
    });
    assert!(text.contains("this host has no key `xfer-key`"), "{text}");
    array.end();
    (1..=3).for_each(|number| add_key(&array, number));
    array.resume();
    array.whole();
    let mut serial = bind.follows(&array, 1, 0);
    for (word, host) in [
        ("quiesce", "h2"),
        ("resume", "h2"),
        ("quiesce", "h3"),
        ("resume", "h3"),
    ] {
        array.rais(1, &[word, host]).good();
        serial = bind.follows(&array, 1, serial);
    }
    array.whole();
    serial = until(
        "the newest is acknowledged to the first to tell",
        10,
        || {
            let told = array.json(1, &["zone", "web"]);
            let known = &told["followed"]["secondaries"][0]["acknowledged"];
            let rests = told["at_fault"] == false && *known == told["serial"];
            rests.then(|| u32::try_from(told["serial"].as_u64().unwrap()).unwrap())
        },
    );
    assert_one_zone(&array, serial);
    let (other, leader) = array.follower_and_leader();
    array.kill(leader);
    serial = bind.follows(&array, other, serial);
    array.restart(leader);
    array.whole();
    bind.follows(&array, leader, serial);
}
