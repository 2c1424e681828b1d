//! Answers what arrives on the control addresses: the CLI, other hosts, joiners.
//!
//! What changes the array, or explains the leader's own view, is answered by the leader; any other host
//! forwards it, once. Everything else is answered from this host's own copy.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use statemachine::HostId;
use tokio::sync::mpsc;

use super::wire::{self, Introduction, JoinAnswer, JoinRequest};
use super::{Daemon, admit, queries, register, renewal, writes};
use crate::api::{Problem, ProblemKind, Request, Response};
use crate::transport::{BoxFuture, Caller, Handler, HandlerError, Kind, TransportError};

/// How long to wait for a leader before saying that there is none: an election and then some.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
/// How long the leader may take for a forwarded request.
const FORWARD_PATIENCE: Duration = Duration::from_secs(6);
/// Events that wait for a slow reader of a stream.
const STREAM_QUEUE: usize = 64;

/// The handler, which exists before the daemon that it asks.
#[derive(Default)]
pub struct Desk(OnceLock<Arc<Daemon>>);

impl Desk {
    /// Hands over the daemon. A second call changes nothing.
    pub fn open(&self, daemon: Arc<Daemon>) {
        let _already = self.0.set(daemon);
    }

    fn daemon(&self) -> Result<&Arc<Daemon>, HandlerError> {
        self.0.get().ok_or_else(|| {
            HandlerError::NotReady("this daemon is starting; try again in a second".into())
        })
    }
}

impl Handler for Desk {
    fn handle(
        &self,
        caller: Caller,
        kind: Kind,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<Vec<u8>, HandlerError>> {
        Box::pin(async move {
            let daemon = self.daemon()?;
            if let Caller::Host(from) = caller {
                daemon.refuse_forgotten(from)?;
            }
            match (caller, kind) {
                (Caller::Host(from), Kind::Raft { .. }) => {
                    let answer = daemon.raft.handle_rpc(from.0, &body).await;
                    answer.map_err(|error| HandlerError::BadRequest(error.to_string()))
                }
                (Caller::Host(from), Kind::Query) => {
                    let said: Introduction = decode(&body)?;
                    let commit = daemon
                        .commit(vec![register::command(from, said)], "introduced")
                        .await;
                    Ok(wire::encode(&commit))
                }
                (Caller::Host(from), Kind::Client) => {
                    let request: Request = decode(&body)?;
                    let response = answer(daemon, request, from != daemon.me).await;
                    Ok(wire::encode(&response))
                }
                (_, Kind::Join) => Ok(wire::encode(&join(daemon, caller, &body).await?)),
                _ => Err(HandlerError::BadRequest("nothing to say to this".into())),
            }
        })
    }

    fn stream(
        &self,
        caller: Caller,
        body: Vec<u8>,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Result<Vec<u8>, HandlerError>>, HandlerError>> {
        Box::pin(async move {
            let daemon = Arc::clone(self.daemon()?);
            if let Caller::Host(from) = caller {
                daemon.refuse_forgotten(from)?;
            }
            let Request::FollowEvents { since } = decode(&body)? else {
                return Err(HandlerError::BadRequest(
                    "only events can be followed".into(),
                ));
            };
            let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
            tokio::spawn(async move { follow(&daemon, since, &sender).await });
            Ok(receiver)
        })
    }
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, HandlerError> {
    wire::decode(body).ok_or_else(|| {
        HandlerError::BadRequest(
            "the request does not decode; use the same version on both sides".into(),
        )
    })
}

/// Sends past events after `since`, then new ones, until the reader goes away or falls behind.
async fn follow(
    daemon: &Daemon,
    since: Option<u64>,
    sender: &mpsc::Sender<Result<Vec<u8>, HandlerError>>,
) {
    let mut coming = daemon.journal.follow();
    let mut told = since;
    if since.is_some() {
        for event in daemon.journal.read(since, usize::MAX) {
            told = told.max(Some(event.index));
            if sender
                .send(Ok(wire::encode(&Response::Event(event))))
                .await
                .is_err()
            {
                return;
            }
        }
    }
    loop {
        let event = tokio::select! {
            event = coming.recv() => event,
            () = sender.closed() => return,
        };
        match event {
            // Read from the ring already.
            Ok(event) if told.is_some_and(|told| event.is_known_at(told)) && since.is_some() => {}
            Ok(event) => {
                if sender
                    .send(Ok(wire::encode(&Response::Event(event))))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            Err(behind) => {
                let words = format!("the reader fell behind ({behind}); follow again with --since");
                let _gone = sender.send(Err(HandlerError::Busy(words))).await;
                return;
            }
        }
    }
}

/// Answers a request: the one door of the daemon. A `forwarded` one is not forwarded again.
pub async fn answer(daemon: &Arc<Daemon>, request: Request, forwarded: bool) -> Response {
    if request == Request::CertRenew {
        return renewal::by_hand(daemon).await;
    }
    if !request.needs_leader() {
        return queries::answer(daemon, request).await;
    }
    let patience = if forwarded {
        Duration::ZERO
    } else {
        LEADER_PATIENCE
    };
    match ask_leader(daemon, Kind::Client, wire::encode(&request), patience).await {
        Asked::Myself => match request.is_write() {
            true => writes::write(daemon, request).await,
            false => queries::explain(daemon, request).await,
        },
        Asked::Nobody => refused(Problem::no_leader()),
        Asked::Answered(Ok(answer)) => wire::decode(&answer).unwrap_or_else(|| {
            let detail = "the leader's answer does not decode";
            refused(Problem::new(
                ProblemKind::Internal,
                "no answer",
                detail,
                "run the same version on all hosts",
            ))
        }),
        Asked::Answered(Err(error)) => refused(Problem::new(
            ProblemKind::NoLeader,
            "the leader does not answer",
            error.to_string(),
            match error.was_not_sent() {
                true => "`rais status` shows the hosts; try again once a leader is there",
                false => "`rais status` shows the leader; the request may have been carried out",
            },
        )),
    }
}

/// What became of a request for the leader.
enum Asked {
    /// This host leads.
    Myself,
    /// There is no leader.
    Nobody,
    /// What the leader said, or why it could not be asked.
    Answered(Result<Vec<u8>, TransportError>),
}

/// Asks the leader. The one that was known last may be dead and its successor not elected yet: what surely
/// did not reach it is sent to the next one, waiting for that at most `patience`. With none, nothing is
/// forwarded.
async fn ask_leader(daemon: &Arc<Daemon>, kind: Kind, body: Vec<u8>, patience: Duration) -> Asked {
    let mut over = std::pin::pin!(tokio::time::sleep(patience));
    let mut view = daemon.raft.view();
    let Some(mut leader) = daemon.leader(LEADER_PATIENCE).await else {
        return Asked::Nobody;
    };
    loop {
        if leader == daemon.me {
            return Asked::Myself;
        }
        if patience.is_zero() {
            return Asked::Nobody;
        }
        let call = daemon
            .peers
            .call(leader, kind, body.clone(), FORWARD_PATIENCE);
        let answered = call.await;
        if !answered.as_ref().is_err_and(TransportError::was_not_sent) {
            return Asked::Answered(answered);
        }
        let another = view.wait_for(|view| view.leader.is_some_and(|id| id != leader.0));
        let next = tokio::select! {
            next = another => next.ok().and_then(|view| view.leader),
            () = &mut over => None,
        };
        let Some(next) = next else {
            return Asked::Answered(answered);
        };
        leader = HostId(next);
    }
}

/// A refusal.
pub fn refused(problem: Problem) -> Response {
    Response::Refused { problem }
}

async fn join(
    daemon: &Arc<Daemon>,
    caller: Caller,
    body: &[u8],
) -> Result<JoinAnswer, HandlerError> {
    let request: JoinRequest = decode(body)?;
    let patience = match caller {
        Caller::Joiner => LEADER_PATIENCE,
        Caller::Host(_) => Duration::ZERO,
    };
    match ask_leader(daemon, Kind::Join, body.to_vec(), patience).await {
        Asked::Myself => Ok(admit::admit(daemon, request).await),
        Asked::Nobody => Ok(JoinAnswer::Refused(Problem::no_leader())),
        Asked::Answered(Ok(answer)) => decode(&answer),
        Asked::Answered(Err(error)) => Err(HandlerError::NotReady(error.to_string())),
    }
}
