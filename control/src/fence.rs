//! The leader's way from suspicion to "every lease of this host has run out" (lease.md, steps 4 to 9).
//!
//! Suspect, poll the voters, commit the fence, ask when their promises end, wait, then let the plan
//! take the addresses. Every question is repeated until it is answered; answers may come twice.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::{
    Command, Host, HostCommand, HostId, HostState, Membership, Mutation, State, mutated,
};

use crate::promise::longest_lease_ms;
use crate::{EntryId, Instant, Message, Promises, RaftStatus, View};

/// How often a question is repeated, in ms.
const ASK_AGAIN_MS: u64 = 20;
/// Bound on clock drift between hosts, in parts per thousand (rho = 0.1 %).
const DRIFT_PER_MILLE: u64 = 1;

/// A host that may be dead, and what the voters said of it.
#[derive(Clone, Debug, Default)]
struct Suspicion {
    well: BTreeSet<HostId>,
    silent: BTreeSet<HostId>,
    asked_at: Option<Instant>,
    let_be_until: Option<Instant>,
}

/// A fence that stands in the log, and when each voter's promise ends.
#[derive(Clone, Debug)]
struct Pending {
    /// The fence's entry; its index alone when this leader did not see it appended.
    entry: EntryId,
    began: Instant,
    free_at: BTreeMap<HostId, Instant>,
    asked_at: Option<Instant>,
}

/// All that a leader knows of its suspicions and fences.
#[derive(Clone, Debug, Default)]
pub struct Fences {
    suspicions: BTreeMap<HostId, Suspicion>,
    pending: BTreeMap<HostId, Pending>,
    own: BTreeSet<HostId>,
}

/// What the fences look at.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    pub(crate) me: HostId,
    pub(crate) state: &'a State,
    pub(crate) view: &'a View,
    pub(crate) raft: &'a RaftStatus,
    pub(crate) promises: &'a Promises,
    /// When this host saw the newest membership or timing commit.
    pub(crate) config_seen: Instant,
    /// The entries that fence, where this host saw them appended, by their index.
    pub(crate) written: &'a BTreeMap<u64, EntryId>,
    /// Hosts that were told to let go and do not.
    pub(crate) stubborn: &'a [HostId],
}

impl Scene<'_> {
    /// Silent, or holding addresses that it does not serve: without a lease, or not letting go. The
    /// leader judges itself as it judges others, since Raft may reach it where heartbeats do not. A
    /// host that holds nothing may lack a lease for as long as it likes: it is given nothing.
    fn suspects(&self, id: HostId) -> bool {
        let Some(host) = self.state.hosts.get(&id) else {
            return false;
        };
        let silent = id != self.me && self.view.is_silent(id);
        let idle =
            self.view.lacks_lease(id, host.incarnation) && self.state.held_by(id).next().is_some();
        silent || idle || self.stubborn.contains(&id)
    }

    /// A fenced host that has applied its fence and holds nothing has said its last word: it begins
    /// nothing before `Unfence` or `Up`, and an `Unfence` makes the `Down` that this allows refused.
    /// Nor does a new start of its daemon, which begins nothing before `Up`.
    fn has_let_go(&self, host: &Host, fence: u64) -> bool {
        let empty = self.view.fresh(host.id).is_some_and(|heartbeat| {
            heartbeat.boot >= host.boot
                && heartbeat.applied >= fence
                && heartbeat.report.is_empty_handed()
        });
        self.has_ended(host) || empty
    }

    /// Its last word was heard: nobody needs to be asked whether it lives.
    fn has_ended(&self, host: &Host) -> bool {
        self.view
            .gone(host.id)
            .is_some_and(|boot| boot >= host.boot)
    }
}

/// What is to be done.
#[derive(Default)]
pub(crate) struct Moves {
    pub(crate) ask: Vec<(HostId, Message)>,
    pub(crate) commands: Vec<Command>,
}

impl Fences {
    /// Forgets all: this host does not lead any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A voter said whether it hears a suspected host.
    pub fn heard(&mut self, voter: HostId, host: HostId, well: bool) {
        if let Some(suspicion) = self.suspicions.get_mut(&host) {
            let (into, out_of) = match well {
                true => (&mut suspicion.well, &mut suspicion.silent),
                false => (&mut suspicion.silent, &mut suspicion.well),
            };
            out_of.remove(&voter);
            into.insert(voter);
        }
    }

    /// A voter said how long its promise to a fenced host still runs.
    pub fn status(
        &mut self,
        voter: HostId,
        host: HostId,
        fence: EntryId,
        remaining_us: u64,
        now: Instant,
    ) {
        if let Some(pending) = self
            .pending
            .get_mut(&host)
            .filter(|pending| pending.entry == fence || mutated(Mutation::DownNotBound))
        {
            let wait =
                remaining_us + remaining_us * DRIFT_PER_MILLE / 1000 + u64::from(remaining_us > 0);
            let free_at = if mutated(Mutation::AgeAsTimestamp) {
                Instant(wait)
            } else {
                now.plus_us(wait)
            };
            pending.free_at.entry(voter).or_insert(free_at);
        }
    }

    /// Looks at every host once.
    pub(crate) fn step(&mut self, scene: &Scene<'_>) -> Moves {
        let mut moves = Moves::default();
        self.suspicions.retain(|id, _| scene.suspects(*id));
        self.pending.retain(|id, pending| {
            let standing = scene.state.hosts.get(id).map(|host| host.state);
            let same = HostState::Fencing {
                index: pending.entry.index,
            };
            standing == Some(same) || mutated(Mutation::DownNotBound)
        });
        for host in scene.state.hosts.values() {
            match host.state {
                HostState::Up => self.suspect(scene, host, &mut moves),
                HostState::Fencing { index } => self.wait(scene, host, index, &mut moves),
                HostState::Down { .. } => {}
            }
        }
        moves
    }

    fn suspect(&mut self, scene: &Scene<'_>, host: &Host, moves: &mut Moves) {
        if !scene.suspects(host.id) {
            return;
        }
        let certain = scene.stubborn.contains(&host.id) || scene.has_ended(host);
        let suspicion = self.suspicions.entry(host.id).or_default();
        let let_be = suspicion.let_be_until;
        if !certain && let_be.is_some_and(|until| scene.now < until) {
            return;
        }
        if suspicion.let_be_until.take().is_some() {
            *suspicion = Suspicion::default();
        }
        suspicion.silent.insert(scene.me);
        let voters = scene.raft.voters_all();
        let maybe_well = voters.difference(&suspicion.silent).copied().collect();
        let asks = !mutated(Mutation::NoPoll);
        if certain || !asks || !scene.raft.is_quorum(&maybe_well) {
            let silent_ms = scene.view.silent_ms(host.id).unwrap_or_default();
            let (host, incarnation) = (host.id, host.incarnation);
            moves.commands.push(Command::Host(HostCommand::Fence {
                host,
                incarnation,
                silent_ms,
            }));
            self.own.insert(host);
        } else if scene.raft.is_quorum(&suspicion.well) {
            let d = u64::from(scene.state.timing.suspect_ms);
            suspicion.let_be_until = Some(scene.now.plus_ms(d));
        } else if due(suspicion.asked_at, scene.now) {
            suspicion.asked_at = Some(scene.now);
            let others = voters
                .iter()
                .filter(|id| **id != scene.me && **id != host.id);
            let question = Message::AskHeard {
                host: host.id,
                since: scene.view.newest(host.id),
            };
            moves.ask.extend(others.map(|id| (*id, question.clone())));
        }
    }

    fn wait(&mut self, scene: &Scene<'_>, host: &Host, index: u64, moves: &mut Moves) {
        if !self.own.contains(&host.id) && scene.view.is_well(host.id) {
            moves.commands.push(Command::Host(HostCommand::Unfence {
                host: host.id,
                fence: index,
            }));
            return;
        }
        let unseen = EntryId {
            index,
            ..EntryId::default()
        };
        let fresh = || Pending {
            entry: scene.written.get(&index).copied().unwrap_or(unseen),
            began: scene.now,
            free_at: BTreeMap::new(),
            asked_at: None,
        };
        let pending = self.pending.entry(host.id).or_insert_with(fresh);
        let entry = pending.entry;
        if let Some(own) = scene
            .promises
            .remaining_us(scene.state, host.id, entry, 0, scene.now)
        {
            pending
                .free_at
                .entry(scene.me)
                .or_insert(scene.now.plus_us(own + own / 1000));
        }
        if scene.has_let_go(host, index) || pending.is_over(scene) {
            let fence_ms = scene.now.ms_since(pending.began);
            let membership = scene.state.membership.index;
            moves.commands.push(Command::Host(HostCommand::Down {
                host: host.id,
                fence: index,
                membership,
                fence_ms,
            }));
        } else if due(pending.asked_at, scene.now) {
            pending.asked_at = Some(scene.now);
            let question = Message::AskFence {
                host: host.id,
                entry,
                lease_ms: longest_lease_ms(scene.state),
            };
            let unheard = |id: &&HostId| **id != scene.me && !pending.free_at.contains_key(*id);
            moves.ask.extend(
                scene
                    .raft
                    .voters_all()
                    .iter()
                    .filter(unheard)
                    .map(|id| (*id, question.clone())),
            );
        }
    }

    /// When to look again although nothing was heard.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let ends = self
            .pending
            .values()
            .flat_map(|p| p.free_at.values())
            .filter(|at| **at > now)
            .min()
            .copied();
        let busy = !self.pending.is_empty() || !self.suspicions.is_empty();
        let again = busy.then(|| now.plus_ms(ASK_AGAIN_MS));
        [ends, again].into_iter().flatten().min()
    }
}

impl Pending {
    /// True when a quorum's promises, and those of any former configuration, have run out.
    fn is_over(&self, scene: &Scene<'_>) -> bool {
        let answered = self.free_at.keys().copied().collect();
        let lease_ms = u64::from(longest_lease_ms(scene.state));
        let settled = scene.config_seen.plus_ms(lease_ms + lease_ms / 1000 + 1);
        scene.raft.membership.index == scene.state.membership.index
            && scene.raft.is_quorum(&answered)
            && self.free_at.values().all(|at| *at <= scene.now)
            && (settled <= scene.now || mutated(Mutation::NoWaitAfterChange))
    }
}

fn due(asked_at: Option<Instant>, now: Instant) -> bool {
    asked_at.is_none_or(|at| now.ms_since(at) >= ASK_AGAIN_MS)
}

impl RaftStatus {
    /// Every voter of every active configuration.
    #[must_use]
    pub fn voters_all(&self) -> BTreeSet<HostId> {
        self.voters.iter().flatten().copied().collect()
    }

    /// True when `hosts` holds a majority of every active configuration.
    #[must_use]
    pub fn is_quorum(&self, hosts: &BTreeSet<HostId>) -> bool {
        Membership {
            index: self.membership.index,
            voters: self.voters.clone(),
        }
        .is_quorum(hosts)
    }
}
