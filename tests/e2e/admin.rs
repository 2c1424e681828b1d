//! The HTTPS API of a running array: who is let in, what it says beside the command line, who confirms.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::array::{Array, until};

/// From the DNS port to the API's, as the demo has it.
const ADMIN_ABOVE_DNS: u16 = 2_143;
/// The name on every host's certificate.
const NAME: &str = "rais.internal";
/// An answer takes at most a commit with an election before it.
const PATIENCE: Duration = Duration::from_secs(12);

/// Trusts the authority of the host whose data is in `trusted`, and shows the certificate in `shown`, if any.
pub fn client_config(trusted: &Path, shown: Option<&Path>) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted.join("ca.pem")).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider);
    let config = config
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match shown {
        None => config.with_no_client_auth(),
        Some(dir) => {
            let chain = vec![CertificateDer::from_pem_file(dir.join("host.pem")).unwrap()];
            let key = PrivateKeyDer::from_pem_file(dir.join("host.key")).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// A connection to the API over `socket`.
pub fn over_tls(
    config: Arc<ClientConfig>,
    socket: TcpStream,
) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(config, ServerName::try_from(NAME).unwrap());
    StreamOwned::new(connection.unwrap(), socket)
}

/// Asks host `number`; shows the certificate of host `shown`, if any. Status code and body.
pub fn ask(
    array: &Array,
    number: u8,
    shown: Option<u8>,
    method: &str,
    path: &str,
) -> (u16, String) {
    send(array, number, shown, method, path, "")
}

/// As [`ask`], with `body` in JSON.
pub fn send(
    array: &Array,
    number: u8,
    shown: Option<u8>,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String) {
    let shown = shown.map(|host| array.data(host));
    let config = client_config(&array.data(number), shown.as_deref());
    let address = (
        Ipv4Addr::new(127, 77, 0, number),
        array.dns_port + ADMIN_ABOVE_DNS,
    );
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = over_tls(Arc::new(config), socket);
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

/// Goal: the API says what the command line says, lets local users only look, and carries out on any
/// host what a host's certificate asks for.
/// Method: the demo opens the API for local users; every question is put over HTTPS.
#[test]
fn the_api_mirrors_the_commands_and_changes_need_a_certificate() {
    let array = Array::start(3);
    for number in 1..=3 {
        assert_eq!(ask(&array, number, None, "GET", "/healthz").0, 200);
        let (code, body) = ask(&array, number, None, "GET", "/v1/groups/web");
        assert_eq!(
            (code, &json(&body)["policy"]["zone"]),
            (200, &Value::from("web.example."))
        );
    }
    let (_, groups) = ask(&array, 1, None, "GET", "/v1/groups");
    assert_eq!(json(&groups), array.json(1, &["groups"]));
    let (code, metrics) = ask(&array, 2, None, "GET", "/metrics");
    assert_eq!(code, 200);
    for line in [
        "rais_up 1",
        "rais_quorum 1",
        "rais_held_addresses{state=\"online\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in:\n{metrics}"
        );
    }
    // A local user without a certificate changes nothing.
    let quiesce = "/v1/hosts/h3/quiesce";
    assert_eq!(ask(&array, 1, None, "POST", quiesce).0, 403);
    // The leader is one of the three, so at least two of these are forwarded.
    for (number, verb) in [(1, "quiesce"), (2, "resume"), (3, "quiesce")] {
        let (code, body) = ask(
            &array,
            number,
            Some(1),
            "POST",
            &format!("/v1/hosts/h3/{verb}"),
        );
        assert_eq!(code, 200, "{body}");
    }
    until("h3 is quiesced", 5, || {
        let zone = array.json(1, &["groups"]).to_string();
        zone.contains("\"quiesced\":true").then_some(())
    });
}

/// Goal: exactly the leader confirms that nothing is newer; the others name it.
#[test]
fn only_the_leader_answers_a_linearizable_read() {
    let array = Array::start(3);
    let path = "/v1/status?consistency=linearizable";
    until("one host confirms and the others name it", 10, || {
        let answers: Vec<_> = (1..=3)
            .map(|number| ask(&array, number, None, "GET", path))
            .collect();
        let leader = answers.iter().position(|(code, _)| *code == 200)?;
        let name = format!("h{}", leader + 1);
        let others = answers
            .iter()
            .filter(|(code, body)| *code == 421 && json(body)["leader"] == name.as_str());
        (others.count() == 2).then_some(())
    });
}
