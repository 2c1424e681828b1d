//! One group's zone, built whole from committed state and never changed after.
//!
//! A node is found by the hash of its lower-cased wire name, so a name that does not exist
//! costs no more than one that does: hickory's in-memory store scans every name for a negative
//! answer (571 us at 10,000 names), which a flood of random names turns into an outage.
//!
//! Names: apex SOA, NS, A, AAAA; `HOST.ZONE` while published; `HOST.ns.ZONE` for each name
//! server. A host that is not published has no name at all (NXDOMAIN); `ns.ZONE` is an empty
//! non-terminal (NODATA). Sets are sorted and without duplicates: equal inputs, equal zones.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::draft::{Draft, apex_of};
use crate::name::NameKey;

/// Label under which the name servers of a zone live; no host may be published under it.
pub const NS_LABEL: &str = "ns";

/// Mailbox name of the SOA, below the apex. RFC 2142 asks for it.
pub const RNAME_LABEL: &str = "hostmaster";

/// Longest host name in wire form, without a terminating zero: one full label.
pub const MAX_HOST_WIRE: usize = 1 + 63;

/// Longest zone name in wire form: 255 - 64 (a host's label) - 3 (`ns`) = 188, so that
/// `HOST.ns.ZONE` is a legal name for every host that is legal at all.
pub const MAX_ZONE_WIRE: usize = crate::name::MAX_NAME - MAX_HOST_WIRE - 3;

/// Seconds after which a secondary asks for the serial when no NOTIFY came: a lost NOTIFY
/// then leaves a dead address in its answers for a minute at most.
pub const SOA_REFRESH_S: i32 = 60;

/// Seconds between a secondary's attempts while we don't answer.
pub const SOA_RETRY_S: i32 = 10;

/// Seconds after which a secondary drops a zone whose primaries are all silent: a week, as
/// an old answer is better than none while someone repairs the array.
pub const SOA_EXPIRE_S: i32 = 604_800;

/// Longest TTL that resolvers take as positive. RFC 2181, section 8.
pub const MAX_TTL_S: u32 = 0x7FFF_FFFF;

/// All that a zone is made of, as the replicated state has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneInput {
    /// Name of the zone, with or without its last dot.
    pub name: String,
    /// TTL of every record, and of negative answers. Seconds.
    pub ttl_s: u32,
    /// SOA serial: the zone's version in the log.
    pub serial: u32,
    /// This node may not answer for the zone: it has lost touch with the quorum for too long.
    pub withheld: bool,
    /// Published preferred addresses, each with the host it belongs to.
    pub published: Vec<(String, IpAddr)>,
    /// Hosts that serve DNS, with the addresses they listen on. The first is the SOA's mname.
    pub nameservers: Vec<(String, Vec<IpAddr>)>,
}

/// Why there is no zone for a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// The name can't be a zone's.
    #[error(
        "zone {name:?} has no legal name: use labels of 1 to 63 bytes and at most 186 in all, as in web.example."
    )]
    BadName {
        /// The name as configured.
        name: String,
    },
    /// Another group already has this zone.
    #[error("zone {name:?} belongs to another group already: give each group a zone of its own")]
    Duplicate {
        /// The name as configured.
        name: String,
    },
}

/// The records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RrSet {
    /// Type of all of `records`.
    pub rtype: RecordType,
    /// At least one record; same owner, class and TTL.
    pub records: Vec<Record>,
}

/// A name in the zone. Without sets it is an empty non-terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub(crate) sets: Vec<RrSet>,
}

impl Node {
    /// The records of `rtype` at this name.
    pub fn set(&self, rtype: RecordType) -> Option<&RrSet> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }
}

/// Everything needed to answer for one group. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    apex: Name,
    soa: RrSet,
    glue: Vec<RrSet>,
    nodes: HashMap<Box<[u8]>, Node>,
    left_out: Vec<String>,
    withheld: bool,
}

impl Zone {
    /// Builds the zone. The same input gives the same zone on every node.
    ///
    /// # Errors
    /// [`ZoneError::BadName`]. A host whose name is no legal label below the zone is left out
    /// by name only ([`Zone::left_out`]): its address stays in the apex set.
    pub fn project(input: &ZoneInput) -> Result<Zone, ZoneError> {
        let apex = apex_of(&input.name)?;
        let mut draft = Draft::new(apex.clone(), input.ttl_s.min(MAX_TTL_S));
        for (host, address) in &input.published {
            draft.publish(host, *address);
        }
        let servers = draft.nameservers(&input.nameservers);
        let soa = draft.soa(input.serial, servers.first());
        let (nodes, left_out) = draft.finish();
        let glue = servers
            .iter()
            .filter_map(NameKey::of)
            .filter_map(|key| nodes.get(key.wire()))
            .flat_map(|node| node.sets.iter().cloned())
            .collect();
        Ok(Zone {
            apex,
            soa,
            glue,
            nodes,
            left_out,
            withheld: input.withheld,
        })
    }

    /// The zone's name, lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// The SOA, which a negative answer carries as well.
    pub fn soa(&self) -> &RrSet {
        &self.soa
    }

    /// Version of the zone: what every name server of the array answers.
    pub fn serial(&self) -> u32 {
        match self.soa.records.first().map(|record| &record.data) {
            Some(RData::SOA(soa)) => soa.serial,
            _ => 0,
        }
    }

    /// Whether every question about it is answered with SERVFAIL: what is known of it here may be old.
    pub fn is_withheld(&self) -> bool {
        self.withheld
    }

    /// Addresses of the zone's name servers, for the additional section of an NS answer.
    pub fn glue(&self) -> &[RrSet] {
        &self.glue
    }

    /// The node of a lower-cased wire name. `None`: the name does not exist.
    pub fn node(&self, wire: &[u8]) -> Option<&Node> {
        self.nodes.get(wire)
    }

    /// All names, in no order: lower-cased wire form and what is there.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(wire, node)| (&**wire, node))
    }

    /// Hosts that have no name in the zone because theirs is reserved or not a legal label.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// All records in a fixed order, the SOA first: what a transfer or a person would read.
    pub fn records(&self) -> Vec<&Record> {
        let mut all: Vec<&Record> = self
            .nodes
            .values()
            .flat_map(|node| &node.sets)
            .filter(|set| set.rtype != RecordType::SOA)
            .flat_map(|set| &set.records)
            .collect();
        all.sort();
        self.soa.records.iter().chain(all).collect()
    }
}
