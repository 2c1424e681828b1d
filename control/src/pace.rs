//! How a change of timing is lived through (docs/adr/0021): by what a host counts, and when it is over.
//!
//! Between a change and its settlement a host acts by the strictest timing of both sides (the shortest
//! heartbeat and lease) and is judged by the mildest (the longest lease and patience, in the state). So
//! its lease is renewed by voters that have applied the change and by those that have not.
//!
//! Limits: what was in force before this start of the daemon is not known here; such a host begins with
//! no lease, so it loses none.

use statemachine::{ArrayCommand, Command, State, Timing};

use crate::{Instant, View};

/// By what this host counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Between two heartbeats, in ms.
    pub(crate) heartbeat_ms: u32,
    /// The L that its heartbeats ask for, in ms.
    pub(crate) lease_ms: u32,
}

impl Pace {
    /// As the timing says.
    pub(crate) fn of(timing: &Timing) -> Self {
        Self {
            heartbeat_ms: timing.heartbeat_ms,
            lease_ms: timing.lease_ms,
        }
    }

    /// Follows the state. Each timing keeps its own lease alive, and the shortest heartbeat goes with
    /// the shortest lease or is shorter than it needs.
    pub(crate) fn follow(&mut self, state: &State) {
        let newest = Self::of(&state.timing);
        *self = match state.is_settled() {
            true => newest,
            false => Self {
                heartbeat_ms: self.heartbeat_ms.min(newest.heartbeat_ms),
                lease_ms: self.lease_ms.min(newest.lease_ms),
            },
        };
    }
}

/// As leader: since when every host that is up is known to have applied the newest timing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settling {
    known: Option<(u64, Instant)>,
}

impl Settling {
    /// The command that settles the change, once no host counts with a former timing any more: every
    /// host that is up has said so, and the longest lease of before has ended since. A host that is down
    /// is acknowledged again only when it has applied its `Up`, which comes after.
    pub(crate) fn step(&mut self, state: &State, view: &View, now: Instant) -> Option<Command> {
        let all = state.hosts.values().all(|host| {
            let heard = view.last(host.id);
            let follows = heard.is_some_and(|heartbeat| {
                heartbeat.boot >= host.boot && heartbeat.applied >= state.timing_index
            });
            host.is_down() || host.is_up() && follows
        });
        if state.is_settled() || !all {
            self.known = None;
            return None;
        }
        let same = self.known.filter(|(index, _)| *index == state.timing_index);
        let (seen, since) = *self.known.insert(same.unwrap_or((state.timing_index, now)));
        // Drift as for a fence: 1 in 1000, and one for rounding.
        let lease_ms = u64::from(state.longest_lease_ms());
        let over = since.plus_ms(lease_ms + lease_ms / 1000 + 1) <= now;
        over.then_some(Command::Array(ArrayCommand::Settle { seen }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Heartbeat;

    use statemachine::{Boot, Host, HostId, HostState, Incarnation};

    fn state(timing: Timing, previous_lease_ms: u32) -> State {
        let mut state = State {
            timing,
            previous_lease_ms,
            timing_index: 9,
            index: 9,
            ..State::default()
        };
        for id in [HostId(1), HostId(2)] {
            let host = Host {
                incarnation: Incarnation(1),
                boot: Boot(3),
                ..Host::new(id, "h", HostState::Up)
            };
            state.hosts.insert(id, host);
        }
        state
    }

    fn heard(view: &mut View, id: u64, boot: u64, applied: u64, now: Instant) {
        let heartbeat = Heartbeat {
            boot: Boot(boot),
            seq: now.0,
            applied,
            ..Heartbeat::default()
        };
        assert!(view.observe(HostId(id), heartbeat, now));
    }

    /// Goal: until it is settled a host keeps the shortest of all paces, then it takes the newest.
    /// Method: lan, then fast, then wan, then settled.
    #[test]
    fn a_host_keeps_the_strictest_pace_until_the_change_settles() {
        let mut pace = Pace::of(&Timing::LAN);
        pace.follow(&state(Timing::FAST, 300));
        assert_eq!((pace.heartbeat_ms, pace.lease_ms), (20, 80));
        pace.follow(&state(Timing::WAN, 300));
        assert_eq!((pace.heartbeat_ms, pace.lease_ms), (20, 80));
        pace.follow(&state(Timing::WAN, 0));
        assert_eq!((pace.heartbeat_ms, pace.lease_ms), (1000, 4000));
    }

    /// Goal: a change settles only when every host that is up has applied it in its current start, and
    /// the longest lease has passed since. Method: hosts that lag, restart and are down, in turn.
    #[test]
    fn a_change_settles_a_lease_after_the_last_host_has_applied_it() {
        let mut state = state(Timing::LAN, 4000);
        let (mut view, mut settling) = (View::default(), Settling::default());
        let at = |ms: u64| Instant(ms * 1000);
        view.look(&state, at(0));
        heard(&mut view, 1, 3, 9, at(1));
        assert_eq!(
            settling.step(&state, &view, at(5_000)),
            None,
            "h2 is unheard"
        );
        heard(&mut view, 2, 3, 8, at(2));
        assert_eq!(settling.step(&state, &view, at(9_000)), None, "h2 lags");
        heard(&mut view, 2, 3, 9, at(9_001));
        assert_eq!(settling.step(&state, &view, at(10_000)), None, "leases run");
        assert_eq!(
            settling.step(&state, &view, at(14_000)),
            None,
            "clocks drift"
        );
        let settle = Some(Command::Array(ArrayCommand::Settle { seen: 9 }));
        assert_eq!(settling.step(&state, &view, at(14_005)), settle);
        // Another change while this one is not settled starts the wait anew.
        state.timing_index = 12;
        assert_eq!(settling.step(&state, &view, at(14_006)), None);
        for (host, standing, waits) in [
            (2, HostState::Fencing { index: 7 }, true),
            (2, HostState::Down { index: 7 }, false),
        ] {
            let known = state.hosts.get_mut(&HostId(host)).unwrap();
            known.state = standing;
            let now = Instant(20_000_000 + u64::from(!waits) * 10_000_000);
            heard(&mut view, 1, 3, 12, now);
            assert_eq!(settling.step(&state, &view, now), None);
            let later = settling.step(&state, &view, now.plus_ms(4_100));
            assert_eq!(later.is_none(), waits, "{standing:?}");
        }
    }
}
