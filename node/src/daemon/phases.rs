//! What the parts of a failover took, put together from the entries that it left in the log.
//!
//! Each host derives the same from the same entries: their replicated times are the leader's clock,
//! and the two ends of each part are on it. The parts follow one another without a hole: from the last
//! sign of life, over the fence, to the moment when the leader knows that the address is served.
//!
//! Limits: a failover that outlives a restart of this host is shown without its first parts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use statemachine::{Effect, Happening, HostId, LogTime, Reason, State};

use crate::api::{FailoverStatus, Phases, WallTime};

/// Failovers that are under way at once; the oldest is forgotten first.
const MOST: usize = 4_096;

/// A failover as far as it went when its address became free.
#[derive(Clone, Copy, Debug)]
struct Freed {
    from: HostId,
    detect: u64,
    fence: u64,
    at: LogTime,
}

/// The failovers that are under way.
#[derive(Debug, Default)]
pub struct Failovers {
    fenced: BTreeMap<HostId, (u64, LogTime)>,
    down: Option<(HostId, Freed)>,
    freed: BTreeMap<IpAddr, Freed>,
    ended: BTreeMap<IpAddr, FailoverStatus>,
}

impl Failovers {
    /// The last failover of each address.
    pub fn ended(&self) -> &BTreeMap<IpAddr, FailoverStatus> {
        &self.ended
    }

    /// Takes in what an entry made happen, with its replicated time and its wall clock in ms; `state` names
    /// the hosts. Gives the parts that are known then.
    pub fn take_in(
        &mut self,
        (at, wall): (LogTime, u64),
        effect: &Effect,
        state: &State,
    ) -> Option<Phases> {
        let (host, address) = (effect.host.unwrap_or_default(), effect.address);
        match &effect.what {
            Happening::HostFencing { silent_ms } => {
                self.fenced.insert(host, (*silent_ms, at));
                Some(Phases {
                    detect: Some(*silent_ms),
                    ..Phases::default()
                })
            }
            Happening::HostUnfenced | Happening::HostForgotten => {
                self.fenced.remove(&host);
                None
            }
            Happening::HostDown { fence_ms } => {
                let fenced = self.fenced.remove(&host);
                let fence = fenced.map_or(*fence_ms, |(_, since)| at.since(since));
                let detect = fenced.map(|(detect, _)| detect);
                let freed = |detect| Freed {
                    from: host,
                    detect,
                    fence,
                    at,
                };
                self.down = detect.map(|detect| (host, freed(detect)));
                Some(Phases {
                    detect,
                    fence: Some(fence),
                    ..Phases::default()
                })
            }
            Happening::Release if effect.reason == Some(Reason::HostDown) => {
                let freed = self.down.filter(|(down, _)| *down == host);
                if let (Some(ip), Some((_, freed))) = (address, freed) {
                    self.note(ip, freed);
                }
                None
            }
            Happening::Acquire {
                acquire_ms,
                announce_ms,
                ..
            } => {
                let took = (*acquire_ms, *announce_ms);
                let freed = address.and_then(|ip| self.freed.remove(&ip));
                let phases = phases(at, freed, took);
                if let (Some(ip), Some(freed)) = (address, freed) {
                    let failover = FailoverStatus {
                        at: WallTime(wall),
                        from: state.name_of(freed.from),
                        to: state.name_of(host),
                        ms: phases.known().map(|(_, ms)| ms).sum(),
                        phases,
                    };
                    self.ended.retain(|ip, _| state.addresses.contains_key(ip));
                    self.ended.insert(ip, failover);
                }
                Some(phases)
            }
            _ => None,
        }
    }

    fn note(&mut self, ip: IpAddr, freed: Freed) {
        if self.freed.len() >= MOST {
            let oldest = self.freed.iter().min_by_key(|(_, freed)| freed.at);
            if let Some(oldest) = oldest.map(|(ip, _)| *ip) {
                self.freed.remove(&oldest);
            }
        }
        self.freed.insert(ip, freed);
    }
}

fn phases(at: LogTime, freed: Option<Freed>, (acquire, announce): (u64, u64)) -> Phases {
    let commit = |freed: Freed| at.since(freed.at).saturating_sub(acquire + announce);
    Phases {
        detect: freed.map(|freed| freed.detect),
        fence: freed.map(|freed| freed.fence),
        commit: freed.map(commit),
        acquire: Some(acquire),
        announce: Some(announce),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use statemachine::Epoch;

    fn effect(what: Happening, host: u64) -> Effect {
        Effect::new(what).host(HostId(host))
    }

    fn acquired(ip: IpAddr) -> Effect {
        let what = Happening::Acquire {
            epoch: Epoch(4),
            acquire_ms: 3,
            announce_ms: 1,
        };
        effect(what, 2).address(ip)
    }

    /// Goal: the parts of a failover follow one another without a hole, and a planned move has no
    /// failover's parts. Method: fence at 1000, down at 1009, online at 1030, and online once more.
    #[test]
    fn the_parts_of_a_failover_add_up_to_its_length() {
        let ip = IpAddr::from([10, 77, 0, 101]);
        let mut failovers = Failovers::default();
        let silent = Happening::HostFencing { silent_ms: 302 };
        let mut tell =
            |at, effect: &Effect| failovers.take_in((LogTime(at), 7), effect, &State::default());
        tell(1000, &effect(silent, 1));
        tell(1009, &effect(Happening::HostDown { fence_ms: 5 }, 1));
        let freed = effect(Happening::Release, 1).address(ip);
        tell(1009, &freed.reason(Reason::HostDown));
        let phases = tell(1030, &acquired(ip)).unwrap();
        let known: Vec<_> = phases.known().map(|(_, ms)| ms).collect();
        assert_eq!(known, [302, 9, 17, 3, 1]);
        assert_eq!(known.iter().sum::<u64>(), 302 + 30);
        let again = tell(2000, &acquired(ip)).unwrap();
        assert_eq!(again.known().count(), 2);
        let ended = failovers.ended().get(&ip).unwrap();
        assert_eq!((ended.from.as_str(), ended.ms), ("host-1", 332));
    }
}
