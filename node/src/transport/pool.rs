//! Connections to the other hosts: whom to call, over which of its addresses, on which lane.
//!
//! Each known host has four lanes (see `lane`); the urgent one is kept alive to every host, so a
//! vote costs one round trip at any time, and carries small appends of a new leader until the
//! log's own lane stands.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use statemachine::{Boot, HostId};

use super::frame::{Tag, Trust};
use super::kind::LaneName;
use super::lane::{Context, Lane, LaneError, Route};
use super::seal::Sessions;
use super::tls::{client_config, server_name};
use super::{HandlerError, Kind, TransportError};
use crate::pki::ArrayIdentity;

/// An append up to this size, bytes, may use the urgent lane while the log's is being made.
const SMALL_APPEND: usize = 64 * 1024;

/// Times of the pool. The default fits `lan` and what is faster; see [`Timing::of`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often the urgent connection is pinged.
    pub ping_every: Duration,
    /// A ping without answer for so long: the connection is dead.
    pub ping_deadline: Duration,
    /// Before the next address is tried beside the one that has not answered yet.
    pub stagger: Duration,
    /// Longest time for one attempt: TCP, TLS and first exchange each within it.
    pub attempt: Duration,
    /// Longest pause between attempts.
    pub backoff_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_every: Duration::from_secs(1),
            ping_deadline: Duration::from_millis(500),
            stagger: Duration::from_millis(30),
            attempt: Duration::from_secs(1),
            backoff_max: Duration::from_millis(200),
        }
    }
}

impl Timing {
    /// What goes with the array's timing. Nobody waits less than the default: a faster failure detector
    /// does not make a handshake cheaper. Where silence is borne for longer, so it is here: a connection is
    /// not given up before its host would be, and the way is long.
    #[must_use]
    pub fn of(timing: &statemachine::Timing) -> Self {
        let usual = Self::default();
        let patience = Duration::from_millis(u64::from(timing.suspect_ms));
        Self {
            ping_deadline: usual.ping_deadline.max(patience),
            stagger: usual
                .stagger
                .max(Duration::from_millis(u64::from(timing.heartbeat_ms) / 10)),
            attempt: usual.attempt.max(patience),
            ..usual
        }
    }
}

/// How the connection to one host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The host.
    pub host: HostId,
    /// The address of its urgent connection, or why there is none.
    pub connection: Result<SocketAddr, String>,
}

struct Peer {
    route: Arc<Route>,
    lanes: [Lane; LaneName::ALL.len()],
}

impl Peer {
    fn lane(&self, name: LaneName) -> &Lane {
        &self.lanes[name as usize]
    }
}

#[derive(Default)]
struct Known {
    peers: BTreeMap<HostId, Arc<Peer>>,
    forgotten: std::collections::BTreeSet<HostId>,
}

/// The connections from this host to the others. Dropping it closes all.
pub struct Peers {
    context: Arc<Context>,
    known: RwLock<Known>,
    runtime: tokio::runtime::Handle,
}

impl Peers {
    /// No hosts yet. `runtime` runs the connections; the other calls may come from any thread.
    ///
    /// # Errors
    /// [`TransportError::Tls`] if the identity can't be used.
    pub fn new(
        identity: &ArrayIdentity,
        boot: Boot,
        sessions: Arc<Sessions>,
        timing: Timing,
        runtime: tokio::runtime::Handle,
    ) -> Result<Arc<Self>, TransportError> {
        let context = Context {
            config: client_config(identity)?,
            name: server_name()?,
            array: identity.array(),
            me: identity.host(),
            boot,
            sessions,
            timing: ArcSwap::from_pointee(timing),
            refused_expired: AtomicU64::new(0),
        };
        Ok(Arc::new(Self {
            context: Arc::new(context),
            known: RwLock::default(),
            runtime,
        }))
    }

    /// Sets the control addresses of a host, in order of preference, and connects to it. This host
    /// itself and forgotten ones are ignored.
    pub fn set_addresses(&self, host: HostId, addresses: Vec<SocketAddr>) {
        if host == self.context.me {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.forgotten.contains(&host) {
            return;
        }
        if let Some(peer) = known.peers.get(&host) {
            peer.route.addresses.send_if_modified(|current| {
                let modified = *current != addresses;
                *current = addresses;
                modified
            });
            return;
        }
        let route = Arc::new(Route::new(host, addresses));
        let lanes =
            LaneName::ALL.map(|name| Lane::start(&self.context, &route, name, &self.runtime));
        known.peers.insert(host, Arc::new(Peer { route, lanes }));
    }

    /// Closes the connections to a host that left the array, for good.
    pub fn forget(&self, host: HostId) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.forgotten.insert(host);
        known.peers.remove(&host);
        drop(known);
        self.context.sessions.forget(host);
    }

    /// The hosts with addresses here, this one not among them.
    pub fn hosts(&self) -> Vec<HostId> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.peers.keys().copied().collect()
    }

    /// Attempts to connect that ended since the other host's certificate was not valid at that time.
    pub fn refused_expired(&self) -> u64 {
        self.context.refused_expired.load(Ordering::Relaxed)
    }

    /// How the connections stand, by host.
    pub fn status(&self) -> Vec<PeerStatus> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let status = |(host, peer): (&HostId, &Arc<Peer>)| PeerStatus {
            host: *host,
            connection: peer
                .lane(LaneName::Urgent)
                .status()
                .map_err(|reason| reason.to_string()),
        };
        known.peers.iter().map(status).collect()
    }

    /// Opens the log's connection to a host that will soon be called: a new leader's voters.
    pub fn warm(&self, host: HostId) {
        if let Ok(peer) = self.peer(host) {
            peer.lane(LaneName::Log).want();
        }
    }

    /// Takes other times for every attempt and ping from now on.
    pub fn retime(&self, timing: Timing) {
        self.context.timing.store(Arc::new(timing));
    }

    fn peer(&self, host: HostId) -> Result<Arc<Peer>, TransportError> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        match known.peers.get(&host) {
            Some(peer) => Ok(Arc::clone(peer)),
            None if known.forgotten.contains(&host) => Err(TransportError::Forgotten(host)),
            None => Err(TransportError::NoAddress(host)),
        }
    }

    /// Asks a host and waits at most `ttl` for the answer, the making of a connection included.
    ///
    /// If it has no connection, one attempt at all its addresses is waited for, so a host that is
    /// down is told sooner than by `ttl`.
    ///
    /// # Errors
    /// See [`TransportError`]; after [`TransportError::Timeout`] and [`TransportError::Closed`] the
    /// host may have done what it was asked.
    pub async fn call(
        &self,
        host: HostId,
        kind: Kind,
        body: Vec<u8>,
        ttl: Duration,
    ) -> Result<Vec<u8>, TransportError> {
        let (length, limit) = (body.len(), Trust::Member.limit(Tag::Ask(kind)));
        if length > limit {
            return Err(TransportError::TooLong {
                length,
                limit,
                kind,
            });
        }
        if kind == Kind::Stream {
            let error = HandlerError::BadRequest("a stream can't be called: use Client".to_owned());
            return Err(TransportError::Refused { host, error });
        }
        let peer = self.peer(host)?;
        if peer.route.addresses.borrow().is_empty() {
            return Err(TransportError::NoAddress(host));
        }
        let mut lane = peer.lane(kind.lane());
        let urgent = peer.lane(LaneName::Urgent);
        if kind.lane() == LaneName::Log
            && length <= SMALL_APPEND
            && lane.status().is_err()
            && urgent.status().is_ok()
        {
            lane.want();
            lane = urgent;
        }
        lane.call(kind, body, ttl)
            .await
            .map_err(|error| match error {
                LaneError::Timeout => TransportError::Timeout { host, kind, ttl },
                LaneError::Unreachable(reason) => TransportError::Unreachable { host, reason },
                LaneError::Ended(reason) => TransportError::Closed { host, reason },
                LaneError::Refused(error) => TransportError::Refused { host, error },
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nobody is hung up on sooner than the array would suspect him, and never sooner than usual.
    #[test]
    fn a_connection_is_borne_with_as_long_as_its_host() {
        let usual = Timing::default();
        for timing in [statemachine::Timing::FAST, statemachine::Timing::LAN] {
            assert_eq!(Timing::of(&timing), usual);
        }
        let wide = Timing::of(&statemachine::Timing::WAN);
        assert_eq!(wide.ping_deadline, Duration::from_secs(4));
        assert_eq!(wide.attempt, Duration::from_secs(4));
        assert_eq!(wide.stagger, Duration::from_millis(100));
    }
}
