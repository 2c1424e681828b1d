//! Without a quorum, for groups that ask for it: `quorum_loss = "last_resort"` (failover.md, "When the
//! quorum is gone"). Outside the promise: hosts that do not hear each other may serve one address.
//!
//! Of the hosts that hear each other the lowest id that is at it acts as leader. It plans by the leader's
//! rules, on a copy of the state in which whom it does not hear is down and whom it hears has a lease, and
//! says with each heartbeat who is to serve what. Each grants itself a lease from heartbeat to heartbeat, so
//! one that is stopped falls silent. Nothing goes into the log.
//!
//! It ends with any sign of a quorum. What was taken is then a claim: it stays until the log says whose the
//! address is, for [`CLAIM_MS`] at most, and goes at once from a host that gets no lease within D.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use statemachine::{
    AddressState, Boot, Command, Epoch, Host, HostCommand, HostId, HostState, LogTime, Policy,
    QuorumLoss, State,
};

use crate::{Heartbeat, HeldPhase, Instant, View, plan};

/// A claim ends after this long with a lease, in ms, should the log never speak of it.
const CLAIM_MS: u64 = 10_000;
/// Orders stand for so many D after they came: another acting leader is heard before.
const ORDERS_LAST_D: u64 = 3;

/// What an acting leader wants of one host: all that it is to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// The acting leader's start.
    pub boot: Boot,
    /// Its heartbeat; the newest orders count.
    pub seq: u64,
    /// For how long it has seen no sign of a quorum, in ms: so one that has just started need not wait.
    pub silent_ms: u64,
    /// What to serve, under which epoch of its copy.
    pub addresses: BTreeMap<IpAddr, Epoch>,
}

/// What a look needs.
pub(crate) struct Scene<'a> {
    pub(crate) now: Instant,
    pub(crate) me: HostId,
    pub(crate) boot: Boot,
    pub(crate) state: &'a Arc<State>,
    pub(crate) view: &'a View,
    /// The end of this host's lease, if it is valid.
    pub(crate) lease: Option<Instant>,
    /// It has nothing on an interface.
    pub(crate) empty_handed: bool,
}

/// A heartbeat of this host.
pub(crate) struct Beat {
    pub(crate) at: LogTime,
    pub(crate) dice: u64,
    pub(crate) seq: u64,
    pub(crate) usable_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resort {
    /// Since when there has been no sign of a quorum, and how far the log was then.
    alone: Option<(Instant, u64)>,
    /// While it serves: since when there is one again.
    quorum_at: Option<Instant>,
    /// Since when it serves.
    served_at: Option<Instant>,
    /// When each host was heard last, and whether it said that it has a lease: as it came, whatever the view
    /// forgives after a pause of this host.
    heard: BTreeMap<HostId, (Instant, bool)>,
    /// When another was last seen to lead.
    led_at: Option<Instant>,
    /// The acting leader's copy of the state.
    copy: Option<Arc<State>>,
    /// The newest orders of each host, and when they came.
    orders: BTreeMap<HostId, (Orders, Instant)>,
    /// What this host serves by orders.
    mine: BTreeMap<IpAddr, Epoch>,
    /// The lease that it grants itself. What the log gives waits until the real one reaches further: a gate
    /// has one deadline for all.
    until: Instant,
    /// The state as this host acts by it, and what it was made of.
    acts_by: Option<(u64, bool, Arc<State>)>,
}

impl Resort {
    /// Whether any group asks for it. Without one nothing else of this is called.
    pub(crate) fn is_asked(state: &State) -> bool {
        let mut groups = state.groups.values();
        groups.any(|group| group.policy.quorum_loss == QuorumLoss::LastResort)
    }

    /// Whether addresses are served outside the promise.
    pub(crate) fn serves(&self) -> bool {
        self.served_at.is_some()
    }

    /// The state as this host is to act by it, and until when; none while the log alone decides. `lease` is
    /// one by which the log may be followed.
    pub(crate) fn acts_by(&self, lease: Option<Instant>) -> Option<(Arc<State>, Option<Instant>)> {
        let (_, _, state) = self.acts_by.as_ref().filter(|_| self.serves())?;
        Some((Arc::clone(state), lease.or(Some(self.until))))
    }

    /// The end of the lease that it grants itself, while that is one.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        Some(self.until).filter(|until| self.serves() && *until > now)
    }

    /// The lease by which the log may be followed.
    pub(crate) fn lawful(&self, lease: Option<Instant>) -> Option<Instant> {
        lease.filter(|lease| *lease >= self.until)
    }

    /// Whether that lease has just ended, and there is no other: this host was away, and lets go of all
    /// before it goes on.
    pub(crate) fn lapses(&mut self, now: Instant, leased: bool) -> bool {
        let over = self.until <= now && self.until != Instant::default();
        if over {
            self.until = Instant::default();
        }
        over && self.serves() && !leased
    }

    /// No group asks for it any more, or this host must not.
    pub(crate) fn end(&mut self) {
        *self = Self {
            until: self.until,
            ..Self::default()
        };
    }

    /// A new heartbeat of another host came.
    pub(crate) fn beats(&mut self, from: HostId, leased: bool, now: Instant) {
        self.heard.insert(from, (now, leased));
    }

    /// This host was away from `since` to `now`: it was deaf then, and that others were silent says nothing.
    pub(crate) fn restart(&mut self, since: Instant, now: Instant, d: u64) {
        let away_us = now.us_since(since);
        self.alone = self.alone.map(|(at, index)| (at.plus_us(away_us), index));
        for heard in self.heard.values_mut() {
            if since.ms_since(heard.0) < d {
                *heard = (now, false);
            }
        }
    }

    fn hears(&self, scene: &Scene<'_>, id: HostId) -> bool {
        let d = scene.state.patience_ms();
        let came = self.heard.get(&id);
        let lives = came.is_some_and(|(at, _)| scene.now.ms_since(*at) < d);
        id == scene.me || lives && scene.view.gone(id).is_none()
    }

    /// Takes in what an acting leader says.
    pub(crate) fn hear(&mut self, state: &State, from: HostId, orders: Orders, now: Instant) {
        let known = self.orders.get(&from);
        let newer =
            known.is_none_or(|(known, _)| (known.boot, known.seq) < (orders.boot, orders.seq));
        if newer && state.hosts.contains_key(&from) {
            let since = Instant(now.0.saturating_sub(orders.silent_ms.saturating_mul(1000)));
            self.alone = self.alone.map(|(own, index)| (own.min(since), index));
            self.orders.insert(from, (orders, now));
        }
    }

    /// Looks whether there is a quorum, and what follows.
    pub(crate) fn look(&mut self, scene: &Scene<'_>) {
        let (now, index) = (scene.now, scene.state.index);
        let (since, then) = *self.alone.get_or_insert((now, index));
        let d = scene.state.patience_ms();
        let mut heard = self.heard.values();
        let other = heard.any(|(at, leased)| *leased && now.ms_since(*at) < d);
        let sign = scene.lease.is_some() || index != then || other;
        if sign && !self.serves() {
            self.alone = Some((now, index));
            return;
        }
        if sign || self.quorum_at.is_some() {
            let quorum_at = *self.quorum_at.get_or_insert(now);
            return self.yield_to_the_log(scene, quorum_at, then);
        }
        let silent_ms = now.ms_since(since);
        let mut groups = scene.state.groups.values();
        // What was held under a lease must be gone: its gate must not be opened by another.
        if scene.empty_handed && groups.any(|group| is_due(&group.policy, silent_ms)) {
            self.served_at.get_or_insert(now);
        }
    }

    /// There is a quorum again. What was taken is a claim where the log has not spoken since and its holder
    /// does not serve.
    fn yield_to_the_log(&mut self, scene: &Scene<'_>, quorum_at: Instant, then: u64) {
        let stands = |ip: &IpAddr| {
            scene.state.addresses.get(ip).is_some_and(|address| {
                let served = address.state.host().filter(|holder| *holder != scene.me);
                let well = |holder| self.hears(scene, holder) && scene.view.is_well(holder);
                address.index <= then && !served.is_some_and(well)
            })
        };
        let gone: Vec<IpAddr> = self.mine.keys().copied().filter(|ip| !stands(ip)).collect();
        for ip in gone {
            self.mine.remove(&ip);
            self.acts_by = None;
        }
        let bound = match scene.lease {
            Some(_) => CLAIM_MS,
            None => scene.state.patience_ms(),
        };
        let me = scene.state.hosts.get(&scene.me);
        let late = scene.now.ms_since(quorum_at) >= bound;
        if late || self.mine.is_empty() || me.is_none_or(Host::is_down) {
            *self = Self {
                alone: Some((scene.now, scene.state.index)),
                heard: std::mem::take(&mut self.heard),
                until: self.until,
                ..Self::default()
            };
        } else {
            self.act(scene);
        }
    }

    /// With a heartbeat of this host: plans if it acts as leader, and gives each host that it hears its
    /// orders; obeys its own, or those of who does.
    pub(crate) fn beat(&mut self, scene: &Scene<'_>, beat: &Beat) -> Vec<(HostId, Orders)> {
        let (None, Some((since, _)), Some(served_at)) =
            (self.quorum_at, self.alone, self.served_at)
        else {
            return Vec::new();
        };
        let (now, d) = (scene.now, scene.state.patience_ms());
        self.orders
            .retain(|_, (_, came)| now.ms_since(*came) < ORDERS_LAST_D * d);
        let hosts = scene.state.hosts.keys().copied();
        let heard: Vec<HostId> = hosts.filter(|id| self.hears(scene, *id)).collect();
        let leads = |id: &&HostId| **id < scene.me && heard.contains(*id);
        let led = self.orders.keys().any(|id| leads(&id));
        if led {
            self.led_at = Some(now);
        }
        // A lower one that has not been at it for as long may begin to lead; until then it is waited for.
        let may_be_led = heard.first().is_some_and(|id| *id < scene.me);
        let waited_from = self.led_at.map_or(served_at, |at| at.max(served_at));
        let mut told = Vec::new();
        if led {
            self.copy = None;
        } else if !may_be_led || now.ms_since(waited_from) >= d {
            let copy = self.replan(scene, beat, &heard);
            let silent_ms = now.ms_since(since);
            for id in &heard {
                let orders = Orders {
                    boot: scene.boot,
                    seq: beat.seq,
                    silent_ms,
                    addresses: ordered(&copy, *id, silent_ms),
                };
                match *id == scene.me {
                    true => drop(self.orders.insert(scene.me, (orders, now))),
                    false => told.push((*id, orders)),
                }
            }
        }
        // Those of the lowest that is heard; of one that has just fallen silent where there are no others.
        let of_heard = self.orders.iter().find(|(id, _)| heard.contains(id));
        let newest = of_heard.or(self.orders.iter().next());
        if let Some((_, (orders, _))) = newest {
            self.until = now.plus_ms(beat.usable_ms);
            if orders.addresses != self.mine {
                self.mine.clone_from(&orders.addresses);
                self.acts_by = None;
            }
        }
        self.act(scene);
        told
    }

    /// Plans on the copy.
    fn replan(&mut self, scene: &Scene<'_>, beat: &Beat, heard: &[HostId]) -> Arc<State> {
        let mut copy = self.copy.take().unwrap_or_else(|| adopted(scene, heard));
        let mut view = scene.view.clone();
        let mut first = Vec::new();
        let (index, membership) = (copy.index + 1, copy.membership.index);
        for host in Arc::make_mut(&mut copy).hosts.values_mut() {
            let last = scene.view.last(host.id);
            match last.filter(|_| heard.contains(&host.id)) {
                Some(heartbeat) => {
                    stand(host, heartbeat);
                    let well = Heartbeat {
                        lease_ok: true,
                        // It speaks of orders, by their epochs, and not of entries.
                        applied: u64::MAX,
                        ..heartbeat.clone()
                    };
                    view.suppose(host.id, well, scene.now);
                }
                None => {
                    view.forget(host.id);
                    first.extend(fall(host, index, membership));
                }
            }
        }
        let none = Default::default();
        let after = plan(&copy, &view, beat.at, beat.dice, first, &none)
            .after
            .into_owned();
        let copy = Arc::new(after);
        self.copy = Some(Arc::clone(&copy));
        copy
    }

    /// Makes the state that this host acts by: without a lease by which the log may be followed it has what
    /// was ordered and nothing else; with one what the log says, and its claims.
    fn act(&mut self, scene: &Scene<'_>) {
        let claims = self.quorum_at.is_some() && self.lawful(scene.lease).is_some();
        let key = (scene.state.index, claims);
        if self
            .acts_by
            .as_ref()
            .is_some_and(|(index, was, _)| (*index, *was) == key)
        {
            return;
        }
        let mut state = State::clone(scene.state);
        if let Some(me) = state.hosts.get_mut(&scene.me).filter(|_| !claims) {
            me.state = HostState::Up;
            me.boot = scene.boot;
        }
        for (ip, address) in &mut state.addresses {
            match self.mine.get(ip) {
                Some(epoch) => {
                    address.state = AddressState::Online { host: scene.me };
                    address.epoch = *epoch;
                }
                None if !claims && address.state.host() == Some(scene.me) => {
                    address.state = AddressState::Unserved;
                }
                None => {}
            }
        }
        self.acts_by = Some((key.0, key.1, Arc::new(state)));
    }
}

/// The state with what hosts that are heard serve already, by orders of an earlier acting leader; of two,
/// what the home serves, or the lower.
fn adopted(scene: &Scene<'_>, heard: &[HostId]) -> Arc<State> {
    let mut copy = State::clone(scene.state);
    for (ip, address) in &mut copy.addresses {
        let of = |id: &HostId| {
            let held = scene.view.last(*id)?.report.of(*ip)?;
            let online = matches!(held.phase, HeldPhase::Online { .. });
            online.then_some((Some(*id) != address.preferred, *id, held.epoch))
        };
        if let Some((_, host, epoch)) = heard.iter().filter_map(of).min() {
            address.state = AddressState::Online { host };
            address.epoch = epoch;
        }
    }
    Arc::new(copy)
}

/// A host that is heard is up in the copy, as it says that it is.
fn stand(host: &mut Host, heartbeat: &Heartbeat) {
    host.state = HostState::Up;
    host.boot = heartbeat.boot;
    host.incarnation = heartbeat.incarnation;
}

/// A host that is not heard is declared down in the copy, with the entry `index`.
fn fall(host: &Host, index: u64, membership: u64) -> Vec<Command> {
    let id = host.id;
    let down = |fence| {
        Command::Host(HostCommand::Down {
            host: id,
            fence,
            membership,
            fence_ms: 0,
        })
    };
    match host.state {
        HostState::Down { .. } => Vec::new(),
        HostState::Fencing { index } => vec![down(index)],
        HostState::Up => {
            let incarnation = host.incarnation;
            let fence = HostCommand::Fence {
                host: id,
                incarnation,
                silent_ms: 0,
            };
            vec![Command::Host(fence), down(index)]
        }
    }
}

/// Whether a group's time has come, after so long without a sign of a quorum.
fn is_due(policy: &Policy, silent_ms: u64) -> bool {
    policy.quorum_loss == QuorumLoss::LastResort && silent_ms >= policy.last_resort_after_ms
}

/// What the copy gives to a host, of the groups whose time has come.
fn ordered(copy: &State, id: HostId, silent_ms: u64) -> BTreeMap<IpAddr, Epoch> {
    let due = |group| {
        let group = copy.groups.get(group);
        group.is_some_and(|group| is_due(&group.policy, silent_ms))
    };
    let held = copy.held_by(id).filter(|(_, a)| due(&a.group));
    let stays = held.filter(|(_, a)| !matches!(a.state, AddressState::Releasing { .. }));
    stays.map(|(ip, a)| (ip, a.epoch)).collect()
}
