//! What the accepting side refuses, and that nobody else feels it.

use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::frame::{HEADER, Header, MAX_CLIENT_BODY, MAX_STRANGER_BODY, Tag};
use super::super::tls::joiner_config;
use super::*;
use crate::pki::testing::{TestDir, founder, joined, joined_at, now};
use crate::pki::{CertificateName, DNS_NAME};

/// A caller that trusts `trusted`'s authority but shows the given certificate.
fn impostor(
    trusted: &ArrayIdentity,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.authority().der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"rais/1".to_vec()];
    Arc::new(config)
}

/// The reason for which the server ends a connection made with this configuration.
async fn refusal(config: Arc<ClientConfig>, address: SocketAddr) -> String {
    match raw(config, address).await {
        Err(reason) => reason,
        Ok(stream) => Connection::start(stream).ended().await,
    }
}

/// A certificate from this array's own authority that names another array.
fn misnamed(
    array: &ArrayIdentity,
) -> (
    Vec<rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
) {
    let key = rcgen::KeyPair::generate().unwrap();
    let uri = CertificateName::Host {
        array: statemachine::ArrayId([9; 16]),
        host: HostId(1),
    };
    let mut params = rcgen::CertificateParams::new([DNS_NAME.to_owned()]).unwrap();
    params
        .subject_alt_names
        .push(rcgen::SanType::URI(uri.uri().try_into().unwrap()));
    let mut issuer = rcgen::CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    let name = rcgen::DnValue::Utf8String(format!("rais array {}", array.array()));
    issuer
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    let issuer_key = rcgen::KeyPair::from_pem(&array.authority().key_pem()).unwrap();
    let issuer = rcgen::Issuer::new(issuer, issuer_key);
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (vec![certificate.der().clone()], private)
}

/// Goal: certificates of another authority, or of another array, are refused in the handshake,
/// with words that say so on both sides. Method: three impostors beside a good caller.
#[tokio::test]
async fn certificates_of_other_arrays_are_refused() {
    let (ours, theirs) = (founder(1), founder(2));
    let started = start(&ours).await;
    let good = Client::connect(&ours, &[started.at], None).await.unwrap();

    let other_authority = impostor(&ours, theirs.chain(), theirs.private_key());
    let reason = refusal(other_authority, started.at).await;
    assert!(reason.contains("of another array"), "{reason}");

    let (chain, key) = misnamed(&ours);
    let reason = refusal(impostor(&ours, chain, key), started.at).await;
    assert!(reason.contains("not a host of its array"), "{reason}");

    let result = Client::connect(&theirs, &[started.at], None).await;
    let reason = result.err().unwrap().to_string();
    assert!(reason.contains("another array's authority"), "{reason}");

    assert!(good.call(VOTE, vec![], LONG).await.is_ok());
    assert_eq!(started.server.counts().refused_handshake, 3);
    assert_eq!(started.server.connected_hosts(), [HostId(1)]);
}

/// Goal: bytes that are no frames end their connection, are counted, and disturb nobody.
/// Method: garbage, oversize, wrong direction, truncation, bare TCP, beside a caller in flight.
#[tokio::test]
async fn wrong_frames_end_their_own_connection_only() {
    let ours = founder(1);
    let started = start(&ours).await;
    let good = Arc::new(Client::connect(&ours, &[started.at], None).await.unwrap());
    let hanging = Arc::clone(&good);
    let hanging = tokio::spawn(async move { hanging.call(VOTE, b"hang".to_vec(), LONG).await });
    started.handler.seen.notified().await;

    let header = |kind, length| {
        Header {
            tag: Tag::Ask(kind),
            id: 1,
            length,
        }
        .encode()
    };
    let mut wrong_tag = header(VOTE, 0);
    wrong_tag[5] = 0x7f;
    let reply = Header {
        tag: Tag::Reply,
        id: 1,
        length: 0,
    }
    .encode();
    let wrong = [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        &[0; 64],
        &wrong_tag,
        &header(Kind::Client, MAX_CLIENT_BODY + 1),
        &header(VOTE, frame::MAX_BODY + 1),
        &reply,
    ];
    for bytes in wrong {
        let mut stream = raw_host(&ours, started.at).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest))
            .await
            .unwrap();
        assert!(rest.is_empty());
    }
    assert_eq!(started.server.counts().bad_frames, wrong.len() as u64);

    // Truncated: begun and then gone.
    let mut stream = raw_host(&ours, started.at).await;
    stream
        .write_all(&header(VOTE, 100)[..HEADER - 3])
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap();

    // No TLS at all.
    let mut stream = TcpStream::connect(started.at).await.unwrap();
    stream.write_all(b"hello, is this rais?\r\n").await.unwrap();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut Vec::new()))
        .await
        .unwrap();
    assert_eq!(started.server.counts().refused_handshake, 1);

    assert_eq!(
        text(good.call(VOTE, b"x".to_vec(), LONG).await),
        "host 1 Raft { class: Vote } x"
    );
    assert!(!hanging.is_finished());
    hanging.abort();
}

/// Goal: without a certificate one can join, and nothing else, with small requests only.
/// Method: each kind over a joiner's connection; then a long join request.
#[tokio::test]
async fn joiner_may_only_join() {
    let ours = founder(1);
    let started = start(&ours).await;
    let (config, _) = joiner_config(ours.authority().fingerprint()).unwrap();
    let connection = Connection::start(raw(Arc::clone(&config), started.at).await.unwrap());
    let others = [VOTE, Kind::Client, Kind::Stream, Kind::Session, Kind::Query];
    for kind in others {
        let result = connection.exchange(kind, vec![0; 8]).await;
        assert!(
            matches!(result, Err(ExchangeError::Refused(HandlerError::Denied(_)))),
            "{kind:?}: {result:?}"
        );
    }
    assert_eq!(started.server.counts().denied, others.len() as u64);
    assert_eq!(started.server.counts().requests, 0);
    assert_eq!(
        text(connection.exchange(Kind::Join, b"me".to_vec()).await),
        "a joiner Join me"
    );
    assert!(started.server.connected_hosts().is_empty());

    let long = connection
        .exchange(Kind::Join, vec![0; MAX_STRANGER_BODY + 1])
        .await;
    assert!(matches!(long, Err(ExchangeError::Ended(_))));
    assert_eq!(started.server.counts().bad_frames, 1);
}

/// Goal: a joiner talks only to the array that its token names.
/// Method: the right fingerprint, another's, and a server that shows a true authority it has no
/// certificate from.
#[tokio::test]
async fn join_is_refused_when_the_fingerprint_does_not_fit() {
    let (ours, theirs) = (founder(1), founder(2));
    let started = start(&ours).await;
    let fingerprint = ours.authority().fingerprint();
    let reply = join_call(started.at, fingerprint, b"me".to_vec(), LONG)
        .await
        .unwrap();
    assert_eq!(reply.body, b"a joiner Join me");
    assert_eq!((reply.array, reply.host), (ours.array(), HostId(1)));

    let expected = theirs.authority().fingerprint();
    let error = join_call(started.at, expected, vec![], LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::WrongArray { found, .. } if found == fingerprint),
        "{error}"
    );

    // The impostor's own certificate, with our authority's behind it.
    let chain = vec![theirs.chain()[0].clone(), ours.authority().der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, theirs.private_key())
        .unwrap();
    config.alpn_protocols = vec![b"rais/1".to_vec()];
    let listener = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.map(drop)
    });
    let error = join_call(address, fingerprint, b"secret".to_vec(), LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Peer { .. }), "{error}");
    assert!(server.await.unwrap().is_err(), "no secret was sent");
}

/// Goal: handlers' errors travel; one that panics or answers too much harms its request only.
/// Method: each over one connection.
#[tokio::test]
async fn refusals_travel_and_requests_fail_alone() {
    let ours = founder(1);
    let started = start(&ours).await;
    let client = Client::connect(&ours, &[started.at], Some(HostId(1)))
        .await
        .unwrap();
    let error = client
        .call(Kind::Client, b"fail".to_vec(), LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::Refused(HandlerError::Failed(why)) if why == "as asked"));
    let error = client
        .call(Kind::Client, b"huge".to_vec(), LONG)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused(HandlerError::Failed(_))
    ));
    let error = client
        .call(Kind::Client, b"panic".to_vec(), LONG)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Refused(HandlerError::Failed(_))),
        "{error}"
    );
    let error = client
        .call(Kind::Client, vec![0; MAX_CLIENT_BODY + 1], LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::TooLong { .. }));
    let great = vec![7; frame::MAX_BODY - 100];
    let answer = client.call(VOTE, great.clone(), LONG).await.unwrap();
    assert!(answer.ends_with(&great));
}

/// Goal: requests in flight and connections are bounded; pings are answered all the same.
/// Method: small bounds, filled.
#[tokio::test]
async fn too_many_requests_or_connections_are_refused() {
    let ours = founder(1);
    let limits = ServerLimits {
        connections: 3,
        strangers: 1,
        in_flight: 2,
        ..Default::default()
    };
    let started = start_with(&ours, 1, limits).await;
    let client = Arc::new(Client::connect(&ours, &[started.at], None).await.unwrap());
    // Its handshake is done on this side; a ping shows that it is on the other.
    client.call(Kind::Ping, vec![], LONG).await.unwrap();
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = Arc::clone(&client);
        hanging.spawn(async move { client.call(VOTE, b"hang".to_vec(), LONG).await.err() });
        started.handler.seen.notified().await;
    }
    let error = client.call(VOTE, vec![], LONG).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(HandlerError::Busy(_))));
    assert_eq!(client.call(Kind::Ping, vec![5], LONG).await.unwrap(), [5]);

    let (config, _) = joiner_config(ours.authority().fingerprint()).unwrap();
    let first = Connection::start(raw(Arc::clone(&config), started.at).await.unwrap());
    first.exchange(Kind::Ping, vec![]).await.unwrap();
    assert!(raw(config, started.at).await.is_err(), "a second stranger");
    assert_eq!(started.server.connections(), 2);
    let counts = started.server.counts();
    assert_eq!((counts.refused_full, counts.busy), (1, 1));
}

/// Goal: an idle connection is closed, one with a request in flight is not.
/// Method: a short bound; wait for the end of the idle one.
#[tokio::test]
async fn idle_connections_are_closed_unless_a_request_is_in_flight() {
    let ours = founder(1);
    let idle = Duration::from_millis(30);
    let limits = ServerLimits {
        idle,
        ..Default::default()
    };
    let started = start_with(&ours, 1, limits).await;
    let busy = Arc::new(Client::connect(&ours, &[started.at], None).await.unwrap());
    let asking = Arc::clone(&busy);
    let asking = tokio::spawn(async move { asking.call(VOTE, b"hang".to_vec(), LONG).await });
    started.handler.seen.notified().await;
    let lazy = Connection::start(raw_host(&ours, started.at).await);
    tokio::time::timeout(LONG, lazy.ended()).await.unwrap();
    assert_eq!(started.server.counts().idle_closed, 1);
    assert!(!asking.is_finished());
    assert!(busy.call(VOTE, vec![], LONG).await.is_ok());
    asking.abort();
}

/// Goal: a silent or slow handshake is given up. Method: connect and say nothing.
#[tokio::test]
async fn silent_handshake_is_given_up() {
    let ours = founder(1);
    let handshake = Duration::from_millis(20);
    let started = start_with(
        &ours,
        1,
        ServerLimits {
            handshake,
            ..Default::default()
        },
    )
    .await;
    let mut stream = TcpStream::connect(started.at).await.unwrap();
    let end = tokio::time::timeout(LONG, stream.read(&mut [0]))
        .await
        .unwrap();
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!(started.server.counts().refused_handshake, 1);
}

/// Goal: a renewed certificate is shown from the next handshake on, by the accepting side, the calling side and
/// the admin API, with the configurations that they have; live connections stay.
/// Method: renew both hosts, compare what each shows the other.
#[tokio::test]
async fn renewed_certificate_is_used_without_a_restart() {
    let dir = TestDir::new();
    let ours = founder(1);
    let second = joined(&ours, 2);
    let started = start(&ours).await;
    let https = started.server.https_config(&ours).unwrap();
    let calling = client_config(&second).unwrap();
    let before = Client::connect(&second, &[started.at], Some(HostId(1)))
        .await
        .unwrap();
    for host in [&ours, &second] {
        let old = host.chain();
        host.renew(&dir.0, now() + Duration::from_secs(60)).unwrap();
        assert_ne!(host.chain(), old);
    }
    let stream = raw(Arc::clone(&calling), started.at).await.unwrap();
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown, ours.chain()[0]);
    assert!(before.call(VOTE, vec![], LONG).await.is_ok());

    // The API's configuration, and what the caller shows to it.
    let mut calling = Arc::unwrap_or_clone(calling);
    calling.alpn_protocols = https.alpn_protocols.clone();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = tokio_rustls::TlsAcceptor::from(https).accept(far);
    let connect =
        tokio_rustls::TlsConnector::from(Arc::new(calling)).connect(server_name().unwrap(), near);
    let (accepted, connected) = tokio::join!(accept, connect);
    let (accepted, connected) = (accepted.unwrap(), connected.unwrap());
    let of = |certificates: Option<&[rustls::pki_types::CertificateDer<'static>]>| {
        certificates.unwrap()[0].clone()
    };
    assert_eq!(
        of(accepted.get_ref().1.peer_certificates()),
        second.chain()[0]
    );
    assert_eq!(
        of(connected.get_ref().1.peer_certificates()),
        ours.chain()[0]
    );
}

/// Goal: a host whose certificate has run out, or is of the future, is refused by both sides, counted, and
/// told what to do; nobody else feels it, and once renewed it is let in with the configuration it has.
/// Method: certificates made by clocks three years off, both ways.
#[tokio::test]
async fn host_with_a_certificate_of_another_time_is_refused_and_counted_until_it_is_renewed() {
    let years = Duration::from_secs(3 * 365 * 24 * 3600);
    let dir = TestDir::new();
    let ours = founder(1);
    let started = start(&ours).await;
    let good = Client::connect(&ours, &[started.at], None).await.unwrap();
    for (host, made, words) in [
        (
            2,
            now() - years,
            "its certificate is not valid now: expired; compare the clocks",
        ),
        (
            3,
            now() + years,
            "its certificate is not valid now, but later; compare the clocks",
        ),
    ] {
        let wrong = joined_at(&ours, host, made);
        assert!(wrong.validity().is_due(now()));
        let refused = started.server.counts().refused_expired;
        let calling = client_config(&wrong).unwrap();
        let reason = refusal(Arc::clone(&calling), started.at).await;
        assert!(
            reason.contains("it refuses our certificate: not valid by its clock"),
            "{reason}"
        );
        assert_eq!(started.server.counts().refused_expired, refused + 1);

        let answering = start(&wrong).await;
        let reason = raw(client_config(&ours).unwrap(), answering.at).await;
        let reason = reason.err().unwrap();
        assert!(reason.contains(words), "{reason}");

        wrong.renew(&dir.0, now()).unwrap();
        let mut connection = Connection::start(raw(calling, started.at).await.unwrap());
        connection.exchange(VOTE, vec![]).await.unwrap();
        connection = Connection::start(raw_host(&ours, answering.at).await);
        connection.exchange(VOTE, vec![]).await.unwrap();
    }
    assert!(good.call(VOTE, vec![], LONG).await.is_ok());
    assert_eq!(started.server.counts().refused_handshake, 0);
}

/// Goal: an address that can't be listened on is named. Method: take a port twice.
#[tokio::test]
async fn a_taken_address_is_named() {
    let ours = founder(1);
    let started = start(&ours).await;
    let taken = [started.at];
    let again = Server::bind(
        &taken,
        &ours,
        Boot(1),
        Sessions::new(),
        Arc::new(Echo::default()),
        ServerLimits::default(),
    );
    let error = again.await.err().unwrap().to_string();
    assert!(
        error.contains(&started.at.to_string()) && error.contains("another daemon"),
        "{error}"
    );
}
