//! Messages against keys of the standards, a manager in a thread, a webhook that fails first.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use control::Instant;
use ring::hmac;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use statemachine::{
    Applied, ArrayId, Effect, Epoch, Group, Happening, HostId, LogTime, Policy, SnmpSecurity,
    SnmpTarget, State, Traps, Webhook, Zone,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::hook::Hook;
use super::line::{Line, Pace, Told};
use super::mib::{self, Origin};
use super::names::Names;
use super::pdu::{self, Answer};
use super::target::{Target, targets_of};
use super::teller::Telling;
use super::usm::{self, Engine, User};
use super::{Book, Means, Secrets, Tenure, Trial};
use crate::api::{EventRecord, WallTime};
use crate::clock;
use crate::config::Auth;
use crate::daemon::journal::Journal;
use crate::pki::testing::founder;
use crate::raft::{AppliedEntry, Step};

/// As usual, a hundred times as fast.
const PACE: Pace = Pace {
    first: Duration::from_millis(10),
    longest: Duration::from_millis(600),
    give_up: Duration::from_secs(36),
};

fn tenure() -> Tenure {
    Tenure {
        array: "00ff".into(),
        id: [7; 16],
        term: 3,
        since: clock::now(),
    }
}

fn event(index: u64, kind: &str) -> EventRecord {
    EventRecord {
        at: WallTime(1_795_243_921_123),
        index,
        kind: kind.to_owned(),
        group: None,
        address: None,
        host: Some("h2".into()),
        reason: None,
        phases: None,
    }
}

/// Goal: a message is read by its owner alone, and only as it was sent. Method: every way to sign; then
/// each byte changed in turn, and another password.
#[test]
fn messages_of_version_3_are_read_by_their_user_alone() {
    let engine = usm::own_engine([9; 16], 5, 77);
    assert_eq!(engine.id[..5], [0x80, 0, 0x7e, 0xd9, 5]);
    assert_eq!(engine.id.len(), 21);
    let pdu = || pdu::pdu(pdu::RESPONSE, 40, &[0x30, 0]);
    for auth in [Auth::Sha256, Auth::Sha384, Auth::Sha512] {
        let user = User::new("rais", auth, ("maplesyrup", "pancakes!"));
        let message = user.message(&engine, 0, 40, 12, pdu());
        let heard = user.read(&message).unwrap();
        assert!(heard.signed && heard.engine == engine && heard.number == 40);
        let answer = Answer {
            tag: pdu::RESPONSE,
            request: 40,
            error: 0,
            first: Vec::new(),
        };
        assert_eq!(heard.answer, answer);
        for place in 0..message.len() {
            let mut changed = message.clone();
            changed[place] ^= 1;
            let believed = user.read(&changed).filter(|heard| heard.signed);
            assert_eq!(believed, None, "{auth:?} {place}");
        }
        let other = User::new("rais", auth, ("maplesyrup", "pancakes?"));
        assert_ne!(
            other.read(&message).map(|heard| heard.answer.request),
            Some(40)
        );
        let other = User::new("rais", auth, ("maplesyrop", "pancakes!"));
        assert_eq!(other.read(&message), None);
        let unknown = user.message(&Engine::default(), usm::REPORTABLE, 1, 0, pdu());
        assert!(!user.read(&unknown).unwrap().signed);
    }
}

proptest::proptest! {
    /// Goal: whatever a stranger answers, nothing panics and nothing is believed. Method: random bytes,
    /// also behind the beginning of a message.
    #[test]
    fn random_bytes_are_no_answer(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        static USER: OnceLock<User> = OnceLock::new();
        let user = USER.get_or_init(|| User::new("rais", Auth::Sha256, ("maplesyrup", "pancakes!")));
        let own = user.message(&usm::own_engine([9; 16], 5, 77), 0, 40, 12, Vec::new());
        for kept in [0, 2, 5, 20, 60] {
            let mut bytes = bytes.clone();
            bytes.splice(..0, own[..kept].iter().copied());
            proptest::prop_assert!(user.read(&bytes).is_none_or(|heard| !heard.signed));
            let _unsigned = pdu::read_v2c(&bytes);
        }
    }
}

/// Goal: every kind of the MIB makes a notification that fits into one datagram, others none.
#[test]
fn events_become_notifications_of_the_mib() {
    let origin = Origin {
        array: "00ff",
        up_ticks: u64::from(u32::MAX) + 6,
    };
    for kind in mib::KINDS {
        let mut long = event(u64::MAX, kind);
        (long.group, long.address) = (Some("g".repeat(63)), Some("fd00::1".parse().unwrap()));
        long.reason = Some("ü".repeat(1_000));
        let bytes = mib::bindings((u32::MAX, &long), origin).unwrap();
        assert!(bytes.len() < 1_000, "{kind}: {}", bytes.len());
        let last = long.reason.iter().next().unwrap();
        let text = last.get(..254).unwrap().as_bytes();
        assert!(
            bytes.ends_with(text),
            "{kind}: text is cut between characters"
        );
    }
    assert_eq!(mib::bindings((0, &event(1, "assigned")), origin), None);
}

/// Goal: what is sent is what the MIB says. Method: its notifications, their numbers and their objects,
/// read from the file, against what the code sends for each kind.
#[test]
fn the_mib_and_the_code_agree() {
    let mib = include_str!("../../../docs/mib/RAIS-MIB.txt");
    let objects: Vec<&str> = mib
        .split(" OBJECT-TYPE\n")
        .filter_map(|before| before.lines().last()?.strip_prefix("rais"))
        .collect();
    let notifications: Vec<&str> = mib.split(" NOTIFICATION-TYPE\n").collect();
    assert_eq!(notifications.len(), mib::KINDS.len() + 1);
    for (number, (pair, kind)) in notifications.windows(2).zip(mib::KINDS).enumerate() {
        let name = pair[0].lines().last().unwrap();
        assert_eq!(name.to_lowercase(), format!("rais{}", kind.to_lowercase()));
        assert!(pair[1].contains(&format!("::= {{ raisNotifications {} }}", number + 1)));
        let named = pair[1].split(['{', '}']).nth(1).unwrap();
        let named: Vec<u8> = named
            .split(',')
            .map(|one| {
                objects
                    .iter()
                    .position(|known| one.trim() == format!("rais{known}"))
            })
            .map(|place| u8::try_from(place.unwrap() + 1).unwrap())
            .collect();
        let origin = Origin {
            array: "00ff",
            up_ticks: 0,
        };
        let bytes = mib::bindings((0, &event(1, kind)), origin).unwrap();
        let mut all = super::ber::Reader(&bytes)
            .inside(super::ber::SEQUENCE)
            .unwrap();
        let mut sent = Vec::new();
        while let Some(mut one) = all.inside(super::ber::SEQUENCE) {
            let prefix = pdu::name_of(&[&mib::ROOT[..], &[1]].concat());
            let name = one.take(super::ber::OID).unwrap();
            sent.extend(name.strip_prefix(prefix.as_slice()).map(|rest| rest[0]));
        }
        assert_eq!(sent, named, "{kind}");
    }
}

async fn manager() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Goal: an inform is done only when it was answered, and a clock that has changed is asked for again.
/// Method: a manager of this test's that first says who it is, then that its clock is another.
#[tokio::test]
async fn an_inform_follows_the_managers_clock() {
    let (socket, target) = manager().await;
    let user = User::new("rais", Auth::Sha256, ("maplesyrup", "pancakes!"));
    let secrets = Secrets {
        users: vec![user.clone()],
        keys: Vec::new(),
    };
    let answering = tokio::spawn(async move {
        let mut seen = Vec::new();
        let mut engine = usm::own_engine([1; 16], 1, 1);
        for (complaint, boots) in [(4, 1), (2, 8), (0, 8)] {
            let mut buffer = [0; 2_000];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            let heard = user.read(&buffer[..length]).unwrap();
            seen.push((heard.answer.tag, heard.engine.boots));
            engine.boots = boots;
            let name = super::ber::oid(&[&usm::STATS[..], &[complaint, 0]].concat());
            let one = super::ber::tlv(0x30, &[name, super::ber::integer(1)].concat());
            let report = pdu::pdu(pdu::REPORT, 0, &super::ber::tlv(0x30, &one));
            let good = pdu::pdu(
                pdu::RESPONSE,
                u32::try_from(heard.answer.request).unwrap(),
                &[0x30, 0],
            );
            let number = u32::try_from(heard.number).unwrap();
            let answer = user.message(
                &engine,
                0,
                number,
                5,
                if complaint == 0 { good } else { report },
            );
            socket.send_to(&answer, from).await.unwrap();
        }
        seen
    });
    let target = Target::Snmp(SnmpTarget {
        target,
        security: SnmpSecurity::User("rais".into()),
        inform: true,
    });
    let mut courier = target.courier(&secrets.into());
    courier
        .tell((0, &event(4, "hostDown")), &tenure())
        .await
        .unwrap();
    let seen = answering.await.unwrap();
    assert_eq!(seen, [(pdu::GET, 0), (pdu::INFORM, 1), (pdu::INFORM, 8)]);
}

/// Goal: a host without the secret says so, and does not try again.
#[tokio::test]
async fn who_lacks_the_secret_tells_nobody() {
    let snmp = Target::Snmp(SnmpTarget {
        target: "127.0.0.1:9".parse().unwrap(),
        security: SnmpSecurity::User("nobody".into()),
        inform: false,
    });
    let hook = Target::Webhook(Webhook {
        url: "http://127.0.0.1:9/secret".into(),
        key: Some("none".into()),
    });
    assert_eq!(hook.shown(), "http://127.0.0.1:9");
    for (target, what) in [
        (snmp, "[[traps.user]] named nobody"),
        (hook, "[[traps.key]] named none"),
    ] {
        let mut courier = target.courier(&Means::default());
        let told = courier.tell((0, &event(4, "hostDown")), &tenure()).await;
        let failure = told.unwrap_err();
        assert!(
            failure.lasting && failure.words.contains(what),
            "{failure:?}"
        );
    }
}

/// Goal: over TLS only a server that the roots vouch for gets an event. Method: a server with a certificate
/// of its own, which one webhook trusts; then the system's roots, which do not know it.
#[tokio::test]
async fn over_tls_only_who_is_trusted_gets_events() {
    static ROOT: OnceLock<CertificateDer<'static>> = OnceLock::new();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    ROOT.set(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            made.signing_key.serialize_der().try_into().unwrap(),
        );
    let acceptor = TlsAcceptor::from(Arc::new(server.unwrap()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let target = Webhook {
        url: format!("https://{}/", listener.local_addr().unwrap()),
        key: None,
    };
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (head, _) = answer(acceptor.accept(stream).await.unwrap(), "200 Good").await;
        let (stream, _) = listener.accept().await.unwrap();
        (head, acceptor.accept(stream).await.is_err())
    });
    let trusted = || {
        let mut roots = RootCertStore::empty();
        roots.add(ROOT.get().unwrap().clone()).unwrap();
        roots
    };
    let other = || {
        let mut roots = RootCertStore::empty();
        roots.add(founder(1).authority().der().clone()).unwrap();
        roots
    };
    let told = event(4, "hostDown");
    let hook = Hook::trusting(&target, &Means::default(), trusted).unwrap();
    hook.tell(&told, 0, &tenure()).await.unwrap();
    let hook = Hook::trusting(&target, &Means::default(), other).unwrap();
    let failure = hook.tell(&told, 0, &tenure()).await.unwrap_err();
    assert!(
        failure.words.starts_with("TLS: invalid peer certificate"),
        "{failure:?}"
    );
    let nobody = Hook::trusting(&target, &Means::default(), RootCertStore::empty);
    assert!(nobody.is_err_and(|failure| failure.words.contains("no root certificates")));
    let (head, refused) = served.await.unwrap();
    assert!(
        head.starts_with("POST / HTTP/1.1") && !head.contains("rais-signature"),
        "{head}"
    );
    assert!(refused);
}

/// Goal: two events of one entry that are alike in all else are told apart, and a manager gets the time of
/// the clock that runs on in suspend. Method: traps of version 3 from a leader of 77 s, read by their user.
#[tokio::test]
async fn a_trap_has_its_number_and_the_time_since_the_leader_took_over() {
    let (socket, target) = manager().await;
    let user = User::new("rais", Auth::Sha256, ("maplesyrup", "pancakes!"));
    let secrets = Secrets {
        users: vec![user.clone()],
        keys: Vec::new(),
    };
    let target = Target::Snmp(SnmpTarget {
        target,
        security: SnmpSecurity::User("rais".into()),
        inform: false,
    });
    let mut courier = target.courier(&secrets.into());
    let since = Instant(clock::now().0 - 77_000_000);
    let tenure = Tenure { since, ..tenure() };
    let mut told = Vec::new();
    for number in [0, 1] {
        let one = event(4, "zoneChanged");
        courier.tell((number, &one), &tenure).await.unwrap();
        let mut buffer = [0; 2_000];
        let length = socket.recv(&mut buffer).await.unwrap();
        let heard = user.read(&buffer[..length]).unwrap();
        assert!((77..90).contains(&heard.engine.time), "{:?}", heard.engine);
        let origin = Origin {
            array: "00ff",
            up_ticks: 0,
        };
        told.push(mib::bindings((number, &one), origin).unwrap());
    }
    assert_ne!(told[0], told[1]);
}

/// One request, answered with `status`: its head and its body.
async fn serve(listener: &TcpListener, status: &str) -> (String, String) {
    answer(listener.accept().await.unwrap().0, status).await
}

async fn answer<S>(mut stream: S, status: &str) -> (String, String)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    loop {
        let length = stream.read(&mut buffer).await.unwrap();
        text += std::str::from_utf8(&buffer[..length]).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .unwrap();
        if body.len() >= length.parse().unwrap() {
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            return (head.to_owned(), body.to_owned());
        }
    }
}

/// Goal: a webhook gets each event, in order, signed, with the same delivery however often it is tried; and
/// while it fails it holds up no mark. Method: a server that fails twice.
#[tokio::test]
async fn a_webhook_that_fails_is_tried_again_until_it_takes_the_event() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
    let secrets = Secrets {
        users: Vec::new(),
        keys: vec![("hooks".into(), key.clone())],
    };
    let url = format!("http://{}/rais?x=1", listener.local_addr().unwrap());
    let hook = Webhook {
        url,
        key: Some("hooks".into()),
    };
    let (target, book, progressed) = (
        Target::Webhook(hook),
        Book::default(),
        Arc::new(Notify::new()),
    );
    let (count, told) = (book.of(&target), Arc::clone(&progressed));
    let line = Line::start(
        target.shown(),
        target.courier(&secrets.into()),
        count,
        (tenure(), PACE),
        3,
        told,
    );
    for index in [4, 6] {
        let events = vec![(1, event(index, "hostDown"))];
        line.push(Told { index, events });
    }
    assert_eq!(line.holds(), Some(3));
    let mut deliveries = Vec::new();
    for status in ["503 Busy", "500 Oh", "204 Good", "200 Good"] {
        let (head, body) = serve(&listener, status).await;
        let header = |name: &str| {
            let prefix = format!("{name}: ");
            head.lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .unwrap()
                .to_owned()
        };
        assert!(head.starts_with("POST /rais?x=1 HTTP/1.1\r\n"), "{head}");
        assert_eq!(
            (header("rais-event"), header("content-type")),
            ("hostDown".into(), "application/json".into())
        );
        let parsed: EventRecord = serde_json::from_str(&body).unwrap();
        let signature = header("rais-signature");
        let (time, hex) = signature
            .strip_prefix("t=")
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        let tag: Vec<u8> = (0..32)
            .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
            .collect();
        hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).unwrap();
        deliveries.push((header("rais-delivery"), parsed.index));
        progressed.notified().await;
        if status.starts_with('5') {
            assert_eq!(line.holds(), None, "what fails holds up no mark");
        }
    }
    let named = |index: u64| (format!("00ff-{index}-1"), index);
    assert_eq!(deliveries, [named(4), named(4), named(4), named(6)]);
    assert_eq!(line.holds(), None);
    let count = book.of(&target);
    let count = count.lock().unwrap();
    assert_eq!(
        (count.sent, count.failed, count.dropped, count.queued),
        (2, 2, 0, 0)
    );
}

/// Goal: a queue that is full drops what is new, and counts it. Method: nothing runs while it is filled.
#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let target = Target::Webhook(Webhook {
        url: "http://127.0.0.1:1/".into(),
        key: None,
    });
    let (book, progressed) = (Book::default(), Arc::new(Notify::new()));
    let courier = target.courier(&Means::default());
    let line = Line::start(
        target.shown(),
        courier,
        book.of(&target),
        (tenure(), PACE),
        0,
        progressed,
    );
    for index in 1..=1_100 {
        let events = vec![(0, event(index, "hostUp"))];
        line.push(Told { index, events });
    }
    let count = book.of(&target);
    assert_eq!(count.lock().unwrap().dropped, 1_100 - 1_024);
    assert_eq!(count.lock().unwrap().last, 1_024);
    drop(line);
    assert_eq!(count.lock().unwrap().queued, 0);
}

/// A state that two groups' policies name targets in, with this host as leader of term 3.
fn state(told: u64) -> State {
    let hook = |name: &str| Webhook {
        url: format!("http://127.0.0.1:1/{name}"),
        key: None,
    };
    let mut state = State {
        array: Some(ArrayId([9; 16])),
        leader: Some((HostId(1), 3)),
        index: 9,
        told,
        ..State::default()
    };
    for (group, names) in [("db", ["both", "db"]), ("web", ["both", "web"])] {
        let mut policy = Policy::new(group, &format!("{group}.example."));
        policy.traps = Some(Traps {
            snmp: Vec::new(),
            webhook: names.map(hook).to_vec(),
        });
        let group = Group {
            policy,
            generation: 1,
            deleting: false,
            members: Default::default(),
            zone: Zone::new(1, 5),
        };
        state.groups.insert(group.policy.name.clone(), group);
    }
    state
}

/// What happened: host 2 went down, then the group `db` got an address and host 2 came back.
fn journal(state: &State) -> Journal {
    let journal = Journal::new();
    let effect = |what| Effect::new(what).host(HostId(2));
    let acquire = Happening::Acquire {
        epoch: Epoch(1),
        acquire_ms: 1,
        announce_ms: 1,
    };
    let down = Happening::HostDown { fence_ms: 1 };
    let entries = [
        (4, vec![effect(down)]),
        (
            5,
            vec![
                effect(acquire).group(&"db".into()),
                effect(Happening::HostUp),
            ],
        ),
    ];
    let entry = |(index, effects)| AppliedEntry {
        at: LogTime(1),
        wall: 1,
        applied: Applied {
            index,
            outcomes: Vec::new(),
            effects,
        },
    };
    journal.take_in(&Step {
        state: Arc::new(state.clone()),
        index: 9,
        entries: entries.into_iter().map(entry).collect(),
        replay: false,
    });
    journal
}

/// Goal: a group's events go to those whom its policy names, the array's to everybody once; a new leader
/// goes on after the mark, and moves it when everybody was told or takes nothing.
/// Method: the same events, told from two marks to targets that nobody serves.
#[tokio::test]
async fn everybody_is_told_once_of_what_concerns_him_after_the_mark() {
    for (told, of_db, of_others) in [(3, 3, 2), (4, 2, 1)] {
        let (state, book, progressed) = (state(told), Book::default(), Arc::new(Notify::new()));
        let (marks, marked) = watch::channel(0);
        let mut telling = Telling::begin(tenure(), &state);
        let journal = journal(&state);
        let sources = (&journal, &Means::default());
        telling.follow(&state, sources, &book, &progressed);
        telling.follow(&state, sources, &book, &progressed);
        let all = targets_of(&state);
        assert_eq!(all.len(), 3, "one of them is named twice");
        for (target, groups) in &all {
            let concerned = groups.contains(&"db".to_owned());
            let expected = if concerned { of_db } else { of_others };
            assert_eq!(
                book.read(target).queued,
                expected,
                "{groups:?} after {told}"
            );
        }
        telling.mark(&state, &marks);
        assert_eq!(*marked.borrow(), 0, "nobody has been told yet");
        while all.keys().any(|target| book.read(target).failing.is_none()) {
            progressed.notified().await;
        }
        telling.mark(&state, &marks);
        assert_eq!(*marked.borrow(), 5, "who takes nothing holds up nothing");
    }
}

/// Goal: a receiver that acts on no delivery twice takes each test, and no event as one it has seen. Method:
/// two tests while the log stands where its last entry is an event.
#[tokio::test]
async fn each_test_is_a_delivery_of_its_own() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut state = state(9);
    let group = state.groups.get_mut(&"web".into()).unwrap();
    group.policy.traps = Some(Traps {
        snmp: Vec::new(),
        webhook: vec![Webhook {
            url: format!("http://{}/", listener.local_addr().unwrap()),
            key: None,
        }],
    });
    let (telling, state) = (Telling::begin(tenure(), &state), Arc::new(state));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (reply, tried) = oneshot::channel();
        let group = "web".to_owned();
        let trial = Trial { group, reply };
        telling.try_out(trial, Arc::clone(&state), &Means::default());
        let (head, body) = serve(&listener, "200 Good").await;
        assert!(tried.await.unwrap().iter().all(|one| one.good));
        let parsed: EventRecord = serde_json::from_str(&body).unwrap();
        assert_eq!((parsed.kind.as_str(), parsed.index), (mib::TEST, 0));
        let delivery = head
            .lines()
            .find(|line| line.starts_with("rais-delivery: "));
        seen.push(delivery.unwrap().to_owned());
    }
    assert!(seen[0].starts_with("rais-delivery: 00ff-0-"), "{seen:?}");
    assert_ne!(seen[0], seen[1]);
}

/// Goal: a webhook whose name servers are silent holds up no other, however often it is tried. Method: a
/// resolver that answers for one name alone; ten others are asked for three times each, and given up.
#[test]
fn silent_names_hold_up_no_other() {
    let (silence, ending) = std::sync::mpsc::sync_channel::<()>(1);
    let (asked, ending) = (Arc::new(AtomicUsize::new(0)), Mutex::new(ending));
    let count = Arc::clone(&asked);
    let names = Names::by(move |host: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        match host {
            "healthy.example" => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            // Until the test is over.
            _ => ending
                .lock()
                .unwrap()
                .recv()
                .map(|()| Vec::new())
                .map_err(|_| "over".into()),
        }
    });
    let means = Means {
        names,
        ..Means::default()
    };
    let runtime = super::runtime().unwrap();
    let healthy = runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let hook = |host: &str| {
            let url = format!("http://{host}:{port}/");
            Hook::new(&Webhook { url, key: None }, &means).unwrap()
        };
        let (told, tenure) = (event(4, "hostDown"), tenure());
        for _ in 0..3 {
            for number in 0..10 {
                let hook = hook(&format!("silent{number}.example"));
                let tried = timeout(Duration::ZERO, hook.tell(&told, 0, &tenure));
                assert!(tried.await.is_err());
            }
        }
        let hook = hook("healthy.example");
        tokio::spawn(async move { serve(&listener, "200 Good").await });
        hook.tell(&told, 0, &tenure).await
    });
    // Else the runtime would wait for its threads.
    drop(silence);
    healthy.unwrap();
    assert!(asked.load(Ordering::SeqCst) <= 11);
}

/// Goal: a secret that was exchanged counts from the next attempt on, for what waits too. Method: a webhook
/// that is told of two events, with another key for the second attempt at the first.
#[tokio::test]
async fn an_exchanged_secret_counts_for_what_waits() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
    let means = |secret| {
        Means::from(Secrets {
            users: Vec::new(),
            keys: vec![("hooks".into(), key(secret))],
        })
    };
    let target = Target::Webhook(Webhook {
        url: format!("http://{}/", listener.local_addr().unwrap()),
        key: Some("hooks".into()),
    });
    let book = Book::default();
    let line = Line::start(
        target.shown(),
        target.courier(&means(b"the old key of this")),
        book.of(&target),
        (tenure(), PACE),
        3,
        Arc::new(Notify::new()),
    );
    let events = vec![(0, event(4, "hostDown"))];
    line.push(Told { index: 4, events });
    for (secret, status) in [
        (&b"the old key of this"[..], "503 Busy"),
        (b"the new key of this", "200 Good"),
    ] {
        let (stream, _) = listener.accept().await.unwrap();
        // While this attempt waits for its answer.
        line.exchange(target.courier(&means(b"the new key of this")));
        let (head, body) = answer(stream, status).await;
        let (_, signature) = head.split_once("rais-signature: t=").unwrap();
        let (time, hex) = signature
            .lines()
            .next()
            .unwrap()
            .split_once(",v1=")
            .unwrap();
        let tag = hmac::sign(&key(secret), format!("{time}.{body}").as_bytes());
        let right: String = tag
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, right, "{status}");
    }
}
