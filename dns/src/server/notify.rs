//! Tells the secondaries: a task for each of them, on the TCP thread's runtime.
//!
//! One message is on its way to a secondary at a time, always of the newest version: what
//! changed meanwhile is told with the next. Without an answer it is sent again after
//! [`PATIENCE`], then after twice that and so on, [`ATTEMPTS`] times; a secondary that was away
//! for longer asks for the SOA by itself, as its refresh says.
//!
//! Every node that serves DNS tells, each of what it has applied itself, one [`TURN`] after the other:
//! a second NOTIFY while BIND follows the first would send it to all its primaries again, and the one
//! that has just died would keep it waiting (ADR-0023).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Core;
use crate::limit::mix;
use crate::notify::{Notify, Reply};
use crate::primary::News;
use crate::tsig::FUDGE_S;

/// Wait for the first answer. A secondary in the same room takes a millisecond, one on the
/// other side of the world 300.
const PATIENCE: Duration = Duration::from_millis(500);

/// Between one name server's telling and the next one's. By then a secondary has followed the first,
/// and takes what comes as no news.
const TURN: Duration = Duration::from_millis(250);

/// Longest wait for one's turn, in turns.
const LAST_TURN: u32 = 16;

/// Longest wait for an answer.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

/// Newer news don't wait for an answer to older ones, but for so long after these were sent: a
/// secondary that is silent hears of 20 versions a second at most.
const GAP: Duration = Duration::from_millis(50);

/// How often one version is told: 0.5 + 1 + 2 + ... + 32 + 60 + 60 s, three minutes.
const ATTEMPTS: u32 = 9;

/// Longest answer: a signed one has some 200 bytes.
const DATAGRAM: usize = 1_232;

/// Most secondaries that are told at once; each has a socket while it is told.
const MAX_TARGETS: usize = 1_024;

/// A secondary's task, and how it hears of news.
struct Line {
    news: watch::Sender<News>,
    task: AbortHandle,
}

/// Runs until the runtime ends.
pub(super) async fn tell_all(core: Arc<Core>, own: Vec<SocketAddr>) {
    let own: Arc<[SocketAddr]> = own.into();
    let mut changes = core.primary.changes();
    let mut lines: HashMap<(Box<[u8]>, SocketAddr), Line> = HashMap::new();
    loop {
        changes.mark_unchanged();
        // A node that has not recovered its state vouches for nothing.
        let news = match core.is_ready() {
            true => core.primary.news(),
            false => Vec::new(),
        };
        if core.is_ready() {
            lines.retain(|(apex, target), line| {
                let is_wanted = |news: &News| news.apex == *apex && news.target == *target;
                let keep = news.iter().any(is_wanted);
                if !keep {
                    line.task.abort();
                }
                keep
            });
        }
        if news.len() > MAX_TARGETS {
            let untold = news.len() - MAX_TARGETS;
            tracing::error!(
                untold,
                most = MAX_TARGETS,
                "dns: too many secondaries; the last are not told of changes and follow by their refresh"
            );
        }
        for one in news.into_iter().take(MAX_TARGETS) {
            let name = (one.apex.clone(), one.target);
            match lines.get(&name) {
                Some(line) => line.tell(one),
                None => {
                    lines.insert(name, Line::open(one, &core, &own));
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

impl Line {
    fn open(first: News, core: &Arc<Core>, own: &Arc<[SocketAddr]>) -> Line {
        let (news, told) = watch::channel(first);
        let task = tokio::spawn(keep_telling(core.clone(), own.clone(), told));
        let task = task.abort_handle();
        Line { news, task }
    }

    fn tell(&self, newer: News) {
        self.news.send_if_modified(|news| {
            let is_same_key = match (&news.key, &newer.key) {
                (Some(old), Some(new)) => Arc::ptr_eq(old, new),
                (None, None) => true,
                _ => false,
            };
            if news.serial == newer.serial && is_same_key {
                news.rank = newer.rank;
                return false;
            }
            *news = newer;
            true
        });
    }
}

/// Tells one secondary of version after version.
async fn keep_telling(core: Arc<Core>, own: Arc<[SocketAddr]>, mut told: watch::Receiver<News>) {
    loop {
        let news = told.borrow_and_update().clone();
        await_turn(news.rank, &mut told).await;
        if let Err(error) = tell(&core, &own, &mut told).await {
            core.primary
                .note(&news, |told| told.trouble = Some(error.to_string()));
        }
        if told.changed().await.is_err() {
            return;
        }
    }
}

/// Waits for this server's turn. Newer news don't begin the wait anew, but may end it: those that were
/// before it are gone.
async fn await_turn(rank: u32, told: &mut watch::Receiver<News>) {
    let mut turn = std::pin::pin!(tokio::time::sleep(TURN * rank.min(LAST_TURN)));
    let mut first = rank == 0;
    while !first {
        tokio::select! {
            () = &mut turn => return,
            changed = told.changed() => match changed {
                Ok(()) => first = told.borrow_and_update().rank == 0,
                Err(_) => return,
            },
        }
    }
}

/// Tells one secondary of the newest version until it answers or patience ends.
async fn tell(core: &Core, own: &[SocketAddr], told: &mut watch::Receiver<News>) -> io::Result<()> {
    let target = told.borrow().target;
    let mut socket = None;
    let (mut attempt, mut patience, mut serial) = (0, PATIENCE, None);
    while attempt < ATTEMPTS {
        let news = told.borrow_and_update().clone();
        if serial.replace(news.serial) != Some(news.serial) {
            (attempt, patience) = (0, PATIENCE);
        }
        attempt += 1;
        core.primary.note(&news, |told| {
            (told.telling, told.attempts) = (Some(news.serial), attempt);
        });
        let now_s = core.now_s();
        let notify = Notify::new(&news, core.notify_id(), now_s);
        core.tcp_stats.notify_sent();
        // A refused datagram is as good as a lost one: whoever starts again listens soon. So is a network
        // that is down.
        let sent = send(
            &mut socket,
            source_for(target, own),
            target,
            &notify.message,
        )
        .await;
        let answered = async {
            match &socket {
                Some(socket) => answer(socket, &notify, now_s).await,
                None => std::future::pending().await,
            }
        };
        let reply = tokio::select! {
            reply = timeout(patience, answered) => reply,
            () = newer(told) => continue,
        };
        match reply {
            Ok(Reply::Acknowledged) => {
                core.tcp_stats.notify_acknowledged();
                core.primary.note(&news, |told| {
                    told.acknowledged = Some(news.serial);
                    (told.telling, told.attempts, told.trouble) = (None, 0, None);
                });
                return Ok(());
            }
            Ok(Reply::Refused(rcode)) => {
                let words =
                    format!("answers {rcode}: does it know this host as the zone's primary?");
                return Err(io::Error::other(words));
            }
            Ok(Reply::Later) => tokio::select! {
                () = tokio::time::sleep(patience) => {}
                () = newer(told) => continue,
            },
            Err(_) => {}
        }
        let words = match sent {
            Err(error) => error.to_string(),
            Ok(_) if news.key.is_some() => "no answer signed with the key".to_owned(),
            Ok(_) => "no answer".to_owned(),
        };
        core.primary.note(&news, |told| told.trouble = Some(words));
        patience = (patience * 2).min(LONGEST_PATIENCE);
    }
    core.tcp_stats.notify_given_up();
    tracing::warn!(%target, "dns: a secondary does not answer; it will ask by itself within the zone's refresh");
    Ok(())
}

/// Sends from a socket that is opened when there is none.
async fn send(
    socket: &mut Option<UdpSocket>,
    from: SocketAddr,
    target: SocketAddr,
    message: &[u8],
) -> io::Result<()> {
    if socket.is_none() {
        let opened = UdpSocket::bind(from).await?;
        opened.connect(target).await?;
        *socket = Some(opened);
    }
    if let Some(socket) = socket {
        socket.send(message).await?;
    }
    Ok(())
}

/// Comes back when there are newer news and it is time for them; never if there will be none.
async fn newer(told: &mut watch::Receiver<News>) {
    tokio::time::sleep(GAP).await;
    if told.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The next answer to `notify`. What else comes is passed over; an error (nobody listens there)
/// is waited out, as the time-out around this says.
async fn answer(socket: &UdpSocket, notify: &Notify, now_s: u64) -> Reply {
    let mut buffer = [0; DATAGRAM];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                // Sent now: so the answer's time is checked against that of sending.
                if let Some(reply) = notify.read(datagram, now_s) {
                    return reply;
                }
            }
            Err(_) => std::future::pending().await,
        }
    }
}

/// The address to tell from: the first at which we answer and that reaches the target, since there
/// the secondary knows its primary; any where we answer on all.
fn source_for(target: SocketAddr, own: &[SocketAddr]) -> SocketAddr {
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let same = |own: &&SocketAddr| {
        let reaches = !own.ip().is_loopback() || target.ip().is_loopback();
        own.is_ipv4() == target.is_ipv4() && reaches
    };
    let ip = own.iter().find(same).map_or(any, SocketAddr::ip);
    SocketAddr::new(ip, 0)
}

/// Draws ids of messages that nobody else can foresee.
#[derive(Debug, Default)]
pub(super) struct Ids(AtomicU64);

impl Ids {
    pub(super) fn next(&self, secret: [u8; 16], now_us: u64) -> u16 {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let [low, high] = [0, 8].map(|at| {
            let half = secret.get(at..).and_then(|half| half.first_chunk());
            half.map_or(0, |half| u64::from_le_bytes(*half))
        });
        mix(mix(low, count), high ^ now_us) as u16
    }
}

// An answer's time is compared with that of sending, so patience has to end within the fudge.
const _: () = assert!(LONGEST_PATIENCE.as_secs() < FUDGE_S as u64);
