//! A core's step, what it wants done, and the driver that does it.

use std::net::IpAddr;

use control::{Event, HostAction, HostEvent, Instant, Message, Output, Took};
use statemachine::{Entry, Epoch, HostId};

use super::{Job, World};
use crate::Law;
use crate::checker::{one_answer, one_gate};
use crate::host::Due;
use crate::kernel::Halfway;
use crate::record::Payload;

impl World {
    /// Hands every event in the inbox to its core, and does what the cores want done, until all rest.
    pub(super) fn settle(&mut self) {
        while let Some((id, event)) = self.inbox.pop_front() {
            self.step(id, event);
        }
    }

    fn step(&mut self, id: HostId, event: Event) {
        let true_now = self.now;
        let mut outputs = std::mem::take(&mut self.outputs);
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let now = host.clock.shows(true_now);
        let Some(core) = host.core.as_mut() else {
            return;
        };
        let heard = match &event {
            Event::Received {
                from,
                message: Message::Heartbeat(heartbeat),
                ..
            } => Some((*from, heartbeat.applied)),
            _ => None,
        };
        let learnt_voters = matches!(event, Event::Raft(_));
        let beat = core.view().newest(id);
        core.step_into(now, event, &mut outputs);
        let deadline = core.lease_deadline();
        let wake_at = host.clock.reaches(core.next_wake()).max(true_now + 1);
        if wake_at < host.wake_at {
            host.wake_at = wake_at;
            self.soon(id, wake_at - true_now, Due::Wake);
        }
        self.note_beat(id, beat);
        if learnt_voters {
            self.note_lease(id);
        }
        self.judge_lease(id, deadline, now);
        for output in outputs.drain(..) {
            self.judge(id, &output, heard, now);
            self.put_out(id, output);
        }
        self.outputs = outputs;
    }

    fn put_out(&mut self, id: HostId, output: Output) {
        match output {
            Output::Send { to, message } => {
                let again = self.links.replay(&mut self.rng, (id, to, &message));
                let [first, second] = self.links.datagram(&mut self.rng, id, to);
                let double = second.map(|delay| (delay, message.clone()));
                if let Some(delay) = first {
                    self.arrive(to, delay, Due::Datagram { from: id, message });
                }
                if let Some((delay, message)) = double {
                    self.arrive(to, delay, Due::Datagram { from: id, message });
                }
                if let Some((after, (from, to, message))) = again {
                    self.arrive(to, after, Due::Datagram { from, message });
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
                    self.tell_status(id);
                    self.inbox.push_back((id, Event::Proposed { id: number }));
                }
            }
            Output::Elect { .. } => self.elect_if_leaderless(),
            Output::Perform(HostAction::Renew { deadline }) => self.renew(id, deadline),
            Output::Perform(action) => {
                let (HostAction::Acquire { address, .. } | HostAction::Release { address, .. }) =
                    action
                else {
                    return;
                };
                let driver_us = self.host(id).map(|host| host.driver_us).unwrap_or_default();
                let took = self.rng.between(driver_us);
                let now = self.now;
                if let Some(host) = self.host_mut(id) {
                    let busy = host.busy.entry(address).or_default();
                    *busy = (*busy).max(now) + took;
                    let after = *busy - now;
                    self.soon(id, after, Due::Done(Box::new(action)));
                }
            }
        }
    }

    /// The driver renews the gate, unless it is stopped halfway.
    fn renew(&mut self, id: HostId, deadline: Instant) {
        let true_now = self.now;
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let now = host.now(true_now);
        let Some(half) = host.kernel.begin(deadline, now) else {
            return self.judge_gate(id);
        };
        match host.trap.take() {
            Some(stop_us) => {
                host.kernel.halfway = Some(half);
                self.say(&format!("h{id} is stopped between clock and gate"));
                self.judge_gate(id);
                self.pause(id);
                self.queue_job(stop_us, Job::GoOn(id));
            }
            None => self.arm(id, half),
        }
    }

    /// The kernel takes the time-out, then the driver looks at the clock.
    pub(super) fn arm(&mut self, id: HostId, half: Halfway) {
        let true_now = self.now;
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let now = host.now(true_now);
        let mut again = host.kernel.arm(half, now);
        if !again.is_empty() {
            self.next_shut = 0;
            again.drain(..).for_each(|ip| self.passes(id, ip));
        }
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let late = host.kernel.look_again(half, now);
        let again = host.kernel.take_again(now);
        if late || !again.is_empty() {
            self.next_shut = 0;
        }
        for ip in again {
            self.say(&format!("h{id} + {ip} again"));
            self.passes(id, ip);
        }
        self.judge_gate(id);
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
                    let deadline = deadline.max(host.kernel.deadline);
                    host.kernel.deadline = deadline;
                    host.kernel.add(address, epoch, deadline);
                    Ok(Took::default())
                };
                if result.is_ok() {
                    self.next_shut = 0;
                    self.serves(id, address, epoch);
                }
                HostEvent::Acquired {
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
                HostEvent::Released { address, epoch }
            }
        };
        self.inbox.push_back((id, Event::Host(event)));
    }

    fn serves(&mut self, id: HostId, address: IpAddr, epoch: Epoch) {
        self.say(&format!("h{id} + {address} epoch={epoch}"));
        let host = self.host(id);
        let until = host.and_then(|host| host.kernel.served.get(&address).map(|s| s.until));
        let now = self.local_now(id);
        let shut = one_answer::announced(id, address, until, now);
        self.laws.broken(self.now, Law::OneAnswer, shut);
        self.passes(id, address);
        self.judge_gate(id);
    }

    /// An address passes this host's gate that did not before.
    fn passes(&mut self, id: HostId, ip: IpAddr) {
        let mut open = self.serving(ip);
        open.sort_by_key(|other| *other != id);
        let shared = one_gate::shared(ip, &open);
        self.laws.broken(self.now, Law::OneGate, shared);
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
        let ends = self.hosts.iter().flat_map(|host| {
            let live = host.kernel.served.values().filter(|served| !served.told);
            live.map(|served| host.clock.reaches(served.until))
        });
        self.next_shut = ends.min().unwrap_or(u64::MAX);
    }
}
