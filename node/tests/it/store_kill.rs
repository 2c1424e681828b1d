//! Kills a writing daemon again and again: nothing that was acknowledged may be lost.
//!
//! The child is this very test binary, started for one test that does nothing unless it is told a
//! directory. It opens Raft, says what it found, then writes from several tasks and says what was
//! acknowledged. The parent reads along, kills it with SIGKILL, and compares with the next life.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use node::raft::{
    BoxFuture, Compaction, NoWatch, Node, Raft, RaftOptions, RaftTiming, RaftTransport, RpcClass,
    TransportError,
};
use statemachine::{Entry, LogTime, Origin};

/// Names the directory to a child.
const DIR: &str = "RAIS_TEST_KILL_DIR";
/// Lives; more with `RAIS_TEST_KILLS`.
const KILLS: u64 = 200;
/// Longest wait for a child's first acknowledgement.
const PATIENCE: Duration = Duration::from_secs(20);
/// Tasks that write at once, so that a flush carries several entries.
const WRITERS: u8 = 8;

struct Nobody;

impl RaftTransport for Nobody {
    fn call(
        &self,
        target: u64,
        _: RpcClass,
        _: Vec<u8>,
        _: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        let reason = "there is no other host".into();
        Box::pin(async move { Err(TransportError::Unreachable { target, reason }) })
    }
}

async fn open(dir: &Path) -> Raft {
    let raft = Raft::open(RaftOptions {
        data_dir: dir.to_owned(),
        id: 1,
        timing: RaftTiming::default(),
        // Often, so that kills hit snapshots and purges too.
        compaction: Compaction {
            every: 300,
            keep: 100,
        },
        transport: Arc::new(Nobody),
        log_watch: Arc::new(NoWatch),
        applied: Arc::new(|_| {}),
    });
    raft.await.unwrap()
}

/// The last number of each writer that the state knows.
fn known(raft: &Raft) -> BTreeMap<u8, u64> {
    let state = raft.state();
    state
        .sessions
        .iter()
        .map(|(client, session)| (client[0], session.serial))
        .collect()
}

async fn write(raft: Raft, client: u8, mut serial: u64) {
    loop {
        serial += 1;
        let origin = Some(Origin {
            client: [client; 16],
            serial,
        });
        let entry = Entry {
            at: LogTime(serial),
            origin,
            ..Entry::default()
        };
        if raft.propose(entry).await.is_err() {
            return;
        }
        println!("ack {client} {serial}");
    }
}

async fn live(dir: &Path) {
    let raft = open(dir).await;
    println!("vote {}", raft.view().borrow().term);
    println!("boot {}", raft.store().next_boot().await.unwrap());
    if raft.view().borrow().voters.is_empty() {
        raft.initialize_single(Node::default()).await.unwrap();
    }
    raft.wait_for_recovery(Duration::from_secs(10))
        .await
        .unwrap();
    println!("vote {}", raft.view().borrow().term);
    let known = known(&raft);
    for (client, serial) in &known {
        println!("known {client} {serial}");
    }
    println!("ready 0 0");
    let writers = (0..WRITERS).map(|client| {
        tokio::spawn(write(
            raft.clone(),
            client,
            known.get(&client).copied().unwrap_or(0),
        ))
    });
    for writer in writers.collect::<Vec<_>>() {
        let _ = writer.await;
    }
}

/// The child's life; passes at once when nobody asked for it.
#[test]
fn child_of_the_kill_test_does_nothing_by_itself() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(&PathBuf::from(dir)));
}

fn spawn(dir: &Path) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "store_kill::child_of_the_kill_test_does_nothing_by_itself",
            "--exact",
        ])
        .args(["--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        lines
            .map_while(Result::ok)
            .for_each(|line| drop(tell.send(line)))
    });
    (child, told)
}

/// What the parent was told over all lives.
#[derive(Default)]
struct Ledger {
    acked: BTreeMap<u8, u64>,
    vote: u64,
    boot: u64,
    acks: u64,
    ready: u64,
}

impl Ledger {
    fn read(&mut self, line: &str, known: &mut BTreeMap<u8, u64>) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words.first().copied(), number(1), number(2)) {
            (Some("ack"), Some(client), Some(serial)) => {
                self.acks += 1;
                self.acked.insert(client as u8, serial);
            }
            (Some("known"), Some(client), Some(serial)) => {
                known.insert(client as u8, serial);
            }
            (Some("vote"), Some(term), None) => {
                assert!(
                    term >= self.vote,
                    "the vote went back from {} to {term}",
                    self.vote
                );
                self.vote = term;
            }
            (Some("boot"), Some(boot), None) => {
                assert!(boot > self.boot, "boot {boot} after {}", self.boot);
                self.boot = boot;
            }
            (Some("ready"), ..) => {
                self.ready += 1;
                self.compare(known);
            }
            _ => {}
        }
    }

    fn compare(&self, known: &BTreeMap<u8, u64>) {
        for (client, serial) in &self.acked {
            let found = known.get(client).copied().unwrap_or(0);
            assert!(
                found >= *serial,
                "writer {client}: {serial} was acknowledged, {found} is known"
            );
        }
    }
}

/// Reads until the child says what it wrote first; its last words if it never does.
fn await_ack(
    child: &mut Child,
    lines: &Receiver<String>,
    ledger: &mut Ledger,
    known: &mut BTreeMap<u8, u64>,
) {
    loop {
        let Ok(line) = lines.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            let mut words = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut words)
                .unwrap();
            panic!("the child wrote nothing: {words}");
        };
        ledger.read(&line, known);
        if line.starts_with("ack") {
            return;
        }
    }
}

/// One life: lets the child run until `wait` after the start, or after its first acknowledgement.
fn one_life(dir: &Path, ledger: &mut Ledger, wait: Duration, after_ack: bool) {
    let (mut child, lines) = spawn(dir);
    let mut known = BTreeMap::new();
    if after_ack {
        await_ack(&mut child, &lines, ledger, &mut known);
    }
    std::thread::sleep(wait);
    child.kill().unwrap();
    child.wait().unwrap();
    lines.iter().for_each(|line| ledger.read(&line, &mut known));
}

/// Goal: whatever the moment of a SIGKILL, the store opens again, no acknowledged command is lost, the
/// vote never goes back and no boot number comes twice.
/// Method: 200 lives on one directory; every other is killed 0 to 120 ms after its start, the rest 0
/// to 20 ms after its first acknowledgement; the moments come from a fixed seed.
#[test]
fn nothing_acknowledged_is_lost_in_200_kills() {
    if std::env::var_os(DIR).is_some() {
        return;
    }
    let kills = std::env::var("RAIS_TEST_KILLS")
        .ok()
        .and_then(|text| text.parse().ok());
    let dir = std::env::temp_dir().join(format!("rais-kill-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let mut ledger = Ledger::default();
    let mut dice = 0x2545_F491_4F6C_DD1D_u64;
    for life in 0..kills.unwrap_or(KILLS) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let after_ack = life % 2 == 1;
        let wait = Duration::from_micros(dice % if after_ack { 20_000 } else { 120_000 });
        one_life(&dir, &mut ledger, wait, after_ack);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let raft = open(&dir).await;
        raft.wait_for_recovery(Duration::from_secs(10))
            .await
            .unwrap();
        ledger.compare(&known(&raft));
        assert!(raft.view().borrow().term >= ledger.vote);
        raft.shutdown().await;
    });
    println!(
        "{} acknowledged, {} of the lives became ready",
        ledger.acks, ledger.ready
    );
    assert!(
        ledger.acks > 1000,
        "too few to say anything: {}",
        ledger.acks
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
