//! What a core says and does, held against the laws.

use control::{Core, Instant, Message, Output};
use statemachine::{Boot, Command, HostCommand, HostId};

use super::World;
use crate::Law;
use crate::checker::{applied_first, needless, promised, renewal, restarted_voter};
use crate::host;

/// A fence is needless when all was undisturbed for this long and 4 D before, in microseconds: delayed
/// and replayed datagrams of a former disturbance have come by then.
const CALM_US: u64 = 4_000_000;

/// The heartbeat that a core was handed: from whom, and what it said it has applied.
pub(super) type Heard = Option<(HostId, u64)>;

impl World {
    /// The lease of a host is `deadline` from now on. True time is that of the step.
    pub(super) fn judge_lease(&mut self, id: HostId, deadline: Option<Instant>, now: Instant) {
        let true_now = self.now;
        let Some(host) = self.host_mut(id) else {
            return;
        };
        let before = std::mem::replace(&mut host.deadline, deadline);
        let valid = deadline.is_some_and(|deadline| deadline > now);
        let lapsed = host.leased_since.is_some() && !valid;
        host.leased_since = host.leased_since.or(Some(true_now)).filter(|_| valid);
        if lapsed {
            let timing = &self.setup_timing(id);
            let calm_us = 1000 * (2 * timing.1 + 1_000);
            let broken = renewal::lapsed(&self.quiet(), id, calm_us);
            self.laws.broken(true_now, Law::Renewal, broken);
        }
        if deadline != before
            && let Some(deadline) = deadline
        {
            let broken = promised::unpromised(&self.hosts, id, deadline, true_now);
            self.laws.broken(true_now, Law::Promised, broken);
        }
    }

    /// D and L of a host's state, in ms.
    fn setup_timing(&self, id: HostId) -> (u64, u64) {
        let core = self.core(id);
        core.map_or((0, 0), |core| {
            let state = core.state();
            let lease_ms = state.timing.lease_ms.max(state.previous_lease_ms);
            (u64::from(state.timing.suspect_ms), u64::from(lease_ms))
        })
    }

    /// One output of a host's core, before it is carried out.
    pub(super) fn judge(&mut self, id: HostId, output: &Output, heard: Heard, now: Instant) {
        match output {
            Output::Send {
                to,
                message:
                    Message::Ack {
                        boot,
                        seq,
                        membership,
                        ..
                    },
            } => {
                // It knows what its log holds, whatever it says.
                let log = host::of(&self.hosts, id).map(|host| host.raft.membership());
                let knows = log.unwrap_or_default().max(*membership);
                let reference = &mut self.laws.reference;
                reference.grants(id, knows, *to, (*boot, *seq));
                self.note_lease(*to);
                self.judge_ack(id, *to, heard);
            }
            Output::Send {
                message:
                    Message::FenceStatus {
                        host,
                        entry,
                        remaining_us,
                    },
                ..
            } => self.judge_answer(id, *host, entry.index, *remaining_us, now),
            Output::Propose { commands, .. } => {
                for command in commands {
                    self.judge_proposal(id, command);
                }
            }
            _ => {}
        }
    }

    /// Notes a heartbeat that a host began in this step, and its own vote: who is alone sends none to others.
    pub(super) fn note_beat(&mut self, id: HostId, before: (Boot, u64)) {
        let Some(core) = self.core(id) else {
            return;
        };
        let number = core.view().newest(id);
        let asked = core.view().fresh(id).filter(|_| number != before);
        let Some(lease_ms) = asked.map(|heartbeat| heartbeat.lease_ms) else {
            return;
        };
        let reference = &mut self.laws.reference;
        reference.asks(id, number, lease_ms, self.now);
        let start = host::of(&self.hosts, id).and_then(|host| host.start());
        if let Some(start) = start.filter(|start| start.is_up) {
            reference.grants(id, start.raft.membership, id, number);
            reference.lease_stands(start);
        }
    }

    /// Notes the lease that a host has now: it stands.
    pub(super) fn note_lease(&mut self, id: HostId) {
        let host = host::of(&self.hosts, id);
        if let Some(start) = host.and_then(|host| host.start()) {
            self.laws.reference.lease_stands(start);
        }
    }

    /// What passes a gate passes under a lease, as the naive reference counts it: looked at whenever a gate
    /// is armed or could be.
    pub(super) fn judge_gate(&mut self, id: HostId) {
        let Some((host, start)) = host::of(&self.hosts, id).and_then(|h| Some((h, h.start()?)))
        else {
            return;
        };
        let end = self.laws.reference.lease_stands(start);
        let now = host.now(self.now);
        let open = host.kernel.served.iter();
        let open = open.filter(|(_, served)| served.on && served.until > now);
        let last = open.max_by_key(|(_, served)| served.until);
        let beyond = last.and_then(|(ip, served)| {
            let until = host.clock.reaches(served.until);
            let told = || format!("h{id} lets {ip} pass until {until} us, its lease ends at {end}");
            (until > end).then(told)
        });
        self.laws.broken(self.now, Law::Reference, beyond);
    }

    fn judge_ack(&mut self, id: HostId, to: HostId, heard: Heard) {
        let Some(state) = self.core(id).map(|core| core.state().clone()) else {
            return;
        };
        let late = heard.and_then(|(_, applied)| applied_first::acknowledged(&state, to, applied));
        self.laws.broken(self.now, Law::AppliedFirst, late);
        let fenced = self.laws.fenced.acknowledged(id, to, &state);
        self.laws.broken(self.now, Law::FencedAck, fenced);
    }

    fn judge_answer(
        &mut self,
        id: HostId,
        host: HostId,
        index: u64,
        remaining_us: u64,
        now: Instant,
    ) {
        let Some(voter) = self.host(id) else {
            return;
        };
        let started = voter.clock.shows(voter.started_at);
        let lease_ms = self.setup_timing(id).1 as u32;
        let young = restarted_voter::answered(id, remaining_us, now.us_since(started), lease_ms);
        self.laws.broken(self.now, Law::RestartedVoter, young);
        let reference = &self.laws.reference;
        let forgot = reference.answers(id, host, remaining_us, self.now);
        self.laws.broken(self.now, Law::Reference, forgot);
        self.laws.fenced.answered(id, host, index);
    }

    fn judge_proposal(&mut self, id: HostId, command: &Command) {
        match command {
            Command::Host(HostCommand::Fence { host, .. }) => {
                let certain = self.core(id).is_none_or(|core| {
                    lets_not_go(core, *host) || core.view().gone(*host).is_some()
                });
                if certain {
                    return;
                }
                let calm_us = CALM_US + 4000 * self.setup_timing(id).0;
                let broken = needless::fence(&self.quiet(), id, *host, calm_us);
                self.laws.broken(self.now, Law::Needless, broken);
            }
            Command::Host(HostCommand::Down { host, fence, .. }) => {
                let Some(core) = self
                    .core(id)
                    .filter(|core| !has_let_go(core, *host, *fence))
                else {
                    return;
                };
                let early = self.laws.settled.acts(core.state(), *host, self.now);
                self.laws.broken(self.now, Law::Settled, early);
            }
            _ => {}
        }
    }
}

fn lets_not_go(core: &Core, host: HostId) -> bool {
    let mut held = core.state().held_by(host);
    held.any(|(_, address)| matches!(address.state, statemachine::AddressState::Releasing { .. }))
}

/// It said after its fence that it holds nothing.
fn has_let_go(core: &Core, id: HostId, fence: u64) -> bool {
    let boot = core.state().hosts.get(&id).map(|host| host.boot);
    if core.view().gone(id) >= boot {
        return true;
    }
    core.view().fresh(id).is_some_and(|heartbeat| {
        Some(heartbeat.boot) >= boot
            && heartbeat.applied >= fence
            && heartbeat.report.is_empty_handed()
    })
}
