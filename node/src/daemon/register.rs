//! Tells the leader what this host's own configuration says, until the log says the same.

use std::sync::Arc;
use std::time::Duration;

use statemachine::{Command, Host, HostCommand, HostId, MemberSpec, PreferredAddress};

use super::Daemon;
use super::wire::{self, Introduction};
use crate::api::{ProblemKind, Response};
use crate::config::HostConfig;
use crate::transport::Kind;

/// How often to look while the log does not say it yet.
const RETRY: Duration = Duration::from_millis(200);
/// How often to look once it does, since a restore may change the log, and after a refusal.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a configuration says of its host.
pub fn introduction(config: &HostConfig) -> Introduction {
    let preferred = |member: &crate::config::MemberConfig| -> Vec<PreferredAddress> {
        let one = |prefix: &crate::config::Prefix| PreferredAddress {
            ip: prefix.address,
            prefix_len: prefix.length,
        };
        member.preferred.iter().map(one).collect()
    };
    let members = config.members.iter();
    Introduction {
        control: config.control.clone(),
        dns: config.dns.clone(),
        observer: config.observer,
        members: members
            .map(|m| MemberSpec {
                group: m.group.as_str().into(),
                preferred: preferred(m),
            })
            .collect(),
    }
}

/// The command that takes it over.
pub fn command(host: HostId, said: Introduction) -> Command {
    let Introduction {
        control,
        dns,
        observer,
        members,
    } = said;
    Command::Host(HostCommand::Configure {
        host,
        control,
        dns,
        observer,
        members,
    })
}

fn is_taken_over(host: &Host, said: &Introduction) -> bool {
    host.control == said.control
        && host.dns == said.dns
        && host.observer == said.observer
        && host.members == said.members
}

/// Introduces this host until the log says what its configuration says; ends with the daemon.
pub async fn introduce(daemon: Arc<Daemon>) {
    let mut configs = daemon.live.subscribe();
    let mut complained = None;
    loop {
        let said = introduction(&configs.borrow_and_update());
        let state = daemon.raft.state();
        let known = state.hosts.get(&daemon.me);
        if known.is_none_or(|host| is_taken_over(host, &said)) {
            let look = if known.is_none() { RETRY } else { LOOK_EVERY };
            // A file that was read again need not wait.
            let _changed = tokio::time::timeout(look, configs.changed()).await;
            continue;
        }
        let told = tell(&daemon, &said).await;
        let refused = matches!(told, Err(Untold::Refused(_)));
        if let Err(Untold::Refused(problem) | Untold::Unreached(problem)) = told
            && complained.as_ref() != Some(&problem)
        {
            tracing::warn!(
                problem,
                "the leader does not take over this host's configuration; tried again"
            );
            complained = Some(problem);
        }
        // Each refusal is an entry of the log.
        tokio::time::sleep(if refused { LOOK_EVERY } else { RETRY }).await;
    }
}

/// Why the log does not say it.
enum Untold {
    /// The leader took it to the log, and it was refused there.
    Refused(String),
    /// It did not get that far.
    Unreached(String),
}

async fn tell(daemon: &Daemon, said: &Introduction) -> Result<(), Untold> {
    let leader = daemon.raft.view().borrow().leader.map(HostId);
    let response = match leader {
        None => return Ok(()),
        Some(leader) if leader == daemon.me => {
            daemon
                .commit(vec![command(daemon.me, said.clone())], "")
                .await
        }
        Some(leader) => {
            let answer = daemon
                .peers
                .call(leader, Kind::Query, wire::encode(said), PATIENCE)
                .await;
            let answer = answer.map_err(|error| Untold::Unreached(error.to_string()))?;
            let undecoded = || Untold::Unreached("the leader's answer does not decode".into());
            wire::decode(&answer).ok_or_else(undecoded)?
        }
    };
    match response {
        Response::Refused { problem } => match problem.kind {
            ProblemKind::NoLeader | ProblemKind::NoQuorum | ProblemKind::Internal => {
                Err(Untold::Unreached(problem.to_string()))
            }
            _ => Err(Untold::Refused(problem.to_string())),
        },
        _ => Ok(()),
    }
}
