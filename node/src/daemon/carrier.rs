//! Raft's messages over the pool of connections, which exists only after Raft's store was opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use control::Event;
use statemachine::HostId;

use super::mailbox::{Letter, Mailbox};
use crate::raft::{BoxFuture, Node, RaftTransport, RpcClass, TransportError};
use crate::transport::{self, FORGOTTEN, Kind, Peers, RaftClass};

/// Carries Raft's messages once the pool is there; before, nobody is reachable.
#[derive(Default)]
pub struct Carrier {
    peers: OnceLock<Arc<Peers>>,
    /// Who is told, once, that the others have forgotten this host.
    mailbox: Option<Mailbox>,
    forgotten: AtomicBool,
}

impl Carrier {
    /// Without a pool yet.
    pub fn new(mailbox: Mailbox) -> Self {
        Self {
            mailbox: Some(mailbox),
            ..Self::default()
        }
    }

    fn look_for_refusal(&self, error: &transport::TransportError) {
        if error.to_string().contains(FORGOTTEN) && !self.forgotten.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, "the array has forgotten this host");
            let told = self.mailbox.iter();
            told.for_each(|mailbox| mailbox.post(Letter::Event(Event::Forgotten)));
        }
    }

    /// Hands over the pool. A second call changes nothing.
    pub fn connect(&self, peers: Arc<Peers>) {
        let _already = self.peers.set(peers);
    }
}

impl RaftTransport for Carrier {
    fn call(
        &self,
        target: u64,
        class: RpcClass,
        body: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Vec<u8>, TransportError>> {
        let class = match class {
            RpcClass::Vote => RaftClass::Vote,
            RpcClass::Append => RaftClass::Append,
            RpcClass::Heartbeat => RaftClass::Heartbeat,
            RpcClass::Snapshot => RaftClass::Snapshot,
        };
        Box::pin(async move {
            let Some(peers) = self.peers.get() else {
                return Err(TransportError::Unreachable {
                    target,
                    reason: "this daemon is starting".into(),
                });
            };
            let answer = peers
                .call(HostId(target), Kind::Raft { class }, body, ttl)
                .await;
            answer.map_err(|error| {
                self.look_for_refusal(&error);
                translate(target, &error)
            })
        })
    }

    fn learn(&self, target: u64, node: &Node) {
        if let Some(peers) = self.peers.get() {
            peers.set_addresses(HostId(target), node.control.clone());
        }
    }
}

fn translate(target: u64, error: &transport::TransportError) -> TransportError {
    match error {
        transport::TransportError::Timeout { .. } => TransportError::Timeout { target },
        transport::TransportError::Closed { .. } | transport::TransportError::Refused { .. } => {
            TransportError::Broken {
                target,
                reason: error.to_string(),
            }
        }
        _ => TransportError::Unreachable {
            target,
            reason: error.to_string(),
        },
    }
}
