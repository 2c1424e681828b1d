//! Puts a group's scripts around what the driver does: pure, told and asked by the control thread.
//!
//! ```text
//! acquire: driver -> script -> "served"        release: script -> driver -> "let go"
//! ```
//!
//! One script at a time for each address. A release waits for its script, which is bounded, and the gate
//! stays open meanwhile under the host's lease; without a lease nothing is waited for: the address goes
//! first and the script runs afterwards. A group without scripts costs nothing (ADR-0032).
//!
//! A daemon that is told to end lets go of all and then runs the release scripts of what it served.
//!
//! Limits: an acquire script runs after the first announcement; a daemon that is killed runs no script.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use control::{HostAction, HostEvent, Took};
use statemachine::{Epoch, GroupName, State};

/// An acquire script has no longer, whatever the policy says: the leader gives up after 30 s.
const MAX_ACQUIRE_MS: u64 = 20_000;
/// A release script has no longer: a host that does not let go is fenced after 15 s.
const MAX_RELEASE_MS: u64 = 10_000;

/// Which script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// After the address is on the interface.
    Acquire,
    /// Before it leaves.
    Release,
}

/// A script to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub which: Which,
    /// For which address.
    pub address: IpAddr,
    /// Of which group.
    pub group: GroupName,
    /// Under which assignment.
    pub epoch: Epoch,
    /// Its path.
    pub path: String,
    /// Why, in a word.
    pub reason: &'static str,
    /// It is ended after so long, in ms.
    pub timeout_ms: u64,
}

/// What the control thread is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Have the driver do this.
    Perform(HostAction),
    /// Tell the control that.
    Tell(HostEvent),
    /// Run this, and say how it ended: [`Scripted::ran`].
    Run(Call),
}

/// What follows a script.
#[derive(Clone, Debug)]
enum Then {
    /// The address is served, or given up when the script failed.
    Serve(Took),
    /// The driver lets go, whatever became of the script.
    Release,
    /// Nothing: the address is gone already.
    Nothing,
}

#[derive(Clone, Debug)]
struct Waiting {
    call: Call,
    then: Then,
}

/// The scripts of this host, by address; the first of each list runs.
#[derive(Debug, Default)]
pub struct Scripted {
    lists: BTreeMap<IpAddr, VecDeque<Waiting>>,
    /// What the driver was told to take, and whether it did.
    held: BTreeMap<IpAddr, (Epoch, bool)>,
    /// Addresses whose script failed, until the driver has let go: which, and what is told then.
    failed: BTreeMap<IpAddr, (Epoch, Which, String)>,
}

impl Scripted {
    /// An order of the control's. `leased`: this host's lease is valid.
    pub fn order(&mut self, state: &State, leased: bool, action: HostAction) -> Vec<Next> {
        if let HostAction::Acquire { address, epoch, .. } = action {
            self.held.insert(address, (epoch, false));
        }
        let HostAction::Release {
            address,
            ref group,
            epoch,
        } = action
        else {
            return vec![Next::Perform(action)];
        };
        let served = self.held.remove(&address) == Some((epoch, true));
        let acquiring = self.unwanted(address);
        let reason = match (leased, state.addresses.get(&address)) {
            (false, _) => "leaseLost",
            (true, Some(address)) if address.epoch == epoch => "released",
            (true, _) => "superseded",
        };
        let call = call(state, Which::Release, (address, epoch), group, reason);
        let Some(call) = call.filter(|_| served) else {
            return vec![Next::Perform(action)];
        };
        // What is not told as served yet is missed by nobody: it need not wait for two scripts.
        if leased && !acquiring {
            return self.queue(call, Then::Release);
        }
        let mut next = vec![Next::Perform(action)];
        next.extend(self.queue(call, Then::Nothing));
        next
    }

    /// The daemon ends, and everything is let go: what is to run yet.
    pub fn end(&mut self, state: &State) -> Vec<Next> {
        let mut next = Vec::new();
        for (address, (epoch, served)) in std::mem::take(&mut self.held) {
            let _running = self.unwanted(address);
            let group = state.addresses.get(&address).map(|found| &found.group);
            let call = group
                .filter(|_| served)
                .and_then(|group| call(state, Which::Release, (address, epoch), group, "stopped"));
            next.extend(call.map(|call| self.queue(call, Then::Nothing)));
        }
        next.into_iter().flatten().collect()
    }

    /// Whether no script runs or waits.
    pub fn is_idle(&self) -> bool {
        self.lists.is_empty()
    }

    /// Acquire scripts of an address are not wanted any more: one that has not begun never will, and of
    /// one that runs nothing follows. True when one runs.
    fn unwanted(&mut self, address: IpAddr) -> bool {
        let Some(list) = self.lists.get_mut(&address) else {
            return false;
        };
        let mut place = 0;
        list.retain(|waiting| {
            place += 1;
            place == 1 || waiting.call.which == Which::Release
        });
        let running = list.front_mut();
        let running = running.filter(|running| running.call.which == Which::Acquire);
        running
            .map(|running| running.then = Then::Nothing)
            .is_some()
    }

    /// The driver told something.
    pub fn told(&mut self, state: &State, event: HostEvent) -> Vec<Next> {
        match event {
            HostEvent::Acquired {
                address,
                epoch,
                result: Ok(took),
            } if self.held.get(&address) == Some(&(epoch, false)) => {
                self.held.insert(address, (epoch, true));
                let group = state.addresses.get(&address).map(|found| &found.group);
                let call = group.and_then(|group| {
                    call(state, Which::Acquire, (address, epoch), group, "assigned")
                });
                match call {
                    Some(call) => self.queue(call, Then::Serve(took)),
                    None => vec![Next::Tell(event)],
                }
            }
            HostEvent::Lost { address, epoch, .. } => {
                let served = self.held.remove(&address) == Some((epoch, true));
                let group = state.addresses.get(&address).map(|found| &found.group);
                let call = group
                    .filter(|_| served)
                    .and_then(|group| call(state, Which::Release, (address, epoch), group, "lost"));
                let mut next = vec![Next::Tell(event)];
                next.extend(
                    call.map(|call| self.queue(call, Then::Nothing))
                        .into_iter()
                        .flatten(),
                );
                next
            }
            HostEvent::Released { address, epoch } => {
                vec![Next::Tell(self.released(address, epoch))]
            }
            _ => vec![Next::Tell(event)],
        }
    }

    /// What is told when the driver has let go: that, or how the script failed that stood before it.
    fn released(&mut self, address: IpAddr, epoch: Epoch) -> HostEvent {
        match self.failed.remove(&address) {
            Some((failed, Which::Acquire, error)) if failed == epoch => HostEvent::Acquired {
                address,
                epoch,
                result: Err(error),
            },
            Some((failed, Which::Release, error)) if failed == epoch => HostEvent::Lost {
                address,
                epoch,
                error,
            },
            _ => HostEvent::Released { address, epoch },
        }
    }

    /// The first script of `address` ended: `Err` says how it failed.
    pub fn ran(&mut self, address: IpAddr, result: Result<(), String>) -> Vec<Next> {
        let Some(list) = self.lists.get_mut(&address) else {
            return Vec::new();
        };
        let Some(Waiting { call, then }) = list.pop_front() else {
            return Vec::new();
        };
        let following = list.front().map(|next| next.call.clone());
        if list.is_empty() {
            self.lists.remove(&address);
        }
        let (epoch, group) = (call.epoch, call.group.clone());
        let release = HostAction::Release {
            address,
            group,
            epoch,
        };
        let holds = self.held.get(&address) == Some(&(epoch, true));
        let mut next = match (then, result) {
            // The driver gave it up meanwhile, or holds it under another assignment.
            (Then::Serve(_), result) if !holds => {
                let result = Err(result
                    .err()
                    .unwrap_or_else(|| "given up meanwhile".to_owned()));
                vec![Next::Tell(HostEvent::Acquired {
                    address,
                    epoch,
                    result,
                })]
            }
            (Then::Serve(took), Ok(())) => vec![Next::Tell(HostEvent::Acquired {
                address,
                epoch,
                result: Ok(took),
            })],
            (Then::Serve(_) | Then::Release, result) => {
                self.held.remove(&address);
                if let Err(error) = result {
                    let error = format!("{}: {error}", call.which.word());
                    self.failed.insert(address, (epoch, call.which, error));
                }
                vec![Next::Perform(release)]
            }
            (Then::Nothing, _) => Vec::new(),
        };
        next.extend(following.map(Next::Run));
        next
    }

    fn queue(&mut self, call: Call, then: Then) -> Vec<Next> {
        let list = self.lists.entry(call.address).or_default();
        let again = |waiting: &&mut Waiting| {
            let same = waiting.call.which == call.which && waiting.call.epoch == call.epoch;
            // An acquire script of which nothing follows was before a release: it runs again after that.
            same && (call.which == Which::Release || !matches!(waiting.then, Then::Nothing))
        };
        if let Some(waiting) = list.iter_mut().find(again) {
            if matches!(then, Then::Release) {
                waiting.then = then;
            }
            return Vec::new();
        }
        let first = list.is_empty();
        list.push_back(Waiting {
            call: call.clone(),
            then,
        });
        match first {
            true => vec![Next::Run(call)],
            false => Vec::new(),
        }
    }
}

/// The group's script of that kind, if it has one.
fn call(
    state: &State,
    which: Which,
    (address, epoch): (IpAddr, Epoch),
    group: &GroupName,
    reason: &'static str,
) -> Option<Call> {
    let scripts = state.groups.get(group)?.policy.scripts.as_ref()?;
    let (path, most) = match which {
        Which::Acquire => (scripts.acquire.clone()?, MAX_ACQUIRE_MS),
        Which::Release => (scripts.release.clone()?, MAX_RELEASE_MS),
    };
    Some(Call {
        which,
        address,
        group: group.clone(),
        epoch,
        path,
        reason,
        timeout_ms: scripts.timeout_ms.min(most),
    })
}

impl Call {
    /// The environment that failover.md promises.
    #[must_use]
    pub fn environment(&self, host: &str) -> Vec<(String, String)> {
        let pairs = [
            ("RAIS_GROUP", self.group.0.clone()),
            ("RAIS_ADDRESS", self.address.to_string()),
            ("RAIS_EPOCH", self.epoch.0.to_string()),
            ("RAIS_HOST", host.to_owned()),
            ("RAIS_REASON", self.reason.to_owned()),
        ];
        pairs.map(|(key, value)| (key.to_owned(), value)).to_vec()
    }
}

impl Which {
    /// For people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Acquire => "acquire script",
            Self::Release => "release script",
        }
    }
}

#[cfg(test)]
#[path = "scripted_tests.rs"]
mod tests;
