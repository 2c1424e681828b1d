//! `rais audit`: whether the living array keeps its laws. The leader asks each host that is up for a
//! testimony: what index it has applied, a fingerprint of the state there, and which laws it sees broken.
//!
//! States are compared at equal index only, so hosts are asked again until they stand at the same one;
//! a host that does not get there in time is told. The laws of the state are those of
//! `statemachine::audit`; here come those that one state does not show: that all hosts have the same,
//! that every address that somebody could serve is served, and that each host answers DNS from it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::{Core, Instant, place};
use futures_util::future::join_all;
use statemachine::codec::fingerprint;
use statemachine::{AddressState, HostId, State};

use super::{Daemon, wire};
use crate::api::{AuditReport, AuditedHost, BrokenLaw, Request, Response, Testimony};
use crate::transport::Kind;

/// A host may take so long for its testimony.
const TESTIMONY: Duration = Duration::from_millis(500);
/// Hosts are asked again until they stand at the same index, for so long; less than a follower waits for
/// its leader.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two rounds.
const ROUND: Duration = Duration::from_millis(50);

/// What this host has to say of its own copy.
pub fn testimony(daemon: &Daemon) -> Testimony {
    let state = daemon.raft.state();
    let of_state = statemachine::audit(&state).into_iter();
    let mut broken: Vec<BrokenLaw> = of_state
        .map(|one| BrokenLaw::new(one.law, one.detail))
        .collect();
    let served = daemon.shelf.zones().load_full();
    for group in state.groups.values() {
        let zone = &group.policy.zone;
        let mut all = served.all().into_iter();
        let said = match all.find(|one| one.apex().to_string() == *zone) {
            Some(one) if one.is_withheld() || !daemon.recovered.load(Ordering::Acquire) => {
                format!("{zone} gets SERVFAIL there")
            }
            Some(one) if one.serial() == group.zone.serial => continue,
            Some(one) => format!("{zone} has serial {} there", one.serial()),
            None => format!("{zone} is not there"),
        };
        let agreed = format!("{said}, and has serial {} in the log", group.zone.serial);
        broken.push(BrokenLaw::new(
            "name servers answer what was agreed",
            agreed,
        ));
    }
    Testimony {
        index: state.index,
        fingerprint: fingerprint(&state),
        broken,
    }
}

/// As leader: all hosts' testimonies, compared, and what is not served though it could be.
pub async fn audit(daemon: &Arc<Daemon>) -> Response {
    let (mut said, mut idle) = (BTreeMap::new(), Vec::new());
    let rounds = async {
        loop {
            said = testimonies(daemon).await;
            // A change under way is no fault: what lasts is.
            idle = daemon.mailbox.ask(unserved).await.unwrap_or_default();
            if agree(&said) && idle.is_empty() {
                return;
            }
            tokio::time::sleep(ROUND).await;
        }
    };
    let _out_of_patience = tokio::time::timeout(PATIENCE, rounds).await;
    let state = daemon.raft.state();
    Response::Audit(report(&state, daemon.me, &said, idle))
}

/// Of this host and each that is up what it said; none: it said nothing in time.
async fn testimonies(daemon: &Arc<Daemon>) -> BTreeMap<HostId, Option<Testimony>> {
    let state = daemon.raft.state();
    let hosts = state.hosts.values();
    let up = hosts.filter(|host| host.is_up() || host.id == daemon.me);
    let ask = async |host: HostId| {
        if host == daemon.me {
            return (host, Some(testimony(daemon)));
        }
        let question = wire::encode(&Request::Testify);
        let call = daemon.peers.call(host, Kind::Client, question, TESTIMONY);
        let said = match call.await.ok().as_deref().and_then(wire::decode) {
            Some(Response::Testimony(said)) => Some(said),
            _ => None,
        };
        (host, said)
    };
    let asked: Vec<_> = up.map(|host| ask(host.id)).collect();
    join_all(asked).await.into_iter().collect()
}

/// Whether nothing is left to ask again for.
fn agree(all: &BTreeMap<HostId, Option<Testimony>>) -> bool {
    let mut said = all.values();
    let first = said.next().and_then(Option::as_ref);
    let good = first.is_some_and(|first| first.broken.is_empty());
    good && said.all(|one| one.as_ref() == first)
}

/// Addresses that nobody serves though somebody could.
fn unserved(core: &Core, now: Instant) -> Vec<BrokenLaw> {
    let (state, at) = (core.state(), core.log_time(now));
    let idle = state.addresses.iter();
    let idle = idle.filter(|(_, one)| one.state == AddressState::Unserved && !one.expired);
    let told = idle.filter_map(|(ip, _)| {
        let (host, _) = place(state, core.view(), at, *ip, 0).chosen?;
        let who = state.name_of(host);
        let said = format!("{ip} is unserved, and {who} could serve it");
        Some(BrokenLaw::new("an address is served if anyone can", said))
    });
    told.collect()
}

fn report(
    state: &State,
    leader: HostId,
    all: &BTreeMap<HostId, Option<Testimony>>,
    unserved: Vec<BrokenLaw>,
) -> AuditReport {
    let own = all.get(&leader).cloned().flatten().unwrap_or_default();
    let mut broken = unserved;
    for (host, said) in all {
        let name = state.name_of(*host);
        let Some(said) = said else {
            let silent = format!("{name} is up and gave no testimony");
            broken.push(BrokenLaw::new("every host that is up can be asked", silent));
            continue;
        };
        let laws = said.broken.iter();
        broken.extend(laws.map(|one| BrokenLaw::new(&one.law, format!("{name}: {}", one.detail))));
        if said.index != own.index {
            let far = format!(
                "{name} is at index {}, the leader at {}",
                said.index, own.index
            );
            broken.push(BrokenLaw::new("every host keeps up", far));
        } else if said.fingerprint != own.fingerprint {
            let differs = format!(
                "{name} has another state than the leader at index {}",
                said.index
            );
            broken.push(BrokenLaw::new("all hosts have the same state", differs));
        }
    }
    let host = |host: &statemachine::Host| {
        let said = all.get(&host.id).cloned().flatten();
        AuditedHost {
            host: host.name.0.clone(),
            up: host.is_up(),
            index: said.as_ref().map(|one| one.index),
            fingerprint: said.map(|one| format!("{:08x}", one.fingerprint)),
        }
    };
    AuditReport {
        leader: state.name_of(leader),
        index: own.index,
        hosts: state.hosts.values().map(host).collect(),
        broken,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(index: u64, fingerprint: u32, broken: &[&str]) -> Option<Testimony> {
        let broken = broken.iter().map(|law| BrokenLaw::new(*law, "x"));
        Some(Testimony {
            index,
            fingerprint,
            broken: broken.collect(),
        })
    }

    fn broken(all: [Option<Testimony>; 3]) -> Vec<String> {
        let ids = [1, 2, 3].map(HostId);
        let all = ids.into_iter().zip(all).collect();
        let report = report(&State::default(), HostId(1), &all, Vec::new());
        assert_eq!(agree(&all), report.broken.is_empty());
        report.broken.into_iter().map(|one| one.law).collect()
    }

    /// Goal: whatever differs between hosts is told, under the name of the law that it breaks.
    /// Method: testimonies of three hosts; the first leads.
    #[test]
    fn what_differs_between_hosts_is_told() {
        let good = || said(7, 1, &[]);
        assert_eq!(broken([good(), good(), good()]), [""; 0]);
        let differs = broken([good(), said(7, 2, &[]), good()]);
        assert_eq!(differs, ["all hosts have the same state"]);
        let behind = broken([good(), good(), said(6, 2, &[])]);
        assert_eq!(behind, ["every host keeps up"]);
        let silent = broken([good(), None, good()]);
        assert_eq!(silent, ["every host that is up can be asked"]);
        let own = broken([said(7, 1, &["a law"]), good(), good()]);
        assert_eq!(own, ["a law"]);
    }
}
