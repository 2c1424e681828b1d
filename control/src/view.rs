//! What this host hears of the others: their last heartbeat, and how long ago it came.
//!
//! The judgement "silent" is a hint to the planner and never a licence to act: a wrong one costs a
//! poll, or at worst a needless failover, while safety rests on leases and epochs.

use std::collections::BTreeMap;

use statemachine::{GroupName, HostId, Incarnation, State};

use crate::{GroupReport, Heartbeat, Instant};

/// What was heard of one host.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When its last heartbeat came, or when this host began to expect one.
    pub heard_at: Instant,
    /// Since when it says that its lease is not valid; none while it is.
    pub lease_lost_at: Option<Instant>,
    /// The incarnation that the log gave it, which the count above belongs to.
    pub incarnation: Incarnation,
    /// Its last heartbeat; none before the first.
    pub last: Option<Heartbeat>,
}

/// What was heard of all.
#[derive(Clone, Debug, Default)]
pub struct View {
    hosts: BTreeMap<HostId, Seen>,
    now: Instant,
    suspect_ms: u64,
}

impl View {
    /// Moves the view's clock and forgets hosts that the array forgot. A host that was never heard is
    /// given the full time-out from now on; one that was declared up anew, as much to get a lease.
    pub fn look(&mut self, state: &State, now: Instant) {
        self.now = now;
        self.suspect_ms = u64::from(state.timing.suspect_ms);
        self.hosts.retain(|id, _| state.hosts.contains_key(id));
        for (id, host) in &state.hosts {
            let seen = self.hosts.entry(*id).or_insert_with(|| Seen {
                heard_at: now,
                ..Seen::default()
            });
            if seen.incarnation != host.incarnation {
                seen.incarnation = host.incarnation;
                seen.lease_lost_at = seen.lease_lost_at.map(|_| now);
            }
        }
    }

    /// Takes in a heartbeat. Older ones of the same start, or of an older start, change nothing.
    pub fn observe(&mut self, from: HostId, heartbeat: Heartbeat, now: Instant) -> bool {
        let Some(seen) = self.hosts.get_mut(&from) else {
            return false;
        };
        if let Some(last) = &seen.last
            && (heartbeat.boot, heartbeat.seq) <= (last.boot, last.seq)
        {
            return false;
        }
        seen.heard_at = now;
        seen.lease_lost_at = if heartbeat.lease_ok {
            None
        } else {
            seen.lease_lost_at.or(Some(now))
        };
        seen.last = Some(heartbeat);
        true
    }

    /// Starts all time-outs anew: this host itself was away (lease.md, step 4).
    pub fn restart(&mut self, now: Instant) {
        for seen in self.hosts.values_mut() {
            seen.heard_at = seen.heard_at.max(now);
            seen.lease_lost_at = seen.lease_lost_at.map(|_| now);
        }
    }

    /// Supposes that a host was never heard, for "what if it were down".
    pub fn forget(&mut self, host: HostId) {
        self.hosts.remove(&host);
    }

    /// Supposes that this heartbeat has just come, for "what if it were up".
    pub fn suppose(&mut self, host: HostId, heartbeat: Heartbeat, now: Instant) {
        let seen = Seen {
            heard_at: now,
            lease_lost_at: None,
            incarnation: heartbeat.incarnation,
            last: Some(heartbeat),
        };
        self.hosts.insert(host, seen);
    }

    /// What was heard of a host.
    #[must_use]
    pub fn of(&self, host: HostId) -> Option<&Seen> {
        self.hosts.get(&host)
    }

    /// Its last heartbeat, if it was heard within D.
    #[must_use]
    pub fn fresh(&self, host: HostId) -> Option<&Heartbeat> {
        let seen = self.hosts.get(&host)?;
        seen.last
            .as_ref()
            .filter(|_| self.now.ms_since(seen.heard_at) < self.suspect_ms)
    }

    /// For how long it has been silent, in ms.
    #[must_use]
    pub fn silent_ms(&self, host: HostId) -> Option<u64> {
        self.hosts
            .get(&host)
            .map(|seen| self.now.ms_since(seen.heard_at))
    }

    /// Whether it has been silent for D (lease.md, step 4).
    #[must_use]
    pub fn is_silent(&self, host: HostId) -> bool {
        self.silent_ms(host).is_some_and(|ms| ms >= self.suspect_ms)
    }

    /// Whether it has said for D that this incarnation's lease is not valid (lease.md, step 4).
    #[must_use]
    pub fn lacks_lease(&self, host: HostId, incarnation: Incarnation) -> bool {
        let seen = self
            .hosts
            .get(&host)
            .filter(|s| s.incarnation == incarnation);
        let lost_at = seen.and_then(|seen| seen.lease_lost_at);
        lost_at.is_some_and(|since| self.now.ms_since(since) >= self.suspect_ms)
    }

    /// Starts anew to count how long each lacks a lease: what was lost with a quorum comes back with it.
    pub fn restart_leases(&mut self, now: Instant) {
        for seen in self.hosts.values_mut() {
            seen.lease_lost_at = seen.lease_lost_at.map(|_| now);
        }
    }

    /// Heard within D, and its lease is fine: the answer to `AskHeard`.
    #[must_use]
    pub fn is_well(&self, host: HostId) -> bool {
        self.fresh(host).is_some_and(|heartbeat| heartbeat.lease_ok)
    }

    /// What it reports of one of its groups.
    #[must_use]
    pub fn report(&self, host: HostId, group: &GroupName) -> Option<&GroupReport> {
        let last = self.hosts.get(&host)?.last.as_ref()?;
        last.report
            .groups
            .iter()
            .find(|report| report.group == *group)
    }

    /// Its utilization in units of `scale`: load x scale / capacity; 0 when nothing measures it.
    #[must_use]
    pub fn utilization(&self, host: HostId, group: &GroupName, scale: u32) -> u32 {
        let Some(report) = self
            .report(host, group)
            .filter(|report| report.capacity > 0)
        else {
            return 0;
        };
        let utilization = u64::from(report.load) * u64::from(scale) / u64::from(report.capacity);
        u32::try_from(utilization).unwrap_or(u32::MAX)
    }
}
