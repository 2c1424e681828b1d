//! What may be asked of the state machine: one entry, many commands, each a compare-and-set.
//!
//! A command names what its author saw (an epoch, an incarnation, a serial). `apply` refuses it when
//! that is no longer so: a plan drawn from an old view changes nothing (docs/adr/0003).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use serde::{Deserialize, Serialize};

use crate::{
    ArrayId, Boot, Epoch, GroupName, HostId, HostName, Incarnation, LogTime, Policy, Timing,
    TokenId,
};

/// One entry of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Replicated time, as the proposing leader counts it.
    pub at: LogTime,
    /// Milliseconds since 1970 on the proposer's wall clock. Shown to people; decides nothing.
    pub wall: u64,
    /// Who asked, for deduplication of retries; none for the leader's own plans.
    pub origin: Option<Origin>,
    /// Applied in order; each has its own outcome.
    pub commands: Vec<Command>,
}

/// A client's name for one of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Drawn at random by the client.
    pub client: [u8; 16],
    /// Grows with each new request, stays for a retry.
    pub serial: u64,
}

/// A change to the state. A command is a wish: it may be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Moves replicated time and nothing else.
    Tick,
    /// About the array as a whole.
    Array(ArrayCommand),
    /// About one host.
    Host(HostCommand),
    /// About one group or its members.
    Group(GroupCommand),
    /// About one address.
    Address(AddressCommand),
    /// About join tokens.
    Token(TokenCommand),
}

/// A change to the array as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ArrayCommand {
    /// The first command of the log: the array and its founder, host 1.
    Found {
        /// The array's identity.
        array: ArrayId,
        /// Its timing.
        timing: Timing,
        /// The founder's name.
        name: HostName,
        /// The founder's control addresses.
        control: Vec<SocketAddr>,
    },
    /// A new leader introduces itself.
    Lead {
        /// The leader.
        host: HostId,
        /// Its term.
        term: u64,
    },
    /// Changes the timing.
    Retime {
        /// The new timing.
        timing: Timing,
        /// The timing that the author saw.
        seen: Timing,
    },
    /// Forgets the timings before the one in force. The leader proposes it when every host that is up has
    /// applied the newest timing, and the leases of before have ended since (docs/adr/0021).
    Settle {
        /// Index of the change of timing that is settled.
        seen: u64,
    },
    /// The leader has told managers and webhooks what happened up to an index (docs/adr/0037).
    Told {
        /// That index.
        index: u64,
    },
}

/// A group in a host's own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSpec {
    /// The group.
    pub group: GroupName,
    /// The preferred addresses; none makes the host a hot spare.
    pub preferred: Vec<PreferredAddress>,
}

/// A service address with its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PreferredAddress {
    /// The address.
    pub ip: IpAddr,
    /// Length of its network prefix, in bits.
    pub prefix_len: u8,
}

/// A change to a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostCommand {
    /// Lets a host into the array; its id is the index of this entry.
    Join {
        /// The token it presented.
        token: TokenId,
        /// SHA-256 of the secret it presented.
        secret_hash: [u8; 32],
        /// Its name.
        name: HostName,
        /// Its control addresses.
        control: Vec<SocketAddr>,
    },
    /// Takes over what the host's own configuration says.
    Configure {
        /// Who.
        host: HostId,
        /// Control addresses.
        control: Vec<SocketAddr>,
        /// Where it serves DNS.
        dns: Vec<SocketAddr>,
        /// Never holds an address.
        observer: bool,
        /// Its groups.
        members: Vec<MemberSpec>,
    },
    /// Voters stop acknowledging this incarnation (lease.md, step 5).
    Fence {
        /// Who.
        host: HostId,
        /// The incarnation that the leader suspects.
        incarnation: Incarnation,
        /// For how long it was silent, in ms; shown to people.
        silent_ms: u64,
    },
    /// Lifts a fence: the host was heard after all.
    Unfence {
        /// Who.
        host: HostId,
        /// The fence, by its index.
        fence: u64,
    },
    /// Every lease of the host has run out: its addresses are free (step 8).
    Down {
        /// Who.
        host: HostId,
        /// The fence, by its index.
        fence: u64,
        /// Index of the newest voter configuration that the leader asked.
        membership: u64,
        /// How long the fence took, in ms; shown to people.
        fence_ms: u64,
    },
    /// The host is heard and holds nothing: a new incarnation (step 10). Also for one that restarted
    /// before it was suspected: `boot` is newer than the log's.
    Up {
        /// Who.
        host: HostId,
        /// The incarnation that the leader saw.
        seen: Incarnation,
        /// The start of its daemon.
        boot: Boot,
    },
    /// The leader hears the host on other control networks than before; told to people, decides nothing.
    Hear {
        /// Who.
        host: HostId,
        /// Networks on which it is not heard, as positions in its control addresses.
        unheard: BTreeSet<u8>,
    },
    /// Removes a host for good.
    Forget {
        /// Who.
        host: HostId,
    },
}

/// A change to a group or one of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupCommand {
    /// Creates the group or changes its policy.
    Apply {
        /// The policy.
        policy: Box<Policy>,
        /// The generation that the author saw; none when there was no such group.
        seen: Option<u64>,
    },
    /// Deletes the group; its addresses go when their holders have let go.
    Delete {
        /// Which.
        group: GroupName,
    },
    /// Keeps a member from acquiring.
    Quiesce {
        /// Who.
        host: HostId,
        /// Which group; none for all of them.
        group: Option<GroupName>,
        /// Also gives away what it holds.
        drain: bool,
    },
    /// Ends quiesce.
    Resume {
        /// Who.
        host: HostId,
        /// Which group; none for all of them.
        group: Option<GroupName>,
    },
    /// A member's tests pass, or not.
    Health {
        /// Who.
        host: HostId,
        /// Which group.
        group: GroupName,
        /// Whether they pass.
        healthy: bool,
    },
    /// Publishes a zone version.
    Publish {
        /// Which group.
        group: GroupName,
        /// The serial that the author saw.
        seen: u32,
        /// The addresses to publish.
        published: Vec<IpAddr>,
        /// The members that load keeps out.
        shed: Vec<HostId>,
    },
    /// A member's tests fail, and it said how. `Health` is for what it does not say.
    TestFailed {
        /// Who.
        host: HostId,
        /// Which group.
        group: GroupName,
        /// Which test, and why.
        error: String,
    },
}

/// A change to who holds an address. `held_under` is the epoch that the author saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressCommand {
    /// Gives an unserved address to a host.
    Assign {
        /// Which.
        address: IpAddr,
        /// To whom. A random pick is made by the author, so that `apply` stays deterministic.
        to: HostId,
        /// Seen.
        held_under: Epoch,
        /// The rule.
        reason: Reason,
    },
    /// The holder reported that it serves.
    Online {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        held_under: Epoch,
        /// How long the acquire took on the host, without the announcement, in ms; shown to people.
        acquire_ms: u64,
        /// How long the first announcement took, in ms; shown to people.
        announce_ms: u64,
    },
    /// The holder reported that it could not take the address.
    AcquireFailed {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        held_under: Epoch,
        /// What it said, at most 200 bytes.
        error: String,
    },
    /// Tells the holder to let go.
    Release {
        /// Which.
        address: IpAddr,
        /// Seen.
        held_under: Epoch,
        /// The rule.
        reason: Reason,
    },
    /// The holder no longer has the address.
    Released {
        /// Which.
        address: IpAddr,
        /// Seen.
        held_under: Epoch,
        /// What the release script said when it failed, at most 200 bytes.
        error: Option<String>,
    },
    /// The holder hears that another machine claims the address, or no longer; told to people.
    Contest {
        /// Which.
        address: IpAddr,
        /// Under which assignment.
        held_under: Epoch,
        /// The MAC of who claims it, at most 200 bytes.
        by: Option<String>,
    },
    /// Nobody can serve the address now; told once until it changes.
    Strand {
        /// Which.
        address: IpAddr,
        /// Seen.
        held_under: Epoch,
    },
    /// The orphan timer ran out.
    Expire {
        /// Which.
        address: IpAddr,
        /// Seen.
        held_under: Epoch,
    },
    /// An operator wants the address served by this host.
    Move {
        /// Which.
        address: IpAddr,
        /// By whom.
        to: HostId,
    },
}

impl AddressCommand {
    /// The address that it is about.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Assign { address, .. }
            | Self::Online { address, .. }
            | Self::AcquireFailed { address, .. }
            | Self::Release { address, .. }
            | Self::Released { address, .. }
            | Self::Strand { address, .. }
            | Self::Contest { address, .. }
            | Self::Expire { address, .. }
            | Self::Move { address, .. } => *address,
        }
    }
}

/// A change to the join tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenCommand {
    /// Opens a token.
    Create {
        /// Its id, drawn at random.
        token: TokenId,
        /// SHA-256 of its secret.
        secret_hash: [u8; 32],
        /// For how long, in ms of replicated time.
        ttl_ms: u64,
        /// For how many hosts.
        uses: u32,
    },
}

/// The rule that moved an address (failover.md, whom the leader chooses).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Its host brought it into the group.
    Brought,
    /// The preferred host is up, healthy and not quiesced.
    Preferred,
    /// A hot spare was free.
    Spare,
    /// The member with the fewest addresses, then the lowest utilization, then by lot.
    Balanced,
    /// Drawn by lot, as the group's policy says.
    Random,
    /// The host claimed it already when the quorum came back.
    Claimed,
    /// An operator moved it.
    Operator,
    /// Let go so that the preferred host can take it back.
    PreferredReturned,
    /// Its holder is down.
    HostDown,
    /// Its holder's daemon restarted.
    Restarted,
    /// Its holder's tests fail.
    TestFailed,
    /// Its holder is being drained.
    Drained,
    /// Its holder could not take it.
    AcquireFailed,
    /// Its holder let go by itself.
    HolderLetGo,
    /// Its holder left the group or may not hold addresses any more.
    MemberLeft,
    /// It ran out as an orphan.
    OrphanExpired,
    /// Its group was deleted.
    GroupDeleted,
}
