//! The second tier of the simulator: openraft itself over our store, state machine and network, in one
//! thread, in virtual time, with chance from one seed (docs/adr/0049). Tokio wakes those who wait on one
//! watch in an order of its own, so a seed tells nearly the same story again, not the same.
//!
//! Three hosts on disks that lose what was not flushed, wires that delay, lose and are cut, clients that
//! write all the time. Held against: equal states at equal index; no voter goes back behind a ballot;
//! what was acknowledged is there in the end. A disk that lies about flushing must be told of.
//!
//! `cargo test -p rais --features seeded --lib seeded` (RAIS_LONG=1 for many seeds, RAIS_SEED=N for one).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chaos::Rng;
use openraft::AsyncRuntime;
use statemachine::codec;
use tokio::time::{sleep, timeout};

use super::support::{entry, node, serial};
use crate::raft::store::memory::Disk;
use crate::raft::store::{NoWatch, Store};
use crate::raft::types::{Runtime, SnapshotMeta};
use crate::raft::wire::{Request, Response, open};
use crate::raft::{
    BoxFuture, Compaction, Observer, Raft, RaftOptions, RaftTiming, RaftTransport, RpcClass, Step,
    TransportError,
};

const HOSTS: u64 = 3;
const CLIENTS: u8 = 2;
/// Seeds of a normal and of a long run.
const SEEDS: u64 = 40;
const LONG_SEEDS: u64 = 3_000;
/// A disk that lies must be told of within so many seeds.
const CAUGHT_WITHIN: u64 = 20;
/// How long faults go on, and how long the array may take to settle then, in ms of virtual time.
const STORM_MS: u64 = 8_000;
const CALM: Duration = Duration::from_secs(20);
/// Between two tries of a client.
const AGAIN: Duration = Duration::from_millis(20);

/// What was seen so far.
#[derive(Debug, Default)]
struct Ledger {
    wrong: Option<String>,
    /// The state at each index, and who had it first.
    states: BTreeMap<u64, (u32, u64)>,
    acked: BTreeMap<u8, u64>,
    acks: u64,
    lost: usize,
    /// Each voter's highest ballot of earlier lives, and of this one.
    voted: BTreeMap<u64, (u64, u64)>,
    voting: BTreeMap<u64, (u64, u64)>,
}

impl Ledger {
    fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn applied(&mut self, id: u64, step: &Step) {
        let mine = codec::fingerprint(&step.state);
        let (first, other) = *self.states.entry(step.index).or_insert((mine, id));
        if first != mine {
            let index = step.index;
            self.wrong(format!("h{id} and h{other} differ at index {index}"));
        }
    }

    /// A voter grants a ballot: a term and a candidate, in this order (`leader_id_adv`).
    fn votes(&mut self, voter: u64, ballot: (u64, u64)) {
        let before = self.voted.get(&voter).copied().unwrap_or_default();
        // Nobody stands twice in a term either.
        if ballot < before || ballot == before && voter == ballot.1 {
            self.wrong(format!("h{voter} votes {ballot:?} after {before:?}"));
        }
        let highest = self.voting.entry(voter).or_default();
        *highest = ballot.max(*highest);
    }

    fn dies(&mut self, id: u64) {
        if let Some(ballot) = self.voting.remove(&id) {
            let highest = self.voted.entry(id).or_default();
            *highest = ballot.max(*highest);
        }
    }
}

/// The wires, the disks, and whoever runs.
struct Net {
    dice: Mutex<Rng>,
    ledger: Arc<Mutex<Ledger>>,
    disks: BTreeMap<u64, Arc<Disk>>,
    hosts: Mutex<BTreeMap<u64, Raft>>,
    lives: Mutex<BTreeMap<u64, u64>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
    loss_per_mille: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl Net {
    fn life(&self, id: u64) -> u64 {
        lock(&self.lives).get(&id).copied().unwrap_or(0)
    }

    fn between(&self, range: (u64, u64)) -> u64 {
        lock(&self.dice).between(range)
    }

    fn host(&self, id: u64) -> Option<Raft> {
        lock(&self.hosts).get(&id).cloned()
    }

    /// One way over a wire; false when it is lost.
    async fn pass(&self, from: u64, to: u64) -> bool {
        let us = self.between((50, 3_000));
        let lost = lock(&self.dice).chance(*lock(&self.loss_per_mille));
        sleep(Duration::from_micros(us)).await;
        !lost && !lock(&self.cut).contains(&(from, to))
    }
}

struct Wire {
    me: u64,
    life: u64,
    net: Arc<Net>,
}

impl Wire {
    /// The answer; none when something was lost, or an end of the wire has died meanwhile.
    async fn ask(&self, target: u64, body: &[u8]) -> Option<Vec<u8>> {
        let net = &self.net;
        let ballot = match open::<Request>(body) {
            Ok(Request::Vote(ask)) => Some((ask.vote.term, ask.vote.node)),
            _ => None,
        };
        if net.life(self.me) != self.life {
            return None;
        }
        if let Some(ballot) = ballot {
            // Who asks others has voted for itself.
            lock(&net.ledger).votes(self.me, ballot);
        }
        if !net.pass(self.me, target).await {
            return None;
        }
        let (life, host) = (net.life(target), net.host(target)?);
        let answer = host.handle_rpc(self.me, body).await.ok()?;
        if net.life(target) != life {
            return None;
        }
        let granted = match open::<Response>(&answer) {
            Ok(Response::Vote(answer)) => answer.granted,
            _ => false,
        };
        if let Some(ballot) = ballot.filter(|_| granted) {
            lock(&net.ledger).votes(target, ballot);
        }
        let came = net.pass(target, self.me).await && net.life(self.me) == self.life;
        came.then_some(answer)
    }
}

impl RaftTransport for Wire {
    fn call(
        &self,
        target: u64,
        _: RpcClass,
        body: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        Box::pin(async move {
            match timeout(ttl, self.ask(target, &body)).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) => Err(TransportError::Unreachable {
                    target,
                    reason: "lost".into(),
                }),
                Err(_) => Err(TransportError::Timeout { target }),
            }
        })
    }
}

/// Writes what the store of one life wants written, a little later each time.
async fn disk(net: Arc<Net>, id: u64, life: u64, mut turn: impl FnMut() -> bool) {
    while net.life(id) == life {
        let us = net.between((200, 4_000));
        sleep(Duration::from_micros(us)).await;
        if net.life(id) != life || !turn() {
            break;
        }
    }
}

async fn start(net: &Arc<Net>, id: u64) -> Raft {
    let life = net.life(id);
    let (store, turn) = Store::by_hand(net.disks[&id].mount(), Arc::new(NoWatch)).unwrap();
    Runtime::spawn(disk(net.clone(), id, life, turn));
    let (ledger, of) = (net.ledger.clone(), net.clone());
    let applied: Observer = Arc::new(move |step| {
        if of.life(id) == life {
            lock(&ledger).applied(id, &step);
        }
    });
    let options = RaftOptions {
        data_dir: std::path::PathBuf::new(),
        id,
        timing: RaftTiming::default(),
        // Often, so that snapshots are made, sent and cut short.
        compaction: Compaction {
            every: 40,
            keep: 10,
        },
        transport: Arc::new(Wire {
            me: id,
            life,
            net: net.clone(),
        }),
        log_watch: Arc::new(NoWatch),
        applied,
    };
    let raft = Raft::over(store, options).await.unwrap();
    let term = raft.view().borrow().term;
    let mut ledger = lock(&net.ledger);
    let voted = ledger.voted.get(&id).copied().unwrap_or_default();
    if term < voted.0 {
        ledger.wrong(format!("h{id} starts in term {term}, it voted {voted:?}"));
    }
    lock(&net.hosts).insert(id, raft.clone());
    raft
}

/// The power of a host fails.
fn crash(net: &Arc<Net>, id: u64) {
    let Some(raft) = lock(&net.hosts).remove(&id) else {
        return;
    };
    let lost = net.disks[&id].cut(&mut lock(&net.dice));
    *lock(&net.lives).entry(id).or_default() += 1;
    let mut ledger = lock(&net.ledger);
    ledger.lost += lost;
    ledger.dies(id);
    Runtime::spawn(async move { raft.shutdown().await });
}

async fn write(net: Arc<Net>, client: u8) {
    for number in 1.. {
        loop {
            let hosts: Vec<Raft> = lock(&net.hosts).values().cloned().collect();
            let leads = |host: &&Raft| host.view().borrow().am_leader;
            let leader = hosts.iter().find(leads).cloned();
            drop(hosts);
            if let Some(leader) = leader
                && leader.propose(entry(client, number)).await.is_ok()
            {
                break;
            }
            sleep(AGAIN).await;
        }
        let mut ledger = lock(&net.ledger);
        ledger.acked.insert(client, number);
        ledger.acks += 1;
    }
}

/// One fault, or the end of some.
async fn strike(net: &Arc<Net>) {
    let id = 1 + lock(&net.dice).below(HOSTS);
    let other = 1 + lock(&net.dice).below(HOSTS);
    let what = lock(&net.dice).below(9);
    match what {
        0..=2 => crash(net, id),
        3 => (1..=HOSTS).for_each(|id| crash(net, id)),
        4 => drop(lock(&net.cut).insert((id, other))),
        5 => lock(&net.cut).extend((1..=HOSTS).flat_map(|other| [(id, other), (other, id)])),
        6 => *lock(&net.loss_per_mille) = net.between((0, 300)),
        7 => {
            if let Some(host) = net.host(id) {
                let _ = timeout(AGAIN, host.transfer_leader(other)).await;
            }
        }
        _ => heal(net),
    }
    let pause = net.between((5, 500));
    sleep(Duration::from_millis(pause)).await;
    for id in 1..=HOSTS {
        let back = net.host(id).is_none() && lock(&net.dice).chance(600);
        if back {
            start(net, id).await;
        }
    }
}

fn heal(net: &Net) {
    lock(&net.cut).clear();
    *lock(&net.loss_per_mille) = 0;
}

/// After the storm: all run, one leads, and it has what was acknowledged.
async fn settle(net: &Arc<Net>) {
    heal(net);
    for id in 1..=HOSTS {
        if net.host(id).is_none() {
            start(net, id).await;
        }
    }
    let state = timeout(CALM, async {
        loop {
            for id in 1..=HOSTS {
                let host = net.host(id).unwrap();
                if host.linearizable().await.is_ok() {
                    return host.state();
                }
            }
            sleep(AGAIN).await;
        }
    });
    let state = state.await;
    let mut ledger = lock(&net.ledger);
    let Ok(state) = state else {
        return ledger.wrong("nobody leads long after the storm".into());
    };
    for (client, acked) in ledger.acked.clone() {
        let known = serial(&state, client);
        if known < acked {
            ledger.wrong(format!(
                "client {client}: {acked} acknowledged, {known} known"
            ));
        }
    }
}

async fn storm(seed: u64, lies: bool) -> Ledger {
    let disks = (1..=HOSTS).map(|id| (id, Disk::that_lies(lies)));
    let net = Arc::new(Net {
        dice: Mutex::new(Rng::new(seed)),
        ledger: Arc::default(),
        disks: disks.collect(),
        hosts: Mutex::default(),
        lives: Mutex::default(),
        cut: Mutex::default(),
        loss_per_mille: Mutex::default(),
    });
    let first = start(&net, 1).await;
    first.initialize_single(node(1)).await.unwrap();
    for id in 2..=HOSTS {
        start(&net, id).await;
        first.add_learner(id, node(id)).await.unwrap();
    }
    let voters = first.change_voters((1..=HOSTS).collect()).await;
    voters.unwrap();
    drop(first);
    for client in 0..CLIENTS {
        Runtime::spawn(write(net.clone(), client));
    }
    let over = tokio::time::Instant::now() + Duration::from_millis(STORM_MS);
    while tokio::time::Instant::now() < over && lock(&net.ledger).wrong.is_none() {
        strike(&net).await;
    }
    settle(&net).await;
    std::mem::take(&mut *lock(&net.ledger))
}

/// One seed, in a runtime of its own.
fn run(seed: u64, lies: bool) -> Ledger {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Runtime::scope(seed, storm(seed, lies)))
}

fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("RAIS_SEED").ok();
    if let Some(seed) = asked.and_then(|text| text.parse().ok()) {
        return seed..seed + 1;
    }
    let long = std::env::var_os("RAIS_LONG").is_some();
    1..1 + if long { LONG_SEEDS } else { SEEDS }
}

/// Goal: the first snapshot of a host is whole, though nothing that is swept away counts yet.
/// Method: the flusher's very first turn finds the snapshot's parts, and sweeps after them; opened again.
#[tokio::test]
async fn the_first_snapshot_is_not_swept_away_while_it_is_written() {
    let disk = Disk::that_lies(false);
    let (store, mut turn) = Store::by_hand(disk.mount(), Arc::new(NoWatch)).unwrap();
    let meta = SnapshotMeta {
        last_log_id: Some(super::storage::id(1, 9)),
        ..SnapshotMeta::default()
    };
    {
        let mut saving = std::pin::pin!(store.save_snapshot(&meta, &[7; 300_000]));
        loop {
            tokio::select! {
                biased;
                saved = &mut saving => break saved.unwrap(),
                () = tokio::task::yield_now() => assert!(turn()),
            }
        }
    }
    let (store, _) = Store::by_hand(disk.mount(), Arc::new(NoWatch)).unwrap();
    let kept = store.load_snapshot().await.unwrap();
    assert_eq!(kept.unwrap().meta.last_log_id, meta.last_log_id);
}

/// Goal: whatever crashes, is cut or lost, hosts agree, nobody votes twice, and what was acknowledged is
/// kept. Method: a storm for each seed, openraft and our storage as shipped.
#[test]
fn storms_on_real_raft_lose_nothing_that_was_acknowledged() {
    let (mut acks, mut lost, mut storms) = (0, 0, 0);
    for seed in seeds() {
        let ledger = run(seed, false);
        assert_eq!(ledger.wrong, None, "seed {seed}");
        (acks, lost, storms) = (acks + ledger.acks, lost + ledger.lost, storms + 1);
    }
    println!("{storms} storms: {acks} acknowledged, {lost} unflushed writes lost");
    let at_stake = acks > 20 * storms && lost > storms as usize;
    assert!(storms == 1 || at_stake, "too little at stake");
}

/// Goal: the checks would tell of a flush that is none. Method: disks that lie.
#[test]
fn disks_that_lie_about_flushing_are_told_of() {
    let mut told = (1..=CAUGHT_WITHIN).filter_map(|seed| Some((seed, run(seed, true).wrong?)));
    let (seed, what) = told.next().expect("nobody noticed");
    println!("seed {seed}: {what}");
}
