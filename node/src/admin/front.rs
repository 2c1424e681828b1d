//! A running daemon behind the [`Door`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dns::DnsServer;
use statemachine::{ArrayId, HostId};
use tokio::sync::broadcast;

use super::door::{Age, Door, Measures, Unconfirmed};
use crate::api::{EventRecord, Request, Response};
use crate::daemon::{Daemon, answer};
use crate::raft::ReadError;
use crate::transport::BoxFuture;

/// A daemon and its name server.
pub struct Front {
    /// The daemon.
    pub daemon: Arc<Daemon>,
    /// Its name server, for the counters.
    pub dns: Arc<DnsServer>,
}

fn ms(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

impl Front {
    async fn age_now(&self) -> Age {
        let daemon = &self.daemon;
        let index = daemon.raft.state().index;
        let leader = daemon.raft.view().borrow().leader.map(HostId);
        let leader_heard_ms = match leader {
            None => None,
            Some(leader) if leader == daemon.me => daemon.quorum_age().map(ms),
            Some(leader) => {
                let heard = daemon.mailbox.ask(move |core, now| {
                    let seen = core.view().of(leader).filter(|seen| seen.last.is_some())?;
                    Some(now.ms_since(seen.heard_at))
                });
                heard.await.flatten()
            }
        };
        Age {
            index,
            leader_heard_ms,
        }
    }

    async fn confirm_now(&self) -> Result<u64, Unconfirmed> {
        let state = self.daemon.raft.state();
        let name = |id: u64| state.name_of(HostId(id));
        self.daemon
            .raft
            .linearizable()
            .await
            .map_err(|error| match error {
                ReadError::NotLeader { leader } => Unconfirmed::NotLeader(leader.map(name)),
                ReadError::NoQuorum => Unconfirmed::NoQuorum,
                ReadError::Stopped(why) => Unconfirmed::Stopped(why),
            })
    }

    async fn measure(&self) -> Measures {
        let daemon = &self.daemon;
        let lease = daemon.mailbox.ask(|core, now| {
            let end = core.lease_deadline().filter(|end| *end > now)?;
            Some(end.ms_since(now))
        });
        let (leads, committed) = {
            let view = daemon.raft.view();
            let view = view.borrow();
            (view.am_leader, view.committed)
        };
        Measures {
            leads,
            lease_ms: lease.await.flatten(),
            committed,
            dns: (!self.dns.addresses().is_empty()).then(|| self.dns.stats()),
            seal: daemon.sessions.counts(),
            server: daemon.server.counts(),
            dials_expired: daemon.peers.refused_expired(),
            connections: daemon.server.connections(),
            connected_hosts: daemon.server.connected_hosts().len(),
            certificate_until: daemon.identity.validity().until,
            traps: daemon.traps.report(&daemon.raft.state()).targets,
        }
    }
}

impl Door for Front {
    fn array(&self) -> ArrayId {
        self.daemon.identity.array()
    }

    fn open(&self) -> bool {
        self.daemon.live.borrow().admin_open_on_loopback
    }

    fn ask(&self, request: Request) -> BoxFuture<'_, Response> {
        Box::pin(answer(&self.daemon, request, false))
    }

    fn confirm(&self) -> BoxFuture<'_, Result<u64, Unconfirmed>> {
        Box::pin(self.confirm_now())
    }

    fn age(&self) -> BoxFuture<'_, Age> {
        Box::pin(self.age_now())
    }

    fn follow(&self, since: Option<u64>) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>) {
        // Subscribed before the past is read, so that nothing falls between.
        let coming = self.daemon.journal.follow();
        let past = since.map(|_| self.daemon.journal.read(since, usize::MAX));
        (past.unwrap_or_default(), coming)
    }

    fn recovered(&self) -> bool {
        self.daemon.recovered.load(Ordering::Acquire)
    }

    fn knows(&self, host: HostId) -> bool {
        self.daemon.raft.state().hosts.contains_key(&host)
    }

    fn measures(&self) -> BoxFuture<'_, Measures> {
        Box::pin(self.measure())
    }
}
