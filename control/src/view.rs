//! What this host hears of the others: their last heartbeat, and how long ago it came.
//!
//! The judgement "silent" is a hint to the planner and never a licence to act: a wrong one costs a
//! poll, or at worst a needless failover, while safety rests on leases and epochs.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{Boot, GroupName, HostId, Incarnation, Mutation, State, mutated};

use crate::{GroupReport, Heartbeat, Instant, Vow};

/// A network on which so many heartbeats in a row did not come is told to people as lost.
const UNHEARD_HEARTBEATS: u64 = 10;

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
    /// The start whose last word was heard, and when: it has ended, and holds nothing.
    pub gone: Option<(Boot, Instant)>,
    /// When it was heard last on each control network, and when it was first heard on any.
    pub networks: BTreeMap<u8, Instant>,
    /// See `networks`.
    pub first_at: Option<Instant>,
}

impl Seen {
    /// Whether the start that was heard last has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let last = self.last.as_ref().map(|heartbeat| heartbeat.boot);
        self.gone.is_some_and(|(boot, _)| Some(boot) == last)
    }
}

/// What was heard of all.
#[derive(Clone, Debug, Default)]
pub struct View {
    hosts: BTreeMap<HostId, Seen>,
    now: Instant,
    suspect_ms: u64,
    unheard_ms: u64,
    /// The entry up to which the state was looked at.
    looked: Option<u64>,
}

impl View {
    /// Moves the view's clock and forgets hosts that the array forgot. A host that was never heard is
    /// given the full time-out from now on; one that was declared up anew, as much to get a lease.
    pub fn look(&mut self, state: &State, now: Instant) {
        self.now = now;
        if self.looked.replace(state.index) == Some(state.index) {
            return;
        }
        self.suspect_ms = state.patience_ms();
        // While a change of timing settles, some may still send at the former pace.
        let heartbeats = UNHEARD_HEARTBEATS * u64::from(state.timing.heartbeat_ms);
        self.unheard_ms = heartbeats.max(self.suspect_ms);
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

    /// Notes that something authentic came from `from` on a control network.
    pub fn hear(&mut self, from: HostId, network: u8, now: Instant) {
        if let Some(seen) = self.hosts.get_mut(&from) {
            seen.first_at.get_or_insert(now);
            seen.networks.insert(network, now);
        }
    }

    /// Which of a host's `count` control networks it has not been heard on for a while; none when it
    /// is heard on no network at all, or when there is nothing to tell apart.
    #[must_use]
    pub fn unheard(&self, host: HostId, count: usize) -> Option<BTreeSet<u8>> {
        if count < 2 {
            return None;
        }
        let seen = self.hosts.get(&host)?;
        let (first_at, _) = (seen.first_at?, self.fresh(host)?);
        let lost = |network: &u8| {
            let heard_at = seen.networks.get(network).copied().unwrap_or(first_at);
            self.now.ms_since(heard_at) >= self.unheard_ms
        };
        let unheard: BTreeSet<u8> = (0..=u8::MAX).take(count).filter(lost).collect();
        (unheard.len() < count).then_some(unheard)
    }

    /// Takes in the last word of a start of `from`: believed when it is the start that was heard last, and
    /// the word is the one that it vowed. True when it is news.
    pub fn last_word(&mut self, from: HostId, boot: Boot, vow: Vow, now: Instant) -> bool {
        let news = self.is_last_word(from, boot, vow);
        if let Some(seen) = self.hosts.get_mut(&from).filter(|_| news) {
            let newest = seen.last.as_ref().map(|last| last.boot);
            seen.gone = newest.map(|boot| (boot, now));
        }
        news
    }

    /// Whether that would be believed, and news.
    #[must_use]
    pub fn is_last_word(&self, from: HostId, boot: Boot, vow: Vow) -> bool {
        let any = mutated(Mutation::WordOfAnyBoot);
        let vowed = |last: &Heartbeat| any || (last.boot == boot && last.vow == Some(vow));
        let seen = self.hosts.get(&from).filter(|seen| !seen.is_gone());
        seen.and_then(|seen| seen.last.as_ref()).is_some_and(vowed)
    }

    /// Starts all time-outs anew: this host itself was away (lease.md, step 4).
    pub fn restart(&mut self, now: Instant) {
        for seen in self.hosts.values_mut() {
            seen.heard_at = seen.heard_at.max(now);
            seen.first_at = seen.first_at.map(|_| now);
            seen.networks.values_mut().for_each(|heard| *heard = now);
            seen.lease_lost_at = seen.lease_lost_at.map(|_| now);
        }
    }

    /// Supposes that a host was never heard, for "what if it were down".
    pub fn forget(&mut self, host: HostId) {
        self.hosts.remove(&host);
        self.looked = None;
    }

    /// Supposes that this heartbeat has just come, for "what if it were up".
    pub fn suppose(&mut self, host: HostId, heartbeat: Heartbeat, now: Instant) {
        let seen = Seen {
            heard_at: now,
            lease_lost_at: None,
            incarnation: heartbeat.incarnation,
            last: Some(heartbeat),
            ..Seen::default()
        };
        self.hosts.insert(host, seen);
        self.looked = None;
    }

    /// What was heard of a host.
    #[must_use]
    pub fn of(&self, host: HostId) -> Option<&Seen> {
        self.hosts.get(&host)
    }

    /// Its last heartbeat, however long ago that came.
    #[must_use]
    pub fn last(&self, host: HostId) -> Option<&Heartbeat> {
        self.hosts.get(&host)?.last.as_ref()
    }

    /// Its last heartbeat, if it was heard within D and no last word came after it.
    #[must_use]
    pub fn fresh(&self, host: HostId) -> Option<&Heartbeat> {
        let seen = self.hosts.get(&host)?;
        let lives = self.now.ms_since(seen.heard_at) < self.suspect_ms && !seen.is_gone();
        seen.last.as_ref().filter(|_| lives)
    }

    /// The newest start and heartbeat that came from it.
    #[must_use]
    pub fn newest(&self, host: HostId) -> (Boot, u64) {
        let last = self.last(host);
        last.map_or_else(Default::default, |last| (last.boot, last.seq))
    }

    /// The start that has ended, if the last word of the newest one was heard.
    #[must_use]
    pub fn gone(&self, host: HostId) -> Option<Boot> {
        let seen = self.hosts.get(&host).filter(|seen| seen.is_gone());
        seen.and_then(|seen| seen.gone).map(|(boot, _)| boot)
    }

    /// For how long it has been silent, in ms: since its last word if there was one.
    #[must_use]
    pub fn silent_ms(&self, host: HostId) -> Option<u64> {
        let seen = self.hosts.get(&host)?;
        let word_at = seen.gone.filter(|_| seen.is_gone()).map(|(_, at)| at);
        Some(self.now.ms_since(word_at.unwrap_or(seen.heard_at)))
    }

    /// Whether it has been silent for D (lease.md, step 4), or said its last word.
    #[must_use]
    pub fn is_silent(&self, host: HostId) -> bool {
        let seen = self.hosts.get(&host);
        seen.is_some_and(|seen| {
            seen.is_gone() || self.now.ms_since(seen.heard_at) >= self.suspect_ms
        })
    }

    /// When the next of these hosts will have been silent, or without a lease, for D.
    pub fn next_silence(&self) -> Option<Instant> {
        let ends = self.hosts.values().flat_map(|seen| {
            [Some(seen.heard_at), seen.lease_lost_at]
                .into_iter()
                .flatten()
                .map(|since| since.plus_ms(self.suspect_ms))
        });
        ends.filter(|end| *end > self.now).min()
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

    /// Heard within D, and its lease is fine.
    #[must_use]
    pub fn is_well(&self, host: HostId) -> bool {
        self.fresh(host).is_some_and(|heartbeat| heartbeat.lease_ok)
    }

    /// Well, and heard after that heartbeat: the answer to `AskHeard`.
    #[must_use]
    pub fn is_well_since(&self, host: HostId, since: (Boot, u64)) -> bool {
        self.is_well(host) && self.newest(host) > since
    }

    /// What it reports of one of its groups.
    #[must_use]
    pub fn report(&self, host: HostId, group: &GroupName) -> Option<&GroupReport> {
        let last = self.last(host)?;
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
