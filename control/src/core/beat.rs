//! What a host says of itself to the voters, and what they acknowledge: its lease, from both sides.

use std::collections::BTreeSet;

use statemachine::{HostId, Incarnation, usable_ms};

use super::Core;
use crate::currency::Glance;
use crate::resort::Beat;
use crate::{EntryId, Heartbeat, HostAction, Instant, Message, Output};

/// Up to so many hosts learners get heartbeats too: 16 x 15 x 10 datagrams a second in the whole array
/// at `lan` timing. In a larger one a learner that is promoted may cost its peers one renewal.
const HEARD_BY_ALL: usize = 16;

impl Core {
    /// A heartbeat came: the acknowledgement, if it gets one, and whether it says anything new.
    pub(super) fn heard(
        &mut self,
        now: Instant,
        from: HostId,
        heartbeat: Heartbeat,
    ) -> (Option<Message>, bool) {
        // What the log held at the start is known once Raft has spoken: it speaks after that.
        let knows = !self.raft.voters.is_empty();
        let (promises, state) = (&mut self.promises, &self.state);
        let promised = knows && promises.acknowledge(state, from, &heartbeat, now);
        let ack = promised.then(|| self.ack_of(&heartbeat));
        let known = self.view.fresh(from);
        let news = known.is_none_or(|known| !known.says_the_same(&heartbeat));
        let leased = heartbeat.lease_ok;
        if self.view.observe(from, heartbeat, now) && self.resorts {
            self.resort.beats(from, leased, now);
        }
        (ack, news)
    }

    fn ack_of(&self, heartbeat: &Heartbeat) -> Message {
        Message::Ack {
            incarnation: heartbeat.incarnation,
            boot: heartbeat.boot,
            seq: heartbeat.seq,
            membership: self.newest_configuration(),
        }
    }

    /// A voter acknowledged a heartbeat of this start and incarnation.
    pub(super) fn acked(&mut self, now: Instant, voter: HostId, seq: u64, membership: EntryId) {
        let had = self.has_lease(now);
        #[cfg(feature = "mutations")]
        self.lease.resent(seq, now, usable_ms(self.pace.lease_ms));
        self.count(voter, seq, membership);
        // Nothing is given to a host without a lease: say at once that there is one, or ask for it.
        if !had && self.has_lease(now) || !self.asked && self.asks(now) {
            self.next_heartbeat = now;
        }
    }

    /// Whether a heartbeat asks for a lease. Voters would go on to promise a host that does not hear them
    /// what it never learns of, and its addresses would wait for that to end. So each question without
    /// a lease takes a new word of a quorum, be it to a heartbeat that asked for none.
    fn asks(&self, now: Instant) -> bool {
        self.has_lease(now) || self.let_until.is_none() || self.let_until != self.asked_at
    }

    /// Counts it, if this host knows of the voters that it names.
    fn count(&mut self, voter: HostId, seq: u64, membership: EntryId) {
        if self.raft.covers(membership) {
            self.lease.acked(voter, seq);
            self.relet();
        }
    }

    /// The last voters that stand in this host's log.
    fn newest_configuration(&self) -> EntryId {
        self.promises.newest_configuration(self.raft.membership)
    }

    /// The answer to `AskFence`, if this voter has the fence on disk.
    pub(super) fn fence_status(
        &self,
        now: Instant,
        host: HostId,
        fence: EntryId,
        lease_ms: u32,
    ) -> Option<Message> {
        let remaining_us = self
            .promises
            .remaining_us(&self.state, host, fence, lease_ms, now)?;
        Some(Message::FenceStatus {
            host,
            entry: fence,
            remaining_us,
        })
    }

    /// Sends a heartbeat to every voter; to itself without a datagram.
    pub(super) fn beat(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.seq += 1;
        self.next_heartbeat = now.plus_ms(u64::from(self.pace.heartbeat_ms));
        self.asked = self.asks(now);
        if self.asked {
            self.asked_at = self.let_until;
        }
        let lease_ms = if self.asked { self.pace.lease_ms } else { 0 };
        self.lease.sent(self.seq, now, usable_ms(lease_ms));
        let heartbeat = self.heartbeat(now, lease_ms);
        for to in self.listeners(now) {
            if to != self.me {
                out.push(Output::Send {
                    to,
                    message: Message::Heartbeat(heartbeat.clone()),
                });
            } else if self
                .promises
                .acknowledge(&self.state, self.me, &heartbeat, now)
            {
                let newest = self.newest_configuration();
                self.count(self.me, self.seq, newest);
            }
        }
        self.view.observe(self.me, heartbeat, now);
        if self.resorts {
            self.resort_to(now, out);
        }
        let lease = self.lease_deadline();
        let glance = Glance {
            me: self.me,
            applied: self.state.index,
            lease,
            raft: &self.raft,
            view: &self.view,
        };
        self.currency.look(now, &glance);
    }

    /// Without a quorum, what groups ask for then.
    fn resort_to(&mut self, now: Instant, out: &mut Vec<Output>) {
        let beat = Beat {
            at: self.log_time(now),
            dice: self.dice,
            seq: self.seq,
            usable_ms: usable_ms(self.pace.lease_ms),
        };
        let (scene, resort) = self.resorting(now);
        for (to, orders) in resort.beat(&scene, &beat) {
            let message = Message::LastResort(orders);
            out.push(Output::Send { to, message });
        }
    }

    /// Who gets heartbeats: every voter of every active configuration, and in a small array the learners
    /// too. Their acknowledgements count once they vote, so a lease lives on while they are promoted.
    fn listeners(&self, now: Instant) -> BTreeSet<HostId> {
        let mut listeners = self.raft.voters_all();
        if listeners.len() + self.raft.learners.len() <= HEARD_BY_ALL {
            listeners.extend(&self.raft.learners);
        }
        // Without a quorum any host may lead, and serve.
        if self.resorts && !self.has_lease(now) {
            listeners.extend(self.state.hosts.keys());
        }
        listeners
    }

    /// The end of this host's lease, if that is not over.
    pub(super) fn live_lease(&self, now: Instant) -> Option<Instant> {
        self.lease_deadline().filter(|deadline| *deadline > now)
    }

    pub(super) fn has_lease(&self, now: Instant) -> bool {
        self.live_lease(now).is_some()
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.state.hosts.get(&self.me).map(|me| me.incarnation)
    }

    fn heartbeat(&self, now: Instant, lease_ms: u32) -> Heartbeat {
        Heartbeat {
            incarnation: self.incarnation().unwrap_or_default(),
            boot: self.boot,
            seq: self.seq,
            applied: self.state.index,
            membership: self.raft.membership,
            lease_ms,
            lease_ok: self.has_lease(now),
            vow: self.vow,
            report: self.agent.report(&self.state, self.me),
        }
    }

    /// A lease that reaches further is told to the gate at once.
    pub(super) fn renew(&mut self, now: Instant, out: &mut Vec<Output>) {
        let lease = self.live_lease(now);
        let lease = lease.or_else(|| self.resort.until(now));
        if let Some(deadline) = lease.filter(|deadline| *deadline > self.renewed)
            && self.agent.serves()
        {
            self.renewed = deadline;
            out.push(Output::Perform(HostAction::Renew { deadline }));
        }
    }

    /// Looks anew until when the acknowledgements reach: after each that came, and each change of voters.
    pub(super) fn relet(&mut self) {
        self.let_until = self.lease.deadline(&self.raft.voters);
    }
}
