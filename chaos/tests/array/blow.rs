//! What goes wrong in the storm: drawn from a seed, applied, undone.

use chaos::Rng;
use chaos::lab::array::{Array, home_addresses, with_prefix};
use chaos::lab::{Fault, Lab, Network, Scope};
use std::net::IpAddr;
use std::time::Duration;

use crate::{HOSTS, pause};

/// A fence of a host that is stopped begins by then, or it is noted that it did not.
const FENCE: Duration = Duration::from_secs(5);
/// A voter is restarted at most so long after a fence began, in ms: a fence takes some 20 ms here,
/// up to a lease when its votes are slow.
const IN_A_FENCE: u64 = 60;

/// What goes wrong: numbers of hosts, milliseconds.
#[derive(Clone, Debug)]
pub enum Blow {
    Kill {
        host: u8,
        whom: Scope,
        ms: u64,
    },
    Stop {
        host: u8,
        whom: Scope,
        ms: u64,
    },
    /// Cut off silently on both networks.
    Partition {
        host: u8,
        ms: u64,
    },
    /// Nobody hears it, on both networks.
    Mute {
        host: u8,
        ms: u64,
    },
    /// It hears nobody, on both networks.
    Deaf {
        host: u8,
        ms: u64,
    },
    /// One host does not hear another one, on both networks; the way back works.
    Cut {
        from: u8,
        to: u8,
        ms: u64,
    },
    /// 30 % of its frames are lost, on both networks.
    Loss {
        host: u8,
        ms: u64,
    },
    /// Cut off on one network; on the LAN its addresses are out of reach, and yet it keeps its lease.
    One {
        host: u8,
        network: Network,
        ms: u64,
    },
    /// Its carrier is lost on one network: likewise, and the kernel knows.
    Carrier {
        host: u8,
        network: Network,
        ms: u64,
    },
    /// No control traffic on one network, for all hosts.
    Control {
        network: Network,
        ms: u64,
    },
    Freeze {
        host: u8,
        ms: u64,
    },
    Flush {
        host: u8,
    },
    Delete {
        host: u8,
        address: IpAddr,
    },
    /// A service address of another host is added by hand.
    Steal {
        host: u8,
        address: IpAddr,
        ms: u64,
    },
    Restart {
        host: u8,
    },
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
    /// Draws the same numbers whoever leads.
    pub fn draw(rng: &mut Rng, leader: u8) -> Blow {
        // The leader is hit more often than by chance alone.
        let any = 1 + u8::try_from(rng.below(u64::from(HOSTS))).unwrap();
        let host = if rng.chance(200) { leader } else { any };
        let other = host % HOSTS + 1;
        let address = home_addresses(host)[usize::from(rng.chance(500))];
        let leads = rng.chance(500) && host != leader;
        let voter = if leads { leader } else { other };
        let network = Network::ALL[usize::from(rng.chance(500))];
        let whom = rng.pick(&[Scope::Alone, Scope::Children, Scope::Family]);
        let whom = whom.unwrap();
        let down = rng.between((0, 1_500));
        let cut = rng.between((500, 2_000));
        let after = rng.between((0, IN_A_FENCE));
        let stop = if rng.chance(100) {
            rng.between((3_000, 10_000))
        } else {
            rng.between((100, 3_000))
        };
        match rng.below(26) {
            0..=3 => Blow::Kill {
                host,
                whom,
                ms: down,
            },
            4..=6 => Blow::Stop {
                host,
                whom,
                ms: stop,
            },
            7 | 8 => Blow::Stop {
                host: leader,
                whom,
                ms: stop,
            },
            9 | 10 => Blow::Partition { host, ms: cut },
            11 => Blow::Mute { host, ms: cut },
            12 => Blow::Deaf { host, ms: cut },
            13 => Blow::Cut {
                from: host,
                to: voter,
                ms: cut,
            },
            14 => Blow::Loss { host, ms: cut },
            15 => Blow::One {
                host,
                network,
                ms: cut,
            },
            16 => Blow::Carrier {
                host,
                network,
                ms: cut,
            },
            17 => Blow::Control { network, ms: cut },
            18 => Blow::Freeze { host, ms: cut },
            19 => Blow::Freeze {
                host: leader,
                ms: cut,
            },
            20 => Blow::Flush { host },
            21 => Blow::Delete { host, address },
            22 => Blow::Steal {
                host: other,
                address,
                ms: 300,
            },
            23 => Blow::Restart { host },
            _ => Blow::Fence {
                host,
                voter,
                after,
                ms: down,
            },
        }
    }

    /// Whether an address may be out of reach for as long as the fault lasts.
    pub fn hides(&self) -> bool {
        match self {
            Blow::One { network, .. } | Blow::Carrier { network, .. } => *network == Network::Lan,
            _ => false,
        }
    }

    pub fn strike(&self, array: &mut Array<'_>, lab: &Lab) {
        if let Some((faults, ms)) = self.faults() {
            let injected: Vec<_> = faults.iter().map(|f| lab.inject(f).unwrap()).collect();
            pause(ms);
            for one in injected {
                one.undo().unwrap();
            }
            return;
        }
        match *self {
            Blow::Kill { host, whom, ms } => {
                array.kill(host, whom).unwrap();
                pause(ms);
                array.revive().unwrap();
            }
            Blow::Stop { host, whom, ms } => {
                array.stop(host, whom).unwrap();
                pause(ms);
                wake(array, host);
            }
            Blow::Restart { host } => array.restart(host).unwrap(),
            Blow::Fence {
                host,
                voter,
                after,
                ms,
            } => in_a_fence(array, host, voter, after, ms),
            // The daemon mends these itself: they are never undone. A gate that its daemon owns (from
            // kernel 6.9 on) is not flushed at all.
            Blow::Flush { host } => drop(lab.inject(&Fault::FlushRules { host }).unwrap()),
            Blow::Delete { host, address } => {
                // As rais puts it on: the subnet is the host's own already.
                let whole = if address.is_ipv4() { 32 } else { 128 };
                let address = format!("{address}/{whole}");
                drop(lab.inject(&Fault::DeleteAddress { host, address }).unwrap());
            }
            _ => unreachable!("all others are faults of the lab"),
        }
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
            Blow::One { host, network, ms } => (vec![Fault::Partition { host, network }], ms),
            Blow::Carrier { host, network, ms } => (vec![Fault::Carrier { host, network }], ms),
            Blow::Control { network, ms } => (vec![Fault::ControlLost { network }], ms),
            Blow::Freeze { host, ms } => (vec![Fault::Freeze { host }], ms),
            Blow::Steal { host, address, ms } => {
                let address = with_prefix(address);
                (vec![Fault::AddAddress { host, address }], ms)
            }
            _ => return None,
        })
    }
}

fn in_a_fence(array: &mut Array<'_>, host: u8, voter: u8, after: u64, ms: u64) {
    let third = (1..=HOSTS).find(|one| ![host, voter].contains(one));
    let events = array.follow(third.unwrap()).unwrap();
    array.stop(host, Scope::Family).unwrap();
    match events.wait("hostFencing", FENCE) {
        Some((at, event)) => {
            println!("   fence of {} seen at {at}", event["host"]);
            pause(after);
        }
        None => println!("   NO FENCE within {FENCE:?}"),
    }
    array.kill(voter, Scope::Family).unwrap();
    array.start(voter).unwrap();
    pause(ms);
    wake(array, host);
}

/// It may have ended instead: a daemon without its warden does.
fn wake(array: &Array<'_>, host: u8) {
    if array.daemon(host).is_ok() {
        array.resume(host).unwrap();
    }
}
