//! Replicated time across a restart of this daemon.
//!
//! An idle log says only when its last entry was written. So each host notes now and then what replicated
//! time it counts, at which reading of its boot-time clock, in which boot of the machine. A daemon that
//! starts in the same boot goes on from there, exactly; in another one, from the note itself: time
//! then stood still while the machine was off, and never runs fast.

use std::sync::Arc;
use std::time::Duration;

use control::Instant;
use serde::{Deserialize, Serialize};
use statemachine::LogTime;

use super::{Daemon, wire};
use crate::clock;
use crate::raft::Store;

/// The note's key in the store.
const KEY: &str = "clock";
/// How often it is written. Only a reboot loses up to this much.
const EVERY: Duration = Duration::from_secs(10);

#[derive(Serialize, Deserialize)]
struct Note {
    machine_boot: String,
    read_at: Instant,
    log_time: LogTime,
}

/// Replicated time as far as the note and the state know it.
pub async fn recall(store: &Store, state_at: LogTime) -> LogTime {
    let stored = store.get_meta(KEY).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the clock's note cannot be read; replicated time goes on from the log's last entry");
        None
    });
    let Some(note) = stored.and_then(|bytes| wire::decode::<Note>(&bytes)) else {
        return state_at;
    };
    let passed = match note.machine_boot == clock::machine_boot_id() {
        true => clock::now().ms_since(note.read_at),
        false => 0,
    };
    state_at.max(note.log_time.plus(passed))
}

/// Writes the note now and then; ends with the daemon.
pub async fn keep(daemon: Arc<Daemon>) {
    loop {
        let counted = daemon
            .mailbox
            .ask(|core, now| (core.log_time(now), now))
            .await;
        let Some((log_time, read_at)) = counted else {
            return;
        };
        let note = Note {
            machine_boot: clock::machine_boot_id(),
            read_at,
            log_time,
        };
        if let Err(error) = daemon
            .raft
            .store()
            .put_meta(KEY, &wire::encode(&note))
            .await
        {
            tracing::warn!(%error, "the clock's note cannot be written");
        }
        tokio::time::sleep(EVERY).await;
    }
}
