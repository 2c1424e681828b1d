//! The store alone: restart, second opener, boot counter, parts, watch, cold reads.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, RaftLogReader};
use statemachine::Entry;

use super::support::{TempDir, entry, large_entry};
use crate::raft::store::{LogWatch, NoWatch, Store, StoreError};
use crate::raft::types::{LogEntry, LogId, Members, Proposal, SnapshotMeta, Vote};

pub(super) fn id(term: u64, index: u64) -> LogId {
    use openraft::vote::RaftLeaderId;
    LogId::new(RaftLeaderId::new(term, 1), index)
}

pub(super) fn normal(term: u64, index: u64) -> LogEntry {
    let payload = EntryPayload::Normal(Proposal(Arc::new(entry(1, index))));
    openraft::Entry {
        log_id: id(term, index),
        payload,
    }
}

fn large(term: u64, index: u64, bytes: usize) -> LogEntry {
    let payload = EntryPayload::Normal(Proposal(Arc::new(large_entry(1, index, bytes))));
    openraft::Entry {
        log_id: id(term, index),
        payload,
    }
}

pub(super) async fn append(store: &Store, entries: Vec<LogEntry>) {
    store
        .log()
        .append(entries, IOFlushed::noop())
        .await
        .unwrap();
    store.barrier().await.unwrap();
}

async fn indexes(store: &Store) -> Vec<(u64, u64)> {
    let entries = store.log().try_get_log_entries(..).await.unwrap();
    entries
        .iter()
        .map(|e| (e.log_id.committed_leader_id().term, e.log_id.index()))
        .collect()
}

fn open(dir: &TempDir) -> Store {
    Store::open(dir.path(), Arc::new(NoWatch)).unwrap()
}

/// Goal: a restart keeps log, vote, committed, purged, meta; truncation and purge stay done.
/// Method: write all, close, open again, compare.
#[tokio::test]
async fn restart_keeps_everything() {
    let dir = TempDir::new();
    let store = open(&dir);
    append(&store, (0..2000).map(|index| normal(1, index)).collect()).await;
    let mut log = store.log();
    log.save_vote(&Vote::new_committed(3, 2)).await.unwrap();
    log.truncate_after(Some(id(1, 1500))).await.unwrap();
    append(&store, vec![normal(3, 1501), large(3, 1502, 1000)]).await;
    log.save_committed(Some(id(3, 1501))).await.unwrap();
    let meta = SnapshotMeta {
        last_log_id: Some(id(1, 1000)),
        ..SnapshotMeta::default()
    };
    store.save_snapshot(&meta, &[7; 300_000]).await.unwrap();
    log.purge(id(1, 900)).await.unwrap();
    store.put_meta("clock", b"anchor").await.unwrap();
    store.close().await;

    let store = open(&dir);
    let mut log = store.log();
    let expected: Vec<_> = (901..=1500)
        .map(|index| (1, index))
        .chain([(3, 1501), (3, 1502)])
        .collect();
    assert_eq!(indexes(&store).await, expected);
    assert_eq!(
        log.read_vote().await.unwrap(),
        Some(Vote::new_committed(3, 2))
    );
    assert_eq!(log.read_committed().await.unwrap(), Some(id(3, 1501)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_purged_log_id, state.last_log_id),
        (Some(id(1, 900)), Some(id(3, 1502)))
    );
    let last = log.try_get_log_entries(1502..).await.unwrap();
    assert_eq!(last, vec![large(3, 1502, 1000)]);
    let snapshot = store.load_snapshot().await.unwrap().unwrap();
    assert_eq!(
        (snapshot.meta, snapshot.snapshot.0.as_slice()),
        (meta, &[7; 300_000][..])
    );
    assert_eq!(
        store.get_meta("clock").await.unwrap().as_deref(),
        Some(&b"anchor"[..])
    );
    assert_eq!(store.get_meta("other").await.unwrap(), None);
    store.close().await;
}

/// Goal: no two daemons on one directory. Method: open twice; close; open again.
#[tokio::test]
async fn second_open_of_a_directory_is_refused_until_the_first_is_closed() {
    let dir = TempDir::new();
    let store = open(&dir);
    let second = Store::open(dir.path(), Arc::new(NoWatch));
    assert!(matches!(second.err(), Some(StoreError::Locked { .. })));
    store.close().await;
    open(&dir).close().await;
}

/// Goal: a boot number is never given twice. Method: three opens, two draws in one of them.
#[tokio::test]
async fn boot_counter_grows_with_each_call_across_restarts() {
    let dir = TempDir::new();
    let mut seen = Vec::new();
    for draws in [1, 2, 1] {
        let store = open(&dir);
        for _ in 0..draws {
            seen.push(store.next_boot().await.unwrap());
        }
        store.close().await;
    }
    assert_eq!(seen, vec![1, 2, 3, 4]);
}

/// Goal: nothing is kept in sled's `blobs/`, whose durability is unknown.
/// Method: a log of large entries and large snapshots, rewritten several times; look at the folder.
#[tokio::test]
async fn large_records_stay_out_of_the_blob_folder_of_sled() {
    let dir = TempDir::new();
    let store = open(&dir);
    for round in 0..6_u64 {
        let first = round * 4;
        append(
            &store,
            (first..first + 4)
                .map(|index| large(1, index, 400_000))
                .collect(),
        )
        .await;
        let meta = SnapshotMeta {
            last_log_id: Some(id(1, first)),
            ..SnapshotMeta::default()
        };
        store
            .save_snapshot(&meta, &vec![round as u8; 3 << 20])
            .await
            .unwrap();
        store.log().purge(id(1, first)).await.unwrap();
        store.put_meta("large", &[1; 2048]).await.unwrap();
    }
    store.close().await;
    let blobs = std::fs::read_dir(dir.path().join("raft/sled/blobs"))
        .unwrap()
        .count();
    assert_eq!(blobs, 0);
}

/// Goal: entries that no longer fit in memory are read from the disk, in order with the rest.
/// Method: 40 MiB of entries, then read all and a part.
#[tokio::test]
async fn cold_entries_are_read_from_the_disk() {
    let dir = TempDir::new();
    let store = open(&dir);
    for first in (0..40).step_by(4) {
        append(
            &store,
            (first..first + 4)
                .map(|index| large(1, index, 1_000_000))
                .collect(),
        )
        .await;
    }
    assert_eq!(indexes(&store).await.len(), 40);
    let mut log = store.log();
    let some = log.try_get_log_entries(3..30).await.unwrap();
    assert_eq!(
        some.iter().map(|e| e.log_id.index()).collect::<Vec<_>>(),
        (3..30).collect::<Vec<_>>()
    );
    assert_eq!(some[0], large(1, 3, 1_000_000));
    let limited = log.limited_get_log_entries(3, 30).await.unwrap();
    assert!(
        (1..=3).contains(&limited.len()),
        "{} entries at once",
        limited.len()
    );
    store.close().await;
}

/// Goal: an entry that does not follow is refused. Method: leave a hole.
#[tokio::test]
async fn entry_behind_a_hole_is_refused() {
    let dir = TempDir::new();
    let store = open(&dir);
    append(&store, vec![normal(1, 0)]).await;
    assert!(
        store
            .log()
            .append(vec![normal(1, 2)], IOFlushed::noop())
            .await
            .is_err()
    );
    store.close().await;
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl LogWatch for Notes {
    fn appended(&self, id: LogId, _: &Entry) {
        let term = id.committed_leader_id().term;
        self.note(format!("+{term}.{}", id.index()));
    }
    fn members_appended(&self, id: LogId, voters: &[BTreeSet<u64>]) {
        self.note(format!("members {} {voters:?}", id.index()));
    }
    fn truncated_after(&self, index: Option<u64>) {
        self.note(format!("-{index:?}"));
    }
    fn durable(&self, index: u64) {
        self.note(format!("={index}"));
    }
}

/// Goal: a voter knows at once what stands in its log, what was taken back, and what is durable,
/// also after a restart. Method: append, truncate, append; compare what the watch was told.
#[tokio::test]
async fn watch_is_told_in_order_and_again_at_open() {
    let dir = TempDir::new();
    let notes = Arc::new(Notes::default());
    let store = Store::open(dir.path(), notes.clone()).unwrap();
    let members = Members::new(
        vec![BTreeSet::from([1])],
        [(1, Default::default())]
            .into_iter()
            .collect::<std::collections::BTreeMap<u64, _>>(),
    )
    .unwrap();
    let first = openraft::Entry {
        log_id: id(1, 0),
        payload: EntryPayload::Membership(members),
    };
    let mut log = store.log();
    log.append(vec![first, normal(1, 1), normal(1, 2)], IOFlushed::noop())
        .await
        .unwrap();
    // Told by the append itself, before anything is durable.
    assert_eq!(notes.take()[..3], ["members 0 [{1}]", "+1.1", "+1.2"]);
    store.barrier().await.unwrap();
    log.truncate_after(Some(id(1, 1))).await.unwrap();
    append(&store, vec![normal(2, 2)]).await;
    let told = notes.take();
    assert_eq!(told[told.len() - 3..], ["-Some(1)", "+2.2", "=2"]);
    store.close().await;

    let notes = Arc::new(Notes::default());
    let store = Store::open(dir.path(), notes.clone()).unwrap();
    assert_eq!(
        notes.take(),
        ["members 0 [{1}]", "=0", "+1.1", "=1", "+2.2", "=2"]
    );
    store.close().await;
}

/// Goal: a flush of entries that were taken back meanwhile does not make their successors durable.
/// Method: append, truncate and append again without waiting, many times; each `=` must come after
/// the `+` of the newest entry at that index, with as many flushes as it takes.
#[tokio::test]
async fn late_flush_of_a_truncated_entry_says_nothing_about_its_successor() {
    let dir = TempDir::new();
    let notes = Arc::new(Notes::default());
    let store = Store::open(dir.path(), notes.clone()).unwrap();
    let mut log = store.log();
    log.append(vec![normal(1, 0)], IOFlushed::noop())
        .await
        .unwrap();
    for term in 1..200 {
        log.append(vec![normal(term, 1)], IOFlushed::noop())
            .await
            .unwrap();
        log.truncate_after(Some(id(1, 0))).await.unwrap();
    }
    append(&store, vec![normal(200, 1)]).await;
    let told = notes.take();
    let last_cut = told.iter().rposition(|note| note == "-Some(0)").unwrap();
    assert_eq!(told[last_cut + 1..], ["+200.1", "=1"]);
    store.close().await;
}
