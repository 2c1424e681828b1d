//! What tests ask of a world.

use std::net::IpAddr;
use std::sync::Arc;

use control::{Core, Instant, RaftStatus, Why, ZoneJudgement, judge_zone, why};
use statemachine::{GroupName, HostId, State};

use super::World;
use crate::checker::{Breach, home, pending, zone};
use crate::quiet::Quiet;
use crate::{Law, Rng, Setup, Trace};

impl World {
    /// True time, in ms since the world began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now / 1000
    }

    /// How it began.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The leader of the newest term among the running hosts that reach a quorum.
    #[must_use]
    pub fn leader(&self) -> Option<HostId> {
        let leads = self.hosts.iter().filter(|host| {
            let reached = |other| self.reaches(host.id, other);
            host.runs() && host.raft.leads && host.raft.is_quorum(reached)
        });
        leads.max_by_key(|host| host.raft.term).map(|host| host.id)
    }

    /// A host's core, unless its daemon is dead.
    #[must_use]
    pub fn core(&self, id: HostId) -> Option<&Core> {
        self.host(id)?.core.as_ref()
    }

    /// What a host's clock shows.
    #[must_use]
    pub fn local_now(&self, id: HostId) -> Instant {
        self.host(id)
            .map(|host| host.now(self.now))
            .unwrap_or_default()
    }

    /// Whether a host's daemon runs, stopped or not.
    #[must_use]
    pub fn is_alive(&self, id: HostId) -> bool {
        self.host(id).is_some_and(|host| host.core.is_some())
    }

    /// Whether a host's daemon is stopped.
    #[must_use]
    pub fn is_paused(&self, id: HostId) -> bool {
        self.host(id).is_some_and(|host| host.paused)
    }

    /// How a host's Raft stands.
    #[must_use]
    pub fn raft(&self, id: HostId) -> RaftStatus {
        self.host(id)
            .map(|host| host.raft.status(&self.setup.ids()))
            .unwrap_or_default()
    }

    /// The newest state that any host has applied.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        let newest = self.hosts.iter().max_by_key(|host| host.state.index);
        newest.map(|host| host.state.clone()).unwrap_or_default()
    }

    /// The hosts whose kernel lets an address pass now.
    #[must_use]
    pub fn serving(&self, ip: IpAddr) -> Vec<HostId> {
        let open = self
            .hosts
            .iter()
            .filter(|host| host.kernel.is_open(ip, host.now(self.now)));
        open.map(|host| host.id).collect()
    }

    /// Why an address is where it is, as the leader sees it.
    #[must_use]
    pub fn why(&self, ip: IpAddr) -> Option<Why> {
        let leader = self.leader()?;
        let core = self.core(leader)?;
        let now = core.log_time(self.local_now(leader));
        why(core.state(), core.view(), now, ip)
    }

    /// What the leader would publish for a group if it looked at the load now, and why.
    #[must_use]
    pub fn zone(&self, name: &GroupName) -> Option<ZoneJudgement> {
        let core = self.core(self.leader()?)?;
        let group = core.state().groups.get(name)?;
        Some(judge_zone(core.state(), core.view(), group, true))
    }

    /// What happened.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The first law that was broken; the world stands still from then on.
    #[must_use]
    pub fn broken(&self) -> Option<&Breach> {
        self.laws.first()
    }

    /// What keeps the array from its equilibrium now (invariants 12, 14, 15 and 16); empty when it is
    /// there.
    #[must_use]
    pub fn overdue(&self) -> Vec<(Law, String)> {
        let Some(leader) = self.leader() else {
            return vec![(Law::Pending, "nobody leads".into())];
        };
        let (Some(core), Some(host)) = (self.core(leader), self.host(leader)) else {
            return vec![(Law::Pending, "the leader is dead".into())];
        };
        let state = core.state();
        let mut told: Vec<(Law, String)> = Vec::new();
        let lacks = self
            .laws
            .durable
            .lacks(leader, |at, term| host.raft.matches(at, term));
        told.extend(lacks.map(|what| (Law::Durable, what)));
        let runs = |id| self.is_alive(id) && !self.is_paused(id);
        let fallen = pending::overdue(state, runs).into_iter();
        told.extend(fallen.map(|what| (Law::Pending, what)));
        let now = core.log_time(self.local_now(leader));
        for (ip, address) in &state.addresses {
            let wrong = home::wrong(core, now, *ip, address, &self.serving(*ip));
            told.extend(wrong.map(|what| (Law::Home, what)));
        }
        let unnamed = zone::overdue(state).into_iter();
        told.extend(unnamed.map(|what| (Law::Zone, what)));
        told
    }

    /// What has been undisturbed for how long.
    pub(crate) fn quiet(&self) -> Quiet<'_> {
        Quiet {
            hosts: &self.hosts,
            links: &self.links,
            now: self.now,
            changed_at: self.changed_at,
            knowledge: &self.knowledge,
        }
    }

    /// The world's own stream of random numbers, for those who plague it.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}
