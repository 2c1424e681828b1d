//! The live connections of a server, by caller, so that a forgotten host can be cut at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use statemachine::HostId;
use tokio::sync::Notify;

use super::tls::Revoked;

#[derive(Debug, Default)]
struct Live {
    next: u64,
    by_host: BTreeMap<HostId, BTreeMap<u64, Arc<Notify>>>,
}

/// Live connections of hosts, and the hosts that may have none.
#[derive(Debug, Default)]
pub(super) struct Registry {
    live: Mutex<Live>,
    revoked: Arc<Revoked>,
}

/// Takes the connection off the register when it ends.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Arc<Registry>,
    host: HostId,
    serial: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut live = self.registry.lock();
        if let Some(connections) = live.by_host.get_mut(&self.host) {
            connections.remove(&self.serial);
            if connections.is_empty() {
                live.by_host.remove(&self.host);
            }
        }
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.revoked)
    }

    /// Registers a connection, which ends itself when `cut` is notified; `None` if its host was forgotten meanwhile. Asked under the lock
    /// under which [`Self::close`] cuts, so that none slips through between.
    pub(super) fn register(self: &Arc<Self>, host: HostId, cut: Arc<Notify>) -> Option<Registered> {
        let mut live = self.lock();
        if self.revoked.contains(host) {
            return None;
        }
        live.next += 1;
        let serial = live.next;
        live.by_host.entry(host).or_default().insert(serial, cut);
        Some(Registered {
            registry: Arc::clone(self),
            host,
            serial,
        })
    }

    /// Refuses a host from now on and cuts its connections; returns how many there were.
    pub(super) fn close(&self, host: HostId) -> usize {
        let cut = {
            let mut live = self.lock();
            self.revoked.insert(host);
            live.by_host.remove(&host).unwrap_or_default()
        };
        // The permit is kept if the connection does not wait for it yet.
        cut.values().for_each(|connection| connection.notify_one());
        cut.len()
    }

    /// The hosts with at least one connection.
    pub(super) fn hosts(&self) -> Vec<HostId> {
        self.lock().by_host.keys().copied().collect()
    }
}
