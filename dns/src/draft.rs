//! A zone while it is being built: which names and records the facts of an input make.
//!
//! Names are put together from labels, never parsed from text: a dot or a backslash in a host
//! name can't become something else on the way.

use std::collections::HashMap;
use std::net::IpAddr;

use hickory_proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::name::NameKey;
use crate::zone::{
    MAX_HOST_WIRE, MAX_ZONE_WIRE, NS_LABEL, Node, RNAME_LABEL, RrSet, SOA_EXPIRE_S, SOA_REFRESH_S,
    SOA_RETRY_S, ZoneError,
};

/// A zone while it is being built.
pub(crate) struct Draft {
    apex: Name,
    ttl: u32,
    nodes: HashMap<Box<[u8]>, Node>,
    left_out: Vec<String>,
}

impl Draft {
    pub(crate) fn new(apex: Name, ttl: u32) -> Draft {
        Draft {
            apex,
            ttl,
            nodes: HashMap::new(),
            left_out: Vec::new(),
        }
    }

    /// The nodes with each set sorted and without duplicates, and the hosts left out.
    pub(crate) fn finish(mut self) -> (HashMap<Box<[u8]>, Node>, Vec<String>) {
        for node in self.nodes.values_mut() {
            node.sets.sort_by_key(|set| u16::from(set.rtype));
            for set in &mut node.sets {
                set.records.sort();
                set.records.dedup();
            }
        }
        (self.nodes, self.left_out)
    }

    /// Adds an address to the apex and, if its host can be named, under the host's name.
    pub(crate) fn publish(&mut self, host: &str, address: IpAddr) {
        let record = address_record(&self.apex, self.ttl, address);
        self.add(record);
        match host_name(host, &self.apex) {
            Some(name) if !is_reserved(host) => {
                let record = address_record(&name, self.ttl, address);
                self.add(record);
            }
            _ => self.leave_out(host),
        }
    }

    /// Adds NS and addresses of each server; returns the servers' names in input order.
    pub(crate) fn nameservers(&mut self, servers: &[(String, Vec<IpAddr>)]) -> Vec<Name> {
        let below = host_name(NS_LABEL, &self.apex);
        let mut names = Vec::new();
        for (host, addresses) in servers {
            // A server that nobody can reach by its name would only make resolvers wait.
            let reachable: Vec<IpAddr> = addresses
                .iter()
                .filter(|address| !address.is_unspecified() && !address.is_multicast())
                .copied()
                .collect();
            let name = below.as_ref().and_then(|below| host_name(host, below));
            let Some(name) = name else {
                self.leave_out(host);
                continue;
            };
            if reachable.is_empty() || names.contains(&name) {
                continue;
            }
            for address in reachable {
                let record = address_record(&name, self.ttl, address);
                self.add(record);
            }
            let ns = RData::NS(NS(name.clone()));
            self.add(Record::from_rdata(self.apex.clone(), self.ttl, ns));
            names.push(name);
        }
        names
    }

    pub(crate) fn soa(&mut self, serial: u32, first_server: Option<&Name>) -> RrSet {
        // Without a name server nobody can ask; the apex keeps the record well-formed.
        let mname = first_server.unwrap_or(&self.apex).clone();
        let rname = host_name(RNAME_LABEL, &self.apex).unwrap_or_else(|| self.apex.clone());
        let soa = SOA::new(
            mname,
            rname,
            serial,
            SOA_REFRESH_S,
            SOA_RETRY_S,
            SOA_EXPIRE_S,
            self.ttl,
        );
        let record = Record::from_rdata(self.apex.clone(), self.ttl, RData::SOA(soa));
        self.add(record.clone());
        RrSet {
            rtype: RecordType::SOA,
            records: vec![record],
        }
    }

    /// Files a record under its owner and makes the names between it and the apex exist.
    fn add(&mut self, record: Record) {
        let Some(key) = NameKey::of(&record.name) else {
            return;
        };
        for labels in usize::from(self.apex.num_labels())..key.labels() {
            if let Some(above) = key.suffix(labels) {
                self.nodes.entry(above.into()).or_default();
            }
        }
        let node = self.nodes.entry(key.wire().into()).or_default();
        let rtype = record.record_type();
        match node.sets.iter_mut().find(|set| set.rtype == rtype) {
            Some(set) => set.records.push(record),
            None => node.sets.push(RrSet {
                rtype,
                records: vec![record],
            }),
        }
    }

    fn leave_out(&mut self, host: &str) {
        // No name at all is an address whose host was forgotten: nothing to complain of.
        if !host.is_empty() && !self.left_out.iter().any(|known| known == host) {
            self.left_out.push(host.to_owned());
        }
    }
}

/// The name of a zone, lower case.
pub(crate) fn apex_of(name: &str) -> Result<Name, ZoneError> {
    let bad = || ZoneError::BadName {
        name: name.to_owned(),
    };
    let trimmed = name.strip_suffix('.').unwrap_or(name);
    let labels = labels_of(trimmed).ok_or_else(bad)?;
    let wire: usize = 1 + labels.iter().map(|label| 1 + label.len()).sum::<usize>();
    if wire > MAX_ZONE_WIRE {
        return Err(bad());
    }
    Name::from_labels(labels)
        .map(|apex| apex.to_lowercase())
        .map_err(|_| bad())
}

/// The labels of a dotted name; `None` if one is empty or too long.
fn labels_of(name: &str) -> Option<Vec<&[u8]>> {
    let labels: Vec<&[u8]> = name.split('.').map(str::as_bytes).collect();
    let legal = labels.iter().all(|label| (1..=63).contains(&label.len()));
    legal.then_some(labels)
}

/// `HOST.below`, lower case; `None` if `host` is no legal name there.
fn host_name(host: &str, below: &Name) -> Option<Name> {
    let labels = labels_of(host)?;
    let wire: usize = labels.iter().map(|label| 1 + label.len()).sum();
    if wire > MAX_HOST_WIRE {
        return None;
    }
    Name::from_labels(labels.into_iter().chain(below.iter()))
        .map(|name| name.to_lowercase())
        .ok()
}

/// Whether a host of this name would stand among the name servers' names.
fn is_reserved(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or(host);
    last.eq_ignore_ascii_case(NS_LABEL)
}

fn address_record(owner: &Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(owner.clone(), ttl, data)
}
