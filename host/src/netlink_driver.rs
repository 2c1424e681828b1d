//! The driver for real interfaces: gate, address and announcement in the one safe order.
//!
//! Take: the gate opens while the address is not on the interface, then the address, the clock and
//! the gate again, the announcement. Let go: gate shut, address off, connections ended. So a pause at
//! any point ends in silence. What it holds it reads from the kernel; what it *should* hold it
//! remembers, and mends on each tick.
//!
//! Every call may wait for RTNL, the kernel's lock of all networks. So it renews nothing: another
//! thread does, and shuts, by the [`Latch`].
//!
//! Limits: nothing of the daemon in here; one lease for all addresses.

mod defend;
mod latch;
mod mend;
mod place;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::{Addresses, Interface, OnInterface};
use crate::announce::{Announcer, Burst, Mac};
use crate::claims::Claims;
use crate::clock::boottime_us;
use crate::connections::{Connections, ENDED_AT_ONCE};
use crate::driver::{
    AcquireFault, AddressDriver, Connection, DriverError, Gate, Held, Incident, QUIET_MS,
    ServiceAddress, TICK_MS, Taken,
};
use crate::gate::{GateError, Guard, Lease, NoGate};
use crate::tickle::Tickler;
pub use latch::Latch;

/// Name in status, logs and errors.
const NAME: &str = "netlink";
/// Most addresses held at once: a renewal of these is 8 transactions of 128.
pub const MAX_HELD: usize = 1_024;
/// Time between two refreshes of the lives of addresses, in microseconds: a third of what they live on
/// after the lease. Rare, since each takes the kernel's RTNL lock, for which orders would have to wait too.
const REFRESH_US: u64 = 20_000_000;
/// Time between two tries of what failed, in microseconds.
const AGAIN_US: u64 = 1_000_000;
/// Rounds in which the connections of an address end, after the first: half a million connections.
const ROUNDS: u32 = 1_000;
/// Time before what came too late for its lease is tried again, in microseconds.
const LATE_US: u64 = 100_000;
/// What must be left of a lease for an address to be taken, in microseconds.
const WORTH_US: u64 = 20_000;

/// How long the link is asked whether somebody has an address: three questions, each with ten times what
/// an answer takes on a LAN.
const PROBE: Duration = Duration::from_millis(30);

/// Holds service addresses on real interfaces, behind the gate.
#[derive(Debug)]
pub struct Netlink {
    latch: Latch,
    /// As the gate has it.
    managed: BTreeSet<IpAddr>,
    addresses: Addresses,
    announcer: Announcer,
    connections: Connections,
    claims: Claims,
    tickler: Tickler,
    wanted: BTreeMap<IpAddr, Wanted>,
    /// When the last claim of each address that is held was answered.
    defended_us: BTreeMap<IpAddr, u64>,
    /// Addresses that were let go and have connections left, and in how many rounds at most they end.
    ending: BTreeMap<IpAddr, u32>,
    /// Not before this are claims heeded again, after that failed.
    heed_again_us: u64,
    /// What happened since the last call that could tell.
    untold: Vec<Incident>,
    refreshed_us: u64,
}

/// An address that was ordered.
#[derive(Clone, Debug)]
struct Wanted {
    address: ServiceAddress,
    epoch: u64,
    interface: Interface,
    burst: Burst,
    /// When the latch does not have it open, it waits for that. Not before this is it tried again.
    again_us: u64,
}

impl Netlink {
    /// Lays or adopts the gate for the host with this `tag` (1 to 24 of a-z, 0-9 and `-`; the same
    /// at each start), in the network namespace of the calling thread. `guard` is what shields it.
    ///
    /// # Errors
    /// Says why there can be no gate.
    pub fn open(tag: &str, guard: Guard) -> Result<Self, NoGate> {
        let system = |action| move |source| NoGate::System { action, source };
        let latch = Latch::open(tag, guard)?;
        let addresses = Addresses::open().map_err(system("open the address socket"))?;
        let connections = Connections::open().map_err(system("open the connection socket"))?;
        let raw = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => NoGate::NoPermission,
            _ => system("open the raw sockets")(source),
        };
        let announcer = Announcer::open().map_err(raw)?;
        let tickler = Tickler::open().map_err(raw)?;
        Ok(Self {
            managed: latch.managed(),
            latch,
            addresses,
            announcer,
            connections,
            claims: Claims::default(),
            tickler,
            wanted: BTreeMap::new(),
            defended_us: BTreeMap::new(),
            ending: BTreeMap::new(),
            heed_again_us: 0,
            untold: Vec::new(),
            refreshed_us: 0,
        })
    }

    /// The gate, for the thread that renews and shuts it.
    #[must_use]
    pub fn latch(&self) -> Latch {
        self.latch.clone()
    }

    /// Takes everything off and removes the gate: when the host leaves the array.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(mut self) -> Result<(), DriverError> {
        for ip in self.managed.clone() {
            self.release(ip)?;
        }
        let count = self.managed.len();
        self.latch
            .remove()
            .map_err(|cause| DriverError::ManageFailed {
                count,
                cause: io::Error::other(cause),
            })
    }
}

impl AddressDriver for Netlink {
    fn acquire(&mut self, address: ServiceAddress, _epoch: u64) -> Result<Taken, DriverError> {
        Err(DriverError::AcquireFailed {
            ip: address.ip,
            cause: AcquireFault::Unsupported {
                driver: NAME,
                takes: "addresses under a lease: acquire_until",
            },
        })
    }

    fn acquire_until(
        &mut self,
        address: ServiceAddress,
        epoch: u64,
        deadline_us: u64,
    ) -> Result<Taken, DriverError> {
        let ip = address.ip;
        self.latch.extend(deadline_us);
        self.try_acquire(address, epoch)
            .map_err(|cause| DriverError::AcquireFailed { ip, cause })
    }

    fn ask_link(&self, address: &ServiceAddress) -> Result<(), DriverError> {
        let failed = |cause| DriverError::AcquireFailed {
            ip: address.ip,
            cause,
        };
        let asked = || {
            // One that is not there has no link; the acquire says so.
            let interface = self.addresses.interface(&address.interface)?;
            let ask = |there| self.announcer.probe(&there, address.ip, PROBE);
            interface.map_or(Ok(None), ask)
        };
        match asked().map_err(|error| failed(system("ask the link")(error)))? {
            Some(mac) => Err(failed(AcquireFault::Conflict { mac: words(mac) })),
            None => Ok(()),
        }
    }

    fn manage(&mut self, addresses: &[ServiceAddress]) -> Result<(), DriverError> {
        let failed = |cause: io::Error| DriverError::ManageFailed {
            count: addresses.len(),
            cause,
        };
        let ips: BTreeSet<IpAddr> = addresses.iter().map(|address| address.ip).collect();
        let devices: BTreeSet<String> = addresses.iter().map(|a| a.interface.clone()).collect();
        // What is no longer guarded must not stay behind on an interface.
        for ip in self.managed.difference(&ips).copied().collect::<Vec<_>>() {
            // Nobody ordered that it goes: whoever believes that it is served must hear.
            if let Some(wanted) = self.wanted.get(&ip) {
                self.untold.push(Incident::Lost {
                    ip,
                    epoch: wanted.epoch,
                    error: "it is none of those that this host carries any more".to_owned(),
                });
            }
            self.release(ip)?;
        }
        let managed = self.latch.manage(&ips, &devices);
        managed.map_err(|error| failed(io::Error::other(error)))?;
        self.managed = ips;
        self.claims.prepare(&devices).map_err(failed)?;
        let (on, leases) = self.look().map_err(failed)?;
        let removed = self.remove_strays(on, &leases, &mut Vec::new());
        removed.map(drop).map_err(failed)
    }

    fn tick(&mut self) -> Vec<Incident> {
        let mut incidents = std::mem::take(&mut self.untold);
        self.latch.mend();
        self.hear(&mut incidents);
        self.latch.follow_devices();
        if let Err(error) = self.mend(&mut incidents) {
            incidents.push(failed(error));
        }
        self.take_again(&mut incidents);
        self.announce_due();
        self.answer_claims(&mut incidents);
        self.tickle_due();
        if let Some((ip, rounds)) = self.ending.pop_first() {
            self.end_connections(ip, rounds);
        }
        incidents
    }

    fn pace_ms(&self) -> u64 {
        let now_us = boottime_us();
        let busy = self.latch.has_news()
            || !self.untold.is_empty()
            || !self.ending.is_empty()
            || !self.tickler.is_idle();
        if busy || self.held_now().count() < self.wanted.len() {
            return TICK_MS;
        }
        let due = self.wanted.values().map(|wanted| wanted.burst.due_us());
        let left_us = due.min().map(|due| due.saturating_sub(now_us));
        left_us.map_or(QUIET_MS, |left| (left / 1000 + 1).min(QUIET_MS))
    }

    fn release(&mut self, ip: IpAddr) -> Result<(), DriverError> {
        // Never an address of the machine's own, whatever the order says.
        if !self.managed.contains(&ip) {
            return Ok(());
        }
        let failed = |cause| DriverError::ReleaseFailed { ip, cause };
        self.wanted.remove(&ip);
        let closed = self.latch.close(ip);
        self.take_off(ip).map_err(failed)?;
        closed.map_err(|error| failed(io::Error::other(error)))?;
        self.end_connections(ip, ROUNDS);
        Ok(())
    }

    fn release_all(&mut self) -> Result<(), DriverError> {
        // Whatever is guarded and on an interface, with a lease or without.
        let managed: Vec<IpAddr> = match self.look() {
            Ok((on, _)) => on.into_iter().map(|address| address.ip).collect(),
            Err(_) => self.managed.iter().copied().collect(),
        };
        let released: Vec<_> = managed.into_iter().map(|ip| self.release(ip)).collect();
        released.into_iter().collect()
    }

    fn held(&self) -> Vec<Held> {
        let Ok((on, leases)) = self.look() else {
            // Not to be asked: say what may be held rather than that nothing is.
            let wanted = self.wanted.iter();
            return wanted
                .map(|(ip, wanted)| Held {
                    ip: *ip,
                    epoch: wanted.epoch,
                })
                .collect();
        };
        let on: BTreeSet<IpAddr> = on.iter().map(|address| address.ip).collect();
        let held = leases.into_values().filter(|lease| on.contains(&lease.ip));
        held.map(|lease| Held {
            ip: lease.ip,
            epoch: lease.epoch,
        })
        .collect()
    }

    fn connections(&self) -> Vec<Connection> {
        let ips: Vec<IpAddr> = self.held_now().map(|(ip, _)| *ip).collect();
        self.connections.list(&ips).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list connections");
            Vec::new()
        })
    }

    fn tickle(&mut self, connections: &[Connection]) {
        let left_out = self.tickler.add(connections, boottime_us());
        if left_out > 0 {
            tracing::warn!(
                left_out,
                "clients that notice the new holder by themselves only"
            );
        }
    }

    fn gate(&self) -> Gate {
        Gate::Kernel {
            detail: self.latch.describe(),
        }
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl Netlink {
    fn try_acquire(&mut self, address: ServiceAddress, epoch: u64) -> Result<Taken, AcquireFault> {
        let ip = address.ip;
        if !self.managed.contains(&ip) {
            return Err(AcquireFault::Unmanaged);
        }
        if boottime_us() >= self.latch.deadline_us() {
            return Err(AcquireFault::TooLate);
        }
        if let Some(wanted) = self.wanted.get(&ip) {
            if epoch < wanted.epoch {
                return Err(AcquireFault::StaleEpoch {
                    held: wanted.epoch,
                    offered: epoch,
                });
            }
        } else if self.wanted.len() >= MAX_HELD {
            return Err(AcquireFault::Full { limit: MAX_HELD });
        } else {
            self.refuse_stale(ip, epoch)?;
        }
        let interface = self
            .addresses
            .interface(&address.interface)
            .map_err(system("ask for the interface"))?
            .ok_or_else(|| AcquireFault::NoInterface {
                name: address.interface.clone(),
            })?;
        let mut wanted = Wanted {
            address,
            epoch,
            interface,
            burst: Burst::starting(boottime_us()),
            again_us: 0,
        };
        if let Err(fault) = self.take(&wanted) {
            self.wanted.remove(&ip);
            let undone = self.abandon(ip);
            let cause = Box::new(fault);
            return Err(match undone {
                true => *cause,
                false => AcquireFault::NotUndone { cause },
            });
        }
        let on_us = boottime_us();
        self.announce(&mut wanted);
        self.wanted.insert(ip, wanted);
        self.ending.remove(&ip);
        Ok(Taken {
            announce_us: boottime_us().saturating_sub(on_us),
        })
    }

    /// Step 12 of the protocol, but for the announcement. Any step may wait for seconds; meanwhile the lease
    /// goes on, or ends, or the gate is shut by who has this address let go. So who opens asks when the
    /// last step is done: what has been put on behind a shut gate never spoke, and comes off again.
    fn take(&mut self, wanted: &Wanted) -> Result<(), AcquireFault> {
        let (ip, index) = (wanted.address.ip, wanted.interface.index);
        let (on, leases) = self.look().map_err(system("look at the addresses"))?;
        let in_place = on.iter().any(|a| a.ip == ip && a.index == index);
        // Held already, by us or by an earlier start of this host: nothing may be lost now.
        if in_place
            && leases.contains_key(&ip)
            && self.latch.go_on(ip, wanted.epoch).map_err(too_late)?
        {
            return Ok(());
        }
        self.take_off(ip).map_err(system("clear the address"))?;
        let mut elsewhere = on;
        elsewhere.retain(|address| address.ip != ip);
        self.latch.open_until(ip, wanted.epoch).map_err(too_late)?;
        self.latch.still_open(ip).map_err(too_late)?;
        self.put_on(wanted, &elsewhere)
            .map_err(system("add the address"))?;
        self.latch.still_open(ip).map_err(too_late)
    }

    /// The first order after a start: what an earlier start left may be newer than the order.
    fn refuse_stale(&self, ip: IpAddr, offered: u64) -> Result<(), AcquireFault> {
        match self.latch.leases()?.get(&ip) {
            Some(lease) if lease.epoch > offered => Err(AcquireFault::StaleEpoch {
                held: lease.epoch,
                offered,
            }),
            _ => Ok(()),
        }
    }

    /// Undoes what a failed take may have done. False when the address may answer still.
    fn abandon(&mut self, ip: IpAddr) -> bool {
        let closed = self.latch.close(ip);
        if let Err(error) = &closed {
            tracing::error!(%ip, %error, "the gate ends with the lease");
        }
        let off = self.take_off(ip);
        if let Err(error) = &off {
            tracing::error!(%ip, %error, "the address stays on its interface");
        }
        closed.is_ok() || off.is_ok()
    }

    /// The managed addresses that are on interfaces, and then the leases that live.
    fn look(&self) -> io::Result<(Vec<OnInterface>, BTreeMap<IpAddr, Lease>)> {
        let mut on = self.addresses.list()?;
        on.retain(|address| self.managed.contains(&address.ip));
        Ok((on, self.latch.leases().map_err(io::Error::other)?))
    }

    /// What is wanted and open now.
    fn held_now(&self) -> impl Iterator<Item = (&IpAddr, &Wanted)> {
        let open = self.latch.all_open();
        let wanted = self.wanted.iter();
        wanted.filter(move |(ip, _)| open.contains(ip))
    }

    fn take_off(&self, ip: IpAddr) -> io::Result<()> {
        let on = self.addresses.list()?;
        on.into_iter()
            .filter(|address| address.ip == ip)
            .try_for_each(|address| self.addresses.remove(address))
    }

    /// Ends connections of an address that is gone, a part now and the rest in the next rounds. Those that
    /// stay are an inconvenience to this host alone.
    fn end_connections(&mut self, ip: IpAddr, rounds: u32) {
        match self.connections.end_some(ip) {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(%ip, count, "ended connections");
                if count == ENDED_AT_ONCE && rounds > 0 {
                    self.ending.insert(ip, rounds - 1);
                }
            }
            Err(error) => tracing::warn!(%ip, %error, "cannot end connections"),
        }
    }

    fn announce_due(&mut self) {
        let open = self.latch.all_open();
        let mut wanted = std::mem::take(&mut self.wanted);
        let now_us = boottime_us();
        for wanted in wanted.values_mut() {
            if open.contains(&wanted.address.ip) && wanted.burst.due_us() <= now_us {
                self.announce(wanted);
            }
        }
        self.wanted = wanted;
    }

    fn announce(&self, wanted: &mut Wanted) {
        let ip = wanted.address.ip;
        wanted.burst.sent(boottime_us());
        // A frame that is lost is made good by the next one of the burst.
        self.latch
            .while_open(ip, || self.announcer.announce(&wanted.interface, ip));
    }
}

fn system(action: &'static str) -> impl FnOnce(io::Error) -> AcquireFault {
    move |source| AcquireFault::System { action, source }
}

fn too_late(error: GateError) -> AcquireFault {
    match error {
        GateError::TooLate { .. } => AcquireFault::TooLate,
        other => AcquireFault::Gate(other),
    }
}

fn failed(error: impl ToString) -> Incident {
    Incident::Failed {
        error: error.to_string(),
    }
}

fn words(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
