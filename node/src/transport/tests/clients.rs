//! The CLI's side: finding the daemon, saying what is wrong, following streams.

use super::*;
use crate::pki::testing::{TestDir, founder, joined};

/// Goal: each reason why there is no daemon has its own words and remedy.
/// Method: empty dir, identity without daemon, dead daemon, another host's daemon, live daemon.
#[tokio::test]
async fn client_says_why_it_finds_no_daemon() {
    let dir = TestDir::new();
    let data = dir.0.join("data");
    let fails = async |words: &str| {
        let error = Client::from_data_dir(&data)
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(words), "{error}");
    };
    fails("`rais init` or `rais join`").await;
    let ours = founder(1);
    ours.save_new(&data).unwrap();
    fails("has not run with this data dir").await;
    let dead = std::net::TcpListener::bind(any_port())
        .unwrap()
        .local_addr()
        .unwrap();
    write_control_addresses(&data, &[dead]).unwrap();
    fails(&dead.to_string()).await;
    let other = start(&joined(&ours, 2)).await;
    write_control_addresses(&data, &[other.at]).unwrap();
    fails("host 2 answers there, not host 1").await;

    let started = start(&ours).await;
    let wildcard = SocketAddr::new("0.0.0.0".parse().unwrap(), started.at.port());
    write_control_addresses(&data, &[dead, wildcard]).unwrap();
    assert_eq!(read_control_addresses(&data).unwrap(), [dead, started.at]);
    let client = Client::from_data_dir(&data).await.unwrap();
    assert_eq!(client.host(), HostId(1));
    assert_eq!(
        text(client.call(Kind::Client, b"?".to_vec(), LONG).await),
        "host 1 Client ?"
    );
    let error = client
        .call(Kind::Client, b"hang".to_vec(), Duration::from_millis(5))
        .await;
    assert!(matches!(error, Err(ClientError::Timeout { .. })));
    write_control_addresses(&data, &[]).unwrap();
    fails("has not run with this data dir").await;
}

/// Goal: a stream gives its frames in order and ends well, by its error, or by refusal.
/// Method: more frames than any queue holds; each way to end.
#[tokio::test]
async fn streams_give_all_frames_and_their_end() {
    let ours = founder(1);
    let started = start(&ours).await;
    let client = Client::connect(&ours, &[started.at], None).await.unwrap();
    let mut good = client.stream(vec![200]).await.unwrap();
    for item in 0..200 {
        assert_eq!(good.next().await.unwrap(), Some(vec![item]));
    }
    assert_eq!(good.next().await.unwrap(), None);
    let mut broken = client.stream(vec![1, b'e']).await.unwrap();
    assert_eq!(broken.next().await.unwrap(), Some(vec![0]));
    let error = broken.next().await.unwrap_err();
    assert!(matches!(error, ClientError::Refused(HandlerError::Failed(why)) if why == "log lost"));
    let mut refused = client.stream(b"fail".to_vec()).await.unwrap();
    let error = refused.next().await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused(HandlerError::NotReady(_))
    ));
    let error = client.call(Kind::Stream, vec![1], LONG).await.unwrap_err();
    assert!(matches!(
        error,
        ClientError::Refused(HandlerError::BadRequest(_))
    ));
}

/// Goal: a stream that nobody follows any more is not produced any more.
/// Method: drop the follower; the handler's side is told.
#[tokio::test]
async fn stream_ends_at_the_daemon_when_the_follower_goes() {
    let ours = founder(1);
    let started = start(&ours).await;
    let client = Client::connect(&ours, &[started.at], None).await.unwrap();
    let mut follower = client.stream(vec![1, b'f']).await.unwrap();
    assert_eq!(follower.next().await.unwrap(), Some(vec![0]));
    drop(follower);
    tokio::time::timeout(LONG, started.handler.gone.notified())
        .await
        .unwrap();
}

/// Goal: when the daemon goes, a follower is told. Method: drop the server in mid-stream.
#[tokio::test]
async fn follower_is_told_when_the_daemon_goes() {
    let ours = founder(1);
    let started = start(&ours).await;
    let client = Client::connect(&ours, &[started.at], None).await.unwrap();
    let mut follower = client.stream(vec![1, b'f']).await.unwrap();
    assert_eq!(follower.next().await.unwrap(), Some(vec![0]));
    drop(started);
    let end = tokio::time::timeout(LONG, follower.next()).await.unwrap();
    assert!(matches!(end, Err(ClientError::Closed { .. })), "{end:?}");
}
