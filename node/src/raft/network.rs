//! Raft's messages to other hosts, over a transport of ours: openraft asks, we encode, bound and
//! translate.
//!
//! Each call ends within openraft's soft time-out, whatever the transport does. A host that can't be
//! reached is an error for pre-votes too: openraft's default would grant them, and a host alone would
//! elect itself into ever higher terms.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RPCTypes, RaftNetworkFactory, RaftNetworkV2};

use super::record::{Blob, Coverage};
use super::types::{Node, Snapshot, SnapshotBytes, TypeConfig, Vote};
use super::wire::{self, Append, Handover, Piece, Request, Response, SNAPSHOT_CHUNK};

/// A future that can be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

type RpcResult<T> = Result<T, RPCError<TypeConfig>>;

/// What a message is for: a transport keeps them on separate connections or priorities, since a
/// snapshot of some MiB must not delay a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RpcClass {
    /// Votes, pre-votes, handing over leadership.
    Vote,
    /// Entries and commits.
    Append,
    /// Heartbeats of the leader.
    Heartbeat,
    /// Pieces of a snapshot.
    Snapshot,
}

/// Why a message got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection: openraft waits longer before it tries again.
    #[error("host {target} is unreachable: {reason}")]
    Unreachable {
        /// Whom.
        target: u64,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("host {target} did not answer in time")]
    Timeout {
        /// Who.
        target: u64,
    },
    /// The connection broke, or the answer made no sense.
    #[error("talking to host {target}: {reason}")]
    Broken {
        /// To whom.
        target: u64,
        /// How.
        reason: String,
    },
}

/// Carries messages to other hosts. An answer is whatever `Raft::handle_rpc` gave there.
pub trait RaftTransport: Send + Sync + 'static {
    /// Sends `body` to `target` and waits for the answer, at most `ttl`. Dropping the future gives up.
    fn call(
        &self,
        target: u64,
        class: RpcClass,
        body: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>>;

    /// Where `target` can be found: called before the first message to it, so that a transport need
    /// not wait for the view to name a new learner.
    fn learn(&self, target: u64, node: &Node) {
        let _ = (target, node);
    }
}

/// Makes openraft's connections.
pub(crate) struct Network {
    me: u64,
    transport: Arc<dyn RaftTransport>,
    transfers: Arc<AtomicU64>,
}

impl Network {
    pub(crate) fn new(me: u64, transport: Arc<dyn RaftTransport>) -> Self {
        Self {
            me,
            transport,
            transfers: Arc::new(AtomicU64::new(1)),
        }
    }

    fn peer(&self, target: u64, node: &Node, append: RpcClass) -> Peer {
        self.transport.learn(target, node);
        Peer {
            me: self.me,
            target,
            append,
            transport: self.transport.clone(),
            transfers: self.transfers.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, RpcClass::Append)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Node) -> Peer {
        self.peer(target, node, RpcClass::Heartbeat)
    }
}

/// One other host.
pub(crate) struct Peer {
    me: u64,
    target: u64,
    append: RpcClass,
    transport: Arc<dyn RaftTransport>,
    transfers: Arc<AtomicU64>,
}

fn broken(what: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::from_string(what.to_string()))
}

fn unexpected(answer: &Response) -> RPCError<TypeConfig> {
    match answer {
        Response::Failed(why) => broken(format!("the other host failed: {why}")),
        _ => broken("the answer does not belong to the question"),
    }
}

impl Peer {
    fn late(&self, action: RPCTypes, timeout: Duration) -> RPCError<TypeConfig> {
        RPCError::Timeout(Timeout {
            action,
            id: self.me,
            target: self.target,
            timeout,
        })
    }

    async fn ask(
        &self,
        class: RpcClass,
        action: RPCTypes,
        request: &Request,
        ttl: Duration,
    ) -> RpcResult<Response> {
        let body = wire::seal(request).map_err(broken)?;
        let call = self.transport.call(self.target, class, body, ttl);
        let answer = match tokio::time::timeout(ttl, call).await {
            Err(_) | Ok(Err(TransportError::Timeout { .. })) => return Err(self.late(action, ttl)),
            Ok(Err(error @ TransportError::Unreachable { .. })) => {
                return Err(RPCError::Unreachable(Unreachable::new(&error)));
            }
            Ok(Err(error @ TransportError::Broken { .. })) => return Err(broken(error)),
            Ok(Ok(answer)) => answer,
        };
        wire::open(&answer).map_err(broken)
    }

    async fn ask_vote(
        &self,
        request: Request,
        option: &RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        match self
            .ask(RpcClass::Vote, RPCTypes::Vote, &request, option.soft_ttl())
            .await?
        {
            Response::Vote(answer) => Ok(answer.into()),
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
        ttl: Duration,
    ) -> RpcResult<SnapshotResponse<TypeConfig>> {
        let bytes = &snapshot.snapshot.0;
        let transfer = self.transfers.fetch_add(1, Ordering::Relaxed);
        let sum = crc32c::crc32c(bytes);
        let coverage = Coverage::from(&snapshot.meta);
        let mut offset = 0;
        loop {
            let end = bytes.len().min(offset + SNAPSHOT_CHUNK);
            let piece = Piece {
                vote: vote.into(),
                coverage: coverage.clone(),
                transfer,
                total: bytes.len() as u64,
                offset: offset as u64,
                sum,
                bytes: Blob(bytes[offset..end].to_vec()),
            };
            let request = Request::Snapshot(Box::new(piece));
            match self
                .ask(RpcClass::Snapshot, RPCTypes::InstallSnapshot, &request, ttl)
                .await?
            {
                Response::Snapshot(vote) => return Ok(SnapshotResponse::new(vote.into())),
                Response::Piece if end < bytes.len() => offset = end,
                other => return Err(unexpected(&other)),
            }
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<AppendEntriesResponse<TypeConfig>> {
        let (append, cut) = Append::fill(&rpc).map_err(broken)?;
        let request = Request::Append(append);
        let ttl = option.soft_ttl();
        match self
            .ask(self.append, RPCTypes::AppendEntries, &request, ttl)
            .await?
        {
            Response::Append(answer) => match (answer.into(), cut) {
                (AppendEntriesResponse::Success, Some(last)) => {
                    Ok(AppendEntriesResponse::PartialSuccess(Some(last)))
                }
                (answer, _) => Ok(answer),
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(Request::Vote(rpc.into()), &option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<VoteResponse<TypeConfig>> {
        self.ask_vote(Request::PreVote(rpc.into()), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, &snapshot, option.soft_ttl()) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> RpcResult<Result<(), TransferLeaderError<TypeConfig>>> {
        let handover = Request::Transfer(Handover::from(&request));
        let ttl = option.soft_ttl();
        match self
            .ask(RpcClass::Vote, RPCTypes::TransferLeader, &handover, ttl)
            .await?
        {
            Response::Transfer(answer) => Ok(answer.into()),
            other => Err(unexpected(&other)),
        }
    }
}
