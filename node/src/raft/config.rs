//! Raft's times and bounds, and openraft's configuration made of them.

use openraft::{Config, SnapshotPolicy};

use super::error::OpenError;

/// Entries in one message at most; its bytes are bounded too (`wire`).
const MAX_PAYLOAD_ENTRIES: u64 = 512;
/// Entries that one write to the store takes at most.
const MAX_APPEND_ENTRIES: u64 = 1024;
/// Proposals and messages that may wait for openraft's task.
const API_QUEUE: u64 = 4096;
/// Steps that may wait for the state machine.
const APPLY_QUEUE: u64 = 256;
/// Entries forgotten in one go; each go writes and flushes the purged position.
const PURGE_BATCH: u64 = 256;
/// How long one piece of a snapshot may take, the installation of the whole included, in ms.
const SNAPSHOT_PIECE_MS: u64 = 10_000;
/// Pauses between tries to reach a host that is away. Short: its return should be noticed soon.
const BACKOFF: &str = "50ms 100ms 200ms ...500ms";

/// Raft's own timing. Failover of addresses has its own, in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTiming {
    /// Between two heartbeats of the leader, in ms.
    pub heartbeat_ms: u64,
    /// Shortest time-out of an election, in ms.
    pub election_min_ms: u64,
    /// Longest time-out of an election, in ms; followers also wait that long for a silent leader.
    pub election_max_ms: u64,
}

impl Default for RaftTiming {
    /// The `lan` preset: a killed leader is replaced in about half a second (stack.md).
    fn default() -> Self {
        Self {
            heartbeat_ms: 100,
            election_min_ms: 150,
            election_max_ms: 300,
        }
    }
}

/// When to make snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// After so many entries.
    pub every: u64,
    /// Entries before a snapshot that stay in the log, so that a host which was away for a moment
    /// needs no snapshot.
    pub keep: u64,
}

impl Default for Compaction {
    fn default() -> Self {
        Self {
            every: 5_000,
            keep: 5_000,
        }
    }
}

/// The interval that openraft takes its tick from, 13/64 of it. Each tick wakes the thread; at 50 ms that is a hundred
/// times a second, half of what an idle daemon costs. As long as openraft allows, a little below the shortest election
/// time-out: at `lan` a tick each 28 ms, by which an election may be seen later.
fn ticked(timing: &RaftTiming) -> u64 {
    timing
        .election_min_ms
        .saturating_sub(timing.heartbeat_ms / 5)
}

/// openraft's configuration.
pub(crate) fn build(timing: &RaftTiming, compaction: &Compaction) -> Result<Config, OpenError> {
    let config = Config {
        cluster_name: "rais".into(),
        // Only the tick comes of this one, 13/64 of it: the heartbeats are our own (`beat`).
        heartbeat_interval: ticked(timing),
        enable_heartbeat: false,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        install_snapshot_timeout: SNAPSHOT_PIECE_MS,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        max_append_entries: Some(MAX_APPEND_ENTRIES),
        // A host further behind gets a snapshot at once; more than the log keeps would be useless.
        replication_lag_threshold: compaction.every + compaction.keep,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.every),
        max_in_snapshot_log_to_keep: compaction.keep,
        purge_batch_size: PURGE_BATCH.min(compaction.every.max(1)),
        api_channel_size: Some(API_QUEUE),
        notification_channel_size: Some(API_QUEUE),
        state_machine_channel_size: Some(APPLY_QUEUE),
        backoff: BACKOFF.into(),
        enable_pre_vote: Some(true),
        allow_log_reversion: Some(false),
        enable_leader_restore: Some(false),
        // The least that openraft accepts: a leader that can send but not hear must not keep others
        // from electing one that can do both.
        quorum_loss_probe_interval: Some(2 * timing.election_max_ms),
        ..Config::default()
    };
    config
        .validate()
        .map_err(|error| OpenError::Timing(error.to_string()))
}
