//! Strangers at the control port: garbage, frames beyond every bound, certificates of another array.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use crate::array::{Array, service, until};
use crate::ask;

/// A daemon must close within this, in s: its time for a handshake is 5.
const CLOSE_S: u64 = 15;

/// Believes anybody: an intruder does not care whom it talks to.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    stream
}

/// A TLS connection without a certificate, as a joiner makes it.
fn stranger(to: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = config.with_no_client_auth();
    config.alpn_protocols = vec![b"rais/1".to_vec()];
    let name = ServerName::try_from("rais.invalid").unwrap();
    StreamOwned::new(
        ClientConnection::new(Arc::new(config), name).unwrap(),
        connect(to),
    )
}

/// Waits until the other side has closed.
fn closed(stream: &mut impl Read) {
    until("the daemon closes the connection", CLOSE_S, || {
        let mut sink = [0; 4096];
        match stream.read(&mut sink) {
            Ok(0) => Some(()),
            Ok(_) => None,
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                None
            }
            Err(_) => Some(()),
        }
    });
}

/// All that must be as it was: who holds what, under which epoch, in which zone.
fn unmoved(array: &Array) -> (Vec<Option<ask::Served>>, Option<u32>, u32) {
    let served = (1..=array.hosts).map(|host| ask::http(service(host), array.http_port()));
    (served.collect(), ask::serial(array.dns(1)), array.daemon(1))
}

/// Goal: bytes that are no TLS, or a frame beyond its bound, cost the sender its connection, and nobody
/// else anything.
/// Method: garbage, a TLS record of the greatest length, and after a good handshake frames with an absurd
/// length, a wrong version and an unknown tag; to every host, as TCP and as datagrams.
#[test]
fn garbage_and_oversized_frames_close_their_connection_and_nothing_else() {
    let mut array = Array::start(3);
    let before = unmoved(&array);
    let header = |length: u32, version: u8, tag: u8| {
        [&length.to_be_bytes()[..], &[version, tag], &[0; 8]].concat()
    };
    for host in 1..=3 {
        let control = array.control(host);
        for garbage in [
            &[0xff_u8; 4096][..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
            &[0; 70_000],
        ] {
            let mut stream = connect(control);
            let _cut_short = stream.write_all(garbage);
            closed(&mut stream);
        }
        for frame in [
            header(u32::MAX, 1, 4),
            header(64 << 20, 1, 1),
            header(10, 77, 4),
            header(10, 1, 0x7f),
            header(3, 1, 4),
        ] {
            let mut stream = stranger(control);
            stream.write_all(&frame).unwrap();
            closed(&mut stream);
        }
        let socket = std::net::UdpSocket::bind("127.77.0.99:0").unwrap();
        for length in [0, 1, 40, 1400, 60_000] {
            let _sent = socket.send_to(&vec![0xa5; length], control);
        }
    }
    assert_eq!(unmoved(&array), before);
    array.whole();
}

fn copy_identity(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in ["ca.key", "ca.pem", "host.key", "host.pem", "identity.toml"] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}

/// Goal: a certificate of another array opens no door, though the host's name and number fit.
/// Method: the command line with the other array's identity and this one's address; then a whole daemon
/// of the other array that is told this one's address.
#[test]
fn a_certificate_of_another_array_is_refused() {
    let mut array = Array::start(3);
    let other = Array::start_beside(&array, 1);
    let before = unmoved(&array);
    let foreign = array.dir.join("foreign");
    copy_identity(&other.data(1), &foreign);
    let address = foreign.join("control.addr");
    std::fs::copy(array.data(1).join("control.addr"), &address).unwrap();
    for write in [
        &["status"][..],
        &["quiesce", "h2"],
        &["forget", "h3"],
        &["token", "create"],
    ] {
        let said = array.bare(&[write, &["--data-dir", &foreign.display().to_string()]].concat());
        let words = said.refused(&["next:"]);
        assert!(
            words.contains("array") || words.contains("certificate"),
            "{words}"
        );
    }
    assert_eq!(unmoved(&array), before);
    array.whole();
}
