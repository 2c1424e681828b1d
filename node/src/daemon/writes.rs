//! What operators change, as commands for the log. Runs on the leader.

use std::sync::Arc;

use statemachine::{
    AddressCommand, ArrayCommand, Command, GroupCommand, GroupName, HostCommand, HostId, Policy,
    QuorumLoss, State, TokenCommand,
};

use super::Daemon;
use super::desk::refused;
use crate::api::{Problem, ProblemKind, Request, Response, WallTime};
use crate::config::{TrapKeys, policy_diff};
use crate::pki::JoinToken;
use crate::{clock, random};

/// Carries out a request that changes something.
pub async fn write(daemon: &Arc<Daemon>, request: Request) -> Response {
    let state = daemon.raft.state();
    match request {
        Request::TokenCreate { ttl_s, uses } => token(daemon, ttl_s, uses).await,
        Request::TransferLeader { host } => transfer(daemon, &state, &host).await,
        Request::GroupApply { policy, seen, .. } => {
            let changes = changes(&state, &policy, &daemon.live.borrow().trap_keys);
            let command = Command::Group(GroupCommand::Apply { policy, seen });
            match daemon.commit(vec![command], "").await {
                Response::Done { index, .. } => Response::GroupApplied {
                    changes,
                    seen,
                    index,
                },
                other => other,
            }
        }
        other => match command(&state, other) {
            Ok((command, words)) => daemon.commit(vec![command], &words).await,
            Err(problem) => refused(problem),
        },
    }
}

/// What applying `policy` would change, and what of it can't be done: `keys` are this host's.
pub fn changes(state: &State, policy: &Policy, keys: &TrapKeys) -> Vec<String> {
    // One that is being deleted is as good as gone: to apply it is a change, which is refused until then.
    let current = state.groups.get(&policy.name);
    let current = current.filter(|group| !group.deleting);
    let mut changes = policy_diff(current.map(|group| &group.policy), policy);
    if !changes.is_empty() {
        if policy.quorum_loss == QuorumLoss::LastResort {
            changes.push(
                "! quorum_loss = \"last_resort\": without a quorum two hosts may serve one address"
                    .to_owned(),
            );
        }
        changes.extend(keys.lacking(policy.traps.as_ref()));
    }
    changes
}

fn host_id(state: &State, name: &str) -> Result<HostId, Problem> {
    let found = state.host_named(name).map(|host| host.id);
    found.ok_or_else(|| {
        let detail = format!("no host is named {name}");
        Problem::new(
            ProblemKind::NotFound,
            "no such host",
            detail,
            "`rais hosts` lists the hosts",
        )
    })
}

/// The command that a request stands for, and what to say when it is done.
fn command(state: &State, request: Request) -> Result<(Command, String), Problem> {
    Ok(match request {
        Request::Quiesce { host, group, drain } => {
            let drained = match drain {
                true => "; what it holds moves to others as they can take it",
                false => "",
            };
            let words = format!("host {host} is quiesced{}{drained}", in_group(&group));
            let (host, group) = (host_id(state, &host)?, group.map(GroupName));
            (
                Command::Group(GroupCommand::Quiesce { host, group, drain }),
                words,
            )
        }
        Request::Resume { host, group } => {
            let words = format!("host {host} takes addresses again{}", in_group(&group));
            let (host, group) = (host_id(state, &host)?, group.map(GroupName));
            (Command::Group(GroupCommand::Resume { host, group }), words)
        }
        Request::Move { address, to } => {
            let words = format!(
                "{address} moves to {to} and stays while {to} can serve it; `rais why {address}` shows how it goes"
            );
            let to = host_id(state, &to)?;
            (
                Command::Address(AddressCommand::Move { address, to }),
                words,
            )
        }
        Request::GroupDelete { group } => {
            let words = format!(
                "group {group} is deleted; its addresses go when their holders have let go"
            );
            let group = GroupName(group);
            (Command::Group(GroupCommand::Delete { group }), words)
        }
        Request::Forget { host } => {
            let words =
                format!("host {host} is forgotten; its preferred addresses are orphans now");
            let host = host_id(state, &host)?;
            (Command::Host(HostCommand::Forget { host }), words)
        }
        Request::TimingApply { timing, seen } => {
            let retime = ArrayCommand::Retime { timing, seen };
            (Command::Array(retime), "the timing is changed".to_owned())
        }
        _ => {
            let detail = "this request changes nothing";
            return Err(Problem::new(
                ProblemKind::Invalid,
                "not a change",
                detail,
                "please report this",
            ));
        }
    })
}

fn in_group(group: &Option<String>) -> String {
    group
        .as_ref()
        .map(|group| format!(" in group {group}"))
        .unwrap_or_default()
}

async fn token(daemon: &Arc<Daemon>, ttl_s: u64, uses: u32) -> Response {
    let random = match random::bytes::<24>() {
        Ok(random) => random,
        Err(error) => {
            return refused(Problem::new(
                ProblemKind::Internal,
                "no token",
                error.to_string(),
                "try again",
            ));
        }
    };
    let token = JoinToken::draw(daemon.identity.authority().fingerprint(), &random);
    let ttl_ms = ttl_s.saturating_mul(1000);
    let create = TokenCommand::Create {
        token: token.id,
        secret_hash: token.secret.hash().0,
        ttl_ms,
        uses,
    };
    match daemon.commit(vec![Command::Token(create)], "").await {
        Response::Done { .. } => {
            let expires = WallTime(clock::wall_ms().saturating_add(ttl_ms));
            Response::Token {
                token: token.reveal(),
                expires,
                uses,
            }
        }
        other => other,
    }
}

async fn transfer(daemon: &Arc<Daemon>, state: &State, host: &str) -> Response {
    let id = match host_id(state, host) {
        Ok(id) => id,
        Err(problem) => return refused(problem),
    };
    match daemon.raft.transfer_leader(id.0).await {
        Ok(()) => Response::Done {
            index: None,
            words: format!("{host} leads"),
        },
        Err(error) => {
            let remedy = "`rais hosts` shows who votes; only a voter in touch can lead";
            refused(Problem::new(
                ProblemKind::Conflict,
                "leadership stays",
                error.to_string(),
                remedy,
            ))
        }
    }
}
