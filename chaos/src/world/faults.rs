//! What tests do to a world: kill, restart, stop, cut, fail, and what operators ask.

use std::collections::BTreeSet;

use control::{Core, Event, HostEvent, LocalGroup};
use statemachine::{Boot, Command, Entry, GroupName, HostId, Mutation, mutated};

use super::World;
use crate::host::Due;
use crate::record::Payload;
use crate::{Block, Weather, say_command};

/// When a warden says its last word, in microseconds after it shut the gate.
const LAST_WORD_US: [u64; 3] = [200, 20_000, 100_000];

impl World {
    /// Starts a host's daemon. Its driver takes stale addresses off first; the state is the one on
    /// disk, the log what was flushed.
    pub(super) fn boot(&mut self, id: HostId) {
        let (dice, now, words) = (self.rng.draw(), self.now, self.setup.words);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.boot += 1;
        host.kernel.served.clear();
        host.kernel.orphaned();
        (host.deadline, host.leased_since, host.trap) = (None, None, None);
        (host.started_at, host.disturbed_at) = (now, now);
        host.busy.clear();
        host.undurable.clear();
        (host.paused, host.wake_at) = (false, u64::MAX);
        (host.telling, host.standing) = (false, None);
        host.beats = false;
        host.state = host.saved.clone();
        let index = host.state.index;
        (host.raft.applied, host.raft.commit) = (index, index);
        (host.raft.leads, host.raft.leader, host.raft.applying) = (false, None, false);
        let local = host.clock.shows(now);
        let (boot, state, at) = (Boot(host.boot), host.state.clone(), host.state.at);
        let core = Core::new(id, boot, state, at, dice, local);
        let vows = words.then(|| super::vow(id, boot.0));
        host.core = Some(core.vowing(vows));
        // What the log holds beyond the state is told before anything is acknowledged.
        let marks = host.raft.tail(index, usize::MAX);
        let durable = host.raft.durable;
        let groups = host.groups.clone();
        marks.iter().for_each(|record| self.mark(id, record));
        self.tell_durable(id, durable);
        self.tell_status(id);
        for (group, measured) in groups {
            let measured = Event::Measured {
                group,
                measured,
                why: None,
            };
            self.inbox.push_back((id, measured));
        }
        self.settle();
    }

    /// Kills a host's daemon. Its addresses vanish with it, or, when `warden_too`, its gate stays as
    /// it was armed last.
    pub fn kill(&mut self, id: HostId, warden_too: bool) {
        let Some(host) = self.host_mut(id).filter(|host| host.core.is_some()) else {
            return;
        };
        host.core = None;
        host.paused = false;
        host.kernel.orphaned();
        (host.deadline, host.leased_since) = (None, None);
        host.backlog.clear();
        host.raft.leads = false;
        let durable = host.raft.durable;
        host.raft.truncate(durable);
        let boot = host.boot;
        if !warden_too && !mutated(Mutation::WordBeforeGate) {
            host.kernel.served.clear();
        }
        self.say(&format!(
            "-- kill h{id}{}",
            if warden_too { " and its warden" } else { "" }
        ));
        if !warden_too && self.setup.words {
            self.say_last_word(id, boot);
        }
    }

    /// The warden tells all others, more than once, that this start has ended and holds nothing. Its gate is
    /// shut by now.
    fn say_last_word(&mut self, host: HostId, boot: u64) {
        self.words.push((host, boot));
        for pause in LAST_WORD_US {
            self.send_word(host, boot, pause);
        }
    }

    fn send_word(&mut self, host: HostId, boot: u64, after: u64) {
        for to in self.setup.ids().into_iter().filter(|to| *to != host) {
            let copies = self.links.datagram(&mut self.rng, host, to);
            for delay in copies.into_iter().flatten() {
                self.arrive(to, after + delay, Due::Word { host, boot });
            }
        }
    }

    /// Every last word that was ever said comes again.
    pub fn replay_words(&mut self) {
        self.say("-- every last word comes again");
        for (host, boot) in self.words.clone() {
            self.send_word(host, boot, 0);
        }
    }

    /// Starts a killed host again.
    pub fn restart(&mut self, id: HostId) {
        if self.host(id).is_some_and(|host| host.core.is_none()) {
            self.say(&format!("-- restart h{id}"));
            self.boot(id);
        }
    }

    /// Stops a host's daemon (SIGSTOP): nothing reaches it, its kernel goes on.
    pub fn pause(&mut self, id: HostId) {
        let now = self.now;
        if let Some(host) = self.host_mut(id).filter(|host| host.runs()) {
            (host.paused, host.disturbed_at) = (true, now);
            self.say(&format!("-- pause h{id}"));
        }
    }

    /// Lets a stopped daemon go on: first it finds all that waited.
    pub fn go_on(&mut self, id: HostId) {
        let now = self.now;
        let Some(host) = self.host_mut(id).filter(|host| host.paused) else {
            return;
        };
        (host.paused, host.disturbed_at) = (false, now);
        let waited: Vec<Due> = host.backlog.drain(..).collect();
        let halfway = host.kernel.halfway.take();
        self.say(&format!("-- go on h{id}"));
        if let Some(half) = halfway {
            self.arm(id, half);
        }
        for due in waited {
            self.soon(id, 0, due);
        }
    }

    /// Blocks everything from one host to another.
    pub fn cut(&mut self, from: HostId, to: HostId) {
        self.links.block(from, to, Block::All);
        self.say(&format!("-- cut h{from} -> h{to}"));
    }

    /// Blocks datagrams, and only these, from one host to another.
    pub fn deafen(&mut self, from: HostId, to: HostId) {
        self.links.block(from, to, Block::Datagrams);
        self.say(&format!("-- no datagrams h{from} -> h{to}"));
    }

    /// Blocks connections, and only these, between two hosts: Raft stands still, heartbeats go on.
    pub fn mute(&mut self, from: HostId, to: HostId) {
        self.links.block(from, to, Block::Connections);
        self.say(&format!("-- no connections h{from} - h{to}"));
    }

    /// Unblocks everything.
    pub fn heal(&mut self) {
        self.links.heal(self.now);
        self.say("-- heal");
    }

    /// Changes the network's behaviour.
    pub fn weather(&mut self, weather: Weather) {
        self.links.set_weather(weather, self.now);
        let (from, to) = weather.delay_us;
        let (loss, double) = (weather.loss_per_mille, weather.double_per_mille);
        let mut line = format!("-- weather: delay {from}..{to} us, loss {loss}, double {double}");
        if weather.replay_per_mille > 0 {
            line += &format!(", replay {}", weather.replay_per_mille);
        }
        self.say(&line);
    }

    /// What the host's tests and loads say of its group from now on.
    pub fn measure(&mut self, id: HostId, measured: LocalGroup) {
        let group: GroupName = self.setup.policy.name.clone();
        let Some(host) = self.host_mut(id) else {
            return;
        };
        host.groups.insert(group.clone(), measured);
        let LocalGroup {
            healthy,
            load,
            capacity,
        } = measured;
        let tests = if healthy { "pass" } else { "fail" };
        self.say(&format!("-- h{id}: tests {tests}, load {load}/{capacity}"));
        self.soon(id, 0, Due::Measured(group, measured));
    }

    /// What the host's tests and loads say now.
    #[must_use]
    pub fn measured(&self, id: HostId) -> LocalGroup {
        let host = self.host(id);
        host.and_then(|host| host.groups.values().next().copied())
            .unwrap_or_default()
    }

    /// Whether the host's driver can acquire.
    pub fn acquire_works(&mut self, id: HostId, works: bool) {
        if let Some(host) = self.host_mut(id) {
            host.acquire_fails = !works;
            self.say(&format!(
                "-- h{id}: acquire {}",
                if works { "works" } else { "fails" }
            ));
        }
    }

    /// The interface of the host's service addresses goes: its driver gives up what it serves.
    pub fn interface_goes(&mut self, id: HostId) {
        self.acquire_works(id, false);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        for (address, served) in std::mem::take(&mut host.kernel.served) {
            self.say(&format!("h{id} - {address}"));
            let event = HostEvent::Lost {
                address,
                epoch: served.epoch,
                error: "no such interface".to_owned(),
            };
            self.inbox.push_back((id, Event::Host(event)));
        }
    }

    /// How long the host takes to apply, in microseconds.
    pub fn apply_takes(&mut self, id: HostId, apply_us: (u64, u64)) {
        let now = self.now;
        if let Some(host) = self.host_mut(id) {
            (host.apply_us, host.disturbed_at) = (apply_us, now);
            self.say(&format!(
                "-- h{id}: apply takes {}..{} us",
                apply_us.0, apply_us.1
            ));
        }
    }

    /// How long the host's driver takes for one action, in microseconds.
    pub fn driver_takes(&mut self, id: HostId, driver_us: (u64, u64)) {
        let now = self.now;
        if let Some(host) = self.host_mut(id) {
            (host.driver_us, host.disturbed_at) = (driver_us, now);
            let (from, to) = driver_us;
            self.say(&format!("-- h{id}: the driver takes {from}..{to} us"));
        }
    }

    /// How long the host's disk takes for a flush, in microseconds.
    pub fn flush_takes(&mut self, id: HostId, flush_us: (u64, u64)) {
        let now = self.now;
        if let Some(host) = self.host_mut(id) {
            (host.flush_us, host.disturbed_at) = (flush_us, now);
            let (from, to) = flush_us;
            self.say(&format!("-- h{id}: a flush takes {from}..{to} us"));
        }
    }

    /// Stops a host's daemon for so long at its next renewal of the gate: after it has worked out the
    /// time-out, before the kernel has it.
    pub fn trap(&mut self, id: HostId, stop_us: u64) {
        if let Some(host) = self.host_mut(id) {
            host.trap = Some(stop_us);
            self.say(&format!("-- h{id}: will stop for {stop_us} us at its gate"));
        }
    }

    /// The leader hands over to `id`, if enough would vote for it.
    pub fn transfer(&mut self, id: HostId) {
        self.say(&format!("-- h{id} asks for votes"));
        self.elect(Some(id));
        self.settle();
    }

    /// How long the voters do without a leader from now on before they have another, in ms.
    pub fn election_takes(&mut self, ms: u64) {
        self.setup.election_ms = ms;
        self.say(&format!("-- elections take {ms} ms"));
    }

    /// An operator asks for something; false when there is no leader to ask.
    pub fn operate(&mut self, commands: Vec<Command>) -> bool {
        let Some(leader) = self.leader() else {
            self.say("-- operator: nobody leads");
            return false;
        };
        let Some(core) = self.core(leader) else {
            return false;
        };
        let state = core.state().clone();
        for command in &commands {
            self.say(&format!("-- operator: {}", say_command(&state, command)));
        }
        let local = self.host(leader).map(|host| host.clock.shows(self.now));
        let at = local.and_then(|now| self.core(leader).map(|core| core.log_time(now)));
        let entry = Entry {
            at: at.unwrap_or_default(),
            wall: self.now / 1000,
            origin: None,
            commands,
        };
        self.append(leader, Payload::Data(entry), None);
        self.settle();
        true
    }

    /// An operator wants these voters; false when nobody leads or a change is under way.
    pub fn revote(&mut self, wanted: BTreeSet<HostId>) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let Some(host) = self.host(leader) else {
            return false;
        };
        let (at, sets) = host.raft.voters();
        let [current] = sets.as_slice() else {
            return false;
        };
        if at.index > host.raft.commit || *current == wanted || wanted.is_empty() {
            return false;
        }
        let joint = vec![current.clone(), wanted];
        self.say("-- operator: change of voters");
        self.append(leader, Payload::Voters(joint), None);
        self.settle();
        true
    }
}
