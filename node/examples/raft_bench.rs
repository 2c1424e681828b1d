//! Measures Raft on this machine: commits a second, and from a leader's death to the next commit.
//!
//! `cargo run --release -p rais --example raft_bench [seconds]`: one host and three, 1 to 256
//! writers, entries of about 100 bytes; then the leader of three is cut off 20 times and each time
//! the first commit of its successor is awaited. The hosts share one process and talk through
//! memory: what is measured is the store and openraft, not a network.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use node::raft::{
    BoxFuture, Compaction, NoWatch, Node, Raft, RaftOptions, RaftTiming, RaftTransport, RpcClass,
    TransportError,
};
use statemachine::{Command, Entry, HostCommand, HostName, LogTime, TokenId};

#[derive(Default)]
struct Hub {
    hosts: Mutex<BTreeMap<u64, Raft>>,
    cut: Mutex<BTreeSet<u64>>,
}

struct Wire {
    me: u64,
    hub: Arc<Hub>,
}

impl RaftTransport for Wire {
    fn call(
        &self,
        target: u64,
        _: RpcClass,
        body: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let away = || TransportError::Unreachable {
                target,
                reason: "cut".into(),
            };
            let cut = |id| self.hub.cut.lock().unwrap().contains(&id);
            let host = self.hub.hosts.lock().unwrap().get(&target).cloned();
            let host = host
                .filter(|_| !cut(self.me) && !cut(target))
                .ok_or_else(away)?;
            let answer = host.handle_rpc(self.me, &body).await;
            answer.map_err(|error| TransportError::Broken {
                target,
                reason: error.to_string(),
            })
        })
    }
}

/// An entry of about 100 bytes that the state machine refuses: only Raft and the store are measured.
fn entry(number: u64) -> Entry {
    let join = HostCommand::Join {
        token: TokenId(u64::MAX),
        secret_hash: [0; 32],
        name: HostName("x".repeat(32)),
        control: Vec::new(),
    };
    Entry {
        at: LogTime(number),
        commands: vec![Command::Host(join)],
        ..Entry::default()
    }
}

async fn found(dir: &Path, hub: &Arc<Hub>, count: u64, timing: RaftTiming) -> Vec<Raft> {
    let mut hosts = Vec::new();
    for id in 1..=count {
        let raft = Raft::open(RaftOptions {
            data_dir: dir.join(format!("h{id}")),
            id,
            timing,
            compaction: Compaction::default(),
            transport: Arc::new(Wire {
                me: id,
                hub: hub.clone(),
            }),
            log_watch: Arc::new(NoWatch),
            applied: Arc::new(|_| {}),
        });
        let raft = raft.await.unwrap();
        hub.hosts.lock().unwrap().insert(id, raft.clone());
        hosts.push(raft);
    }
    hosts[0].initialize_single(Node::default()).await.unwrap();
    for id in 2..=count {
        hosts[0].add_learner(id, Node::default()).await.unwrap();
    }
    hosts[0].change_voters((1..=count).collect()).await.unwrap();
    hosts
}

/// Commits a second, and the median and 99th percentile of one commit.
async fn measure(raft: &Raft, writers: u64, time: Duration) -> (f64, Duration, Duration) {
    let stop = Arc::new(AtomicBool::new(false));
    let number = Arc::new(AtomicU64::new(1));
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|_| {
            let (raft, stop, number) = (raft.clone(), stop.clone(), number.clone());
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    raft.propose(entry(number.fetch_add(1, Ordering::Relaxed)))
                        .await
                        .unwrap();
                    taken.push(begun.elapsed());
                }
                taken
            })
        })
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut taken = Vec::new();
    for task in tasks {
        taken.extend(task.await.unwrap());
    }
    let rate = taken.len() as f64 / started.elapsed().as_secs_f64();
    taken.sort();
    (rate, taken[taken.len() / 2], taken[taken.len() * 99 / 100])
}

/// Different each time, without a generator: the low digits of the clock.
fn begun_at() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::from(since.subsec_micros()))
}

/// From the moment a leader is cut off to the first commit of the next.
async fn failover(hosts: &[Raft], hub: &Hub) -> Duration {
    let views: Vec<_> = hosts.iter().map(Raft::view).collect();
    let leader = loop {
        let leading = views.iter().position(|view| view.borrow().am_leader);
        match leading {
            Some(at) if hosts[at].linearizable().await.is_ok() => break at,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    // A different phase of heartbeats and elections each time.
    tokio::time::sleep(Duration::from_millis(500 + begun_at() % 100)).await;
    let id = views[leader].borrow().id;
    hub.cut.lock().unwrap().insert(id);
    let begun = Instant::now();
    let tries = hosts
        .iter()
        .enumerate()
        .filter(|(at, _)| *at != leader)
        .map(|(_, host)| {
            let host = host.clone();
            let mut view = host.view();
            Box::pin(async move {
                view.wait_for(|view| view.am_leader).await.unwrap();
                host.propose(entry(1)).await.unwrap();
            }) as BoxFuture<'_, ()>
        });
    futures_util::future::select_all(tries).await;
    let taken = begun.elapsed();
    hub.cut.lock().unwrap().clear();
    tokio::time::sleep(Duration::from_millis(800)).await;
    taken
}

async fn run(seconds: u64) {
    let base = std::env::temp_dir().join(format!("rais-bench-{}", std::process::id()));
    for count in [1, 3] {
        let hub = Arc::new(Hub::default());
        let dir = base.join(count.to_string());
        let hosts = found(&dir, &hub, count, RaftTiming::default()).await;
        for writers in [1, 16, 64, 256] {
            let time = Duration::from_secs(seconds);
            let (rate, median, p99) = measure(&hosts[0], writers, time).await;
            println!("{count} hosts, {writers:3} writers: {rate:8.0}/s p50 {median:?} p99 {p99:?}");
        }
        for host in &hosts {
            host.shutdown().await;
        }
        hub.hosts.lock().unwrap().clear();
    }
    let fast = RaftTiming {
        heartbeat_ms: 20,
        election_min_ms: 60,
        election_max_ms: 120,
    };
    for (name, timing) in [("50/150..300", RaftTiming::default()), ("20/60..120", fast)] {
        let hub = Arc::new(Hub::default());
        let hosts = found(&base.join(name.replace('/', "-")), &hub, 3, timing).await;
        let mut taken = Vec::new();
        for _ in 0..20 {
            taken.push(failover(&hosts, &hub).await.as_millis());
        }
        taken.sort_unstable();
        println!("{name}: leader gone to first commit, ms: {taken:?}");
        for host in &hosts {
            host.shutdown().await;
        }
        hub.hosts.lock().unwrap().clear();
    }
    std::fs::remove_dir_all(base).unwrap();
}

fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().build().unwrap().block_on(run(seconds));
}
