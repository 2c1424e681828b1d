//! `rais init` and `rais join`: how a host comes to have a place in an array. Both end before the daemon starts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use statemachine::{ArrayCommand, ArrayId, Command, Entry, HostId, Timing, TokenCommand};

use crate::cli::CliError;
use crate::daemon::wire::{self, JoinAnswer, JoinRequest};
use crate::daemon::{Carrier, note_raft_timing};
use crate::pki::{ArrayIdentity, HostKey, JoinToken};
use crate::raft::{Compaction, NoWatch, Node, Raft, RaftOptions, RaftTiming};
use crate::transport::join_call;
use crate::{clock, random};

/// The founder's id; every later host's is the index of its join, which is greater.
const FOUNDER: HostId = HostId(1);
/// How long the first token lives, in ms.
const FIRST_TOKEN_TTL_MS: u64 = 3_600_000;
/// How long a joiner waits for an answer: a commit, and an election before it.
const JOIN_PATIENCE: Duration = Duration::from_secs(10);

/// A new host, as its operator names it.
pub struct Newcomer {
    /// Where its data goes.
    pub data_dir: PathBuf,
    /// Its name.
    pub name: String,
    /// Its control addresses.
    pub control: Vec<SocketAddr>,
}

fn failed(remedy: &str) -> impl Fn(&dyn std::fmt::Display) -> CliError + '_ {
    move |error| CliError::failed(error.to_string(), remedy)
}

fn refuse_used(dir: &Path) -> Result<(), CliError> {
    match ArrayIdentity::exists(dir) {
        true => Err(CliError::failed(
            format!("{} already holds a host of an array", dir.display()),
            "start it with `rais node --config FILE`, or choose another --data-dir",
        )),
        false => Ok(()),
    }
}

/// Starts a new array with this host; gives the first join token, good for `uses` hosts.
///
/// # Errors
/// [`CliError`] with the remedy; the directory may then hold a store without keys.
pub async fn init(new: Newcomer, timing: Timing, uses: u32) -> Result<String, CliError> {
    refuse_used(&new.data_dir)?;
    let no_luck = failed("remove what is in the directory if it is a first try, then try again");
    let array = ArrayId(random::bytes().map_err(|error| no_luck(&error))?);
    let identity = ArrayIdentity::found(array, FOUNDER, &new.name, clock::wall())
        .map_err(|error| no_luck(&error))?;
    let options = RaftOptions {
        data_dir: new.data_dir.clone(),
        id: FOUNDER.0,
        timing: RaftTiming::default(),
        compaction: Compaction::default(),
        transport: Arc::new(Carrier::default()),
        log_watch: Arc::new(NoWatch),
        applied: Arc::new(|_| {}),
    };
    let raft = Raft::open(options).await.map_err(|error| no_luck(&error))?;
    let node = Node {
        name: new.name,
        control: new.control,
    };
    let token = first_entry(&raft, &identity, node, array, timing, uses).await;
    raft.shutdown().await;
    let token = token.map_err(|error| no_luck(&error))?;
    note_raft_timing(&new.data_dir, &timing).map_err(|error| no_luck(&error))?;
    identity
        .save_new(&new.data_dir)
        .map_err(|error| no_luck(&error))?;
    Ok(token.reveal())
}

async fn first_entry(
    raft: &Raft,
    identity: &ArrayIdentity,
    node: Node,
    array: ArrayId,
    timing: Timing,
    uses: u32,
) -> Result<JoinToken, Box<dyn std::error::Error>> {
    let found = ArrayCommand::Found {
        array,
        timing,
        name: node.name.as_str().into(),
        control: node.control.clone(),
    };
    raft.initialize_single(node).await?;
    let token = JoinToken::draw(identity.authority().fingerprint(), &random::bytes()?);
    let secret_hash = token.secret.hash().0;
    let create = TokenCommand::Create {
        token: token.id,
        secret_hash,
        ttl_ms: FIRST_TOKEN_TTL_MS,
        uses,
    };
    let commands = vec![Command::Array(found), Command::Token(create)];
    let applied = raft
        .propose(Entry {
            wall: clock::wall_ms(),
            commands,
            ..Entry::default()
        })
        .await?;
    applied
        .outcomes
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    Ok(token)
}

/// Gets this host a place in the array that `token` belongs to, from any of `peers`.
///
/// # Errors
/// [`CliError`] with the remedy; nothing was written then.
pub async fn join(new: Newcomer, token: &str, peers: &[SocketAddr]) -> Result<HostId, CliError> {
    refuse_used(&new.data_dir)?;
    let token = JoinToken::parse(token).map_err(|error| {
        CliError::failed(
            error.to_string(),
            "copy the whole token that `rais token create` printed",
        )
    })?;
    let no_luck = failed("try again");
    let key = HostKey::generate().map_err(|error| no_luck(&error))?;
    let proof = key
        .prove(&token.authority, &token.id, &new.name)
        .map_err(|error| no_luck(&error))?;
    let request = JoinRequest {
        token: token.id.0,
        secret: token.secret.0,
        name: new.name,
        control: new.control,
        proof,
    };
    let (grant, timing) = match ask(peers, &token, &request).await? {
        JoinAnswer::Granted { grant, timing } => (grant, timing),
        JoinAnswer::Refused(problem) => return Err(CliError::Refused(problem)),
    };
    let identity = ArrayIdentity::from_grant(&grant, key, &token.authority)
        .map_err(|error| no_luck(&error))?;
    let disk =
        failed("the host is in the array already: `rais forget` it there before it joins again");
    identity
        .save_new(&new.data_dir)
        .map_err(|error| disk(&error))?;
    note_raft_timing(&new.data_dir, &timing).map_err(|error| disk(&error))?;
    Ok(identity.host())
}

/// Asks the peers in turn; the first that answers decides.
async fn ask(
    peers: &[SocketAddr],
    token: &JoinToken,
    request: &JoinRequest,
) -> Result<JoinAnswer, CliError> {
    let mut reasons = Vec::new();
    for peer in peers {
        match join_call(*peer, token.authority, wire::encode(request), JOIN_PATIENCE).await {
            Ok(reply) => {
                let answer = wire::decode(&reply.body);
                return answer.ok_or(CliError::Protocol {
                    detail: "its answer does not decode".into(),
                });
            }
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(CliError::failed(
        format!("no peer let this host in: {}", reasons.join("; ")),
        "name a control address of a running host with --peer, and use a token of that array",
    ))
}
