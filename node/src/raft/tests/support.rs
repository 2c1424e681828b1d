//! A directory that goes away, hosts that talk through memory, and entries that can be told apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use statemachine::{Command, Entry, HostCommand, HostName, LogTime, Origin, State, TokenId};

use crate::raft::store::{LogWatch, NoWatch};
use crate::raft::{
    BoxFuture, Compaction, Node, Observer, Raft, RaftOptions, RaftTiming, RaftTransport, RaftView,
    RpcClass, Step, TransportError,
};

/// Longest wait for anything that must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct TempDir(PathBuf);

impl TempDir {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rais-raft-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An entry of `client`, with its number, which the state remembers.
pub(super) fn entry(client: u8, serial: u64) -> Entry {
    Entry {
        at: LogTime(serial),
        wall: serial,
        origin: Some(Origin {
            client: [client; 16],
            serial,
        }),
        commands: vec![Command::Tick],
    }
}

/// An entry of about `bytes` bytes, which the state machine refuses: nobody has that token.
pub(super) fn large_entry(client: u8, serial: u64, bytes: usize) -> Entry {
    let join = HostCommand::Join {
        token: TokenId(u64::MAX),
        secret_hash: [0; 32],
        name: HostName("x".repeat(bytes)),
        control: Vec::new(),
    };
    Entry {
        commands: vec![Command::Host(join)],
        ..entry(client, serial)
    }
}

/// The last number of `client` that the state knows.
pub(super) fn serial(state: &State, client: u8) -> u64 {
    state
        .sessions
        .get(&[client; 16])
        .map_or(0, |session| session.serial)
}

pub(super) fn node(id: u64) -> Node {
    Node {
        name: format!("h{id}"),
        control: vec![([127, 77, 0, id as u8], 7400).into()],
    }
}

/// Hears who asked whom what, and the answer before the asker does.
pub(super) type Ear = Box<dyn Fn(u64, u64, &[u8], Option<&[u8]>) + Send + Sync>;

/// The wires between the hosts.
#[derive(Default)]
pub(super) struct Hub {
    pub(super) ear: OnceLock<Ear>,
    hosts: Mutex<BTreeMap<u64, Raft>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
    pub(super) longest: AtomicUsize,
    pub(super) pieces: AtomicUsize,
}

impl Hub {
    /// Cuts a host off, or lets it back.
    pub(super) fn isolate(&self, id: u64, yes: bool) {
        for other in 0..20 {
            let mut cut = self.cut.lock().unwrap();
            for pair in [(id, other), (other, id)] {
                if yes {
                    cut.insert(pair)
                } else {
                    cut.remove(&pair)
                };
            }
        }
    }

    pub(super) fn remove(&self, id: u64) -> Option<Raft> {
        self.hosts.lock().unwrap().remove(&id)
    }
}

struct Wire {
    me: u64,
    hub: Arc<Hub>,
}

impl RaftTransport for Wire {
    fn call(
        &self,
        target: u64,
        class: RpcClass,
        body: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            let away = || TransportError::Unreachable {
                target,
                reason: "cut".into(),
            };
            self.hub.longest.fetch_max(body.len(), Ordering::Relaxed);
            let host = self.hub.hosts.lock().unwrap().get(&target).cloned();
            let host = host.ok_or_else(away)?;
            if self.hub.cut.lock().unwrap().contains(&(self.me, target)) {
                return Err(away());
            }
            self.hub
                .pieces
                .fetch_add(usize::from(class == RpcClass::Snapshot), Ordering::Relaxed);
            let hear = |answer: Option<&[u8]>| {
                if let Some(ear) = self.hub.ear.get() {
                    ear(self.me, target, &body, answer);
                }
            };
            hear(None);
            let answer = host.handle_rpc(self.me, &body).await;
            hear(answer.as_deref().ok());
            answer.map_err(|error| TransportError::Broken {
                target,
                reason: error.to_string(),
            })
        })
    }
}

/// Several hosts in one process.
pub(super) struct Cluster {
    pub(super) hub: Arc<Hub>,
    dirs: BTreeMap<u64, TempDir>,
    /// Directories that stay, for some or all.
    pub(super) places: BTreeMap<u64, PathBuf>,
    pub(super) compaction: Compaction,
    pub(super) steps: Arc<Mutex<Vec<(u64, Step)>>>,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            hub: Arc::default(),
            dirs: BTreeMap::new(),
            places: BTreeMap::new(),
            compaction: Compaction::default(),
            steps: Arc::default(),
        }
    }

    pub(super) async fn start(&mut self, id: u64) -> Raft {
        self.start_watched(id, Arc::new(NoWatch)).await
    }

    pub(super) async fn start_watched(&mut self, id: u64, log_watch: Arc<dyn LogWatch>) -> Raft {
        let data_dir = match self.places.get(&id) {
            Some(place) => place.clone(),
            None => self
                .dirs
                .entry(id)
                .or_insert_with(TempDir::new)
                .path()
                .to_owned(),
        };
        let steps = self.steps.clone();
        let applied: Observer = Arc::new(move |step| steps.lock().unwrap().push((id, step)));
        let raft = Raft::open(RaftOptions {
            data_dir,
            id,
            timing: RaftTiming::default(),
            compaction: self.compaction,
            transport: Arc::new(Wire {
                me: id,
                hub: self.hub.clone(),
            }),
            log_watch,
            applied,
        });
        let raft = raft.await.unwrap();
        self.hub.hosts.lock().unwrap().insert(id, raft.clone());
        raft
    }

    /// An array of the hosts 1 to `count`, all of them voters, led by host 1.
    pub(super) async fn found(&mut self, count: u64) -> Vec<Raft> {
        let first = self.start(1).await;
        first.initialize_single(node(1)).await.unwrap();
        let mut hosts = vec![first];
        for id in 2..=count {
            hosts.push(self.start(id).await);
            hosts[0].add_learner(id, node(id)).await.unwrap();
        }
        if count > 1 {
            hosts[0].change_voters((1..=count).collect()).await.unwrap();
        }
        hosts
    }

    pub(super) async fn stop(&self, id: u64) {
        if let Some(raft) = self.hub.remove(id) {
            raft.shutdown().await;
        }
    }

    pub(super) async fn stop_all(&self) {
        for id in 0..20 {
            self.stop(id).await;
        }
    }
}

/// Waits until the view says so.
pub(super) async fn until(raft: &Raft, what: &str, wanted: impl Fn(&RaftView) -> bool) -> RaftView {
    let mut view = raft.view();
    let reached = tokio::time::timeout(PATIENCE, view.wait_for(|view| wanted(view))).await;
    match reached {
        Ok(Ok(view)) => view.clone(),
        Ok(Err(_)) => panic!("raft ended while waiting: {what}"),
        Err(_) => panic!("in vain: {what}; {:?}", raft.view().borrow().clone()),
    }
}
