//! Raft's messages over the pool of connections, which exists only after Raft's store was opened.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use statemachine::HostId;

use crate::raft::{BoxFuture, Node, RaftTransport, RpcClass, TransportError};
use crate::transport::{self, Kind, Peers, RaftClass};

/// Carries Raft's messages once the pool is there; before, nobody is reachable.
#[derive(Default)]
pub struct Carrier(OnceLock<Arc<Peers>>);

impl Carrier {
    /// Hands over the pool. A second call changes nothing.
    pub fn connect(&self, peers: Arc<Peers>) {
        let _already = self.0.set(peers);
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
            let Some(peers) = self.0.get() else {
                return Err(TransportError::Unreachable {
                    target,
                    reason: "this daemon is starting".into(),
                });
            };
            let answer = peers
                .call(HostId(target), Kind::Raft { class }, body, ttl)
                .await;
            answer.map_err(|error| translate(target, &error))
        })
    }

    fn learn(&self, target: u64, node: &Node) {
        if let Some(peers) = self.0.get() {
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
