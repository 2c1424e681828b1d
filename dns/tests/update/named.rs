//! BIND and Knot as primaries of a zone that they take updates for; each with a port and a directory of its
//! own, and nothing is signalled but what was started here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

use std::fs::File;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::Message;

use crate::common::ask;

/// The zone that they have.
pub const ZONE: &str = "corp.example.";
/// The key that may update it, and its secret.
pub const KEY: &str = "push-key";
pub const SECRET: &[u8] = b"secret of the tests, 32 bytes!!!";
const SECRET_TEXT: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";
/// What people keep there themselves.
const RECORDS: &str = "$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\nns A 192.0.2.53\nmail A 192.0.2.25\nalias CNAME mail\n";
/// A program may take so long to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bind,
    Knot,
}

/// A running primary.
pub struct Named {
    kind: Kind,
    dir: PathBuf,
    pub address: SocketAddr,
    child: Child,
}

static COUNT: AtomicU16 = AtomicU16::new(0);

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').chain(["/usr/sbin", "/sbin"]);
    folders.find_map(|folder| {
        let file = Path::new(folder).join(program);
        file.exists().then_some(file)
    })
}

/// An address that is free over both transports, below the ports that connections are given.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Named {
    /// Starts one; none where it is not installed, which is said.
    pub fn start(kind: Kind) -> Option<Named> {
        let (program, package) = match kind {
            Kind::Bind => ("named", "bind9"),
            Kind::Knot => ("knotd", "knot"),
        };
        let Some(binary) = which(program) else {
            eprintln!("{program} is not installed (package {package}): {kind:?} was not tested");
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("push-{kind:?}-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        let address = free_address();
        let arguments = configure(kind, &dir, address.port());
        let log = File::create(dir.join("log")).unwrap();
        let child = Command::new(binary)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Named {
            kind,
            dir,
            address,
            child,
        };
        let deadline = Instant::now() + PATIENCE;
        let soa = ask(ZONE, 6).bytes();
        while server.udp(&soa).is_none_or(|said| said.answers.is_empty()) {
            assert!(Instant::now() < deadline, "{kind:?} does not answer");
            // A poll of another process: there is no event to await.
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Some(server)
    }

    /// One question over UDP.
    pub fn udp(&self, query: &[u8]) -> Option<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        socket.connect(self.address).unwrap();
        socket.send(query).ok()?;
        let mut buffer = [0; 4_096];
        let length = socket.recv(&mut buffer).ok()?;
        Message::from_vec(&buffer[..length]).ok()
    }

    /// Ends it.
    pub fn stop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn configure(kind: Kind, dir: &Path, port: u16) -> Vec<String> {
    let shown = dir.display();
    std::fs::write(dir.join("zone.db"), format!("$ORIGIN {ZONE}\n{RECORDS}")).unwrap();
    match kind {
        Kind::Bind => {
            let text = format!(
                "options {{\n  directory \"{shown}\";\n  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n  \
                 pid-file \"{shown}/pid\";\n  session-keyfile \"{shown}/session.key\";\n  recursion no;\n  dnssec-validation no;\n  notify no;\n}};\n\
                 controls {{ }};\nkey {KEY} {{ algorithm hmac-sha256; secret \"{SECRET_TEXT}\"; }};\n\
                 zone \"{ZONE}\" {{\n  type primary;\n  file \"zone.db\";\n  allow-update {{ key {KEY}; }};\n}};\n"
            );
            let file = dir.join("named.conf");
            std::fs::write(&file, text).unwrap();
            let file = file.display().to_string();
            ["-g", "-n", "1", "-c", &file].map(str::to_owned).into()
        }
        Kind::Knot => {
            let text = format!(
                "server:\n    rundir: {shown}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
                 log:\n  - target: stderr\n    any: info\n\
                 database:\n    storage: {shown}\n\
                 key:\n  - id: {KEY}\n    algorithm: hmac-sha256\n    secret: {SECRET_TEXT}\n\
                 acl:\n  - id: rais\n    key: {KEY}\n    action: update\n  - id: look\n    key: {KEY}\n    action: query\n\
                 zone:\n  - domain: {ZONE}\n    storage: {shown}\n    file: zone.db\n    acl: rais\n"
            );
            let file = dir.join("knot.conf");
            std::fs::write(&file, text).unwrap();
            vec!["-c".into(), file.display().to_string()]
        }
    }
}

impl Drop for Named {
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
