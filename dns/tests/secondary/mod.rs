//! BIND, Knot, NSD and PowerDNS as secondaries of ours.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::rr::RData;

use crate::common::ask;
use crate::program::{Program, which};

/// Name of the key and its secret, as it stands in the secondaries' configurations.
pub const KEY: &str = "xfer-key";
pub const SECRET: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";
pub const SECRET_BYTES: &[u8] = b"secret of the tests, 32 bytes!!!";

/// Where Debian keeps the schema of PowerDNS' data base.
const SCHEMA: &str = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql";

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

/// A secondary, running or not.
pub struct Secondary {
    kind: Kind,
    program: Program,
}

impl Secondary {
    /// Prepares a secondary of the primary at `primary` for `web.example.`; `signed`: with the key.
    pub fn new(kind: Kind, primary: SocketAddr, signed: bool) -> Secondary {
        let program = Program::new(&format!("{kind:?}"));
        let secondary = Secondary { kind, program };
        secondary.configure(primary, signed);
        secondary
    }

    fn configure(&self, primary: SocketAddr, signed: bool) {
        let (dir, port) = (self.program.dir.display(), self.address().port());
        let from = primary.port();
        match self.kind {
            Kind::Bind => {
                let key = if signed {
                    format!(" key {KEY}")
                } else {
                    String::new()
                };
                self.program.write("named.conf", &format!(
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
                self.program.write("knot.conf", &format!(
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
                self.program.write("nsd.conf", &format!(
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
        let dir = self.program.dir.display();
        self.program.write("pdns.conf", &format!(
            "launch=gsqlite3\ngsqlite3-database={dir}/pdns.sqlite3\nlocal-address=127.0.0.1\nlocal-port={port}\nsecondary=yes\n\
             socket-dir={dir}\ndaemon=no\nguardian=no\nsetuid=\nsetgid=\nsecurity-poll-suffix=\n\
             cache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\nzone-cache-refresh-interval=0\nloglevel=5\n"
        ));
        let database = File::open(SCHEMA).unwrap();
        let made = Command::new("sqlite3")
            .arg(self.program.dir.join("pdns.sqlite3"))
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

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.program.address
    }

    /// Starts it, and waits until it answers anything at all.
    pub fn start(&mut self) {
        let file = |name: &str| self.program.dir.join(name).display().to_string();
        let (program, arguments) = match self.kind {
            Kind::Bind => (
                "named",
                vec![
                    "-g".into(),
                    "-n".into(),
                    "1".into(),
                    "-c".into(),
                    file("named.conf"),
                ],
            ),
            Kind::Knot => ("knotd", vec!["-c".into(), file("knot.conf")]),
            Kind::Nsd => ("nsd", vec!["-d".into(), "-c".into(), file("nsd.conf")]),
            Kind::PowerDns => ("pdns_server", vec![format!("--config-dir={}", file(""))]),
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let answers = |program: &Program| soa(program).is_some();
        self.program.start(program, &arguments, answers);
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.program.stop();
    }

    /// Waits until it answers with this serial; how long that took.
    pub fn reaches(&self, serial: u32, within: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let seen = soa(&self.program).flatten();
            if seen == Some(serial) {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < within,
                "{:?} is at {seen:?}, not at {serial}; its log is in {}",
                self.kind,
                self.program.dir.display()
            );
            // A poll of another process: there is no event to await.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The IPv4 addresses of a name as it answers them, sorted.
    pub fn addresses_of(&self, name: &str) -> Vec<String> {
        // A datagram may be lost on a machine that is busy; who asks looks again.
        let Some(answer) = self.program.udp(&ask(name, 1).bytes()) else {
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

/// The serial that a server answers; the inner `None`: it answers, but has no zone.
fn soa(server: &Program) -> Option<Option<u32>> {
    let answer = server.udp(&ask("web.example.", 6).bytes())?;
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
