//! BIND and Knot as primaries of a zone that they take updates for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;

use hickory_proto::op::Message;

use crate::common::ask;
use crate::program::{Program, which};

/// The zone that they have.
pub const ZONE: &str = "corp.example.";
/// The key that may update it, and its secret.
pub const KEY: &str = "push-key";
pub const SECRET: &[u8] = b"secret of the tests, 32 bytes!!!";
const SECRET_TEXT: &str = "c2VjcmV0IG9mIHRoZSB0ZXN0cywgMzIgYnl0ZXMhISE=";
/// What people keep there themselves.
const RECORDS: &str = "$TTL 300\n@ SOA ns hostmaster 1 3600 600 604800 60\n@ NS ns\nns A 192.0.2.53\nmail A 192.0.2.25\nalias CNAME mail\n";
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bind,
    Knot,
}

/// A running primary.
pub struct Named(Program);

impl Named {
    /// Starts one; none where it is not installed, which is said.
    pub fn start(kind: Kind) -> Option<Named> {
        let (program, package) = match kind {
            Kind::Bind => ("named", "bind9"),
            Kind::Knot => ("knotd", "knot"),
        };
        if which(program).is_none() {
            eprintln!("{program} is not installed (package {package}): {kind:?} was not tested");
            return None;
        }
        let mut server = Program::new(&format!("push-{kind:?}"));
        let arguments = configure(kind, &server);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let soa = ask(ZONE, 6).bytes();
        let answers = |server: &Program| {
            server
                .udp(&soa)
                .is_some_and(|said| !said.answers.is_empty())
        };
        server.start(program, &arguments, answers);
        Some(Named(server))
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// One question over UDP.
    pub fn udp(&self, query: &[u8]) -> Option<Message> {
        self.0.udp(query)
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.0.stop();
    }
}

fn configure(kind: Kind, server: &Program) -> Vec<String> {
    let (shown, port) = (server.dir.display(), server.address.port());
    server.write("zone.db", &format!("$ORIGIN {ZONE}\n{RECORDS}"));
    match kind {
        Kind::Bind => {
            let text = format!(
                "options {{\n  directory \"{shown}\";\n  listen-on port {port} {{ 127.0.0.1; }};\n  listen-on-v6 {{ none; }};\n  \
                 pid-file \"{shown}/pid\";\n  session-keyfile \"{shown}/session.key\";\n  recursion no;\n  dnssec-validation no;\n  notify no;\n}};\n\
                 controls {{ }};\nkey {KEY} {{ algorithm hmac-sha256; secret \"{SECRET_TEXT}\"; }};\n\
                 zone \"{ZONE}\" {{\n  type primary;\n  file \"zone.db\";\n  allow-update {{ key {KEY}; }};\n}};\n"
            );
            server.write("named.conf", &text);
            let file = format!("{shown}/named.conf");
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
            server.write("knot.conf", &text);
            vec!["-c".into(), format!("{shown}/knot.conf")]
        }
    }
}
