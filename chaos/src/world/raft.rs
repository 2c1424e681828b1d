//! Raft as the world plays it: append, flush, replicate, commit, elect.

use std::collections::BTreeSet;
use std::sync::Arc;

use control::{Event, LogMark};
use statemachine::HostId;

use super::World;
use crate::Law;
use crate::host::{Due, SimHost};
use crate::record::{Packet, Payload, Proposer, Record, Snapshot};

/// Most records in one packet.
const MOST_RECORDS: usize = 64;
/// How much later Raft says how it stands, in microseconds.
const STATUS_US: (u64, u64) = (50, 2_000);

impl World {
    /// The leader takes an entry into its log.
    pub(super) fn append(&mut self, id: HostId, payload: Payload, proposer: Option<Proposer>) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let record = Arc::new(Record {
            index: host.raft.last() + 1,
            term: host.raft.term,
            payload,
            proposer,
        });
        self.take(id, record);
        self.flush(id);
        self.pump(id, false);
    }

    /// Takes one record at the end of a log and tells the core at once: appended counts (lease.md, 2).
    fn take(&mut self, id: HostId, record: Arc<Record>) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.raft.push(record.clone());
        self.mark(id, &record);
        self.touch(&record);
        self.status_soon(id);
    }

    /// Tells the core of an entry that takes something from somebody, or sets voters, as the daemon does.
    pub(super) fn mark(&mut self, id: HostId, record: &Record) {
        let (entry, taken_from) = (record.id(), record.taken_from());
        if matches!(record.payload, Payload::Voters(_)) {
            let mark = LogMark::Reconfigured { entry };
            self.inbox.push_back((id, Event::Log(mark)));
        } else if !taken_from.is_empty() {
            let mark = LogMark::Appended { entry, taken_from };
            self.inbox.push_back((id, Event::Log(mark)));
            self.marked(id, entry.index);
        }
    }

    fn marked(&mut self, id: HostId, index: u64) {
        if let Some(host) = self.host_mut(id) {
            host.undurable.insert(index);
        }
    }

    /// Tells the core that the disk has everything up to `index`, if that is news to it.
    pub(super) fn tell_durable(&mut self, id: HostId, index: u64) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if host.undurable.first().is_some_and(|first| *first <= index) {
            host.undurable = host.undurable.split_off(&(index + 1));
            self.inbox
                .push_back((id, Event::Log(LogMark::Durable { index })));
        }
    }

    /// Notes whom an entry concerns that comes into a log or goes out of it.
    fn touch(&mut self, record: &Record) {
        if record.reconfigures() {
            self.changed_at = self.now;
        }
        for id in record.touches() {
            let now = self.now;
            if let Some(host) = self.host_mut(id) {
                host.touched_at = now;
            }
        }
    }

    fn flush(&mut self, id: HostId) {
        let flush_us = self.host(id).map(|host| host.flush_us).unwrap_or_default();
        let took = self.rng.between(flush_us);
        if let Some(raft) = self.host(id).map(|host| &host.raft) {
            let (index, term) = (raft.last(), raft.term_at(raft.last()));
            self.soon(id, took, Due::Flushed { index, term });
        }
    }

    pub(super) fn flushed(&mut self, id: HostId, index: u64, term: u64) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if host.raft.term_at(index) != term || index <= host.raft.durable {
            return;
        }
        host.raft.durable = index;
        let (leads, leader) = (host.raft.leads, host.raft.leader);
        self.tell_durable(id, index);
        match leader {
            _ if leads => self.try_commit(id),
            Some(leader) => self.reply(id, leader, index),
            None => {}
        }
        self.apply_soon(id);
    }

    /// A leader's heartbeat: repeats for as long as it leads.
    pub(super) fn beat(&mut self, id: HostId) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.beats = host.raft.leads;
        if !host.beats {
            return;
        }
        self.pump(id, true);
        // The world's log catches up as often as openraft retries, whatever its heartbeat.
        let every = u64::from(self.setup.timing.raft_heartbeat_ms.min(50)) * 1000;
        self.soon(id, every, Due::Beat);
    }

    /// Sends what the followers lack. `anew` starts at what they surely have, else at what was not
    /// sent yet.
    fn pump(&mut self, id: HostId, anew: bool) {
        if !self.host(id).is_some_and(|host| host.raft.leads) {
            return;
        }
        for to in self.setup.ids() {
            if to == id || !self.links.connects(id, to) {
                continue;
            }
            let (Some(host), Some(other)) = (self.host(id), self.host(to)) else {
                continue;
            };
            if other.core.is_none() {
                continue;
            }
            if self.setup.lean && host.raft.has_nothing_to_tell(id, &other.raft, to) {
                continue;
            }
            let next = host.raft.next.get(&to).copied();
            let common = host.raft.common(&other.raft);
            let start = if anew { common } else { next.unwrap_or(common) };
            if start < host.raft.base.0 {
                self.send_snapshot(id, to);
                continue;
            }
            let records = host.raft.tail(start, MOST_RECORDS);
            let sent = start + records.len() as u64;
            let packet = Packet::Append {
                term: host.raft.term,
                previous: (start, host.raft.term_at(start)),
                records,
                commit: host.raft.commit,
            };
            if let Some(host) = self.host_mut(id) {
                host.raft.next.insert(to, sent);
            }
            self.carry(id, to, packet);
        }
    }

    /// A follower that lacks what this leader has forgotten gets the state on its disk instead.
    fn send_snapshot(&mut self, id: HostId, to: HostId) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let state = host.saved.clone();
        let index = state.index;
        let raft = &mut host.raft;
        raft.next.insert(to, index);
        let before = raft.configs.iter().filter(|(at, _)| at.index <= index);
        let snapshot = Snapshot {
            term: raft.term_at(index),
            configs: before.cloned().collect(),
            state,
        };
        let term = raft.term;
        self.carry(id, to, Packet::Snapshot { term, snapshot });
    }

    /// Takes a leader's snapshot in place of a log that ends before it.
    fn install(&mut self, id: HostId, from: HostId, snapshot: &Snapshot) {
        let (index, now) = (snapshot.state.index, self.now);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if index > host.raft.commit {
            let cut =
                host.raft.last() > host.raft.commit && !host.raft.matches(index, snapshot.term);
            let committed = host.raft.commit;
            host.raft.install(snapshot);
            (host.state, host.saved) = (snapshot.state.clone(), snapshot.state.clone());
            host.disturbed_at = now;
            let state = host.state.clone();
            self.say(&format!("h{id} takes a snapshot of entry {index}"));
            self.laws.applied(now, id, index, snapshot.term);
            if cut {
                self.laws.fenced.truncated(id, committed);
                if let Some(host) = self.host_mut(id) {
                    host.undurable.split_off(&(committed + 1));
                }
                let mark = LogMark::Truncated { after: committed };
                self.inbox.push_back((id, Event::Log(mark)));
            }
            self.tell_durable(id, index);
            self.inbox.push_back((id, Event::Applied { state }));
            self.status_soon(id);
        }
        let matched = self.host(id).map_or(0, |host| host.raft.durable.min(index));
        self.reply(id, from, matched);
        self.apply_soon(id);
    }

    fn carry(&mut self, from: HostId, to: HostId, packet: Packet) {
        if self.links.connects(from, to) {
            let delay = self.links.packet(&mut self.rng, from, to, self.now);
            let packet = Box::new(packet);
            self.arrive(to, delay, Due::Packet { from, packet });
        }
    }

    fn reply(&mut self, id: HostId, to: HostId, matched: u64) {
        let term = self.host(id).map_or(0, |host| host.raft.term);
        self.carry(id, to, Packet::Reply { term, matched });
    }

    pub(super) fn packet(&mut self, id: HostId, from: HostId, packet: Packet) {
        let mine = self.host(id).map_or(0, |host| host.raft.term);
        match packet {
            Packet::Append { term, .. } | Packet::Snapshot { term, .. } if term < mine => {
                self.reply(id, from, 0);
            }
            Packet::Snapshot { term, snapshot } => {
                self.adopt(id, term, Some(from), false);
                self.install(id, from, &snapshot);
            }
            Packet::Append {
                term,
                previous,
                records,
                commit,
            } => {
                self.adopt(id, term, Some(from), false);
                self.follow(id, from, previous, records, commit);
            }
            Packet::Reply { term, .. } if term > mine => self.adopt(id, term, None, false),
            Packet::Reply { term, matched } => {
                let Some(host) = self.host_mut(id).filter(|h| h.raft.leads && term == mine) else {
                    return;
                };
                let known = host.raft.matched.entry(from).or_default();
                *known = (*known).max(matched);
                self.try_commit(id);
            }
        }
    }

    fn follow(
        &mut self,
        id: HostId,
        from: HostId,
        previous: (u64, u64),
        records: Vec<Arc<Record>>,
        commit: u64,
    ) {
        let Some(host) = self.host_mut(id) else {
            return;
        };
        if !host.raft.matches(previous.0, previous.1) {
            return;
        }
        let end = previous.0 + records.len() as u64;
        let fresh: Vec<_> = records
            .into_iter()
            .filter(|r| !host.raft.matches(r.index, r.term))
            .collect();
        let took_some = !fresh.is_empty();
        for record in fresh {
            let after = record.index - 1;
            let Some(host) = self.host_mut(id) else {
                return;
            };
            if host.raft.last() > after {
                let lost = host.raft.commit > after;
                let gone = host.raft.tail(after, usize::MAX);
                host.raft.truncate(after);
                host.undurable.split_off(&(after + 1));
                gone.iter().for_each(|record| self.touch(record));
                self.laws.fenced.truncated(id, after);
                self.inbox
                    .push_back((id, Event::Log(LogMark::Truncated { after })));
                let broken = lost.then(|| format!("h{id} cut off committed entry {}", after + 1));
                self.laws.broken(self.now, Law::Durable, broken);
            }
            self.take(id, record);
        }
        if took_some {
            self.flush(id);
        }
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.raft.commit = host.raft.commit.max(commit.min(end));
        let matched = end.min(host.raft.durable);
        self.reply(id, from, matched);
        self.apply_soon(id);
    }

    fn try_commit(&mut self, id: HostId) {
        let Some(raft) = self.host(id).map(|host| &host.raft) else {
            return;
        };
        let matched = |other: HostId| match other == id {
            true => raft.durable,
            false => raft.matched.get(&other).copied().unwrap_or(0),
        };
        let reached = (raft.commit + 1..=raft.last()).rev().find(|index| {
            raft.term_at(*index) == raft.term && raft.is_quorum(|other| matched(other) >= *index)
        });
        let Some(index) = reached else {
            return;
        };
        let joint = raft
            .configs
            .last()
            .filter(|(at, sets)| at.index <= index && sets.len() > 1);
        let wanted = joint.and_then(|(_, sets)| sets.last().cloned());
        if let Some(host) = self.host_mut(id) {
            host.raft.commit = index;
        }
        if let Some(wanted) = wanted {
            self.append(id, Payload::Voters(vec![wanted]), None);
        }
        self.pump(id, false);
        self.apply_soon(id);
    }

    fn apply_soon(&mut self, id: HostId) {
        let Some(host) = self.hosts.get_mut((id.0 - 1) as usize) else {
            return;
        };
        let raft = &mut host.raft;
        if raft.applying || raft.commit.min(raft.durable) <= raft.applied {
            return;
        }
        raft.applying = true;
        let took = self.rng.between(host.apply_us);
        self.soon(id, took, Due::Apply);
    }

    fn adopt(&mut self, id: HostId, term: u64, leader: Option<HostId>, leads: bool) {
        if let Some(host) = self.host_mut(id) {
            (host.raft.term, host.raft.leader, host.raft.leads) = (term, leader, leads);
            if leads && !std::mem::replace(&mut host.beats, true) {
                self.soon(id, 0, Due::Beat);
            }
        }
        self.status_soon(id);
    }

    /// Raft's word comes later than what its log says.
    fn status_soon(&mut self, id: HostId) {
        let took = self.rng.between(STATUS_US);
        if let Some(host) = self.host_mut(id).filter(|host| host.core.is_some())
            && !std::mem::replace(&mut host.telling, true)
        {
            self.soon(id, took, Due::Status);
        }
    }

    /// Tells the core how Raft stands, if that changed.
    pub(super) fn tell_status(&mut self, id: HostId) {
        let all = self.setup.ids();
        let Some(host) = self.host_mut(id).filter(|host| host.core.is_some()) else {
            return;
        };
        host.telling = false;
        let raft = &host.raft;
        let standing = (
            raft.term,
            raft.leader,
            raft.leads,
            raft.configs.last().map(|c| c.0),
        );
        if host.standing != Some(standing) {
            host.standing = Some(standing);
            let status = host.raft.status(&all);
            self.inbox.push_back((id, Event::Raft(status)));
            self.knowledge.look(&self.hosts, id, self.now);
        }
    }

    /// Somebody heard that the leader has ended: the others do not wait for their time-out.
    pub(super) fn elect_if_leaderless(&mut self) {
        if !self.is_led() {
            self.elect(None);
        }
    }

    /// Looks whether some leader reaches a quorum; elects another when none did for a while.
    pub(super) fn watch(&mut self) {
        if self.is_led() {
            self.leaderless_since = None;
            return;
        }
        let since = *self.leaderless_since.get_or_insert(self.now);
        if self.now - since >= self.setup.election_ms * 1000 {
            self.elect(None);
        }
    }

    /// Whether a leader of the newest term among those that it reaches has a quorum.
    fn is_led(&self) -> bool {
        self.hosts.iter().any(|host| {
            let reached = |other| self.reaches(host.id, other);
            let leads = host.raft.leads && host.runs();
            leads && host.raft.is_quorum(reached) && self.is_newest(host)
        })
    }

    /// Whether `id` is connected with a running host, itself included.
    pub(super) fn reaches(&self, id: HostId, other: HostId) -> bool {
        self.host(other).is_some_and(SimHost::runs) && self.links.connects(id, other)
    }

    fn is_newest(&self, leader: &SimHost) -> bool {
        let newer = |other: &&SimHost| other.raft.term > leader.raft.term;
        let mut newer = self.hosts.iter().filter(newer);
        !newer.any(|other| self.reaches(leader.id, other.id))
    }

    /// A host that its own newest configuration leaves out may still be needed: it may be the only one
    /// that has this configuration (Ongaro's thesis, 4.2.2).
    pub(super) fn elect(&mut self, favourite: Option<HostId>) {
        let electors = |id: HostId| -> Option<BTreeSet<HostId>> {
            let host = self.host(id).filter(|host| host.runs())?;
            let mine = host.raft.completeness();
            let grants =
                |other: &&SimHost| other.raft.completeness() <= mine && self.reaches(id, other.id);
            let electors = self.hosts.iter().filter(grants).map(|other| other.id);
            let electors: BTreeSet<HostId> = electors.collect();
            let grant = |other| electors.contains(&other);
            host.raft.is_quorum(grant).then_some(electors)
        };
        let candidates = match favourite {
            Some(id) => vec![id],
            None => self.setup.ids(),
        };
        let found = candidates
            .into_iter()
            .find_map(|id| electors(id).map(|e| (id, e)));
        let Some((winner, electors)) = found else {
            return;
        };
        let term = 1 + self.hosts.iter().map(|h| h.raft.term).max().unwrap_or(0);
        for id in electors {
            self.adopt(id, term, None, false);
        }
        self.adopt(winner, term, Some(winner), true);
        if let Some(host) = self.host_mut(winner) {
            host.raft.matched.clear();
            host.raft.next.clear();
        }
        self.leaderless_since = None;
        self.say(&format!("h{winner} leads term={term}"));
        // A change of voters that it finds half done is finished once that is committed (`try_commit`).
        self.append(winner, Payload::Blank, None);
    }
}
