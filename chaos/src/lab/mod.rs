//! A lab on one machine: hosts, a client and two switches in network namespaces, faults that can be
//! undone, and an observer that sees who answers.
//!
//! `net` has the map. Everything is made inside the lab's own namespaces, so the machine's network
//! is never touched, labs run side by side, and deleting the namespaces takes everything along:
//! on drop, also in a panic. What a killed run left is found by the process id in its names
//! (`Lab::sweep`, which `Lab::up` calls).
//!
//! Limits: root; `ip`, `nft`, `bridge` installed; no netem here, so only control traffic can be delayed,
//! doubled and reordered (`wire`).

pub mod array;
mod clock;
mod command;
mod disk;
mod ends;
mod error;
mod fault;
mod follow;
mod frame;
mod names;
mod net;
mod observer;
mod process;
mod replay;
mod report;
mod rtnl;
mod schedule;
mod serve;
mod space;
mod tcp;
pub mod wall;
mod wire;

pub use clock::{At, now, wait_until};
pub use disk::disks_available;
pub use error::LabError;
pub use fault::{Fault, Injected};
pub use follow::Follower;
pub use net::{MAX_HOSTS, Mac, Network, host_mac, host_name};
pub use observer::{MAX_CLAIMS, MAX_PROBES, MAX_TARGETS, Observer, Targets};
pub use process::{Process, Scope};
pub use report::{
    AddressReport, Claim, Dual, EndpointReport, Gap, Intervals, Probe, Report, Tenure, Who,
};
pub use schedule::{Applied, Step};
pub use serve::Service;
pub use space::Space;
pub use tcp::{Endpoint, MAX_ENDPOINTS};
pub use wire::Wire;

use std::fs;
use std::path::{Path, PathBuf};

/// Most labs on a machine at a time: each is some hundred kilobytes of kernel memory for each of
/// its namespaces, and a leak must end somewhere.
pub const MAX_LABS: usize = 16;

/// A process may have forked between being listed and being killed: look again, this often.
const KILL_ROUNDS: usize = 3;

/// What lab is wanted.
#[derive(Clone, Debug)]
pub struct LabSpec {
    /// How many hosts, 1 to [`MAX_HOSTS`].
    pub hosts: u8,
    /// A short name that people recognise, of a-z and 0-9. It need not be unique.
    pub name: String,
}

/// A lab that is up. Dropping it takes everything away.
#[derive(Debug)]
pub struct Lab {
    base: String,
    hosts: Vec<Space>,
    client: Space,
    observer: Space,
    switches: [Space; 2],
    wires: Space,
    logs: PathBuf,
    kept: bool,
}

impl Lab {
    /// Builds a lab, after sweeping what dead runs left. Takes some 0.2 s for five hosts.
    ///
    /// # Errors
    /// Not root, a program is missing, too many labs, or what a command said. Nothing is left
    /// behind then.
    pub fn up(spec: &LabSpec) -> Result<Lab, LabError> {
        Self::build(spec, false)
    }

    /// As [`Lab::up`], for a lab that outlives this process: dropping it leaves it up, and
    /// [`Lab::attach`] finds it again.
    ///
    /// # Errors
    /// As for [`Lab::up`].
    pub fn up_kept(spec: &LabSpec) -> Result<Lab, LabError> {
        Self::build(spec, true)
    }

    fn build(spec: &LabSpec, kept: bool) -> Result<Lab, LabError> {
        available()?;
        if !(1..=MAX_HOSTS).contains(&spec.hosts) {
            return Err(LabError::Range {
                what: format!("a lab of {} hosts", spec.hosts),
                allowed: format!("1 to {MAX_HOSTS}"),
            });
        }
        Self::sweep()?;
        let found = names::bases().len();
        if found >= MAX_LABS {
            let most = MAX_LABS;
            return Err(LabError::TooMany { found, most });
        }
        let base = names::new_base(&spec.name, kept)?;
        // Taken down by Drop if anything below fails.
        let mut lab = Self::describe(&base, spec.hosts, false);
        lab.wire()?;
        lab.kept = kept;
        Ok(lab)
    }

    /// The lab whose namespaces begin with `base`, made by [`Lab::up_kept`]. None if it is gone.
    #[must_use]
    pub fn attach(base: &str) -> Option<Lab> {
        let spaces = names::spaces();
        let is_host = |n: &u8| spaces.contains(&format!("{base}-{}", host_name(*n)));
        let hosts = (1..=MAX_HOSTS).take_while(is_host).count();
        let hosts = u8::try_from(hosts).ok().filter(|count| *count > 0)?;
        Some(Self::describe(base, hosts, true))
    }

    fn describe(base: &str, hosts: u8, kept: bool) -> Lab {
        let logs = std::env::temp_dir().join(base);
        let space = |label: &str| Space::new(base, label, &logs);
        Lab {
            hosts: (1..=hosts).map(|n| space(&host_name(n))).collect(),
            client: space("client"),
            observer: space("observer"),
            switches: Network::ALL.map(|network| space(network.name())),
            wires: space(net::WIRES),
            base: base.to_owned(),
            logs,
            kept,
        }
    }

    fn wire(&self) -> Result<(), LabError> {
        let add = |space: &Space| format!("netns add {}", space.name());
        command::ip_batch(None, &self.spaces().map(add).collect::<Vec<_>>())?;
        for space in self.spaces() {
            space.inside(quiet_v6)??;
        }
        let count = u8::try_from(self.hosts.len()).unwrap_or(MAX_HOSTS);
        for (network, switch) in Network::ALL.into_iter().zip(&self.switches) {
            let lines = net::switch_lines(&self.base, network, count);
            command::ip_batch(Some(switch.name()), &lines)?;
        }
        for (number, host) in (1..).zip(&self.hosts) {
            command::ip_batch(Some(host.name()), &net::host_lines(number))?;
        }
        command::ip_batch(Some(self.wires.name()), &net::wires_lines())?;
        command::ip_batch(Some(self.client.name()), &net::client_lines())?;
        command::ip_batch(Some(self.observer.name()), &net::observer_lines())
    }

    /// Host `number`, from 1.
    ///
    /// # Errors
    /// There is no such host.
    pub fn host(&self, number: u8) -> Result<&Space, LabError> {
        let index = usize::from(number).checked_sub(1);
        let host = index.and_then(|index| self.hosts.get(index));
        host.ok_or_else(|| LabError::Range {
            what: format!("host {number}"),
            allowed: format!("1 to {}", self.hosts.len()),
        })
    }

    /// All hosts, in order.
    #[must_use]
    pub fn hosts(&self) -> &[Space] {
        &self.hosts
    }

    /// Where clients live.
    #[must_use]
    pub fn client(&self) -> &Space {
        &self.client
    }

    /// Where the observer's probes come from.
    #[must_use]
    pub fn observer(&self) -> &Space {
        &self.observer
    }

    /// The namespace of `network`'s switch.
    #[must_use]
    pub fn switch(&self, network: Network) -> &Space {
        let [lan, control] = &self.switches;
        match network {
            Network::Lan => lan,
            Network::Control => control,
        }
    }

    /// All namespaces of the lab.
    pub fn spaces(&self) -> impl Iterator<Item = &Space> {
        let guests = [&self.client, &self.observer, &self.wires];
        self.hosts.iter().chain(guests).chain(&self.switches)
    }

    /// What the names of its namespaces begin with.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where the outputs of its processes are. Removed with the lab, unless it ends in a panic.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Takes the lab away, also a kept one, and says what went wrong. Dropping does the same
    /// silently.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn down(mut self) -> Result<(), LabError> {
        self.kept = true;
        let mut names = names::spaces();
        names.retain(|name| self.spaces().any(|space| space.name() == name));
        disk::thaw_all(&self.logs);
        tear_down(&names, &self.logs)?;
        disk::take_away(&self.logs);
        let _ = fs::remove_dir_all(&self.logs);
        Ok(())
    }

    /// Removes what runs that were killed left behind: processes, namespaces, disks. Gives how many
    /// namespaces. Never touches those of a living process, nor kept ones.
    ///
    /// # Errors
    /// The command and what it said.
    pub fn sweep() -> Result<usize, LabError> {
        let mut orphans = names::spaces();
        orphans.retain(|space| names::is_orphan(space));
        let disks = disk::orphans();
        disks.iter().for_each(|lab| disk::thaw_all(lab));
        tear_down(&orphans, &std::env::temp_dir())?;
        disks.iter().for_each(|lab| disk::take_away(lab));
        for base in orphans.iter().filter_map(|space| space.rsplit_once('-')) {
            let _ = fs::remove_dir_all(std::env::temp_dir().join(base.0));
        }
        Ok(orphans.len())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut names = names::spaces();
        names.retain(|name| self.spaces().any(|space| space.name() == name));
        disk::thaw_all(&self.logs);
        let _ = tear_down(&names, &self.logs);
        disk::take_away(&self.logs);
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.logs);
        } else if self.logs.exists() {
            eprintln!("the lab's logs stay in {}", self.logs.display());
        }
    }
}

/// Whether a lab can be had here.
///
/// # Errors
/// Not root, or which program is missing.
pub fn available() -> Result<(), LabError> {
    if !rustix::process::geteuid().is_root() {
        return Err(LabError::NotRoot);
    }
    for (program, _) in command::PROGRAMS {
        let ask = if program == "nft" { "-v" } else { "-V" };
        command::run(program, &[ask])?;
    }
    Ok(())
}

/// Addresses work at once, and nobody looks for routers.
fn quiet_v6() -> Result<(), LabError> {
    let settings = [
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("router_solicitations", "0"),
    ];
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/ipv6/conf/default/{setting}");
        fs::write(&path, value).map_err(|e| LabError::system(format!("write {path}"), e))?;
    }
    Ok(())
}

/// Kills what lives in the namespaces `names` and deletes them.
fn tear_down(names: &[String], logs: &Path) -> Result<(), LabError> {
    if names.is_empty() {
        return Ok(());
    }
    let spaces = names.iter().filter_map(|name| name.rsplit_once('-'));
    for (base, label) in spaces {
        let space = Space::new(base, label, logs);
        for _ in 0..KILL_ROUNDS {
            let left = space.pids().unwrap_or_default();
            if left.is_empty() {
                break;
            }
            process::kill_left(&left);
        }
    }
    let delete = |name: &String| format!("netns del {name}");
    let lines: Vec<String> = names.iter().map(delete).collect();
    match command::ip_batch(None, &lines) {
        // Another run may be sweeping the same ones: what counts is that they are gone.
        Err(error) => {
            let left: Vec<&String> = names.iter().filter(|name| exists(name)).collect();
            let again: Vec<String> = left.iter().map(|name| delete(name)).collect();
            if again.is_empty() || command::ip_batch(None, &again).is_ok() {
                return Ok(());
            }
            if left.into_iter().any(exists) {
                Err(error)
            } else {
                Ok(())
            }
        }
        Ok(()) => Ok(()),
    }
}

fn exists(name: &String) -> bool {
    names::spaces().contains(name)
}
