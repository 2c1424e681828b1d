//! Faults of a lab: each can be named, applied, and undone.
//!
//! Signals take effect at once; what `ip` or `nft` does takes 2-5 ms of process start, and
//! `Injected` says between which moments it took effect.
//!
//! Frames are dropped in the switch (nftables, family bridge), where neither daemon nor host can see
//! it or flush it; each fault has a table of its own, so several may be at work. Delay, doubles and
//! disorder are made by a thread (`wire`): the kernels this is made for come without netem.

use super::Lab;
use super::clock::{self, At};
use super::command;
use super::disk::{self, Frozen};
use super::error::LabError;
use super::net::{self, BRIDGE, CONTROL_PORT, Network, host_name};
use super::process::{Process, Scope};
use super::rtnl::{self, Held};
use super::space::Space;
use super::wall;
use super::wire::{LONGEST_MS, Relay, Wire};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Tables of faults so far: each has a name of its own.
static TABLES: AtomicU32 = AtomicU32::new(0);

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// SIGKILL. No undo: start it again.
    Kill {
        /// The daemon.
        process: Process,
        /// Alone, or with its children.
        scope: Scope,
    },
    /// SIGSTOP; undone by SIGCONT.
    Stop {
        /// The daemon.
        process: Process,
        /// Alone, or with its children.
        scope: Scope,
    },
    /// The switch's port goes down: the host sees that its carrier is gone and keeps its addresses.
    Carrier {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
    },
    /// `ip link set down` in the host: its v6 addresses go. Undone: up, with the host's own
    /// addresses, not with service addresses.
    LinkDown {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
    },
    /// The port leaves the bridge: the host sees nothing, and nobody hears it.
    Partition {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
    },
    /// Nobody hears the host, it hears everyone.
    Mute {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
    },
    /// The host hears nobody, everyone hears it.
    Deaf {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
    },
    /// What one host sends does not reach another one; the way back works.
    Cut {
        /// The sender.
        from: u8,
        /// Who does not get it.
        to: u8,
        /// On which network.
        network: Network,
    },
    /// Frames to and from the host are lost by chance, each way.
    Loss {
        /// The host.
        host: u8,
        /// On which network.
        network: Network,
        /// Of a hundred, 1 to 99.
        percent: u8,
    },
    /// All control traffic is lost on a network, between all hosts; all else passes.
    ControlLost {
        /// On which network.
        network: Network,
    },
    /// No Raft on a network, between all hosts: its control traffic over TCP is lost. Heartbeats and
    /// all else pass.
    RaftLost {
        /// On which network.
        network: Network,
    },
    /// Control traffic from some hosts to others is lost on a network; the way back works, and so does
    /// all else: clients reach every host.
    Control {
        /// Who is not heard.
        from: Vec<u8>,
        /// By whom.
        to: Vec<u8>,
        /// Heartbeats and their answers alone: Raft passes.
        datagrams: bool,
        /// On which network.
        network: Network,
    },
    /// Nothing passes between some hosts and the others on a network; clients reach all.
    Split {
        /// One side.
        side: Vec<u8>,
        /// On which network.
        network: Network,
    },
    /// Control traffic of all hosts on a network goes over a bad wire. Ends with its handle.
    Wire {
        /// On which network; one at a time.
        network: Network,
        /// How bad.
        wire: Wire,
    },
    /// Another program holds RTNL for that long, and with it every change of links and addresses on this
    /// machine. Undone: it is killed.
    Rtnl {
        /// In ms, at most 30,000.
        ms: u64,
    },
    /// The host's own disk has no room left. Needs `Lab::disk`.
    Full {
        /// The host.
        host: u8,
    },
    /// The wall clock of the host's daemon is wrong by that much. Needs an array with `clocks`.
    Clock {
        /// The host.
        host: u8,
        /// Ahead, or behind, in seconds.
        by_s: i64,
    },
    /// A whole network falls silent: its switch forwards nothing, and no host loses its carrier.
    NetworkLost {
        /// Which.
        network: Network,
    },
    /// The host's own disk hangs: reads go on, writes and fsync wait. Thaws with its handle, since
    /// a process that waits for it can't even be killed. Needs `Lab::disk`.
    Freeze {
        /// The host.
        host: u8,
    },
    /// Someone adds an address to the host by hand.
    AddAddress {
        /// The host.
        host: u8,
        /// With its prefix length: `10.77.0.101/24`.
        address: String,
    },
    /// Someone deletes an address of the host by hand.
    DeleteAddress {
        /// The host.
        host: u8,
        /// With its prefix length.
        address: String,
    },
    /// `nft flush ruleset` in the host. Undone: tables that are still missing come back, their sets
    /// empty (a gate that is shut).
    FlushRules {
        /// The host.
        host: u8,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |scope: &Scope| match scope {
            Scope::Alone => "",
            Scope::Children => "'s children",
            Scope::Family => " and its children",
        };
        let on = |network: &Network| network.name();
        match self {
            Self::Kill { process, scope } => write!(f, "kill -9 {process}{}", whole(scope)),
            Self::Stop { process, scope } => write!(f, "SIGSTOP {process}{}", whole(scope)),
            Self::Carrier { host, network } => {
                write!(f, "carrier of h{host} lost on {}", on(network))
            }
            Self::LinkDown { host, network } => {
                write!(f, "link of h{host} down on {}", on(network))
            }
            Self::Partition { host, network } => {
                write!(f, "h{host} cut off silently on {}", on(network))
            }
            Self::Mute { host, network } => write!(f, "h{host} not heard on {}", on(network)),
            Self::Deaf { host, network } => write!(f, "h{host} hears nobody on {}", on(network)),
            Self::Cut { from, to, network } => {
                write!(f, "h{from} not heard by h{to} on {}", on(network))
            }
            Self::Loss {
                host,
                network,
                percent,
            } => {
                write!(f, "{percent} % loss at h{host} on {}", on(network))
            }
            Self::ControlLost { network } => write!(f, "control traffic lost on {}", on(network)),
            Self::Control {
                from,
                to,
                network,
                datagrams,
            } => {
                let (from, to) = (names(from, " "), names(to, " "));
                write!(
                    f,
                    "{} of {from} not heard by {to} on {}",
                    if *datagrams {
                        "heartbeats"
                    } else {
                        "control traffic"
                    },
                    on(network)
                )
            }
            Self::Split { side, network } => {
                let side = names(side, " ");
                write!(f, "{side} and the others apart on {}", on(network))
            }
            Self::Full { host } => write!(f, "disk of h{host} full"),
            Self::Clock { host, by_s } => write!(f, "wall clock of h{host} off by {by_s} s"),
            Self::RaftLost { network } => write!(f, "Raft lost on {}", on(network)),
            Self::NetworkLost { network } => write!(f, "{} silent", on(network)),
            Self::Wire { network, wire } => {
                write!(f, "control traffic on {}: {wire}", on(network))
            }
            Self::Rtnl { ms } => write!(f, "RTNL held, {ms} ms"),
            Self::Freeze { host } => write!(f, "disk of h{host} frozen"),
            Self::AddAddress { host, address } => write!(f, "{address} added to h{host} by hand"),
            Self::DeleteAddress { host, address } => {
                write!(f, "{address} deleted from h{host} by hand")
            }
            Self::FlushRules { host } => write!(f, "nft flush ruleset on h{host}"),
        }
    }
}

/// A fault at work. It stays until [`Injected::undo`], or until the lab goes.
#[derive(Debug)]
#[must_use = "keep it to undo the fault"]
pub struct Injected {
    /// What it is, in words.
    pub fault: String,
    /// It took effect at or after this moment.
    pub began: At,
    /// It took effect at or before this moment.
    pub done: At,
    undo: Undo,
}

#[derive(Debug)]
enum Undo {
    Nothing,
    Resume(Process, Scope),
    /// `ip` lines in a namespace. May be run though someone else has mended it already.
    Lines(String, Vec<String>),
    Script(String, String),
    Delete(Space, String),
    Restore(Space, String),
    Thaw(Frozen),
    Unwire(Relay),
    LetGo(Held),
    Remove(PathBuf),
    Clock(PathBuf),
}

impl Injected {
    /// Undoes it. Gives when that was done.
    ///
    /// # Errors
    /// The command and what it said; a stopped process that has ended.
    pub fn undo(self) -> Result<At, LabError> {
        match self.undo {
            Undo::Nothing => {}
            Undo::Resume(process, scope) => return process.resume(scope),
            Undo::Lines(space, lines) => command::ip_batch(Some(&space), &lines)?,
            Undo::Script(space, script) => command::nft(&space, &script)?,
            Undo::Delete(space, address) => forgive(space.delete_address(&address))?,
            Undo::Restore(space, rules) => restore(&space, &rules)?,
            Undo::Thaw(frozen) => frozen.thaw()?,
            Undo::Unwire(relay) => relay.end()?,
            Undo::LetGo(held) => drop(held),
            Undo::Remove(file) => disk::remove(&file)?,
            Undo::Clock(file) => wall::step(&file, 0)?,
        }
        Ok(clock::now())
    }
}

impl Lab {
    /// Applies `fault` now.
    ///
    /// # Errors
    /// No such host, the process has ended, or what the command said.
    pub fn inject(&self, fault: &Fault) -> Result<Injected, LabError> {
        self.check(fault)?;
        let began = clock::now();
        let undo = match fault {
            Fault::Kill { process, scope } => process.kill(*scope).map(|_| Undo::Nothing),
            Fault::Stop { process, scope } => process
                .stop(*scope)
                .map(|_| Undo::Resume(process.clone(), *scope)),
            Fault::Carrier { .. }
            | Fault::LinkDown { .. }
            | Fault::Partition { .. }
            | Fault::NetworkLost { .. } => self.unplug(fault),
            Fault::Mute { .. }
            | Fault::Deaf { .. }
            | Fault::Cut { .. }
            | Fault::Loss { .. }
            | Fault::ControlLost { .. }
            | Fault::Control { .. }
            | Fault::Split { .. }
            | Fault::RaftLost { .. } => self.drop_frames(fault),
            Fault::Wire { network, wire } => self.wire_badly(*network, *wire).map(Undo::Unwire),
            Fault::Rtnl { ms } => self.hold_rtnl(*ms).map(Undo::LetGo),
            Fault::Full { host } => self.fill(*host).map(Undo::Remove),
            Fault::Clock { host, by_s } => {
                let file = wall::file(self.logs(), *host);
                wall::step(&file, *by_s)?;
                Ok(Undo::Clock(file))
            }
            Fault::Freeze { host } => self.freeze(*host).map(Undo::Thaw),
            Fault::AddAddress { host, address } => {
                let host = self.host(*host)?;
                host.add_address(address)?;
                Ok(Undo::Delete(host.clone(), address.clone()))
            }
            Fault::DeleteAddress { host, address } => {
                let host = self.host(*host)?;
                host.delete_address(address)?;
                let again = format!("addr replace {address} dev eth0 nodad");
                Ok(Undo::Lines(host.name().to_owned(), vec![again]))
            }
            Fault::FlushRules { host } => {
                let host = self.host(*host)?;
                // Terse and stateless: what comes back has no leases in it.
                let rules = host.nft_list(&["-s", "-t", "list", "ruleset"])?;
                host.nft("flush ruleset\n")?;
                Ok(Undo::Restore(host.clone(), rules))
            }
        }?;
        Ok(Injected {
            fault: fault.to_string(),
            began,
            done: clock::now(),
            undo,
        })
    }

    fn check(&self, fault: &Fault) -> Result<(), LabError> {
        match fault {
            Fault::Kill { .. }
            | Fault::Stop { .. }
            | Fault::ControlLost { .. }
            | Fault::RaftLost { .. }
            | Fault::NetworkLost { .. } => {}
            Fault::Cut { from, to, .. } => {
                self.host(*from)?;
                self.host(*to)?;
            }
            Fault::Control { from, to, .. } => {
                for host in from.iter().chain(to) {
                    self.host(*host)?;
                }
            }
            Fault::Split { side, .. } => {
                for host in side {
                    self.host(*host)?;
                }
            }
            Fault::Loss { percent, .. } if !(1..=99).contains(percent) => {
                return Err(LabError::Range {
                    what: format!("a loss of {percent} %"),
                    allowed: "1 to 99".to_owned(),
                });
            }
            Fault::Wire { wire, .. } if !wire.is_possible() => {
                return Err(LabError::Range {
                    what: format!("a wire with {wire}"),
                    allowed: format!(
                        "less than 100 % lost, at most 100 % doubled, delays in order up to {LONGEST_MS} ms"
                    ),
                });
            }
            Fault::Rtnl { ms } if *ms > rtnl::LONGEST_MS => {
                return Err(LabError::Range {
                    what: format!("RTNL for {ms} ms"),
                    allowed: format!("at most {}", rtnl::LONGEST_MS),
                });
            }
            Fault::Wire { .. } | Fault::Rtnl { .. } => {}
            Fault::Carrier { host, .. }
            | Fault::LinkDown { host, .. }
            | Fault::Partition { host, .. }
            | Fault::Mute { host, .. }
            | Fault::Deaf { host, .. }
            | Fault::Loss { host, .. }
            | Fault::AddAddress { host, .. }
            | Fault::DeleteAddress { host, .. }
            | Fault::Freeze { host }
            | Fault::Full { host }
            | Fault::Clock { host, .. }
            | Fault::FlushRules { host } => {
                self.host(*host)?;
            }
        }
        Ok(())
    }

    fn unplug(&self, fault: &Fault) -> Result<Undo, LabError> {
        let (space, line, undo) = match fault {
            Fault::Carrier { host, network } => {
                let port = host_name(*host);
                let up = vec![format!("link set {port} up")];
                (self.switch(*network), format!("link set {port} down"), up)
            }
            Fault::Partition { host, network } => {
                let port = host_name(*host);
                let back = vec![format!("link set {port} master {BRIDGE}")];
                (
                    self.switch(*network),
                    format!("link set {port} nomaster"),
                    back,
                )
            }
            Fault::NetworkLost { network } => {
                let up = vec![format!("link set {BRIDGE} up")];
                (self.switch(*network), format!("link set {BRIDGE} down"), up)
            }
            Fault::LinkDown { host, network } => {
                let interface = network.interface();
                let mut up = vec![format!("link set {interface} up")];
                up.extend(net::address_lines(*network, *host));
                (self.host(*host)?, format!("link set {interface} down"), up)
            }
            _ => return Ok(Undo::Nothing),
        };
        command::ip_batch(Some(space.name()), &[line])?;
        Ok(Undo::Lines(space.name().to_owned(), undo))
    }

    fn drop_frames(&self, fault: &Fault) -> Result<Undo, LabError> {
        let (network, rules) = match fault {
            Fault::Mute { host, network } => (network, format!("iifname h{host} drop\n")),
            Fault::Deaf { host, network } => (network, format!("oifname h{host} drop\n")),
            Fault::Cut { from, to, network } => {
                (network, format!("iifname h{from} oifname h{to} drop\n"))
            }
            Fault::ControlLost { network } => (network, control_rules("", "{ tcp, udp }")),
            Fault::RaftLost { network } => (network, control_rules("", "tcp")),
            Fault::Control {
                from,
                to,
                network,
                datagrams,
            } => {
                let (from, to) = (names(from, ", "), names(to, ", "));
                let way = format!("iifname {{ {from} }} oifname {{ {to} }} ");
                (
                    network,
                    control_rules(&way, if *datagrams { "udp" } else { "{ tcp, udp }" }),
                )
            }
            Fault::Split { side, network } => {
                let all = (1..).zip(&self.hosts).map(|(host, _)| host);
                let other: Vec<u8> = all.filter(|host| !side.contains(host)).collect();
                let (side, other) = (names(side, ", "), names(&other, ", "));
                let way = |from, to| format!("iifname {{ {from} }} oifname {{ {to} }} drop\n");
                (network, way(&side, &other) + &way(&other, &side))
            }
            Fault::Loss {
                host,
                network,
                percent,
            } => {
                let by_chance = format!("numgen random mod 100 < {percent} drop");
                let rules = format!("iifname h{host} {by_chance}\noifname h{host} {by_chance}\n");
                (network, rules)
            }
            _ => return Ok(Undo::Nothing),
        };
        let table = format!("fault{}", TABLES.fetch_add(1, Ordering::Relaxed));
        let hook = "type filter hook forward priority 0; policy accept;";
        let switch = self.switch(*network).name();
        let script = format!("table bridge {table} {{\nchain frames {{\n{hook}\n{rules}}}\n}}\n");
        command::nft(switch, &script)?;
        let delete = format!("delete table bridge {table}\n");
        Ok(Undo::Script(switch.to_owned(), delete))
    }
}

/// The hosts' names, in a row.
fn names(hosts: &[u8], between: &str) -> String {
    let names: Vec<String> = hosts.iter().copied().map(host_name).collect();
    names.join(between)
}

/// Drops control traffic of `protocols` that goes this `way` (all: there and back).
fn control_rules(way: &str, protocols: &str) -> String {
    let drop = |end| format!("{way}meta l4proto {protocols} th {end} {CONTROL_PORT} drop\n");
    ["dport", "sport"].map(drop).concat()
}

/// An address that the daemon took off already is off.
fn forgive(deleted: Result<At, LabError>) -> Result<(), LabError> {
    match deleted {
        Err(LabError::Command { stderr, .. }) if is_absent(&stderr) => Ok(()),
        other => other.map(drop),
    }
}

/// What `ip addr del` says of an address that is not there: new kernels (v4, v6), old kernels.
fn is_absent(stderr: &str) -> bool {
    let said = [
        "Address not found",
        "address not found",
        "Cannot assign requested address",
    ];
    said.iter().any(|words| stderr.contains(words))
}

/// Loads those tables of `rules` that are not there; the daemon may have mended some itself.
fn restore(space: &Space, rules: &str) -> Result<(), LabError> {
    let present = space.nft_list(&["list", "tables"])?;
    let is_missing = |table: &&str| {
        let head = table.lines().next().unwrap_or_default();
        let name = head.trim_end_matches(" {");
        !name.is_empty() && !present.lines().any(|line| line == name)
    };
    // A table ends with a brace at the start of a line.
    let tables: Vec<&str> = rules.split_inclusive("\n}\n").collect();
    let missing: String = tables.into_iter().filter(is_missing).collect();
    if missing.is_empty() {
        return Ok(());
    }
    space.nft(&missing)
}
