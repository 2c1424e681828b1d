//! The host's own work: what the log says that it should hold, against what it holds.
//!
//! Derived anew each time, from nothing: a lost wake-up or a late answer cannot leave a wrong order
//! behind. Without a valid lease nothing should be held, so a lapsed lease releases everything and
//! safety needs no peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use statemachine::{AddressState, Boot, Epoch, GroupName, HostId, State};

use crate::{Client, GroupReport, HeldPhase, HeldReport, Instant, MAX_WHY, Report};

/// A claim of an address by another machine is told for so long after it was last heard, in ms: the
/// driver tells of one every 10 s.
const CONTEST_MS: u64 = 25_000;

/// Work for the driver. Actions on one address are performed in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostAction {
    /// Put the address on the interface and announce it, unless `deadline` has passed.
    Acquire {
        /// Which.
        address: IpAddr,
        /// Length of its prefix, in bits.
        prefix_len: u8,
        /// Its group.
        group: GroupName,
        /// The fencing token.
        epoch: Epoch,
        /// End of the lease; checked again right before the address is added.
        deadline: Instant,
        /// No lease rules out that another has it: ask the link first.
        probe: bool,
    },
    /// The lease was renewed: what is held may be served until `deadline`. For a driver with a gate.
    Renew {
        /// Its new end.
        deadline: Instant,
    },
    /// These are the addresses that this host could carry; the gate is shut for each that it does not
    /// hold. For a driver with a gate.
    Manage {
        /// Address, length of its prefix in bits, and group.
        addresses: Vec<(IpAddr, u8, GroupName)>,
    },
    /// Clients of an earlier holder of an address that was just taken: make them notice.
    Tickle {
        /// Which.
        address: IpAddr,
        /// Who.
        clients: Vec<Client>,
    },
    /// Take the address off the interface.
    Release {
        /// Which.
        address: IpAddr,
        /// Its group.
        group: GroupName,
        /// The fencing token it was held under.
        epoch: Epoch,
    },
}

/// What the driver tells of its work, and of what happened without an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostEvent {
    /// An acquire ended.
    Acquired {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        epoch: Epoch,
        /// How.
        result: Result<Took, String>,
    },
    /// An address that this host served can't be served here any more, and is let go.
    Lost {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        epoch: Epoch,
        /// Why.
        error: String,
    },
    /// Another machine claims an address that this host serves.
    Contested {
        /// Which.
        address: IpAddr,
        /// Its MAC, as people write it.
        by: String,
    },
    /// The clients of an address that this host serves.
    Clients {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        epoch: Epoch,
        /// Who.
        clients: Vec<Client>,
    },
    /// A release ended.
    Released {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        epoch: Epoch,
    },
}

/// What an acquire that went well took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Took {
    /// Its last part, the first announcement, in ms.
    pub announce_ms: u64,
}

/// What this host's tests and loads say of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalGroup {
    /// The tests pass.
    pub healthy: bool,
    /// Load, in the unit of `capacity`.
    pub load: u32,
    /// Capacity; 0 when nothing measures it.
    pub capacity: u32,
}

impl Default for LocalGroup {
    fn default() -> Self {
        Self {
            healthy: true,
            load: 0,
            capacity: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Held {
    epoch: Epoch,
    group: GroupName,
    phase: HeldPhase,
    began: Instant,
    contested: Option<(String, Instant)>,
    /// Told to go under a lease that has been valid since: it is served until its script has ended.
    lingers: bool,
}

/// What this host holds and is busy with.
#[derive(Clone, Debug, Default)]
pub struct Agent {
    held: BTreeMap<IpAddr, Held>,
    groups: BTreeMap<GroupName, (LocalGroup, Option<String>)>,
}

impl Agent {
    /// Takes in what the tests and loads of one group say, and which test fails and how. True when what
    /// they say changed.
    pub fn measure(
        &mut self,
        group: GroupName,
        measured: LocalGroup,
        mut why: Option<String>,
    ) -> bool {
        if let Some(why) = &mut why {
            why.truncate(why.floor_char_boundary(MAX_WHY));
        }
        let before = self.groups.insert(group, (measured, why));
        before.is_none_or(|(before, _)| before != measured)
    }

    /// Compares what should be held with what is held. `lease` is the end of a valid lease.
    pub fn reconcile(
        &mut self,
        state: &State,
        me: HostId,
        boot: Boot,
        lease: Option<Instant>,
        now: Instant,
    ) -> Vec<HostAction> {
        let wanted: Vec<((IpAddr, Epoch), Instant)> = match lease {
            Some(deadline) => self
                .assignment(state, me, boot)
                .into_iter()
                .map(|w| (w, deadline))
                .collect(),
            None => Vec::new(),
        };
        for held in self.held.values_mut() {
            let stands = |(_, since): &(String, Instant)| now.ms_since(*since) < CONTEST_MS;
            held.contested = held.contested.take().filter(stands);
        }
        let leased = lease.is_some();
        let mut actions = self.let_go(&wanted, leased);
        self.held
            .values_mut()
            .for_each(|held| held.lingers &= leased);
        // A failure stays told, and is not tried again, until the log has moved on: with lease or
        // without. The leader may have given the address away on the strength of this report.
        let stands = |ip: &IpAddr, epoch| {
            state
                .held_by(me)
                .any(|(held, a)| held == *ip && a.epoch == epoch)
        };
        self.held
            .retain(|ip, held| held.phase.is_held() || stands(ip, held.epoch));
        // While it is fenced it begins nothing: what it reports then is its last word (`Fences`).
        let up = state.hosts.get(&me).is_some_and(|host| host.is_up());
        for ((ip, epoch), deadline) in wanted {
            let Some(address) = state
                .addresses
                .get(&ip)
                .filter(|_| up && !self.held.contains_key(&ip))
            else {
                continue;
            };
            let group = address.group.clone();
            let phase = HeldPhase::Acquiring;
            self.held.insert(
                ip,
                Held {
                    epoch,
                    group: group.clone(),
                    phase,
                    began: now,
                    contested: None,
                    lingers: false,
                },
            );
            let prefix_len = address.prefix_len;
            actions.push(HostAction::Acquire {
                address: ip,
                prefix_len,
                group,
                epoch,
                deadline,
                probe: false,
            });
        }
        actions
    }

    /// Releases for all that is held and not wanted.
    fn let_go(&mut self, wanted: &[((IpAddr, Epoch), Instant)], leased: bool) -> Vec<HostAction> {
        let mut actions = Vec::new();
        for (ip, held) in &mut self.held {
            let stays = wanted
                .iter()
                .any(|((address, epoch), _)| address == ip && *epoch == held.epoch);
            if !stays && matches!(held.phase, HeldPhase::Acquiring | HeldPhase::Online { .. }) {
                held.phase = HeldPhase::Releasing;
                held.lingers = leased;
                actions.push(HostAction::Release {
                    address: *ip,
                    group: held.group.clone(),
                    epoch: held.epoch,
                });
            }
        }
        actions
    }

    /// What the log says that this start of this host should hold.
    fn assignment(&self, state: &State, me: HostId, boot: Boot) -> Vec<(IpAddr, Epoch)> {
        let mine = state
            .hosts
            .get(&me)
            .is_some_and(|host| host.boot == boot && !host.is_down());
        let healthy = |group: &GroupName| {
            self.groups
                .get(group)
                .is_none_or(|(local, _)| local.healthy)
        };
        state
            .held_by(me)
            .filter(|(_, address)| mine && healthy(&address.group))
            .filter(|(_, address)| !matches!(address.state, AddressState::Releasing { .. }))
            .map(|(ip, address)| (ip, address.epoch))
            .collect()
    }

    /// True when it has, or is about to have, an address, or one that goes is served still.
    #[must_use]
    pub fn serves(&self) -> bool {
        let live = |held: &Held| match held.phase {
            HeldPhase::Acquiring | HeldPhase::Online { .. } => true,
            HeldPhase::Releasing => held.lingers,
            HeldPhase::Failed { .. } => false,
        };
        self.held.values().any(live)
    }

    /// True when the driver has nothing, and is busy with nothing.
    #[must_use]
    pub fn is_empty_handed(&self) -> bool {
        !self.held.values().any(|held| held.phase.is_held())
    }

    /// True while the driver has the address, or is busy with it.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        let held = self.held.get(&address);
        held.is_some_and(|held| held.phase.is_held())
    }

    /// An acquire ended. Ignored when the address was told to go meanwhile.
    pub fn acquired(
        &mut self,
        address: IpAddr,
        epoch: Epoch,
        result: Result<Took, String>,
        now: Instant,
    ) {
        let acquiring =
            |held: &&mut Held| held.epoch == epoch && held.phase == HeldPhase::Acquiring;
        if let Some(held) = self.held.get_mut(&address).filter(acquiring) {
            held.phase = match result {
                Ok(Took { announce_ms }) => HeldPhase::Online {
                    acquire_ms: now.ms_since(held.began).saturating_sub(announce_ms),
                    announce_ms,
                },
                Err(error) => HeldPhase::Failed { error },
            };
        }
    }

    /// The driver gave up an address that it served, or let go of it with an error that is to be told.
    pub fn lost(&mut self, address: IpAddr, epoch: Epoch, error: String) {
        let online = |held: &&mut Held| {
            let phase = matches!(held.phase, HeldPhase::Online { .. } | HeldPhase::Releasing);
            held.epoch == epoch && phase
        };
        if let Some(held) = self.held.get_mut(&address).filter(online) {
            held.phase = HeldPhase::Failed { error };
        }
    }

    /// Another machine claims an address. True when that is news.
    pub fn contested(&mut self, address: IpAddr, by: String, now: Instant) -> bool {
        let Some(held) = self.held.get_mut(&address) else {
            return false;
        };
        let news = held
            .contested
            .as_ref()
            .is_none_or(|(known, _)| *known != by);
        held.contested = Some((by, now));
        news
    }

    /// A release ended: the address is off the interface. A failure that was told meanwhile stays told: the
    /// leader may give the address away on the strength of it, so it is not taken again.
    pub fn released(&mut self, address: IpAddr, epoch: Epoch) {
        let held = self.held.get(&address);
        if held.is_some_and(|held| held.epoch == epoch && held.phase.is_held()) {
            self.held.remove(&address);
        }
    }

    /// What this host says of itself.
    #[must_use]
    pub fn report(&self, state: &State, me: HostId) -> Report {
        let held = self.held.iter().map(|(ip, held)| HeldReport {
            address: *ip,
            epoch: held.epoch,
            phase: held.phase.clone(),
            contested: held.contested.as_ref().map(|(by, _)| by.clone()),
        });
        let mine = state
            .groups
            .iter()
            .filter(|(_, group)| group.members.contains_key(&me));
        let groups = mine.map(|(name, group)| {
            // Before the first look a member is as the log has it: a restart must not make it well.
            let unknown = LocalGroup {
                healthy: group.members.get(&me).is_none_or(|member| member.healthy),
                ..LocalGroup::default()
            };
            let known = self.groups.get(name).cloned();
            let (measured, why) = known.unwrap_or((unknown, None));
            let LocalGroup {
                healthy,
                load,
                capacity,
            } = measured;
            GroupReport {
                group: name.clone(),
                healthy,
                load,
                capacity,
                why: why.filter(|_| !healthy),
            }
        });
        Report {
            held: held.collect(),
            groups: groups.collect(),
        }
    }
}

/// The addresses that a host could be given, in order: those of its groups. An observer's are none.
pub(crate) fn manageable(state: &State, me: HostId) -> Vec<(IpAddr, u8, GroupName)> {
    let member = |group: &GroupName| {
        let host = state.hosts.get(&me).filter(|host| !host.observer);
        host.is_some_and(|host| host.members.iter().any(|spec| spec.group == *group))
    };
    let could = state.addresses.iter().filter(|(_, a)| member(&a.group));
    could
        .map(|(ip, a)| (*ip, a.prefix_len, a.group.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use statemachine::{Address, Host, HostState};

    /// Goal: what a host said that it can't serve it does not take again, also when it was just letting go of
    /// it for another reason: the leader gives it away on that word (storm 201015: served twice).
    /// Method: a lapse orders the release, the driver says that the address is lost and then that it is off,
    /// the lease is valid again; then the log moves on.
    #[test]
    fn what_was_told_as_lost_is_not_taken_again_when_its_release_ends() {
        let (me, boot, ip) = (HostId(1), Boot(1), IpAddr::from([10, 77, 1, 1]));
        let mut state = State::default();
        let host = Host {
            boot,
            ..Host::new(me, "h1", HostState::Up)
        };
        state.hosts.insert(me, host);
        let mut address = Address::new("web".into(), 24, me, Default::default());
        address.state = AddressState::Online { host: me };
        state.addresses.insert(ip, address);
        let (mut agent, lease) = (Agent::default(), Some(Instant(9_000_000)));
        let step = |agent: &mut Agent, state: &State, lease| {
            agent.reconcile(state, me, boot, lease, Instant(1)).len()
        };
        let epoch = state.addresses[&ip].epoch;
        assert_eq!(step(&mut agent, &state, lease), 1, "acquire");
        agent.acquired(ip, epoch, Ok(Took::default()), Instant(2));
        assert_eq!(step(&mut agent, &state, None), 1, "release");
        agent.lost(ip, epoch, "no such interface".into());
        agent.released(ip, epoch);
        assert_eq!(step(&mut agent, &state, lease), 0);
        let told = agent.report(&state, me).held;
        assert!(matches!(told[0].phase, HeldPhase::Failed { .. }));
        let address = state.addresses.get_mut(&ip).unwrap();
        address.epoch = Epoch(epoch.0 + 1);
        assert_eq!(step(&mut agent, &state, lease), 1, "a new epoch");
    }
}
