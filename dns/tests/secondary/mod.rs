//! Name servers that people run, started by hand as secondaries of ours: BIND, Knot, NSD, PowerDNS.
//! Each has a port and a directory of its own; nothing is signalled but what was started here.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::ask;

/// Name of the key and its secret, as it stands in the secondaries' configurations.
pub const KEY: &str = "xfer-key";
pub const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";
pub const SECRET_BYTES: &[u8] = b"secret of the tests, 32 bytes!!!";

/// Where Debian keeps the schema of PowerDNS' data base.
const SCHEMA: &str = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql";

/// A program may take so long to start or to end on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bind,
    Knot,
    Nsd,
    PowerDns,
}

impl Kind {
    /// Programs that it takes, each with its Debian package.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kind::Bind => &[("named", "bind9")],
            Kind::Knot => &[("knotd", "knot")],
            Kind::Nsd => &[("nsd", "nsd")],
            Kind::PowerDns => &[
                ("pdns_server", "pdns-server"),
                (SCHEMA, "pdns-backend-sqlite3"),
                ("sqlite3", "sqlite3"),
            ],
        }
    }

    /// Whether all of it is installed; says what is not.
    pub fn is_installed(self) -> bool {
        let is_there = |program: &str| match program {
            SCHEMA => Path::new(SCHEMA).exists(),
            program => which(program).is_some(),
        };
        let missing = self
            .programs()
            .iter()
            .find(|(program, _)| !is_there(program));
        if let Some((program, package)) = missing {
            eprintln!("{program} is not installed (package {package}): {self:?} was not tested");
        }
        missing.is_none()
    }
}

/// Where a program is; also among those that only root has in its path.
fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders
        .map(|folder| Path::new(folder).join(program))
        .find(|file| file.exists())
}

/// A running secondary.
pub struct Secondary {
    kind: Kind,
    dir: PathBuf,
    pub address: SocketAddr,
    child: Option<Child>,
}

static COUNT: AtomicU16 = AtomicU16::new(0);

impl Secondary {
    /// Prepares a secondary of the primary at `primary` for `web.example.`; `signed`: with the key.
    pub fn new(kind: Kind, primary: SocketAddr, signed: bool) -> Secondary {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{kind:?}-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let address = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let secondary = Secondary {
            kind,
            dir,
            address,
            child: None,
        };
        secondary.configure(primary, signed);
        secondary
    }

    fn configure(&self, primary: SocketAddr, signed: bool) {
        let (dir, port, from) = (self.dir.display(), self.address.port(), primary.port());
        match self.kind {
            Kind::Bind => {
                let key = if signed {
                    format!(" key {KEY}")
                } else {
                    String::new()
                };
                self.write("named.conf", &format!(
                    "options {{\n  directory \"{dir}\";\n  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n  \
                     pid-file \"{dir}/pid\";\n  session-keyfile \"{dir}/session.key\";\n  recursion no;\n  dnssec-validation no;\n  notify no;\n  \
                     serial-query-rate 1000;\n}};\ncontrols {{ }};\n\
                     key {KEY} {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
                     zone \"web.example\" {{\n  type secondary;\n  file \"web.example.db\";\n  primaries {{ 127.0.0.1 port {from}{key}; }};\n}};\n"
                ));
            }
            Kind::Knot => {
                let key = if signed {
                    format!("\n    key: {KEY}")
                } else {
                    String::new()
                };
                self.write("knot.conf", &format!(
                    "server:\n    rundir: {dir}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 2\n\
                     log:\n  - target: stderr\n    any: info\n\
                     database:\n    storage: {dir}\n\
                     key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                     remote:\n  - id: rais\n    address: 127.0.0.1@{from}{key}\n\
                     acl:\n  - id: rais\n    address: 127.0.0.1\n    action: notify{key}\n\
                     zone:\n  - domain: web.example\n    storage: {dir}\n    file: web.example.zone\n    master: rais\n    acl: rais\n"
                ));
            }
            Kind::Nsd => {
                let key = if signed { KEY } else { "NOKEY" };
                self.write("nsd.conf", &format!(
                    "server:\n    ip-address: 127.0.0.1@{port}\n    server-count: 1\n    rrl-ratelimit: 0\n    username: \"\"\n    zonesdir: \"{dir}\"\n    pidfile: \"{dir}/pid\"\n    \
                     xfrdfile: \"{dir}/xfrd.state\"\n    xfrdir: \"{dir}\"\n    zonelistfile: \"{dir}/zone.list\"\n    database: \"\"\n    xfrd-reload-timeout: 0\n    verbosity: 2\n\
                     remote-control:\n    control-enable: no\n\
                     key:\n    name: \"{KEY}\"\n    algorithm: hmac-sha256\n    secret: \"{SECRET}\"\n\
                     zone:\n    name: \"web.example\"\n    zonefile: \"web.example.zone\"\n    store-ixfr: yes\n    \
                     request-xfr: 127.0.0.1@{from} {key}\n    allow-notify: 127.0.0.1 {key}\n    provide-xfr: 127.0.0.1 NOKEY\n"
                ));
            }
            Kind::PowerDns => self.configure_powerdns(port, from, signed),
        }
    }

    fn configure_powerdns(&self, port: u16, from: u16, signed: bool) {
        let dir = self.dir.display();
        self.write("pdns.conf", &format!(
            "launch=gsqlite3\ngsqlite3-database={dir}/pdns.sqlite3\nlocal-address=127.0.0.1\nlocal-port={port}\nsecondary=yes\n\
             socket-dir={dir}\ndaemon=no\nguardian=no\nsetuid=\nsetgid=\nsecurity-poll-suffix=\n\
             cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\nloglevel=5\n"
        ));
        let database = File::open(SCHEMA).unwrap();
        let made = Command::new("sqlite3")
            .arg(self.dir.join("pdns.sqlite3"))
            .stdin(database)
            .status()
            .unwrap();
        assert!(made.success());
        let config = format!("--config-dir={dir}");
        let primary = format!("127.0.0.1:{from}");
        let mut steps = vec![
            vec!["create-secondary-zone", "web.example", &primary],
            vec!["set-meta", "web.example", "IXFR", "1"],
        ];
        if signed {
            steps.push(vec!["import-tsig-key", KEY, "hmac-sha256", SECRET]);
            steps.push(vec!["activate-tsig-key", "web.example", KEY, "secondary"]);
        }
        for step in steps {
            let output = Command::new("pdnsutil")
                .arg(&config)
                .args(&step)
                .output()
                .unwrap();
            assert!(output.status.success(), "{step:?}: {output:?}");
        }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.join(name), text).unwrap();
    }

    /// Starts it, and waits until it answers anything at all.
    pub fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let dir = self.dir.display().to_string();
        let (program, arguments) = match self.kind {
            Kind::Bind => (
                "named",
                vec![
                    "-g".into(),
                    "-n".into(),
                    "1".into(),
                    "-c".into(),
                    format!("{dir}/named.conf"),
                ],
            ),
            Kind::Knot => ("knotd", vec!["-c".into(), format!("{dir}/knot.conf")]),
            Kind::Nsd => (
                "nsd",
                vec!["-d".into(), "-c".into(), format!("{dir}/nsd.conf")],
            ),
            Kind::PowerDns => ("pdns_server", vec![format!("--config-dir={dir}")]),
        };
        let child = Command::new(which(program).unwrap())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while soa(self.address).is_none() {
            assert!(
                Instant::now() < deadline,
                "{:?} does not answer; its log is in {dir}",
                self.kind
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // Not reaped yet, so this id is still the child's.
        let id = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let _gone = kill_process(id, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        let _killed = child.kill();
        let _reaped = child.wait();
    }

    /// Waits until it answers with this serial; how long that took.
    pub fn reaches(&self, serial: u32, within: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let seen = soa(self.address).flatten();
            if seen == Some(serial) {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < within,
                "{:?} is at {seen:?}, not at {serial}; its log is in {}",
                self.kind,
                self.dir.display()
            );
            // A poll of another process: there is no event to await.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The IPv4 addresses of a name as it answers them, sorted.
    pub fn addresses_of(&self, name: &str) -> Vec<String> {
        // A datagram may be lost on a machine that is busy; who asks looks again.
        let Some(answer) = udp(self.address, &ask(name, 1).bytes()) else {
            return Vec::new();
        };
        let mut found: Vec<String> = answer
            .answers
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some(a.0.to_string()),
                _ => None,
            })
            .collect();
        found.sort();
        found
    }
}

impl Drop for Secondary {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            let from = log.len().saturating_sub(4_000);
            eprintln!(
                "{:?} said last:\n{}",
                self.kind,
                log.get(from..).unwrap_or(&log)
            );
        } else {
            let _rest = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// One question over UDP.
pub fn udp(server: SocketAddr, query: &[u8]) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    socket.connect(server).unwrap();
    socket.send(query).ok()?;
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).ok()?;
    Message::from_vec(&buffer[..length]).ok()
}

/// The serial that a server answers; the inner `None`: it answers, but has no zone.
pub fn soa(server: SocketAddr) -> Option<Option<u32>> {
    let answer = udp(server, &ask("web.example.", 6).bytes())?;
    Some(
        answer
            .answers
            .first()
            .and_then(|record| match &record.data {
                RData::SOA(soa) => Some(soa.serial),
                _ => None,
            }),
    )
}
