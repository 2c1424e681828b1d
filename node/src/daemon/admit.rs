//! Lets a new host in: checks its token and its key, commits its join, makes its certificate.

use std::sync::Arc;

use statemachine::{Command, HostCommand, TokenId};

use super::Daemon;
use super::wire::{JoinAnswer, JoinRequest};
use crate::api::{Problem, ProblemKind, Response};
use crate::clock;
use crate::pki::TokenSecret;

/// Admits a joiner, as the leader.
pub async fn admit(daemon: &Arc<Daemon>, request: JoinRequest) -> JoinAnswer {
    let JoinRequest {
        token,
        secret,
        name,
        control,
        proof,
    } = request;
    let authority = daemon.identity.authority();
    let token = TokenId(token);
    if let Err(error) = proof.verify(&authority.fingerprint(), &token, &name) {
        let remedy = "join again; a proof is made anew each time";
        return JoinAnswer::Refused(Problem::new(
            ProblemKind::Forbidden,
            "join refused",
            error.to_string(),
            remedy,
        ));
    }
    let secret_hash = TokenSecret(secret).hash().0;
    let join = HostCommand::Join {
        token,
        secret_hash,
        name: name.as_str().into(),
        control,
    };
    let response = daemon.commit(vec![Command::Host(join)], "joined").await;
    let index = match response {
        Response::Done {
            index: Some(index), ..
        } => index,
        Response::Refused { problem } => return JoinAnswer::Refused(problem),
        _ => return JoinAnswer::Refused(Problem::no_leader()),
    };
    // The id of a host is the index of the entry that let it join.
    let host = statemachine::HostId(index);
    match authority.issue(host, &name, &proof.public_key, clock::wall()) {
        Ok(issued) => JoinAnswer::Granted {
            grant: daemon.identity.grant(host, &name, issued),
            timing: daemon.raft.state().timing,
        },
        Err(error) => {
            let remedy = format!("`rais forget {name}`, then join again");
            JoinAnswer::Refused(Problem::new(
                ProblemKind::Internal,
                "no certificate",
                error.to_string(),
                remedy,
            ))
        }
    }
}
