//! The zone pushed into a name server that people already run: BIND, by `rais zone --rfc2136`.
//!
//! Needs the Debian package bind9; says so where it is missing.

use std::collections::BTreeSet;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::array::{Array, service, until};
use crate::ask::{self, ZONE};

const NAMED: &str = "/usr/sbin/named";
const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";

/// BIND as a primary for `example.`, which takes updates signed with `push-key`.
struct Bind {
    child: Child,
    address: SocketAddr,
    secret: PathBuf,
    dir: PathBuf,
}

impl Bind {
    fn start(dir: &Path) -> Option<Bind> {
        if !Path::new(NAMED).exists() {
            eprintln!("named is not installed (package bind9): pushing was not tested");
            return None;
        }
        let dir = dir.join("bind");
        std::fs::create_dir_all(&dir).unwrap();
        let address = free_address();
        let (shown, port) = (dir.display(), address.port());
        let write = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
        write(
            "example.db",
            "$ORIGIN example.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\nns A 192.0.2.53\n".into(),
        );
        write(
            "named.conf",
            format!(
                "options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n\
             pid-file \"{shown}/pid\"; session-keyfile \"{shown}/session.key\"; recursion no; dnssec-validation no; notify no; }};\n\
             controls {{ }};\nkey push-key {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
             zone \"example\" {{ type primary; file \"example.db\"; allow-update {{ key push-key; }}; }};\n"
            ),
        );
        let secret = dir.join("push-key");
        std::fs::write(&secret, SECRET).unwrap();
        std::fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let child = run_named(&dir);
        let bind = Bind {
            child,
            address,
            secret,
            dir,
        };
        bind.await_answers();
        Some(bind)
    }

    fn await_answers(&self) {
        until("BIND answers", 30, || {
            ask::addresses(self.address, "ns.example.").filter(|said| !said.addresses.is_empty())
        });
    }

    fn restart(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
        self.child = run_named(&self.dir);
        self.await_answers();
    }

    fn has(&self, name: &str) -> BTreeSet<IpAddr> {
        let said = ask::addresses(self.address, name);
        said.map(|said| said.addresses)
            .into_iter()
            .flatten()
            .collect()
    }
}

fn run_named(dir: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    Command::new(NAMED)
        .args(["-g", "-n", "1", "-c"])
        .arg(dir.join("named.conf"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Free over both transports, below the ports that connections are given.
fn free_address() -> SocketAddr {
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    let mut all = (first..first + 100).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    all.find(|address| UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok())
        .unwrap()
}

impl Drop for Bind {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A command that goes on until it is dropped.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _killed = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn all(hosts: &[u8]) -> BTreeSet<IpAddr> {
    hosts.iter().map(|host| service(*host)).collect()
}

/// Goal: a zone is pushed once, with names and all; a wrong key is told; and with --follow each change comes
/// by itself, after the primary was away too.
/// Method: BIND with a zone above ours; a host killed, started, and killed while BIND restarts.
#[test]
fn a_zone_is_pushed_into_bind_once_and_with_each_change() {
    let array = Array::start(3);
    let Some(mut bind) = Bind::start(&array.dir) else {
        return;
    };
    let (to, secret) = (bind.address.to_string(), bind.secret.display().to_string());
    let base = ["zone", "web", "--rfc2136", &to, "--in-zone", "example."];
    let signed = [&base[..], &["--key", "push-key", "--secret-file", &secret]].concat();
    array.rais(1, &base).refused(&["the primary says"]);
    assert_eq!(bind.has(ZONE), all(&[]));
    let told = array.rais(1, &signed).good();
    assert!(told.contains("pushed to"), "{told}");
    assert_eq!(bind.has(ZONE), all(&[1, 2, 3]));
    assert_eq!(bind.has("h2.web.example."), all(&[2]));
    assert_eq!(bind.has("h1.ns.web.example."), all(&[]));

    let follow = [&signed[..], &["--follow", "--json"]].concat();
    let data = array.data(1).display().to_string();
    let mut following = Following(
        array
            .command()
            .args(["--data-dir", &data])
            .args(&follow)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(following.0.stdout.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["names"], 4);
    array.kill(3);
    until("BIND has it without h3", 20, || {
        (bind.has(ZONE) == all(&[1, 2])).then_some(())
    });
    assert_eq!(bind.has("h3.web.example."), all(&[]));
    array.restart(3);
    until("BIND has h3 again", 30, || {
        (bind.has(ZONE) == all(&[1, 2, 3])).then_some(())
    });
    let _killed = bind.child.kill();
    array.kill(2);
    until("h2 is out", 20, || {
        (ask::published(array.dns(1))? == all(&[1, 3])).then_some(())
    });
    bind.restart();
    until("BIND has the newest", 60, || {
        (bind.has(ZONE) == all(&[1, 3])).then_some(())
    });
}
