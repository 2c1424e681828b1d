//! Name servers that follow a zone, as the answering host sees them: each host tells them by itself
//! and remembers only what it told (docs/adr/0023).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How a zone is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedReport {
    /// Name of the key that transfers have to be signed with; null: none.
    pub key: Option<String>,
    /// The answering host has no such key, so it gives the zone to nobody and tells nobody.
    pub lacks_key: bool,
    /// Whence transfers may be asked for, as addresses and networks.
    pub allow: Vec<String>,
    /// Who is told of changes.
    pub secondaries: Vec<SecondaryReport>,
}

/// What a secondary was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondaryReport {
    /// Where it is told.
    pub address: SocketAddr,
    /// The newest serial that it acknowledged to the answering host; null: none since its start.
    pub acknowledged: Option<u32>,
    /// The serial that it is being told of; null: nothing is under way.
    pub telling: Option<u32>,
    /// How often it was told of that without an answer.
    pub attempts: u32,
    /// Why it was given up, or keeps failing; null: nothing is wrong.
    pub trouble: Option<String>,
}

impl From<dns::FollowedZone> for FollowedReport {
    fn from(zone: dns::FollowedZone) -> Self {
        let rules = zone.secondaries;
        let secondary = |(address, told): (SocketAddr, dns::Told)| SecondaryReport {
            address,
            acknowledged: told.acknowledged,
            telling: told.telling,
            attempts: told.attempts,
            trouble: told.trouble,
        };
        Self {
            key: rules.key,
            lacks_key: zone.lacks_key,
            allow: rules.allow.iter().map(ToString::to_string).collect(),
            secondaries: zone.told.into_iter().map(secondary).collect(),
        }
    }
}
