//! What the API sees of a daemon: one trait, so that a test can stand in for it.

use statemachine::{ArrayId, HostId};
use tokio::sync::broadcast;

use crate::api::{EventRecord, Request, Response, TrapLine};
use crate::transport::{BoxFuture, SealCounts, ServerCounts};

/// How old this host's own copy may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Index of the last entry that it contains.
    pub index: u64,
    /// How long ago the leader was heard, in ms; on the leader, how long ago it heard a quorum.
    /// None: there is no leader, or it was not heard here (a learner hears nobody).
    pub leader_heard_ms: Option<u64>,
}

/// Why nobody can say that nothing is newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unconfirmed {
    /// Another host leads; its name, if known.
    NotLeader(Option<String>),
    /// No quorum answered.
    NoQuorum,
    /// Raft has stopped on this host, and why.
    Stopped(String),
}

/// What the metrics tell beside the status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// This host leads.
    pub leads: bool,
    /// How long its own lease still runs, in ms; none: it has none.
    pub lease_ms: Option<u64>,
    /// The last entry known to be committed.
    pub committed: u64,
    /// What its name server answered; none: it serves no DNS.
    pub dns: Option<dns::Counters>,
    /// Sealed datagrams.
    pub seal: SealCounts,
    /// Control connections and requests.
    pub server: ServerCounts,
    /// Attempts to connect that ended since the other host's certificate was not valid at that time.
    pub dials_expired: u64,
    /// Control connections now.
    pub connections: usize,
    /// Hosts connected to this one now.
    pub connected_hosts: usize,
    /// End of its certificate, in seconds since 1970.
    pub certificate_until: u64,
    /// Who is told of events, and what became of it here.
    pub traps: Vec<TrapLine>,
}

/// A daemon, as far as the API needs it. Nothing here blocks.
pub trait Door: Send + Sync + 'static {
    /// The array whose certificates count.
    fn array(&self) -> ArrayId;

    /// Whether local users may look without a certificate.
    fn open(&self) -> bool;

    /// Asks what the command line could ask; the leader answers where it must.
    fn ask(&self, request: Request) -> BoxFuture<'_, Response>;

    /// Makes sure that this host leads and has applied all that is committed; gives the index.
    fn confirm(&self) -> BoxFuture<'_, Result<u64, Unconfirmed>>;

    /// How old the own copy may be.
    fn age(&self) -> BoxFuture<'_, Age>;

    /// The events after `since`, if given, and those to come.
    fn follow(&self, since: Option<u64>) -> (Vec<EventRecord>, broadcast::Receiver<EventRecord>);

    /// Whether this host knows again what it knew before its start.
    fn recovered(&self) -> bool;

    /// Whether a host is in the array.
    fn knows(&self, host: HostId) -> bool;

    /// Reads the counters.
    fn measures(&self) -> BoxFuture<'_, Measures>;
}
