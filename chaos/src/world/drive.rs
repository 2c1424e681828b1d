//! A core's step, what it wants done, and the driver that does it.

use std::net::IpAddr;

use control::{Event, HostAction, Output, Took};
use statemachine::{Entry, Epoch, HostId};

use super::World;
use crate::checker;
use crate::host::Due;
use crate::record::Payload;

/// How long the driver takes for one action, in microseconds.
const DRIVER_US: (u64, u64) = (1_000, 5_000);

impl World {
    /// Hands every event in the inbox to its core, and does what the cores want done, until all rest.
    pub(super) fn settle(&mut self) {
        while let Some((id, event)) = self.inbox.pop_front() {
            self.step(id, event);
        }
    }

    fn step(&mut self, id: HostId, event: Event) {
        let true_now = self.now;
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let now = host.clock.shows(true_now);
        let Some(core) = host.core.as_mut() else {
            return;
        };
        let before = core.lease_deadline();
        let outputs = core.step(now, event);
        let deadline = core.lease_deadline();
        let wake = core.next_wake();
        if let Some(deadline) = deadline.filter(|deadline| *deadline > now) {
            host.kernel.arm(deadline, now);
        }
        let wake_at = host.clock.reaches(wake).max(true_now + 1);
        if wake_at < host.wake_at {
            host.wake_at = wake_at;
            self.soon(id, wake_at - true_now, Due::Wake);
        }
        if deadline != before
            && let Some(deadline) = deadline
        {
            let broken = checker::lease::unpromised(&self.hosts, id, deadline, self.now);
            self.laws.broken(self.now, broken);
        }
        for output in outputs {
            self.put_out(id, output);
        }
    }

    fn put_out(&mut self, id: HostId, output: Output) {
        match output {
            Output::Send { to, message } => {
                for delay in self.links.datagram(&mut self.rng, id, to) {
                    let message = message.clone();
                    self.arrive(to, delay, Due::Datagram { from: id, message });
                }
            }
            Output::Propose {
                id: number,
                at,
                commands,
            } => {
                let entry = Entry {
                    at,
                    wall: self.now / 1000,
                    origin: None,
                    commands,
                };
                let boot = self.host(id).map_or(0, |host| host.boot);
                if self.host(id).is_some_and(|host| host.raft.leads) {
                    self.append(id, Payload::Data(entry), Some((id, boot, number)));
                } else {
                    self.inbox.push_back((id, Event::Proposed { id: number }));
                }
            }
            // Elections are the world's.
            Output::Elect { .. } => {}
            Output::Perform(action) => {
                // The modelled gate is armed with each step (`Kernel::arm`), so these two say nothing.
                let (HostAction::Acquire { address, .. } | HostAction::Release { address, .. }) =
                    action
                else {
                    return;
                };
                let took = self.rng.between(DRIVER_US);
                let now = self.now;
                if let Some(host) = self.host_mut(id) {
                    let busy = host.busy.entry(address).or_default();
                    *busy = (*busy).max(now) + took;
                    let after = *busy - now;
                    self.soon(id, after, Due::Done(action));
                }
            }
        }
    }

    /// The driver is done. An acquire arms the gate with its deadline and refuses when that has passed.
    pub(super) fn done(&mut self, id: HostId, action: HostAction) {
        let true_now = self.now;
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let event = match action {
            HostAction::Acquire {
                address,
                epoch,
                deadline,
                ..
            } => {
                let result = if host.acquire_fails {
                    Err("no such interface".to_owned())
                } else if host.now(true_now) >= deadline {
                    Err("the lease ran out first".to_owned())
                } else {
                    host.kernel.add(address, epoch, deadline);
                    Ok(Took::default())
                };
                if result.is_ok() {
                    self.serves(id, address, epoch);
                }
                Event::Acquired {
                    address,
                    epoch,
                    result,
                }
            }
            HostAction::Renew { .. } | HostAction::Manage { .. } | HostAction::Tickle { .. } => {
                return;
            }
            HostAction::Release { address, epoch, .. } => {
                if host.kernel.remove(address).is_some() {
                    self.say(&format!("h{id} - {address}"));
                }
                Event::Released { address, epoch }
            }
        };
        self.inbox.push_back((id, event));
    }

    fn serves(&mut self, id: HostId, address: IpAddr, epoch: Epoch) {
        self.say(&format!("h{id} + {address} epoch={epoch}"));
        let broken = checker::one_holder::others(&self.hosts, id, address, self.now);
        self.laws.broken(self.now, broken);
    }

    /// Says which gates shut by themselves since the last time.
    pub(super) fn tell_shut_gates(&mut self) {
        for at in 0..self.hosts.len() {
            let Some(host) = self.hosts.get_mut(at) else {
                continue;
            };
            if host.kernel.served.is_empty() {
                continue;
            }
            let now = host.clock.shows(self.now);
            let (id, clock) = (host.id, host.clock);
            for (ip, served) in &mut host.kernel.served {
                if served.until <= now && !served.told {
                    served.told = true;
                    let when = clock.reaches(served.until).min(self.now);
                    self.trace.say(
                        when,
                        &format!("h{id} gate shut {ip} epoch={}", served.epoch),
                    );
                }
            }
            if host.core.is_none() {
                host.kernel.served.retain(|_, served| !served.told);
            }
        }
    }
}
