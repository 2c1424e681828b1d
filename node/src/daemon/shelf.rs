//! What DNS answers from: the zones of the newest state, less those that this host may not vouch for.
//!
//! Two come here: each applied entry, and the clock that watches how long ago this host was in touch with
//! the quorum. Either may change what is answered, so both go through one door, and whoever answers
//! reads one pointer. A zone is withheld by its group's policy (`stale = "servfail"`, docs/adr/0027).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dns::{Primary, Secondaries, Zones};
use statemachine::{GroupName, HostId, Stale, State};

use super::Daemon;
use crate::clock;

/// How often the clock is looked at: a bound of seconds is kept to a quarter of one.
const LOOK: Duration = Duration::from_millis(250);

/// Out of touch is nobody for whom fewer heartbeats than this have passed.
const LEAST_HEARTBEATS: u64 = 4;

/// The control thread answers within microseconds; one that takes longer than this has nothing to say.
const ANSWER: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub struct Shelf {
    zones: Arc<ArcSwap<Zones>>,
    primary: Arc<Primary>,
    me: HostId,
    /// Only writers lock it: the thread that applies entries, and the watch below.
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    state: Arc<State>,
    out_of_touch: Duration,
}

impl Known {
    fn withheld(&self) -> BTreeSet<GroupName> {
        // A quorum is heard once in a heartbeat, so a shorter bound would be passed in perfect touch.
        let least_ms = LEAST_HEARTBEATS * u64::from(self.state.timing.heartbeat_ms);
        let stale = |policy: &statemachine::Policy| {
            let bound = Duration::from_millis(policy.stale_after_ms.max(least_ms));
            policy.stale == Stale::Servfail && self.out_of_touch >= bound
        };
        let groups = self.state.groups.iter();
        let withheld = groups.filter(|(_, group)| stale(&group.policy));
        withheld.map(|(name, _)| name.clone()).collect()
    }
}

impl Shelf {
    /// An empty shelf; name servers that follow our zones get them from `primary`.
    pub fn new(me: HostId, primary: Arc<Primary>) -> Self {
        Self {
            me,
            primary,
            ..Self::default()
        }
    }

    /// What name servers that follow our zones get, and what they were told.
    pub fn primary(&self) -> Arc<Primary> {
        Arc::clone(&self.primary)
    }

    /// What is answered from, now and after each change.
    pub fn zones(&self) -> Arc<ArcSwap<Zones>> {
        Arc::clone(&self.zones)
    }

    /// Takes in the state after an applied entry.
    pub fn applied(&self, state: &Arc<State>) {
        let mut known = self.lock();
        known.state = Arc::clone(state);
        self.put(&known);
        // After the answers: who follows waits for the network anyway.
        let secondaries = Secondaries::of(state, self.me);
        self.primary.take_in(secondaries, &self.zones.load());
    }

    /// Takes in for how long this host has been out of touch with the quorum.
    pub fn out_of_touch(&self, time: Duration) {
        let mut known = self.lock();
        let before = known.withheld();
        known.out_of_touch = time;
        let after = known.withheld();
        if before == after {
            return;
        }
        for group in after.difference(&before) {
            tracing::warn!(%group, "out of touch with the quorum for too long: its zone gets SERVFAIL");
        }
        for group in before.difference(&after) {
            tracing::info!(%group, "in touch with the quorum again: its zone is answered");
        }
        self.put(&known);
    }

    /// The groups whose zones get SERVFAIL here now.
    pub fn withheld(&self) -> BTreeSet<GroupName> {
        self.lock().withheld()
    }

    fn put(&self, known: &Known) {
        let changed = Zones::of_changed(&known.state, &known.withheld(), &self.zones.load());
        if let Some(changed) = changed {
            for refused in changed.refused() {
                tracing::error!(%refused, "a zone cannot be served");
            }
            self.zones.store(Arc::new(changed));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What a panic left behind is whole: each change is one assignment.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches how long ago this host was in touch with the quorum. Before the first time it counts from the
/// daemon's start, and without an answer of the control thread from the last one.
pub async fn watch(daemon: Arc<Daemon>) {
    let mut current_at = clock::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let asked = daemon.mailbox.ask(|core, _| core.current_at());
        if let Ok(Some(Some(at))) = tokio::time::timeout(ANSWER, asked).await {
            current_at = current_at.max(at);
        }
        let since = clock::now().us_since(current_at);
        daemon.shelf.out_of_touch(Duration::from_micros(since));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use statemachine::{Group, Policy, Zone};

    fn state(stale: Stale) -> Arc<State> {
        let mut state = State::default();
        for (name, stale) in [("web", stale), ("db", Stale::Serve)] {
            let policy = Policy {
                stale,
                stale_after_ms: 2_000,
                ..Policy::new(name, &format!("{name}.example."))
            };
            let group = Group {
                zone: Zone::new(7, policy.ttl_s),
                policy,
                generation: 1,
                deleting: false,
                members: Default::default(),
            };
            state.groups.insert(name.into(), group);
        }
        Arc::new(state)
    }

    fn held(zones: &Arc<ArcSwap<Zones>>) -> Vec<bool> {
        let zones = zones.load();
        zones.all().iter().map(|zone| zone.is_withheld()).collect()
    }

    /// Goal: a zone is withheld from its bound on, by its policy alone, and until contact is back; a
    /// change of the policy counts at once. Method: time and states in all orders.
    #[test]
    fn a_zone_is_withheld_by_policy_once_its_bound_has_passed() {
        let shelf = Shelf::default();
        let zones = shelf.zones();
        shelf.out_of_touch(Duration::from_secs(9));
        shelf.applied(&state(Stale::Servfail));
        assert_eq!(held(&zones), [false, true], "db, web");
        assert_eq!(shelf.withheld(), ["web".into()].into());
        shelf.out_of_touch(Duration::from_millis(1_999));
        assert_eq!(held(&zones), [false, false]);
        shelf.out_of_touch(Duration::from_millis(2_000));
        assert_eq!(held(&zones), [false, true]);
        shelf.applied(&state(Stale::Serve));
        assert_eq!(held(&zones), [false, false]);
    }
}
