//! What goes wrong in a random drill: drawn from a seed, applied, undone.

use super::{Drill, DrillError, flood, scenes};
use crate::Rng;
use crate::lab::array::{home_addresses, with_prefix};
use crate::lab::{Fault, Network, Scope, Wire, now};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// A fence of a host that is stopped begins by then, or it is noted that it did not.
const FENCE: Duration = Duration::from_secs(5);
/// A voter is restarted at most so long after a fence began, in ms: a fence takes some 20 ms here,
/// up to a lease when its votes are slow.
const IN_A_FENCE: u64 = 60;

/// A wall clock is stepped by at most so much, in s.
const STEP_S: u64 = 3_600;

/// What goes wrong: numbers of hosts, milliseconds.
#[derive(Clone, Debug)]
#[allow(
    missing_docs,
    reason = "fields are what they are called; `ms` is how long it lasts"
)]
pub enum Blow {
    /// SIGKILL; started again after `ms`.
    Kill { host: u8, whom: Scope, ms: u64 },
    /// SIGSTOP.
    Stop { host: u8, whom: Scope, ms: u64 },
    /// Cut off silently on both networks.
    Partition { host: u8, ms: u64 },
    /// Nobody hears it, on both networks.
    Mute { host: u8, ms: u64 },
    /// It hears nobody, on both networks.
    Deaf { host: u8, ms: u64 },
    /// One host does not hear another one, on both networks; the way back works.
    Cut { from: u8, to: u8, ms: u64 },
    /// 30 % of its frames are lost, on both networks.
    Loss { host: u8, ms: u64 },
    /// Control traffic of all goes over bad wires, on both networks.
    Wire { wire: Wire, ms: u64 },
    /// Cut off on one network; on the LAN its addresses are out of reach, and yet it keeps its lease.
    One { host: u8, network: Network, ms: u64 },
    /// Its carrier is lost on one network: likewise, and the kernel knows.
    Carrier { host: u8, network: Network, ms: u64 },
    /// No control traffic on one network, for all hosts.
    Control { network: Network, ms: u64 },
    /// Its disk hangs.
    Freeze { host: u8, ms: u64 },
    /// `nft flush ruleset`.
    Flush { host: u8 },
    /// A service address is taken off by hand.
    Delete { host: u8, address: IpAddr },
    /// A service address of another host is added by hand.
    Steal { host: u8, address: IpAddr, ms: u64 },
    /// SIGTERM, and started again.
    Restart { host: u8 },
    /// Its disk is full.
    Full { host: u8, ms: u64 },
    /// Its wall clock is wrong.
    Clock { host: u8, by_s: i64, ms: u64 },
    /// Its name server is flooded.
    Flood { host: u8, ms: u64 },
    /// All restart, one after the other.
    Rolling,
    /// Likewise, with another build.
    Upgrade,
    /// A host is stopped; so long after its fence was seen to begin, another one is killed and
    /// started again.
    Fence {
        host: u8,
        voter: u8,
        after: u64,
        ms: u64,
    },
}

impl Blow {
    /// Draws the same numbers whoever leads, for an array of `hosts`.
    #[must_use]
    pub fn draw(rng: &mut Rng, leader: u8, hosts: u8) -> Blow {
        // The leader is hit more often than by chance alone.
        let any = 1 + u8::try_from(rng.below(u64::from(hosts))).unwrap_or(0);
        let host = if rng.chance(200) { leader } else { any };
        let other = host % hosts + 1;
        let [v4, v6] = home_addresses(host);
        let address = if rng.chance(500) { v6 } else { v4 };
        let leads = rng.chance(500) && host != leader;
        let voter = if leads { leader } else { other };
        let network = rng.pick(&Network::ALL).unwrap_or(Network::Lan);
        let whom = rng.pick(&[Scope::Alone, Scope::Children, Scope::Family]);
        let whom = whom.unwrap_or(Scope::Family);
        let down = rng.between((0, 1_500));
        let ms = rng.between((500, 2_000));
        let after = rng.between((0, IN_A_FENCE));
        let long = rng.chance(100);
        let stop = rng.between(if long { (3_000, 10_000) } else { (100, 3_000) });
        let off = i64::try_from(rng.between((1, STEP_S))).unwrap_or(1);
        let by_s = if rng.chance(500) { off } else { -off };
        let wire = rng.pick(&[Wire::bad(down), Wire::worse(down)]);
        let wire = wire.unwrap_or(Wire::bad(down));
        match rng.below(36) {
            0..=3 => Blow::Kill {
                host,
                whom,
                ms: down,
            },
            one @ 4..=8 => Blow::Stop {
                host: if one > 6 { leader } else { host },
                whom,
                ms: stop,
            },
            9 | 10 => Blow::Partition { host, ms },
            11 => Blow::Mute { host, ms },
            12 => Blow::Deaf { host, ms },
            13 => Blow::Cut {
                from: host,
                to: voter,
                ms,
            },
            14 => Blow::Loss { host, ms },
            15 => Blow::One { host, network, ms },
            16 => Blow::Carrier { host, network, ms },
            17 => Blow::Control { network, ms },
            18 => Blow::Freeze { host, ms },
            19 => Blow::Freeze { host: leader, ms },
            20 => Blow::Flush { host },
            21 => Blow::Delete { host, address },
            22 => Blow::Steal {
                host: other,
                address,
                ms: 300,
            },
            23 => Blow::Restart { host },
            24 | 25 => Blow::Full { host, ms },
            26 | 27 => Blow::Clock { host, by_s, ms },
            28 => Blow::Flood { host, ms },
            29 => Blow::Rolling,
            30 => Blow::Upgrade,
            31 | 32 => Blow::Wire { wire, ms },
            _ => Blow::Fence {
                host,
                voter,
                after,
                ms: down,
            },
        }
    }

    /// Whether it needs a disk of the host's own.
    #[must_use]
    pub const fn needs_disk(&self) -> bool {
        matches!(self, Blow::Freeze { .. } | Blow::Full { .. })
    }

    /// Whether an address may be out of reach for as long as the fault lasts.
    #[must_use]
    pub const fn hides(&self) -> bool {
        match self {
            Blow::Wire { wire, .. } => wire.outlasts(scenes::LEASE_MS),
            Blow::One { network, .. } | Blow::Carrier { network, .. } => {
                matches!(network, Network::Lan)
            }
            _ => false,
        }
    }

    /// Whom it hits; nobody: all, or the networks.
    #[must_use]
    pub fn hosts(&self) -> Vec<u8> {
        match *self {
            Blow::Kill { host, .. }
            | Blow::Stop { host, .. }
            | Blow::Partition { host, .. }
            | Blow::Mute { host, .. }
            | Blow::Deaf { host, .. }
            | Blow::Loss { host, .. }
            | Blow::One { host, .. }
            | Blow::Carrier { host, .. }
            | Blow::Freeze { host, .. }
            | Blow::Flush { host }
            | Blow::Delete { host, .. }
            | Blow::Steal { host, .. }
            | Blow::Restart { host }
            | Blow::Full { host, .. }
            | Blow::Clock { host, .. }
            | Blow::Flood { host, .. } => vec![host],
            Blow::Cut { from, to, .. } => vec![from, to],
            Blow::Fence { host, voter, .. } => vec![host, voter],
            Blow::Wire { .. } | Blow::Control { .. } | Blow::Rolling | Blow::Upgrade => Vec::new(),
        }
    }

    /// Applies it, waits, undoes it.
    pub(super) fn strike(&self, drill: &mut Drill<'_>) -> Result<(), DrillError> {
        if let Some((faults, ms)) = self.faults() {
            return drill.hold(&faults, ms).map(drop);
        }
        match *self {
            Blow::Kill { host, whom, ms } => {
                drill.array.kill(host, whom)?;
                drill.stop.pause(ms);
            }
            Blow::Stop { host, whom, ms } => scenes::stop_for(drill, host, whom, ms)?,
            Blow::Restart { host } => drill.array.restart(host)?,
            Blow::Flood { host, ms } => drop(flood::flood(drill.lab, host, ms, &drill.stop)?),
            Blow::Rolling => scenes::roll(drill, None)?,
            Blow::Upgrade => scenes::upgrade(drill)?,
            Blow::Fence {
                host,
                voter,
                after,
                ms,
            } => in_a_fence(drill, host, voter, after, ms)?,
            // The daemon mends these itself: they are never undone. A gate that its daemon owns (from
            // kernel 6.9 on) is not flushed at all.
            Blow::Flush { host } => drop(drill.array.inject(&Fault::FlushRules { host })?),
            Blow::Delete { host, address } => {
                // As rais puts it on: the subnet is the host's own already. It may have moved by now.
                let whole = if address.is_ipv4() { 32 } else { 128 };
                let address = format!("{address}/{whole}");
                drop(
                    drill
                        .array
                        .inject(&Fault::DeleteAddress { host, address })?,
                );
            }
            _ => {}
        }
        Ok(())
    }

    /// The faults of the lab that it is made of, and how long they last.
    fn faults(&self) -> Option<(Vec<Fault>, u64)> {
        let both = |fault: &dyn Fn(Network) -> Fault| Network::ALL.map(fault).to_vec();
        Some(match *self {
            Blow::Partition { host, ms } => {
                (both(&|network| Fault::Partition { host, network }), ms)
            }
            Blow::Mute { host, ms } => (both(&|network| Fault::Mute { host, network }), ms),
            Blow::Deaf { host, ms } => (both(&|network| Fault::Deaf { host, network }), ms),
            Blow::Cut { from, to, ms } => (both(&|network| Fault::Cut { from, to, network }), ms),
            Blow::Loss { host, ms } => {
                let percent = 30;
                let loss = |network| Fault::Loss {
                    host,
                    network,
                    percent,
                };
                (both(&loss), ms)
            }
            Blow::Wire { wire, ms } => (both(&|network| Fault::Wire { network, wire }), ms),
            Blow::One { host, network, ms } => (vec![Fault::Partition { host, network }], ms),
            Blow::Carrier { host, network, ms } => (vec![Fault::Carrier { host, network }], ms),
            Blow::Control { network, ms } => (vec![Fault::ControlLost { network }], ms),
            Blow::Freeze { host, ms } => (vec![Fault::Freeze { host }], ms),
            Blow::Full { host, ms } => (vec![Fault::Full { host }], ms),
            Blow::Clock { host, by_s, ms } => (vec![Fault::Clock { host, by_s }], ms),
            Blow::Steal { host, address, ms } => {
                let address = with_prefix(address);
                (vec![Fault::AddAddress { host, address }], ms)
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = |whom: Scope| match whom {
            Scope::Alone => "",
            Scope::Children => "'s children",
            Scope::Family => " and its children",
        };
        if let Some((faults, ms)) = self.faults() {
            // Both networks, where it is the same on both.
            let first = faults.first().map(ToString::to_string).unwrap_or_default();
            let first = if faults.len() > 1 {
                first.replace(" on lan", "")
            } else {
                first
            };
            return write!(f, "{first}, {ms} ms");
        }
        match *self {
            Blow::Kill { host, whom, ms } => {
                write!(
                    f,
                    "kill -9 of h{host}{}, started after {ms} ms",
                    whose(whom)
                )
            }
            Blow::Stop { host, whom, ms } => write!(f, "h{host}{} stopped, {ms} ms", whose(whom)),
            Blow::Flush { host } => write!(f, "nft flush ruleset on h{host}"),
            Blow::Delete { host, address } => write!(f, "{address} deleted on h{host} by hand"),
            Blow::Restart { host } => write!(f, "h{host} restarted"),
            Blow::Flood { host, ms } => write!(f, "DNS of h{host} flooded, {ms} ms"),
            Blow::Rolling => write!(f, "rolling restart"),
            Blow::Upgrade => write!(f, "rolling upgrade"),
            Blow::Fence {
                host, voter, after, ..
            } => {
                write!(
                    f,
                    "h{host} stopped; h{voter} killed {after} ms into its fence"
                )
            }
            _ => write!(f, "{self:?}"),
        }
    }
}

/// Stops `host` and kills `voter` some ms after the fence was seen to begin.
pub(super) fn in_a_fence(
    drill: &mut Drill<'_>,
    host: u8,
    voter: u8,
    after: u64,
    ms: u64,
) -> Result<(), DrillError> {
    let mut all = 1..=drill.array.hosts();
    let third = all.find(|one| ![host, voter].contains(one)).unwrap_or(1);
    let events = drill.array.follow(third)?;
    let at = drill.array.stop(host, Scope::Family)?;
    match events.wait("hostFencing", FENCE) {
        Some(_) => drill.stop.pause(after),
        None => drill
            .stop
            .say(format_args!("      no fence within {:?}", now().since(at))),
    }
    drill.array.kill(voter, Scope::Family)?;
    drill.array.start(voter)?;
    drill.stop.pause(ms);
    scenes::wake(drill, host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// Goal: a seed can be typed again, every kind comes, and each is said in words.
    /// Method: two draws of one seed; a thousand faults of an array of five.
    #[test]
    fn a_seed_draws_the_same_faults_and_every_kind_has_words() {
        let draw = || {
            let mut rng = Rng::new(7);
            let all = (0..1_000).map(|_| Blow::draw(&mut rng, 3, 5).to_string());
            all.collect::<Vec<_>>()
        };
        let words = draw();
        assert_eq!(words, draw());
        for kind in [
            "kill -9",
            "stopped",
            "cut off",
            "full",
            "wall clock",
            "flooded",
            "doubled",
            "rolling restart",
            "rolling upgrade",
            "into its fence",
        ] {
            assert!(words.iter().any(|one| one.contains(kind)), "{kind}");
        }
        assert!(!words.iter().any(|one| one.contains('{')), "{words:?}");
    }
}
