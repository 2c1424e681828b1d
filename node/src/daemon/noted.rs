//! What one start of the daemon notes for the next: Raft's timing, which is needed before the log is read.

use std::path::Path;

use statemachine::Timing as StateTiming;

use super::DaemonError;
use crate::raft::RaftTiming;

/// Raft's timing is fixed when it starts, before the log is read; a changed one is taken with the
/// next start, from a file that the daemon wrote.
pub(super) fn raft_timing(data_dir: &Path) -> RaftTiming {
    let text = std::fs::read_to_string(data_dir.join(RAFT_TIMING_FILE)).unwrap_or_default();
    let numbers: Vec<u64> = text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    match numbers.as_slice() {
        [heartbeat_ms, election_min_ms, election_max_ms] => RaftTiming {
            heartbeat_ms: *heartbeat_ms,
            election_min_ms: *election_min_ms,
            election_max_ms: *election_max_ms,
        },
        _ => RaftTiming::default(),
    }
}

/// Heartbeat, shortest and longest election time-out in ms, as the log had them last.
const RAFT_TIMING_FILE: &str = "raft-timing";

/// Notes Raft's part of a timing for the next start in `data_dir`.
///
/// # Errors
/// When the file cannot be written.
pub fn note_raft_timing(data_dir: &Path, timing: &StateTiming) -> Result<(), DaemonError> {
    let file = data_dir.join(RAFT_TIMING_FILE);
    let text = format!(
        "{} {} {}\n",
        timing.raft_heartbeat_ms, timing.election_min_ms, timing.election_max_ms
    );
    std::fs::write(&file, text).map_err(|source| DaemonError::File { file, source })
}
