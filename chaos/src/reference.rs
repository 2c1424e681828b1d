//! The promise of lease.md on one page, as an onlooker would state it who sees every datagram as it is
//! sent and every entry as it is first applied, has true time, and forgets nothing.
//!
//! Naive on purpose: no suspicion, no poll, no wait, no restart, no eps. A heartbeat that was sent at s
//! and asks for L is a lease until s + L once a majority has said yes that knows of no newer voters, and
//! that is all. It shares no line with `control`, reads none of its leases and promises, and decides
//! nothing: what the shipped code decides is compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use control::{EntryId, RaftStatus};
use statemachine::{Boot, HostId, State};

/// By how much two clocks may differ in speed: twice rho = 0.1 %, in parts per thousand.
const DRIFT_PER_MILLE: u64 = 2;
/// Heartbeats of a host that may still be granted: more than it remembers itself.
const REMEMBERED: u64 = 128;

type Granted = BTreeMap<(HostId, HostId, EntryId), (Boot, u64)>;

/// What was asked for and granted; times are true, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Reference {
    /// Start and number of each host's last heartbeats, and the end of the lease that each asks for.
    asked: BTreeMap<(HostId, u64), (Boot, u64, u64)>,
    /// By voter, host and the newest voters that the voter knew of: to which start, and until when.
    granted: Granted,
    /// The voters' entries that each host's newest start ever knew of.
    known: BTreeMap<HostId, (Boot, BTreeSet<EntryId>)>,
    /// The longest lease that each host's newest start ever had.
    stands: BTreeMap<HostId, (Boot, u64)>,
}

/// A start of a host, and the voters that it knows.
#[derive(Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) host: HostId,
    pub(crate) boot: Boot,
    pub(crate) raft: &'a RaftStatus,
    /// It may grant its own heartbeat: its state names this start as up, and its log takes nothing from it.
    pub(crate) is_up: bool,
}

impl Reference {
    /// A host begins a heartbeat.
    pub(crate) fn asks(&mut self, host: HostId, (boot, seq): (Boot, u64), lease_ms: u32, now: u64) {
        let end = now + u64::from(lease_ms) * (1000 - DRIFT_PER_MILLE);
        let asked = (boot, seq, end);
        self.asked.insert((host, seq % REMEMBERED), asked);
    }

    /// A voter that knows of the voters of entry `membership` acknowledges one.
    pub(crate) fn grants(
        &mut self,
        voter: HostId,
        membership: EntryId,
        host: HostId,
        (boot, seq): (Boot, u64),
    ) {
        let asked = self.asked.get(&(host, seq % REMEMBERED));
        if let Some((_, _, end)) = asked.filter(|(b, s, _)| (*b, *s) == (boot, seq)) {
            let granted = self.granted.entry((voter, host, membership)).or_default();
            *granted = (*granted).max((boot, *end));
        }
    }

    /// The last instant for which a majority of each voter set that it knows grants it a lease. What was
    /// granted under voters that it once knew of counts, though their entry was taken back since; and under
    /// any before those that it knows to be committed.
    pub(crate) fn lease_end(&mut self, start: Start<'_>) -> u64 {
        let (host, sets) = (start.host, &start.raft.voters);
        let known = self.known.entry(host).or_default();
        if known.0 != start.boot {
            *known = (start.boot, BTreeSet::new());
        }
        known.1.insert(start.raft.membership);
        let (held, committed) = (&known.1, start.raft.committed);
        let end_by = |voter: &HostId| {
            let all = grants(&self.granted, *voter, host);
            let known = all.filter(|(at, _)| *at <= committed || held.contains(at));
            let to_this = known.filter(|(_, (to, _))| *to == start.boot);
            to_this.map(|(_, (_, end))| end).max().unwrap_or(0)
        };
        let end_in = |set: &BTreeSet<HostId>| {
            let mut ends: Vec<u64> = set.iter().map(end_by).collect();
            ends.sort_unstable();
            // So many end before a majority is lost.
            let spare = ends.len().saturating_sub(1) / 2;
            ends.get(spare).copied().unwrap_or(0)
        };
        sets.iter().map(end_in).min().unwrap_or(0)
    }

    /// The same, but a lease that a host once had stands, whatever it has learnt of other voters since.
    pub(crate) fn lease_stands(&mut self, start: Start<'_>) -> u64 {
        let end = self.lease_end(start);
        let stands = self.stands.entry(start.host).or_default();
        *stands = (*stands).max((start.boot, end));
        stands.1
    }

    /// A voter says for how much longer it is bound to `host`: what is wrong with that. Of itself it may
    /// say that it is free: it knows its gate.
    pub(crate) fn answers(
        &self,
        voter: HostId,
        host: HostId,
        remaining_us: u64,
        now: u64,
    ) -> Option<String> {
        if voter == host {
            return None;
        }
        let all = grants(&self.granted, voter, host);
        let end = all.map(|(_, (_, end))| end).max()?;
        let bound = now + remaining_us + remaining_us * DRIFT_PER_MILLE / 1000;
        (bound < end).then(|| {
            let (ms, later) = (remaining_us / 1000, (end - bound) / 1000);
            format!("h{voter} is bound to h{host} for {ms} ms, it says; it granted {later} ms more")
        })
    }
}

/// What `voter` granted `host`, by the voters that it knew of then.
fn grants(
    granted: &Granted,
    voter: HostId,
    host: HostId,
) -> impl Iterator<Item = (EntryId, (Boot, u64))> {
    let from = granted.range((voter, host, EntryId::default())..);
    let of = from.take_while(move |((by, to, _), _)| (*by, *to) == (voter, host));
    of.map(|((_, _, at), granted)| (*at, *granted))
}

/// What is wrong with an address passing a host's gate, if anything: who may serve is who holds it in the
/// newest state that anybody has.
pub(crate) fn misplaced(state: &State, host: HostId, ip: IpAddr) -> Option<String> {
    let holder = state.addresses.get(&ip).and_then(|a| a.state.host());
    (holder != Some(host))
        .then(|| format!("h{host} serves {ip}, which the log gives to {holder:?}"))
}
