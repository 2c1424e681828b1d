//! `rais events`: what happened, one record for each effect of the log.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use statemachine::{Effect, Happening, Reason, State};

use super::when::WallTime;

/// Most events in one answer; ask again with `since` for more.
pub const MAX_EVENTS: u32 = 1_000;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// When, by the wall clock of the leader that proposed it.
    pub at: WallTime,
    /// Position in the log; several events may share one.
    pub index: u64,
    /// The trap names of failover.md and their kin, in camelCase.
    pub kind: String,
    /// The group, if one is concerned.
    pub group: Option<String>,
    /// The address, if one is concerned.
    pub address: Option<IpAddr>,
    /// The host's name, if one is concerned.
    pub host: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What a failover's parts took; null for other events.
    pub phases: Option<Phases>,
}

/// What the parts of a failover took, in ms; null where a part is not known at this event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// From the last heartbeat to the suspicion; 0 when the host's last word was heard.
    pub detect: Option<u64>,
    /// From the suspicion to the end of every lease: a commit, the voters' answers, and the wait.
    pub fence: Option<u64>,
    /// From there to the new holder, and its report back: the second commit and the way there and back.
    pub commit: Option<u64>,
    /// From the order to the address on the interface.
    pub acquire: Option<u64>,
    /// From the address on the interface to its first announcement.
    pub announce: Option<u64>,
}

impl Phases {
    /// The known parts with their names, in order.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = [
            ("detect", self.detect),
            ("fence", self.fence),
            ("commit", self.commit),
            ("acquire", self.acquire),
            ("announce", self.announce),
        ];
        all.into_iter().filter_map(|(name, ms)| Some((name, ms?)))
    }
}

/// Addresses begin to be served without a quorum, outside the promise; and that is over.
pub const LAST_RESORT: [&str; 2] = ["lastResort", "lastResortOver"];

impl EventRecord {
    /// Whether only this host tells of it: the log does not.
    pub fn is_local(&self) -> bool {
        LAST_RESORT.contains(&self.kind.as_str())
    }

    /// Whether who has read up to `index` has it already. What is not from the log may share an index.
    pub fn is_known_at(&self, index: u64) -> bool {
        self.index <= index && !self.is_local()
    }

    /// The record of one effect of the entry at `index`; `wall_ms` is that entry's wall clock, `state`
    /// gives hosts their names, `phases` are what a failover's parts took.
    pub fn of(
        effect: &Effect,
        index: u64,
        wall_ms: u64,
        state: &State,
        phases: Option<Phases>,
    ) -> Self {
        Self {
            at: WallTime(wall_ms),
            index,
            kind: effect.what.kind().to_owned(),
            group: effect.group.as_ref().map(|group| group.0.clone()),
            address: effect.address,
            host: effect.host.map(|host| state.name_of(host)),
            reason: detail(&effect.what)
                .or_else(|| effect.reason.map(|reason| reason_words(reason).to_owned())),
            phases,
        }
    }
}

/// What the effect itself tells beyond its kind.
fn detail(what: &Happening) -> Option<String> {
    match what {
        Happening::AcquireFail { error } | Happening::ReleaseFail { error } => Some(error.clone()),
        Happening::TestFailed { error } if !error.is_empty() => Some(error.clone()),
        Happening::HostFencing { silent_ms } => Some(format!("silent for {silent_ms} ms")),
        Happening::Contested { by } => Some(format!("the machine with MAC {by} claims it, too")),
        Happening::NetworkLost { control } => Some(format!(
            "not heard at {control}, but on another control network"
        )),
        Happening::NetworkFound { control } => Some(format!("heard again at {control}")),
        Happening::LeaderChanged { term } => Some(format!("leads in term {term}")),
        Happening::ZoneChanged {
            serial,
            published,
            ttl_s,
        } => {
            let names: Vec<String> = published.iter().map(IpAddr::to_string).collect();
            let names = if names.is_empty() {
                "nothing".to_owned()
            } else {
                names.join(" ")
            };
            Some(format!("serial {serial} publishes {names}, ttl {ttl_s}s"))
        }
        Happening::Quiesced { drain: true } => Some("an operator drains it".to_owned()),
        _ => None,
    }
}

/// The rule that moved an address, in words that finish "it stands there because …".
pub const fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Brought => "its host brought it into the group",
        Reason::Preferred => "its preferred host is up, healthy and not quiesced",
        Reason::Spare => "its preferred host can't serve it, and this hot spare was free",
        Reason::Balanced => {
            "its preferred host can't serve it, and this member held the fewest addresses, with the lowest utilization"
        }
        Reason::Random => "its preferred host can't serve it, and this member was drawn by lot",
        Reason::Claimed => "this host serves it already",
        Reason::Operator => "an operator moved it",
        Reason::PreferredReturned => "its preferred host is back and takes it again",
        Reason::HostDown => "its holder is down",
        Reason::Restarted => "its holder's daemon restarted",
        Reason::TestFailed => "its holder's tests fail",
        Reason::Drained => "its holder is being drained",
        Reason::AcquireFailed => "its holder could not take it",
        Reason::HolderLetGo => "its holder let go by itself",
        Reason::MemberLeft => "its holder left the group or may not hold addresses any more",
        Reason::OrphanExpired => "it ran out as an orphan",
        Reason::GroupDeleted => "its group was deleted",
    }
}
