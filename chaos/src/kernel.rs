//! A host's kernel as far as service addresses go: what is on the interface, and until when the gate
//! lets it pass.
//!
//! Like an nftables set with time-outs: an element that ran out cannot be armed again, it must be
//! acquired anew (lease.md, the gate). It outlives the daemon.

use std::collections::BTreeMap;
use std::net::IpAddr;

use control::Instant;
use statemachine::Epoch;

/// One address on the interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) epoch: Epoch,
    /// End of the last arm, on the host's clock.
    pub(crate) until: Instant,
    /// Its end was told.
    pub(crate) told: bool,
}

/// The kernel of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) served: BTreeMap<IpAddr, Served>,
}

impl Kernel {
    pub(crate) fn add(&mut self, ip: IpAddr, epoch: Epoch, until: Instant) {
        let told = false;
        self.served.insert(ip, Served { epoch, until, told });
    }

    pub(crate) fn remove(&mut self, ip: IpAddr) -> Option<Served> {
        self.served.remove(&ip)
    }

    /// Renews the gate of every address that is still open.
    pub(crate) fn arm(&mut self, until: Instant, now: Instant) {
        for served in self.served.values_mut().filter(|s| s.until > now) {
            served.until = until;
        }
    }

    pub(crate) fn is_open(&self, ip: IpAddr, now: Instant) -> bool {
        self.served.get(&ip).is_some_and(|s| s.until > now)
    }
}
