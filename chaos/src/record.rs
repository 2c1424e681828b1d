//! One host's Raft log, and what it knows of the term: the world plays Raft with these.
//!
//! As in the paper: terms, log matching, truncation of what was not committed, commit of entries of
//! the leader's own term only. Elections are decided by the world, which sees who reaches whom.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use control::{EntryId, RaftStatus};
use statemachine::{ArrayCommand, Command, Entry, HostCommand, HostId, State};

/// What an entry holds.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// Nothing: a new leader's first.
    Blank,
    /// Voter sets.
    Voters(Vec<BTreeSet<HostId>>),
    /// Commands.
    Data(Entry),
}

/// Who waits for an answer: host, start of its daemon, number of the proposal.
pub(crate) type Proposer = (HostId, u64, u64);

/// An entry of a log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) payload: Payload,
    pub(crate) proposer: Option<Proposer>,
}

impl Record {
    /// Which entry it is. A term has one leader here.
    pub(crate) fn id(&self) -> EntryId {
        EntryId {
            term: self.term,
            leader: HostId::default(),
            index: self.index,
        }
    }

    fn commands(&self) -> &[Command] {
        match &self.payload {
            Payload::Data(entry) => &entry.commands,
            Payload::Blank | Payload::Voters(_) => &[],
        }
    }

    /// Whose standing it changes.
    pub(crate) fn touches(&self) -> impl Iterator<Item = HostId> {
        self.commands().iter().filter_map(|command| match command {
            Command::Host(command) => Some(match command {
                HostCommand::Fence { host, .. }
                | HostCommand::Unfence { host, .. }
                | HostCommand::Down { host, .. }
                | HostCommand::Up { host, .. }
                | HostCommand::Configure { host, .. }
                | HostCommand::Forget { host } => *host,
                HostCommand::Join { .. } | HostCommand::Hear { .. } => return None,
            }),
            _ => None,
        })
    }

    /// Whether it changes the voters or the timing.
    pub(crate) fn reconfigures(&self) -> bool {
        let retimes = |c: &Command| matches!(c, Command::Array(ArrayCommand::Retime { .. }));
        matches!(self.payload, Payload::Voters(_)) || self.commands().iter().any(retimes)
    }

    /// The fence on which it declares this host down.
    pub(crate) fn fence_of(&self, id: HostId) -> Option<u64> {
        self.commands().iter().find_map(|command| match command {
            Command::Host(HostCommand::Down { host, fence, .. }) if *host == id => Some(*fence),
            _ => None,
        })
    }

    /// Whom it fences, declares down or forgets.
    pub(crate) fn taken_from(&self) -> Vec<HostId> {
        let whom = |command: &Command| match command {
            Command::Host(
                HostCommand::Fence { host, .. }
                | HostCommand::Down { host, .. }
                | HostCommand::Forget { host },
            ) => Some(*host),
            _ => None,
        };
        self.commands().iter().filter_map(whom).collect()
    }
}

/// A packet between two Rafts.
#[derive(Clone, Debug)]
pub(crate) enum Packet {
    /// Entries after `previous` (index, term); none is a heartbeat.
    Append {
        term: u64,
        previous: (u64, u64),
        records: Vec<Arc<Record>>,
        commit: u64,
    },
    /// What the follower has on disk, as far as it matches.
    Reply { term: u64, matched: u64 },
    /// A state in place of entries that the leader has forgotten.
    Snapshot { term: u64, snapshot: Snapshot },
}

/// Voter sets and the entry that set them.
pub(crate) type Configuration = (EntryId, Vec<BTreeSet<HostId>>);

/// A state as it is on disk, and where in the log it stands.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) state: Arc<State>,
    pub(crate) term: u64,
    /// Every voter configuration up to there.
    pub(crate) configs: Vec<Configuration>,
}

/// One host's Raft.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) term: u64,
    pub(crate) leader: Option<HostId>,
    pub(crate) leads: bool,
    /// Index and term of the last entry that was forgotten: a snapshot on this disk has it.
    pub(crate) base: (u64, u64),
    /// The entries after `base`.
    pub(crate) log: VecDeque<Arc<Record>>,
    /// Every voter configuration in the log.
    pub(crate) configs: Vec<Configuration>,
    pub(crate) durable: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
    pub(crate) matched: BTreeMap<HostId, u64>,
    pub(crate) next: BTreeMap<HostId, u64>,
    /// An apply is on its way.
    pub(crate) applying: bool,
}

impl Peer {
    pub(crate) fn last(&self) -> u64 {
        self.base.0 + self.log.len() as u64
    }

    pub(crate) fn record(&self, index: u64) -> Option<&Arc<Record>> {
        let at = usize::try_from(index.checked_sub(self.base.0 + 1)?).ok()?;
        self.log.get(at)
    }

    /// The term of an entry; 0 of one that is not there, or forgotten.
    pub(crate) fn term_at(&self, index: u64) -> u64 {
        match self.record(index) {
            Some(record) => record.term,
            None if index == self.base.0 => self.base.1,
            None => 0,
        }
    }

    /// Whether the log holds this entry, or held it.
    pub(crate) fn matches(&self, index: u64, term: u64) -> bool {
        index < self.base.0 || index <= self.last() && self.term_at(index) == term
    }

    /// Forgets the entries up to `index`, which a snapshot covers.
    pub(crate) fn forget(&mut self, index: u64) {
        let term = self.term_at(index);
        if index > self.base.0 && index <= self.last() {
            self.log.drain(..(index - self.base.0) as usize);
            self.base = (index, term);
        }
    }

    /// Takes a snapshot in place of the log up to it. What follows stays if it follows on it.
    pub(crate) fn install(&mut self, snapshot: &Snapshot) {
        let (index, term) = (snapshot.state.index, snapshot.term);
        if self.matches(index, term) {
            self.forget(index);
        } else {
            self.log.clear();
            self.base = (index, term);
        }
        self.configs
            .retain(|(at, _)| at.index > index && at.index <= self.base.0 + self.log.len() as u64);
        self.configs.splice(0..0, snapshot.configs.iter().cloned());
        self.durable = self.durable.min(self.last()).max(index);
        self.commit = self.commit.max(index);
        self.applied = index;
    }

    /// How complete the log is, for an election.
    pub(crate) fn completeness(&self) -> (u64, u64) {
        (self.term_at(self.last()), self.last())
    }

    /// Cuts off everything after `after`.
    pub(crate) fn truncate(&mut self, after: u64) {
        let stay = after.saturating_sub(self.base.0);
        self.log.truncate(usize::try_from(stay).unwrap_or(0));
        self.configs.retain(|(at, _)| at.index <= after);
        self.durable = self.durable.min(after);
    }

    /// Records after `previous`, at most `most`.
    pub(crate) fn tail(&self, previous: u64, most: usize) -> Vec<Arc<Record>> {
        let skip = usize::try_from(previous.saturating_sub(self.base.0)).unwrap_or(usize::MAX);
        self.log.iter().skip(skip).take(most).cloned().collect()
    }

    /// Adds one record at the end.
    pub(crate) fn push(&mut self, record: Arc<Record>) {
        if let Payload::Voters(sets) = &record.payload {
            self.configs.push((record.id(), sets.clone()));
        }
        self.log.push_back(record);
    }

    /// The newest voter sets in the log, committed or not, and their entry.
    pub(crate) fn voters(&self) -> Configuration {
        self.configs.last().cloned().unwrap_or_default()
    }

    /// The entry that set the newest voters.
    pub(crate) fn membership(&self) -> EntryId {
        self.configs.last().map(|(at, _)| *at).unwrap_or_default()
    }

    /// True when a majority of each newest voter set is so.
    pub(crate) fn is_quorum(&self, so: impl Fn(HostId) -> bool) -> bool {
        let majority =
            |set: &BTreeSet<HostId>| 2 * set.iter().filter(|id| so(**id)).count() > set.len();
        let newest = self.configs.last();
        newest.is_some_and(|(_, sets)| sets.iter().all(majority))
    }

    /// How it stands, as the core is told; `all` are the array's hosts.
    pub(crate) fn status(&self, all: &[HostId]) -> RaftStatus {
        let (membership, voters) = self.voters();
        let committed = |(at, _): &&Configuration| at.index <= self.commit;
        let committed = self.configs.iter().rev().find(committed);
        let votes = |id: &&HostId| !voters.iter().any(|set: &BTreeSet<HostId>| set.contains(id));
        let learners = all.iter().filter(votes).copied().collect();
        RaftStatus {
            term: self.term,
            leader: self.leader,
            am_leader: self.leads,
            voters,
            membership,
            committed: committed.map(|(at, _)| *at).unwrap_or_default(),
            learners,
        }
    }

    /// True when a follower has all that this leader has, and the leader knows it.
    pub(crate) fn has_nothing_to_tell(&self, me: HostId, follower: &Self, id: HostId) -> bool {
        let last = self.last();
        follower.leader == Some(me)
            && (follower.term, follower.last(), follower.commit) == (self.term, last, self.commit)
            && follower.term_at(last) == self.term_at(last)
            && self.matched.get(&id) == Some(&last)
    }

    /// The last index up to which two logs are the same. What either has forgotten was committed.
    pub(crate) fn common(&self, other: &Self) -> u64 {
        let mut index = self.last().min(other.last());
        let least = self.base.0.max(other.base.0);
        while index > 0 && index >= least && self.term_at(index) != other.term_at(index) {
            index -= 1;
        }
        index
    }
}
