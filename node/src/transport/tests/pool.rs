//! What the calling side makes of dead addresses, wrong hosts, restarts and forgotten hosts.

use super::super::pool::PeerStatus;
use super::super::serve::encode_boot;
use super::*;
use crate::pki::testing::{TestDir, founder, joined, joined_at, now};

/// Host 1 calls; its pool, its sessions, and who was heard of as having a session.
fn pool(
    identity: &ArrayIdentity,
    boot: u64,
) -> (Arc<Peers>, Arc<Sessions>, mpsc::Receiver<(HostId, Boot)>) {
    let sessions = Sessions::new();
    let (sender, heard) = mpsc::channel(16);
    // A test that does not ask has dropped the receiver.
    sessions.observe(Arc::new(move |host, boot| {
        let _ = sender.try_send((host, boot));
    }));
    let runtime = tokio::runtime::Handle::current();
    let timing = Timing {
        attempt: Duration::from_secs(5),
        ..Timing::default()
    };
    let peers = Peers::new(identity, Boot(boot), Arc::clone(&sessions), timing, runtime).unwrap();
    (peers, sessions, heard)
}

async fn heard(from: &mut mpsc::Receiver<(HostId, Boot)>) -> (HostId, Boot) {
    tokio::time::timeout(LONG, from.recv())
        .await
        .unwrap()
        .unwrap()
}

const TWO: HostId = HostId(2);

/// Goal: any address that works is used, whether the others refuse, or swallow what they get.
/// Method: a closed port, then one that accepts but never answers, in front of the true one.
#[tokio::test]
async fn pool_fails_over_from_dead_addresses_to_one_that_works() {
    let ours = founder(1);
    let started = start(&joined(&ours, 2)).await;
    let closed = std::net::TcpListener::bind(any_port())
        .unwrap()
        .local_addr()
        .unwrap();
    let silent = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let (peers, _, _) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![closed, silent.local_addr().unwrap(), started.at]);
    let answer = peers.call(TWO, VOTE, b"x".to_vec(), LONG).await;
    assert_eq!(text(answer), "host 1 Raft { class: Vote } x");
    let status = PeerStatus {
        host: TWO,
        connection: Ok(started.at),
    };
    assert_eq!(peers.status(), [status]);
    for kind in [
        Kind::Client,
        Kind::Raft {
            class: RaftClass::Snapshot,
        },
    ] {
        assert!(peers.call(TWO, kind, vec![], LONG).await.is_ok());
    }
}

/// Goal: a connection over a network that died is given up for the other network.
/// Method: a relay that swallows bytes from some moment on, as the first address.
#[tokio::test]
async fn pool_leaves_a_network_that_went_silent() {
    let ours = founder(1);
    let started = start(&joined(&ours, 2)).await;
    let relay = tokio::net::TcpListener::bind(any_port()).await.unwrap();
    let first = relay.local_addr().unwrap();
    let (cut, is_cut) = tokio::sync::watch::channel(false);
    let behind = started.at;
    tokio::spawn(async move {
        loop {
            let (near, _) = relay.accept().await.unwrap();
            let mut is_cut = is_cut.clone();
            tokio::spawn(async move {
                let far = TcpStream::connect(behind).await.unwrap();
                let ((mut near_read, mut near_write), (mut far_read, mut far_write)) =
                    (near.into_split(), far.into_split());
                let cut = async { is_cut.wait_for(|cut| *cut).await.map(drop) };
                tokio::select! {
                    _ = tokio::io::copy(&mut near_read, &mut far_write) => {}
                    _ = tokio::io::copy(&mut far_read, &mut near_write) => {}
                    _ = cut => std::future::pending().await,
                }
            });
        }
    });
    let (peers, _, mut sessions) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![first, started.at]);
    heard(&mut sessions).await;
    peers.call(TWO, VOTE, vec![], LONG).await.unwrap();
    assert_eq!(peers.status()[0].connection, Ok(first));
    cut.send_replace(true);
    let result = peers
        .call(TWO, VOTE, vec![], Duration::from_millis(50))
        .await;
    assert!(
        matches!(result, Err(TransportError::Timeout { .. })),
        "{result:?}"
    );
    heard(&mut sessions).await;
    peers.call(TWO, VOTE, vec![], LONG).await.unwrap();
    assert_eq!(peers.status()[0].connection, Ok(started.at));
}

/// Goal: a request never goes to a host that it is not meant for, and says who was met.
/// Method: host 3's address, another array's address, and no address given for host 2.
#[tokio::test]
async fn a_wrong_host_at_the_address_is_not_called() {
    let ours = founder(1);
    let third = start(&joined(&ours, 3)).await;
    let foreign = start(&joined(&founder(2), 2)).await;
    let (peers, _, _) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![third.at]);
    let error = peers.call(TWO, VOTE, vec![], LONG).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("host 3 answers there, not host 2"),
        "{error}"
    );
    assert!(error.was_not_sent());
    peers.set_addresses(TWO, vec![foreign.at]);
    let error = peers.call(TWO, VOTE, vec![], LONG).await.unwrap_err();
    let error = match error.to_string() {
        // The attempt at the old address may still have been under way.
        text if text.contains("host 3") => peers
            .call(TWO, VOTE, vec![], LONG)
            .await
            .unwrap_err()
            .to_string(),
        text => text,
    };
    assert!(error.contains("another array"), "{error}");
    peers.set_addresses(TWO, vec![]);
    let error = peers.call(TWO, VOTE, vec![], LONG).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAddress(TWO)));
    let error = peers.call(HostId(7), VOTE, vec![], LONG).await.unwrap_err();
    assert!(matches!(error, TransportError::NoAddress(HostId(7))));
    assert_eq!(third.server.counts().requests, 0);
}

/// Goal: each connection yields a session by which both ends seal and open; a restarted host gets
/// a new one at once, and its old ones are dead.
/// Method: real servers, the second with a higher boot on the same port.
#[tokio::test]
async fn sessions_are_made_and_remade_after_a_restart() {
    let ours = founder(1);
    let second = joined(&ours, 2);
    let first_life = start(&second).await;
    let (peers, sessions, mut made) = pool(&ours, 5);
    peers.set_addresses(TWO, vec![first_life.at]);
    assert_eq!(heard(&mut made).await, (TWO, Boot(1)));
    assert_eq!(first_life.sessions.boot_of(HostId(1)), Some(Boot(5)));
    let (mut packet, mut plain) = (Vec::new(), Vec::new());
    assert!(sessions.seal(TWO, b"heartbeat", &mut packet));
    assert_eq!(first_life.sessions.open(&packet, &mut plain), Ok(HostId(1)));
    assert_eq!(plain, b"heartbeat");
    assert!(first_life.sessions.seal(HostId(1), b"ack", &mut packet));
    assert_eq!(sessions.open(&packet, &mut plain), Ok(TWO));

    let at = first_life.at;
    let old = Arc::clone(&first_life.sessions);
    first_life.server.close().await;
    let second_life = start_at(&second, 2, ServerLimits::default(), at).await;
    assert_eq!(heard(&mut made).await, (TWO, Boot(2)));
    assert!(old.seal(HostId(1), b"from the grave", &mut packet));
    assert_eq!(
        sessions.open(&packet, &mut plain),
        Err(OpenError::UnknownSession)
    );
    assert!(sessions.seal(TWO, b"again", &mut packet));
    assert_eq!(
        second_life.sessions.open(&packet, &mut plain),
        Ok(HostId(1))
    );
    assert!(peers.call(TWO, VOTE, vec![], LONG).await.is_ok());
}

/// Goal: a session is made once for each connection, so that no nonce is used twice.
/// Method: ask twice on one connection, then with an older boot on another.
#[tokio::test]
async fn second_session_request_and_older_boot_are_refused() {
    let ours = founder(1);
    let second = joined(&ours, 2);
    let started = start(&ours).await;
    let connection = Connection::start(raw_host(&second, started.at).await);
    let ask = |boot| encode_boot(Boot(boot));
    let result = connection.exchange(Kind::Session, vec![1, 2, 3]).await;
    assert!(matches!(
        result,
        Err(ExchangeError::Refused(HandlerError::BadRequest(_)))
    ));
    assert_eq!(
        connection.exchange(Kind::Session, ask(3)).await.unwrap(),
        ask(1)
    );
    let result = connection.exchange(Kind::Session, ask(3)).await;
    assert!(matches!(
        result,
        Err(ExchangeError::Refused(HandlerError::Denied(_)))
    ));
    let connection = Connection::start(raw_host(&second, started.at).await);
    let result = connection.exchange(Kind::Session, ask(2)).await;
    assert!(
        matches!(&result, Err(ExchangeError::Refused(HandlerError::Denied(why))) if why.contains("boot 3")),
        "{result:?}"
    );
}

/// Goal: a forgotten host is cut at once, in both directions, and can't come back.
/// Method: host 2 calls host 1; forget it while a request is in flight.
#[tokio::test]
async fn forgotten_host_is_cut_and_stays_out() {
    let ours = founder(1);
    let second = joined(&ours, 2);
    let started = start(&ours).await;
    let (peers, sessions, mut made) = pool(&second, 1);
    peers.set_addresses(HostId(1), vec![started.at]);
    heard(&mut made).await;
    let bystander = Client::connect(&ours, &[started.at], None).await.unwrap();
    bystander.call(VOTE, vec![], LONG).await.unwrap();
    let asking = Arc::clone(&peers);
    let asking =
        tokio::spawn(async move { asking.call(HostId(1), VOTE, b"hang".to_vec(), LONG).await });
    started.handler.seen.notified().await;

    started.server.close_host(TWO);
    let result = asking.await.unwrap();
    assert!(
        matches!(result, Err(TransportError::Closed { .. })),
        "{result:?}"
    );
    let error = peers.call(HostId(1), VOTE, vec![], LONG).await.unwrap_err();
    assert!(error.to_string().contains("forgotten"), "{error}");
    let mut packet = Vec::new();
    assert!(sessions.seal(HostId(1), b"still here", &mut packet));
    let opened = started.sessions.open(&packet, &mut Vec::new());
    assert_eq!(opened, Err(OpenError::UnknownSession));
    assert!(bystander.call(VOTE, vec![], LONG).await.is_ok());

    let (ours_to_second, _, _) = pool(&ours, 1);
    ours_to_second.set_addresses(TWO, vec![started.at]);
    ours_to_second.forget(TWO);
    ours_to_second.set_addresses(TWO, vec![started.at]);
    let error = ours_to_second
        .call(TWO, VOTE, vec![], LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Forgotten(TWO)));
}

/// Goal: a host that is down is told at once, not by the caller's time-out; it is called again
/// as soon as it is back. Method: a closed port, then a server on it.
#[tokio::test]
async fn a_host_that_is_down_is_told_at_once_and_found_when_back() {
    let ours = founder(1);
    let second = joined(&ours, 2);
    let at = std::net::TcpListener::bind(any_port())
        .unwrap()
        .local_addr()
        .unwrap();
    let (peers, _, mut made) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![at]);
    let day = Duration::from_secs(24 * 3600);
    for kind in [VOTE, Kind::Client] {
        let call = peers.call(TWO, kind, vec![], day);
        let result = tokio::time::timeout(LONG, call).await.unwrap();
        assert!(
            matches!(result, Err(TransportError::Unreachable { .. })),
            "{result:?}"
        );
    }
    let _started = start_at(&second, 1, ServerLimits::default(), at).await;
    heard(&mut made).await;
    assert!(peers.call(TWO, VOTE, vec![], LONG).await.is_ok());
}

/// Goal: many calls share a connection, and one that hangs or is slow holds up none.
/// Method: a hanging snapshot and a hanging append, then 500 calls at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_all_find_their_answers() {
    let ours = founder(1);
    let started = start(&joined(&ours, 2)).await;
    let (peers, _, _) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![started.at]);
    peers.warm(TWO);
    let mut hanging = tokio::task::JoinSet::new();
    for class in [RaftClass::Snapshot, RaftClass::Append] {
        let peers = Arc::clone(&peers);
        hanging.spawn(async move {
            peers
                .call(TWO, Kind::Raft { class }, b"hang".to_vec(), LONG)
                .await
                .err()
        });
        started.handler.seen.notified().await;
    }
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..500u32 {
        let peers = Arc::clone(&peers);
        calls.spawn(async move {
            let class = if number % 2 == 0 {
                RaftClass::Append
            } else {
                RaftClass::Heartbeat
            };
            let body = vec![number as u8; (number as usize * 97) % 40_000];
            let answer = peers
                .call(TWO, Kind::Raft { class }, body.clone(), LONG)
                .await;
            assert!(answer.unwrap().ends_with(&body));
        });
    }
    while let Some(done) = calls.join_next().await {
        done.unwrap();
    }
    assert!(hanging.try_join_next().is_none());
}

/// Goal: what can't be called is refused here. Method: a stream; a body above its limit.
#[tokio::test]
async fn calls_that_can_not_be_are_refused_before_they_are_sent() {
    let ours = founder(1);
    let (peers, _, _) = pool(&ours, 1);
    let error = peers
        .call(TWO, Kind::Stream, vec![], LONG)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Refused { .. }));
    let body = vec![0; frame::MAX_CLIENT_BODY + 1];
    let error = peers.call(TWO, Kind::Client, body, LONG).await.unwrap_err();
    assert!(matches!(error, TransportError::TooLong { .. }) && error.was_not_sent());
    peers.set_addresses(HostId(1), vec![any_port()]);
    assert!(peers.hosts().is_empty(), "itself");
}

/// Goal: a host whose certificate has run out is not called but counted, and called again once it has a new one.
/// Method: a server with a certificate of three years ago, which it renews.
#[tokio::test]
async fn pool_counts_a_host_whose_certificate_has_run_out_until_it_is_renewed() {
    let dir = TestDir::new();
    let ours = founder(1);
    let second = joined_at(&ours, 2, now() - Duration::from_secs(3 * 365 * 24 * 3600));
    let started = start(&second).await;
    let (peers, _, _) = pool(&ours, 1);
    peers.set_addresses(TWO, vec![started.at]);
    let error = peers.call(TWO, VOTE, vec![], LONG).await.unwrap_err();
    let words = "its certificate is not valid now: expired; compare the clocks";
    assert!(error.to_string().contains(words), "{error}");
    assert!(peers.refused_expired() > 0);
    second.renew(&dir.0, now()).unwrap();
    // The outcome of an attempt that was on its way.
    let _either = peers.call(TWO, VOTE, vec![], LONG).await;
    assert!(peers.call(TWO, VOTE, vec![], LONG).await.is_ok());
}
