//! Managers and webhooks put together: what the thread that tells them needs, and its mark in the log.

use std::sync::Arc;
use std::time::Duration;

use statemachine::{ArrayCommand, Command, HostId};
use tokio::sync::watch;

use super::journal::Journal;
use super::{Daemon, DaemonError};
use crate::config::HostConfig;
use crate::raft::Raft;
use crate::traps::{Secrets, Sources, Traps};

/// Between two marks of what was told: an entry a second at most, and as much is repeated after a
/// leader's death.
const MARK_EVERY: Duration = Duration::from_secs(1);

/// The index up to which everybody has been told.
pub(super) type Marks = watch::Receiver<u64>;

/// Tells managers and webhooks what happened; what it has told comes back as a mark for the log.
pub(super) fn start(
    config: &HostConfig,
    me: HostId,
    raft: &Raft,
    journal: &Arc<Journal>,
) -> Result<(Traps, Marks), DaemonError> {
    let secrets = Secrets::load(&config.trap_keys).map_err(DaemonError::TrapKey)?;
    let of_raft = raft.clone();
    let sources = Sources {
        me,
        journal: Arc::clone(journal),
        view: raft.view(),
        state: Box::new(move || of_raft.state()),
    };
    let (marks, marked) = watch::channel(0);
    let traps = Traps::start(sources, secrets, marks).map_err(DaemonError::Thread)?;
    Ok((traps, marked))
}

/// Notes in the log how far managers and webhooks have been told. One that is lost costs a repetition.
pub(super) async fn note(daemon: Arc<Daemon>, mut marks: Marks) {
    while marks.changed().await.is_ok() {
        let index = *marks.borrow_and_update();
        if index > daemon.raft.state().told {
            let told = Command::Array(ArrayCommand::Told { index });
            let at = daemon.mailbox.ask(|core, now| core.log_time(now)).await;
            if let Err(error) = daemon.propose(at.unwrap_or_default(), vec![told]).await {
                tracing::debug!(%error, "what was told is not noted; a new leader repeats it");
            }
        }
        tokio::time::sleep(MARK_EVERY).await;
    }
}
