//! The API over real TLS on loopback, with a stand-in for the daemon; and its description.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use statemachine::{ArrayId, Boot, HostId};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::dashboard::OPENAPI;
use super::door::{Age, Door, Measures, Unconfirmed};
use super::routes::table;
use super::serve::{AdminServer, Listening};
use crate::api::{EventRecord, Problem, Request, Response};
use crate::cli::sample;
use crate::pki::testing::{founder, joined};
use crate::pki::{ArrayIdentity, DNS_NAME};
use crate::transport::{
    BoxFuture, Caller, Handler, HandlerError, Kind, Server, ServerLimits, Sessions,
};

/// What a stand-in remembers and how it behaves.
struct Said {
    asked: Mutex<Vec<Request>>,
    open: bool,
    recovered: AtomicBool,
    leads: bool,
    events: broadcast::Sender<EventRecord>,
}

struct StandIn(Arc<Said>);

impl Door for StandIn {
    fn array(&self) -> ArrayId {
        ArrayId([1; 16])
    }

    fn open(&self) -> bool {
        self.0.open
    }

    fn ask(&self, request: Request) -> BoxFuture<'_, Response> {
        let response = match &request {
            Request::Status => Response::Status(Box::new(sample::status())),
            Request::Events { .. } => Response::Events(vec![sample::event()]),
            Request::Plan { .. } => Response::Plan(sample::plan()),
            Request::GroupApply { dry_run, .. } => Response::GroupApplied {
                changes: vec!["ttl: 5s -> 7s".into()],
                seen: Some(9),
                index: (!dry_run).then_some(12),
            },
            Request::TimingShow => Response::Timing(sample::timing()),
            Request::Forget { .. } => Response::Refused {
                problem: Problem::no_quorum(),
            },
            _ => Response::Done {
                index: Some(12),
                words: "done".into(),
            },
        };
        self.0
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
        Box::pin(async move { response })
    }

    fn confirm(&self) -> BoxFuture<'_, Result<u64, Unconfirmed>> {
        let confirmed = match self.0.leads {
            true => Ok(7),
            false => Err(Unconfirmed::NotLeader(Some("h2".into()))),
        };
        Box::pin(async move { confirmed })
    }

    fn age(&self) -> BoxFuture<'_, Age> {
        Box::pin(async {
            Age {
                index: 6,
                leader_heard_ms: Some(41),
            }
        })
    }

    fn follow(&self, since: Option<u64>) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        (
            since.map(|_| sample::event()).into_iter().collect(),
            self.0.events.subscribe(),
        )
    }

    fn recovered(&self) -> bool {
        self.0.recovered.load(Ordering::Acquire)
    }

    fn knows(&self, host: HostId) -> bool {
        host != HostId(9)
    }

    fn measures(&self) -> BoxFuture<'_, Measures> {
        Box::pin(async { Measures::default() })
    }
}

/// Never asked: the control server is there for its list of forgotten hosts.
struct Silent;

impl Handler for Silent {
    fn handle(
        &self,
        _: Caller,
        _: Kind,
        _: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, HandlerError>> {
        Box::pin(async { Err(HandlerError::NotReady("silent".into())) })
    }
}

struct Api {
    said: Arc<Said>,
    identity: ArrayIdentity,
    address: SocketAddr,
    admin: AdminServer,
    control: Server,
}

async fn api(open: bool, leads: bool) -> Api {
    let identity = founder(1);
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listen = [any];
    let (sessions, limits) = (Sessions::new(), ServerLimits::default());
    let control = Server::bind(
        &listen,
        &identity,
        Boot(1),
        sessions,
        Arc::new(Silent),
        limits,
    );
    let control = control.await.unwrap();
    let (events, recovered) = (broadcast::channel(8).0, AtomicBool::new(true));
    let said = Arc::new(Said {
        asked: Mutex::default(),
        open,
        recovered,
        leads,
        events,
    });
    let listening = Listening::bind(any).unwrap();
    let address = listening.address();
    let tls = control.https_config(&identity).unwrap();
    let admin = listening.serve(tls, StandIn(Arc::clone(&said)));
    Api {
        said,
        identity,
        address,
        admin,
        control,
    }
}

impl Api {
    /// Connects, showing the certificate of `who`, if anybody.
    async fn connect(&self, who: Option<&ArrayIdentity>) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.identity.authority().der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match who {
            Some(who) => config
                .with_client_auth_cert(who.chain(), who.private_key())
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(DNS_NAME).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    /// One request on a connection of its own: status, headers, body.
    async fn ask(
        &self,
        who: Option<&ArrayIdentity>,
        head: &str,
        body: &str,
    ) -> (u16, String, Value) {
        let mut stream = self.connect(who).await.unwrap();
        let length = body.len();
        let (line, more) = head.split_once('\n').unwrap_or((head, ""));
        let more = if more.is_empty() {
            String::new()
        } else {
            format!("{more}\r\n")
        };
        let text = format!(
            "{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (
            status,
            head.to_owned(),
            serde_json::from_str(body).unwrap_or_default(),
        )
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(
            &mut self
                .said
                .asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

const JSON: &str = "Content-Type: application/json";

/// Goal: a certificate of a member host may do all, and what it asks reaches the door as it was meant.
/// Method: each write over TLS; what the door was asked is compared.
#[tokio::test]
async fn a_host_certificate_may_change_and_each_write_is_one_request() {
    let api = api(false, true).await;
    let host = joined(&api.identity, 3);
    let group = || Some("web".to_owned());
    let h2 = || "h2".to_owned();
    let ip = "10.0.0.1".parse().unwrap();
    let rows = [
        (
            "POST /v1/hosts/h2/quiesce",
            "",
            Request::Quiesce {
                host: h2(),
                group: None,
                drain: false,
            },
        ),
        (
            "POST /v1/hosts/h2/quiesce",
            r#"{"group":"web","drain":true}"#,
            Request::Quiesce {
                host: h2(),
                group: group(),
                drain: true,
            },
        ),
        (
            "POST /v1/hosts/h2/resume",
            r#"{"group":"web"}"#,
            Request::Resume {
                host: h2(),
                group: group(),
            },
        ),
        (
            "POST /v1/addresses/10.0.0.1/move",
            r#"{"to":"h2"}"#,
            Request::Move {
                address: ip,
                to: h2(),
            },
        ),
        (
            "POST /v1/leader",
            r#"{"host":"h2"}"#,
            Request::TransferLeader { host: h2() },
        ),
        (
            "DELETE /v1/groups/web",
            "",
            Request::GroupDelete {
                group: "web".into(),
            },
        ),
    ];
    for (line, body, expected) in rows {
        let (status, _, answer) = api.ask(Some(&host), &format!("{line}\n{JSON}"), body).await;
        assert_eq!(
            (status, &answer["index"]),
            (200, &Value::from(12)),
            "{line}: {answer}"
        );
        assert_eq!(api.asked(), [expected], "{line}");
    }
    let (status, _, problem) = api.ask(Some(&host), "DELETE /v1/hosts/h2", "").await;
    assert_eq!((status, &problem["kind"]), (503, &Value::from("noQuorum")));
}

/// Goal: a policy is applied only against what was seen, and a dry run changes nothing.
#[tokio::test]
async fn a_policy_is_applied_against_the_generation_that_was_seen() {
    let api = api(false, true).await;
    let policy = r#"{"name":"web","zone":"web.example.","ttl":"7s"}"#;
    let line = |query: &str, more: &str| format!("PUT /v1/groups/web{query}\n{JSON}{more}");
    let seen = |request: &Request| match request {
        Request::GroupApply {
            seen,
            dry_run,
            policy,
        } => (*seen, *dry_run, policy.ttl_s),
        other => panic!("{other:?}"),
    };
    let rows = [
        (
            line("?dry_run=true", ""),
            vec![(None, true, 7)],
            Value::Null,
        ),
        (
            line("", ""),
            vec![(None, true, 7), (Some(9), false, 7)],
            Value::from(12),
        ),
        (
            line("", "\r\nIf-Match: \"4\""),
            vec![(None, true, 7), (Some(4), false, 7)],
            Value::from(12),
        ),
        (
            line("", "\r\nIf-None-Match: *"),
            vec![(None, true, 7), (None, false, 7)],
            Value::from(12),
        ),
    ];
    for (head, expected, index) in rows {
        let (status, _, answer) = api.ask(Some(&api.identity), &head, policy).await;
        assert_eq!((status, &answer["index"]), (200, &index), "{head}");
        assert_eq!(
            api.asked().iter().map(seen).collect::<Vec<_>>(),
            expected,
            "{head}"
        );
    }
}

/// Goal: a timing is changed only against what was seen, and an unsafe one not at all.
/// Method: the stand-in's timing is `lan` of index 5.
#[tokio::test]
async fn a_timing_is_applied_against_what_was_seen() {
    let api = api(false, true).await;
    let host = Some(&api.identity);
    let (status, head, shown) = api.ask(host, "GET /v1/timing", "").await;
    assert_eq!((status, &shown["timing"]["lease"]), (200, &"300ms".into()));
    assert!(head.to_ascii_lowercase().contains("etag: \"5\""), "{head}");
    let _asked = api.asked();
    let fast = r#"{"preset":"fast"}"#;
    let real = Request::TimingApply {
        timing: statemachine::Timing::FAST,
        seen: statemachine::Timing::LAN,
    };
    let look = Request::TimingShow;
    let rows = [
        ("", "", fast, 200, vec![look.clone(), real.clone()]),
        (
            "",
            "\r\nIf-Match: \"5\"",
            fast,
            200,
            vec![look.clone(), real],
        ),
        ("", "\r\nIf-Match: \"4\"", fast, 409, vec![look.clone()]),
        ("?dry_run=true", "", fast, 200, vec![look.clone()]),
        ("", "", r#"{"preset":"lan"}"#, 200, vec![look]),
        ("", "", r#"{"preset":"lan","lease":"200ms"}"#, 422, vec![]),
    ];
    for (query, more, body, expected, asked) in rows {
        let line = format!("PUT /v1/timing{query}\n{JSON}{more}");
        let (status, _, answer) = api.ask(host, &line, body).await;
        assert_eq!(status, expected, "{line}: {answer}");
        assert_eq!(api.asked(), asked, "{line}");
        if status == 422 {
            let detail = answer["detail"].as_str().unwrap();
            assert!(detail.contains("180 ms (90 % of 200 ms)"), "{detail}");
        }
    }
}

/// Goal: without a certificate nothing is to be had but probes, and reads where local users are let in.
#[tokio::test]
async fn without_a_certificate_only_probes_and_what_the_host_opened() {
    let (shut, open) = (api(false, true).await, api(true, true).await);
    let rows = [
        ("GET /healthz", 200, 200),
        ("GET /metrics", 200, 200),
        ("GET /", 401, 200),
        ("GET /v1/status", 401, 200),
        ("GET /v1/openapi.json", 401, 200),
        ("GET /nowhere", 401, 404),
        ("POST /v1/tokens", 401, 403),
        ("DELETE /v1/hosts/h2", 401, 403),
        ("PATCH /v1/hosts", 405, 405),
    ];
    for (line, when_shut, when_open) in rows {
        let (status, head, _) = shut.ask(None, line, "").await;
        assert_eq!(status, when_shut, "{line}");
        assert_eq!(
            head.contains("application/problem+json"),
            status >= 400,
            "{line}"
        );
        assert_eq!(open.ask(None, line, "").await.0, when_open, "{line}");
    }
    assert!(
        !shut
            .asked()
            .iter()
            .chain(&open.asked())
            .any(Request::is_write)
    );
}

/// Goal: a certificate of another array, or of a forgotten host, opens nothing.
#[tokio::test]
async fn certificates_of_others_are_refused() {
    let api = api(true, true).await;
    let other = founder(2);
    let mut refused = api.connect(Some(&other)).await;
    if let Ok(stream) = &mut refused {
        // With TLS 1.3 the client learns of it with its first read.
        let _sent = stream
            .write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            .await;
        assert!(
            stream.read_u8().await.is_err(),
            "another array's host is answered"
        );
    }
    // Host 9 is in the array no more, but its connection came through.
    let gone = joined(&api.identity, 9);
    assert_eq!(api.ask(Some(&gone), "GET /healthz", "").await.0, 403);
    // Host 4 was forgotten while this daemon ran.
    let forgotten = joined(&api.identity, 4);
    assert_eq!(api.ask(Some(&forgotten), "GET /v1/status", "").await.0, 200);
    api.control.close_host(HostId(4));
    if let Ok(mut stream) = api.connect(Some(&forgotten)).await {
        assert!(
            stream.read_u8().await.is_err(),
            "a forgotten host is let in"
        );
    }
    assert!(
        api.asked()
            .iter()
            .all(|request| *request == Request::Status)
    );
}

/// Goal: a page of another site can't use the browser's certificate.
#[tokio::test]
async fn a_change_asked_by_another_site_is_refused() {
    let api = api(false, true).await;
    let who = Some(&api.identity);
    let from = |origin: &str| format!("POST /v1/hosts/h2/resume\nOrigin: {origin}");
    assert_eq!(api.ask(who, &from("https://evil.example"), "").await.0, 403);
    assert_eq!(api.asked(), []);
    assert_eq!(api.ask(who, &from("https://h"), "").await.0, 200);
}

/// Goal: a local read says how old it may be; a linearizable one is confirmed or refused.
#[tokio::test]
async fn reads_tell_their_age_and_only_the_leader_confirms() {
    let (leader, follower) = (api(true, true).await, api(true, false).await);
    let (status, head, _) = follower.ask(None, "GET /v1/status", "").await;
    assert_eq!(status, 200);
    for header in [
        "rais-consistency: local",
        "rais-index: 6",
        "rais-leader-heard-ms: 41",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }
    let line = "GET /v1/status?consistency=linearizable";
    let (status, head, _) = leader.ask(None, line, "").await;
    assert!(
        status == 200 && head.contains("rais-index: 7") && !head.contains("heard-ms"),
        "{head}"
    );
    let (status, _, problem) = follower.ask(None, line, "").await;
    assert_eq!(
        (status, &problem["kind"], &problem["leader"]),
        (421, &"notLeader".into(), &"h2".into())
    );
    leader.said.recovered.store(false, Ordering::Release);
    assert_eq!(leader.ask(None, "GET /v1/status", "").await.0, 503);
    assert_eq!(leader.ask(None, "GET /healthz", "").await.0, 503);
    assert_eq!(leader.ask(None, "GET /metrics", "").await.0, 200);
}

/// Goal: what does not fit is refused before the door is asked.
#[tokio::test]
async fn wrong_requests_are_refused_with_the_reason() {
    let api = api(true, true).await;
    let long = "x".repeat(super::reply::MAX_BODY + 1);
    let rows = [
        ("GET /v1/events?since=x", "", 422, "since"),
        ("GET /v1/events?limit=1&limit=2", "", 422, "twice"),
        ("GET /v1/status?consistency=maybe", "", 422, "maybe"),
        ("GET /v1/status?depth=1", "", 422, "depth"),
        ("GET /v1/addresses/ten/why", "", 422, "IP address"),
        ("GET /v1/plan?if=explode%20h2", "", 422, "explode"),
        (
            "POST /v1/leader\nContent-Type: application/json",
            "",
            422,
            "host",
        ),
        (
            "POST /v1/leader\nContent-Type: application/json",
            r#"{"host":"h1","now":1}"#,
            422,
            "now",
        ),
        (
            "POST /v1/leader\nContent-Type: text/plain",
            r#"{"host":"h1"}"#,
            415,
            "type",
        ),
        (
            "POST /v1/leader\nContent-Type: application/json",
            &long,
            413,
            "longer",
        ),
    ];
    for (head, body, expected, word) in rows {
        let (status, _, problem) = api.ask(Some(&api.identity), head, body).await;
        assert_eq!(status, expected, "{head}: {problem}");
        assert!(
            problem["detail"].as_str().unwrap().contains(word),
            "{head}: {problem}"
        );
    }
    assert_eq!(api.asked(), []);
    let (status, _, _) = api
        .ask(None, "GET /v1/plan?if=down%20h2&if=up%20h3", "")
        .await;
    assert_eq!(status, 200);
    let [Request::Plan { hypotheses }] = &api.asked()[..] else {
        panic!("no plan")
    };
    assert_eq!(
        hypotheses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["down h2", "up h3"]
    );
}

/// Goal: the stream tells past and new events, each once, and ends with the daemon.
#[tokio::test]
async fn events_stream_as_lines_until_the_daemon_stops() {
    let api = api(true, true).await;
    let mut stream = BufReader::new(api.connect(None).await.unwrap());
    let ask = b"GET /v1/events/stream?since=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let next = async |stream: &mut BufReader<TlsStream<TcpStream>>| loop {
        let mut line = String::new();
        assert_ne!(
            stream.read_line(&mut line).await.unwrap(),
            0,
            "the stream ended"
        );
        if line.starts_with('{') {
            return serde_json::from_str::<EventRecord>(&line).unwrap();
        }
    };
    let past = sample::event();
    assert_eq!(next(&mut stream).await, past);
    let new = EventRecord {
        index: past.index + 1,
        ..past.clone()
    };
    // The past's own event comes a second time, as when it is kept after somebody subscribed.
    api.said.events.send(past).unwrap();
    api.said.events.send(new.clone()).unwrap();
    assert_eq!(next(&mut stream).await, new);
    api.admin.ended().await;
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(
        rest.trim(),
        "0",
        "the last chunk says that the stream is complete"
    );
}

/// Goal: the description and the routes can't drift apart.
#[test]
fn the_openapi_document_names_exactly_the_routes() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            described.insert((method.clone(), path.clone()));
            for name in path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
            {
                let reference = format!("#/components/parameters/{name}");
                let parameters = operation["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|one| one["$ref"] == reference.as_str()),
                    "{method} {path}: {name}"
                );
            }
        }
    }
    let served: BTreeSet<_> = table()
        .iter()
        .map(|it| (it.method.to_owned(), it.path.to_owned()))
        .collect();
    assert_eq!(described, served);
}

/// Goal: every reference of the description leads somewhere.
#[test]
fn the_openapi_document_has_no_dangling_reference() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let mut open = vec![&document];
    while let Some(value) = open.pop() {
        if let Some(reference) = value["$ref"].as_str() {
            let found = document.pointer(reference.trim_start_matches('#'));
            assert!(found.is_some(), "{reference}");
        }
        open.extend(
            value
                .as_object()
                .into_iter()
                .flat_map(|members| members.values()),
        );
        open.extend(value.as_array().into_iter().flatten());
    }
}
