//! A host's control: one step for each event, outputs for others to act on.
//!
//! One actor: heartbeats, leases, promises, the leader's plans and the host's own work share one view
//! and one `now`, so nothing between them can be half done.
//!
//! Limits: one plan is in flight at a time; while it is, the next is not drawn.

mod beat;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use statemachine::{
    ArrayCommand, Boot, Command, Epoch, GroupName, Host, HostId, LogTime, Mutation, State, mutated,
};

use crate::agent::manageable;
use crate::clients::Clients;
use crate::currency::Currency;
use crate::fence::{Moves, Scene};
use crate::pace::{Pace, Settling};
use crate::resort::{Resort, Scene as Resorting};
use crate::{
    Agent, Client, EntryId, Event, Fences, HostAction, HostEvent, Instant, Lease, LogMark, Message,
    Output, Promises, RaftStatus, View, Vow, facts, plan,
};

/// A plan whose answer does not come is given up after this long, in ms; it may still be applied,
/// and then the next one is refused where it overlaps.
const PLAN_BOUND_MS: u64 = 3_000;
/// A host that does not let go is fenced after this long, in ms: the longest release script (5 s by
/// default) and then some.
const RELEASE_BOUND_MS: u64 = 15_000;

/// A host's control.
pub struct Core {
    me: HostId,
    boot: Boot,
    vow: Option<Vow>,
    state: Arc<State>,
    raft: RaftStatus,
    lease: Lease,
    /// Until when a quorum of each voter set has acknowledged: see `relet`.
    let_until: Option<Instant>,
    /// Whether the last heartbeat asked for a lease, and `let_until` when one last did: see `asks`.
    asked: bool,
    asked_at: Option<Instant>,
    promises: Promises,
    view: View,
    fences: Fences,
    agent: Agent,
    clients: Clients,
    currency: Currency,
    /// Entries that fence, as they were appended here, by their index.
    written: BTreeMap<u64, EntryId>,
    seq: u64,
    next_heartbeat: Instant,
    /// What `next_wake` says.
    wakes_at: Instant,
    last_step: Instant,
    clock: (LogTime, Instant),
    config_seen: (u64, u64, Instant),
    in_flight: Option<(u64, Instant)>,
    proposals: u64,
    samples: BTreeMap<GroupName, Instant>,
    renewed: Instant,
    managed: Vec<(IpAddr, u8, GroupName)>,
    manages: Option<u64>,
    dice: u64,
    leased: bool,
    /// Where the log takes something from this host: its lease as it was before.
    taken: Option<Option<Instant>>,
    pace: Pace,
    settling: Settling,
    /// Whether any group asks for the last resort, and how far that has gone.
    resorts: bool,
    resort: Resort,
    /// Others say that the array has forgotten this host.
    forgotten: bool,
}

impl Core {
    /// A host as it starts. `at` is replicated time as far as it is known; `dice` is drawn once.
    #[must_use]
    pub fn new(
        me: HostId,
        boot: Boot,
        state: Arc<State>,
        at: LogTime,
        dice: u64,
        now: Instant,
    ) -> Self {
        let mut view = View::default();
        view.look(&state, now);
        let mut promises = Promises::new(now);
        promises.applied(&state);
        Self {
            me,
            boot,
            vow: None,
            config_seen: (state.membership.index, state.timing_index, now),
            pace: Pace::of(&state.timing),
            settling: Settling::default(),
            resorts: Resort::is_asked(&state),
            resort: Resort::default(),
            forgotten: false,
            state,
            raft: RaftStatus::default(),
            lease: Lease::default(),
            let_until: None,
            asked: true,
            asked_at: None,
            promises,
            view,
            fences: Fences::default(),
            agent: Agent::default(),
            clients: Clients::default(),
            currency: Currency::default(),
            written: BTreeMap::new(),
            seq: 0,
            next_heartbeat: now,
            wakes_at: now,
            last_step: now,
            clock: (at, now),
            in_flight: None,
            proposals: 0,
            samples: BTreeMap::new(),
            renewed: Instant::default(),
            managed: Vec::new(),
            manages: None,
            dice,
            leased: false,
            taken: None,
        }
    }

    /// By what the last word of this start will be known.
    #[must_use]
    pub fn vowing(mut self, vow: Option<Vow>) -> Self {
        self.vow = vow;
        self
    }

    /// The only way in. Never blocks, never fails; `now` is never earlier than in the last call.
    pub fn step(&mut self, now: Instant, event: Event) -> Vec<Output> {
        let mut out = Vec::new();
        self.step_into(now, event, &mut out);
        out
    }

    /// As `step`, for one who keeps the place for the outputs.
    pub fn step_into(&mut self, now: Instant, event: Event, out: &mut Vec<Output>) {
        let now = now.max(self.last_step);
        self.mind_the_gap(now);
        let before = self.lease_deadline();
        self.mind_the_lapse(now, before, out);
        let leased = self.leased;
        let news = self.take_in(now, event, out);
        self.mind_the_fence(before);
        self.view.look(&self.state, now);
        self.mind_the_quorum(now);
        if self.resorts {
            let (scene, resort) = self.resorting(now);
            resort.look(&scene);
        }
        self.renew(now, out);
        // An array at rest tells the same again and again: what follows from it was done before. What
        // time alone brings about is seen when `next_wake` says, though something else came first.
        let beats = now >= self.next_heartbeat;
        let due = news || beats || now >= self.wakes_at || leased != self.leased;
        if due {
            self.work(now, out);
        }
        if beats || now >= self.next_heartbeat {
            self.beat(now, out);
        }
        if due {
            self.lead(now, out);
        }
        // What was to be looked at again soon still is: datagrams that say nothing do not put it off.
        let wake = self.wake_after(now);
        self.wakes_at = if due { wake } else { wake.min(self.wakes_at) };
    }

    /// When to call again with `Woke` if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Instant {
        self.wakes_at
    }

    fn wake_after(&self, now: Instant) -> Instant {
        let lease = self.live_lease(now);
        let leads = self.raft.am_leader;
        let fences = self.fences.next_wake(now).filter(|_| leads);
        let silence = self.view.next_silence().filter(|_| leads);
        [Some(self.next_heartbeat), lease, fences, silence]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(self.next_heartbeat)
    }

    /// This host.
    #[must_use]
    pub fn me(&self) -> HostId {
        self.me
    }

    /// The replicated state as this host has applied it.
    #[must_use]
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// What this host hears of the others.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What Raft said last.
    #[must_use]
    pub fn raft(&self) -> &RaftStatus {
        &self.raft
    }

    /// Replicated time, as far as this host can tell; behind the leader's by no more than one commit.
    #[must_use]
    pub fn log_time(&self, now: Instant) -> LogTime {
        self.clock.0.plus(now.ms_since(self.clock.1))
    }

    /// The newest instant at which this host's copy of the state is known to have been current: a quorum
    /// was heard since, and what it had applied is applied here; none since the start.
    #[must_use]
    pub fn current_at(&self) -> Option<Instant> {
        self.currency.at()
    }

    /// The absolute end of this host's lease; none when it has none.
    ///
    /// It is not renewed while its own log takes something from it: it may just have learnt of new
    /// voters, whose older acknowledgements were given before they had that entry, and so before they
    /// counted (a new quorum that had been cut off from the fence).
    #[must_use]
    pub fn lease_deadline(&self) -> Option<Instant> {
        match self.taken {
            Some(deadline) => deadline,
            None => self.let_until,
        }
    }

    /// Notes whether the log, appended or applied, takes something from this host. If so, its lease stays
    /// as it was `before`.
    fn mind_the_fence(&mut self, before: Option<Instant>) {
        let me = self.state.hosts.get(&self.me);
        if me.is_none_or(Host::is_down) {
            self.taken = Some(None);
        } else if mutated(Mutation::RenewWhileFenced) {
            self.taken = None;
        } else if self.promises.takes_from(self.me) || !me.is_some_and(Host::is_up) {
            self.taken = self.taken.or(Some(before));
        } else {
            self.taken = None;
        }
    }

    /// Until when this host, as a voter, has promised `host` not to help in taking its addresses; from
    /// its own start on it answers as if it had promised everything just before.
    #[must_use]
    pub fn promised_until(&self, host: HostId) -> Instant {
        self.promises.end(&self.state, host)
    }

    /// A leader that was away for D/2 has not heard what came meanwhile: it starts anew (lease.md, 4).
    fn mind_the_gap(&mut self, now: Instant) {
        let gap = now.ms_since(self.last_step);
        let blames = mutated(Mutation::PausedLeaderFences);
        if gap > u64::from(self.state.timing.suspect_ms) / 2 && !blames {
            let d = self.state.patience_ms();
            self.resort.restart(self.last_step, now, d);
            self.view.restart(now);
            self.fences.clear();
        }
        self.last_step = now;
    }

    /// A host that slept through its deadline lets go of all, even if an acknowledgement that waited for
    /// it makes its lease valid again: what the kernel's gate let run out cannot be renewed, only acquired.
    fn mind_the_lapse(&mut self, now: Instant, deadline: Option<Instant>, out: &mut Vec<Output>) {
        let lapsed = self.leased && deadline.is_none_or(|deadline| deadline <= now);
        if lapsed || self.resort.lapses(now, self.leased) {
            self.leased = false;
            let let_go = self
                .agent
                .reconcile(&self.state, self.me, self.boot, None, now);
            out.extend(let_go.into_iter().map(Output::Perform));
        }
    }

    /// Leases that were lost with a quorum come back with it, each with its host's next heartbeat: nobody
    /// is blamed for the time between. This host's own lease tells when the quorum is there.
    fn mind_the_quorum(&mut self, now: Instant) {
        let leased = self.has_lease(now);
        if leased && !self.leased {
            self.view.restart_leases(now);
        }
        self.leased = leased;
    }

    /// False when the event brings nothing that plans or work could depend on.
    fn take_in(&mut self, now: Instant, event: Event, out: &mut Vec<Output>) -> bool {
        match event {
            Event::Woke => {}
            Event::Received {
                from,
                network,
                message,
            } => {
                self.view.hear(from, network, now);
                return self.receive(now, from, message, out);
            }
            Event::Applied { state } => self.applied(now, state),
            Event::LastWord { host, boot, vow } => {
                let news = self.view.last_word(host, boot, vow, now);
                if news && self.raft.leader == Some(host) {
                    out.extend(self.heir().map(|to| Output::Elect { to }));
                }
            }
            Event::Raft(status) => {
                if !status.am_leader || status.term != self.raft.term {
                    self.view.restart_leases(now);
                    self.fences.clear();
                    self.in_flight = None;
                }
                // New voters are asked at once: a lease may hang on them, and so may a restarted host.
                if status.voters != self.raft.voters {
                    self.next_heartbeat = now;
                }
                self.raft = status;
                self.relet();
            }
            Event::Log(mark) => {
                if let LogMark::Appended {
                    entry,
                    ref taken_from,
                } = mark
                    && !taken_from.is_empty()
                {
                    self.written.insert(entry.index, entry);
                }
                self.promises.log(mark);
            }
            Event::Forgotten => {
                (self.forgotten, self.resorts) = (true, false);
                self.resort.end();
            }
            Event::Proposed { id } => {
                self.in_flight = self.in_flight.filter(|(current, _)| *current != id)
            }
            Event::Measured {
                group,
                measured,
                why,
            } => {
                let news = self.agent.measure(group, measured, why);
                self.say_at_once(now, news);
            }
            Event::Host(told) => self.hear_driver(now, told, out),
        }
        true
    }

    fn hear_driver(&mut self, now: Instant, told: HostEvent, out: &mut Vec<Output>) {
        match told {
            HostEvent::Acquired {
                address,
                epoch,
                result,
            } => {
                let served = result.is_ok();
                self.agent.acquired(address, epoch, result, now);
                self.ended(now);
                let clients = self.clients.take(address);
                if served && !clients.is_empty() {
                    out.push(Output::Perform(HostAction::Tickle { address, clients }));
                }
            }
            HostEvent::Lost {
                address,
                epoch,
                error,
            } => {
                self.agent.lost(address, epoch, error);
                self.ended(now);
            }
            HostEvent::Contested { address, by } => {
                let news = self.agent.contested(address, by, now);
                self.say_at_once(now, news);
            }
            HostEvent::Clients {
                address,
                epoch,
                clients,
            } => self.tell_clients(address, epoch, &clients, out),
            HostEvent::Released { address, epoch } => {
                self.agent.released(address, epoch);
                self.ended(now);
            }
        }
    }

    /// The driver ended something: it is told at once, and what it need not guard any more is looked for.
    fn ended(&mut self, now: Instant) {
        self.manages = None;
        self.next_heartbeat = now;
    }

    /// News does not wait for the next heartbeat.
    fn say_at_once(&mut self, now: Instant, news: bool) {
        if news {
            self.next_heartbeat = now;
        }
    }

    /// The first voter that is well.
    fn heir(&self) -> Option<HostId> {
        let voters = self.raft.voters_all();
        voters.into_iter().find(|id| self.view.is_well(*id))
    }

    fn applied(&mut self, now: Instant, state: Arc<State>) {
        let incarnation = |state: &State| {
            state
                .hosts
                .get(&self.me)
                .map(|host| (host.incarnation, host.boot))
        };
        if incarnation(&state) != incarnation(&self.state) {
            self.lease.reset();
            self.relet();
            self.next_heartbeat = now;
        }
        // Nothing is believed of a host that has not applied what was taken from it: tell it at once.
        let taken_at = state.hosts.get(&self.me).map_or(0, |host| host.taken_at);
        if (self.state.index + 1..=state.index).contains(&taken_at) {
            self.next_heartbeat = now;
        }
        // The leader waits for the holder to have applied a release: tell it at once.
        if state
            .held_by(self.me)
            .any(|(_, address)| address.index == state.index)
        {
            self.next_heartbeat = now;
        }
        if (state.membership.index, state.timing_index) != (self.config_seen.0, self.config_seen.1)
        {
            self.config_seen = (state.membership.index, state.timing_index, now);
        }
        if state.timing != self.state.timing || state.is_settled() != self.state.is_settled() {
            self.pace.follow(&state);
            self.next_heartbeat = now;
        }
        if state.at > self.log_time(now) {
            self.clock = (state.at, now);
        }
        self.promises.applied(&state);
        let fenced: BTreeSet<u64> = state
            .hosts
            .values()
            .filter_map(|host| host.fence())
            .collect();
        self.written
            .retain(|index, _| *index > state.index || fenced.contains(index));
        self.clients.look(&state);
        self.resorts = Resort::is_asked(&state) && !self.forgotten;
        if !self.resorts {
            self.resort.end();
        }
        self.state = state;
    }

    /// Tells the other members of the group, one of whom may be the next holder.
    fn tell_clients(
        &mut self,
        address: IpAddr,
        epoch: Epoch,
        clients: &[Client],
        out: &mut Vec<Output>,
    ) {
        let group = self.state.addresses.get(&address).map(|a| &a.group);
        let Some(group) = group.and_then(|name| self.state.groups.get(name)) else {
            return;
        };
        for list in self.clients.tell(address, epoch, clients) {
            let others = group.members.keys().filter(|id| **id != self.me);
            out.extend(others.map(|to| Output::Send {
                to: *to,
                message: Message::Clients(list.clone()),
            }));
        }
    }

    /// As `take_in`.
    fn receive(
        &mut self,
        now: Instant,
        from: HostId,
        message: Message,
        out: &mut Vec<Output>,
    ) -> bool {
        let mut reply = |message| out.push(Output::Send { to: from, message });
        match message {
            Message::Heartbeat(heartbeat) => {
                let (ack, news) = self.heard(now, from, heartbeat);
                ack.into_iter().for_each(reply);
                news
            }
            Message::Ack {
                incarnation,
                boot,
                seq,
                membership,
            } => {
                if (self.incarnation(), self.boot) == (Some(incarnation), boot) {
                    self.acked(now, from, seq, membership);
                }
                false
            }
            Message::AskFence {
                host,
                entry,
                lease_ms,
            } => {
                self.promises.asked_about(&self.state, host);
                let status = self.fence_status(now, host, entry, lease_ms);
                status.into_iter().for_each(reply);
                false
            }
            Message::FenceStatus {
                host,
                entry,
                remaining_us,
            } => {
                self.fences.status(from, host, entry, remaining_us, now);
                true
            }
            Message::AskHeard { host, since } => {
                self.view.look(&self.state, now);
                let well = self.view.is_well_since(host, since);
                reply(Message::Heard { host, well });
                false
            }
            Message::Clients(list) => {
                self.clients.hear(&self.state, from, list);
                false
            }
            Message::LastResort(orders) => {
                if self.resorts {
                    self.resort.hear(&self.state, from, orders, now);
                }
                false
            }
            Message::Heard { host, well } => {
                self.fences.heard(from, host, well);
                true
            }
        }
    }

    /// The host's own work.
    fn work(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.manages != Some(self.state.index) {
            self.manages = Some(self.state.index);
            let mut addresses = manageable(&self.state, self.me);
            // What was served when it ceased to be this host's stays guarded until it is let go, in order.
            let listed = |ip: &IpAddr| addresses.binary_search_by_key(ip, |one| one.0).is_ok();
            let mut stay = self.managed.clone();
            stay.retain(|(ip, ..)| !listed(ip) && self.agent.holds(*ip));
            addresses.extend(stay);
            if addresses != self.managed {
                self.managed.clone_from(&addresses);
                out.push(Output::Perform(HostAction::Manage { addresses }));
            }
        }
        let lease = self.resort.lawful(self.live_lease(now));
        let resort = self.resort.acts_by(lease);
        let unruly = resort.is_some() && lease.is_none();
        let (state, until) = resort.unwrap_or_else(|| (Arc::clone(&self.state), lease));
        let until = until.filter(|until| *until > now);
        let mut actions = self.agent.reconcile(&state, self.me, self.boot, until, now);
        for action in &mut actions {
            if let HostAction::Acquire { probe, .. } = action {
                *probe = unruly;
            }
        }
        out.extend(actions.into_iter().map(Output::Perform));
    }

    /// The last resort, and what it looks at.
    fn resorting(&mut self, now: Instant) -> (Resorting<'_>, &mut Resort) {
        let scene = Resorting {
            now,
            me: self.me,
            boot: self.boot,
            state: &self.state,
            view: &self.view,
            lease: self.live_lease(now),
            empty_handed: self.agent.is_empty_handed(),
        };
        (scene, &mut self.resort)
    }

    /// Whether addresses may be served outside the promise now: no quorum, and a group asks for it.
    #[must_use]
    pub fn is_last_resort(&self) -> bool {
        self.resort.serves()
    }

    /// The leader's work. It plans only on a state that holds its own first entry: then nothing that an
    /// earlier leader committed is missing from it.
    fn lead(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.raft.am_leader || self.state.array.is_none() {
            return;
        }
        if self
            .in_flight
            .is_some_and(|(_, since)| now.ms_since(since) < PLAN_BOUND_MS)
        {
            return;
        }
        let at = self.log_time(now);
        if self.state.leader != Some((self.me, self.raft.term)) {
            let lead = ArrayCommand::Lead {
                host: self.me,
                term: self.raft.term,
            };
            return self.propose(now, at, vec![Command::Array(lead)], out);
        }
        let mut moves = self.fence(now, at);
        let settle = self.settling.step(&self.state, &self.view, now);
        moves.commands.extend(settle);
        out.extend(
            moves
                .ask
                .into_iter()
                .map(|(to, message)| Output::Send { to, message }),
        );
        let sampled = self.due_samples(now);
        self.dice = self
            .dice
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(1);
        let steps = plan(
            &self.state,
            &self.view,
            at,
            self.dice,
            moves.commands,
            &sampled,
        )
        .steps;
        if !steps.is_empty() {
            self.propose(now, at, steps, out);
        }
    }

    fn fence(&mut self, now: Instant, at: LogTime) -> Moves {
        let stubborn = facts::stubborn(&self.state, at, RELEASE_BOUND_MS);
        self.fences.step(&Scene {
            now,
            me: self.me,
            state: &self.state,
            view: &self.view,
            raft: &self.raft,
            promises: &self.promises,
            config_seen: self.config_seen.2,
            written: &self.written,
            stubborn: &stubborn,
        })
    }

    fn due_samples(&mut self, now: Instant) -> BTreeSet<GroupName> {
        let mut due = BTreeSet::new();
        for (name, group) in &self.state.groups {
            let last = self.samples.get(name);
            if last.is_none_or(|last| now.ms_since(*last) >= group.policy.sample_interval_ms) {
                self.samples.insert(name.clone(), now);
                due.insert(name.clone());
            }
        }
        self.samples
            .retain(|name, _| self.state.groups.contains_key(name));
        due
    }

    fn propose(
        &mut self,
        now: Instant,
        at: LogTime,
        commands: Vec<Command>,
        out: &mut Vec<Output>,
    ) {
        self.proposals += 1;
        self.in_flight = Some((self.proposals, now));
        out.push(Output::Propose {
            id: self.proposals,
            at,
            commands,
        });
    }
}
