//! The driver for real interfaces: gate, address and announcement in the one safe order.
//!
//! Take: the gate opens while the address is not on the interface, then the clock, the address, the
//! clock again, the announcement. Let go: gate shut, address off, connections ended. So a pause at
//! any point ends in silence. What it holds it reads from the kernel; what it *should* hold it
//! remembers, and mends on each tick.
//!
//! Limits: no async and nothing of the daemon in here, so that it can move into the warden; one
//! lease for all addresses.

mod defend;
mod place;
mod sleep;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::address::{Addresses, Interface, OnInterface};
use crate::announce::{Announcer, Burst, Mac};
use crate::claims::Claims;
use crate::clock::{Naps, boottime_us};
use crate::connections::{Connections, ENDED_AT_ONCE};
use crate::driver::{
    AcquireFault, AddressDriver, Connection, DriverError, Gate, Held, Incident, QUIET_MS,
    ServiceAddress, TICK_MS, Taken,
};
use crate::gate::{Change, GateError, Guard, KernelGate, Lease, NoGate, Watch};
use crate::tickle::Tickler;

/// Name in status, logs and errors.
const NAME: &str = "netlink";
/// Most addresses held at once: a renewal of these is 8 transactions of 128.
pub const MAX_HELD: usize = 1_024;
/// Time between two refreshes of the lives of addresses, in microseconds: a third of what they live on
/// after the lease. Rare, since each waits for the kernel's RTNL lock on the thread that renews the gate.
const REFRESH_US: u64 = 20_000_000;
/// Time between two tries of what failed, in microseconds.
const AGAIN_US: u64 = 1_000_000;
/// Rounds in which the connections of an address end, after the first: half a million connections.
const ROUNDS: u32 = 1_000;
/// Time before what came too late for its lease is tried again, in microseconds.
const LATE_US: u64 = 100_000;
/// What must be left of a lease for an address to be taken, in microseconds.
const WORTH_US: u64 = 20_000;

/// How long the link is asked whether somebody has an address: three questions, each with 20 times what
/// an answer takes on a LAN.
const PROBE: Duration = Duration::from_millis(60);

/// What can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What shields the gate.
    pub guard: Guard,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            guard: Guard::Owned,
        }
    }
}

/// Holds service addresses on real interfaces, behind the gate.
#[derive(Debug)]
pub struct Netlink {
    gate: KernelGate,
    watch: Watch,
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
    naps: Naps,
    /// What happened since the last call that could tell.
    untold: Vec<Incident>,
    change: Option<Change>,
    deadline_us: u64,
    refreshed_us: u64,
}

/// An address that was ordered.
#[derive(Clone, Debug)]
struct Wanted {
    address: ServiceAddress,
    epoch: u64,
    interface: Interface,
    burst: Burst,
    /// It is off the interface, and waits for a lease that lives.
    off: bool,
    /// Not before this is it tried again.
    again_us: u64,
}

impl Netlink {
    /// Lays or adopts the gate for the host with this `tag` (1 to 24 of a-z, 0-9 and `-`; the same
    /// at each start), in the network namespace of the calling thread.
    ///
    /// # Errors
    /// Says why there can be no gate.
    pub fn open(tag: &str, options: Options) -> Result<Self, NoGate> {
        let system = |action| move |source| NoGate::System { action, source };
        let gate = KernelGate::open(tag, options.guard)?;
        let watch = gate.watch().map_err(system("watch the tables"))?;
        let addresses = Addresses::open().map_err(system("open the address socket"))?;
        let connections = Connections::open().map_err(system("open the connection socket"))?;
        let raw = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => NoGate::NoPermission,
            _ => system("open the raw sockets")(source),
        };
        let announcer = Announcer::open().map_err(raw)?;
        let tickler = Tickler::open().map_err(raw)?;
        Ok(Self {
            gate,
            watch,
            addresses,
            announcer,
            connections,
            claims: Claims::default(),
            tickler,
            wanted: BTreeMap::new(),
            defended_us: BTreeMap::new(),
            ending: BTreeMap::new(),
            heed_again_us: 0,
            naps: Naps::starting(),
            untold: Vec::new(),
            change: None,
            deadline_us: 0,
            refreshed_us: 0,
        })
    }

    /// The gate, for status.
    #[must_use]
    pub fn kernel_gate(&self) -> &KernelGate {
        &self.gate
    }

    /// Tells of changes to the gate: something to poll between ticks.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Takes everything off and removes the gate: when the host leaves the array.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(mut self) -> Result<(), DriverError> {
        for ip in self.gate.managed().clone() {
            self.release(ip)?;
        }
        let count = self.gate.managed().len();
        self.gate
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
        self.look_for_sleep();
        let ip = address.ip;
        // The lease is the host's, so a renewal that came while the order waited counts.
        self.deadline_us = self.deadline_us.max(deadline_us);
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
        for ip in self
            .gate
            .managed()
            .difference(&ips)
            .copied()
            .collect::<Vec<_>>()
        {
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
        self.gate
            .manage(&ips, &devices)
            .map_err(|error| failed(io::Error::other(error)))?;
        self.claims.prepare(&devices).map_err(failed)?;
        let mut incidents = Vec::new();
        self.remove_without_lease(&mut incidents).map_err(failed)
    }

    fn renew(&mut self, deadline_us: u64) -> Vec<Incident> {
        self.look_for_sleep();
        self.deadline_us = self.deadline_us.max(deadline_us);
        let on = self.wanted.iter().filter(|(_, wanted)| !wanted.off);
        let leases: Vec<(IpAddr, u64)> = on.map(|(ip, wanted)| (*ip, wanted.epoch)).collect();
        let mut incidents = std::mem::take(&mut self.untold);
        match self.gate.renew(&leases, self.deadline_us) {
            Ok(lapsed) => {
                for ip in lapsed {
                    self.lapse(ip, &mut incidents);
                }
            }
            Err(error) => incidents.push(failed(error)),
        }
        // Our own change wakes whoever polls for others': taken off here, so that it does not.
        match self.watch.look() {
            Ok(change) => self.change = self.change.or(change),
            Err(error) => incidents.push(failed(error)),
        }
        incidents
    }

    fn tick(&mut self) -> Vec<Incident> {
        self.look_for_sleep();
        let mut incidents = std::mem::take(&mut self.untold);
        let mended = self
            .mend_gate(&mut incidents)
            .and_then(|()| self.remove_without_lease(&mut incidents))
            .and_then(|()| self.put_back(&mut incidents));
        if let Err(error) = mended {
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
        let busy = self.change.is_some()
            || !self.untold.is_empty()
            || !self.ending.is_empty()
            || !self.tickler.is_idle();
        if busy || self.wanted.values().any(|wanted| wanted.off) {
            return TICK_MS;
        }
        let due = self.wanted.values().map(|wanted| wanted.burst.due_us());
        let left_us = due.min().map(|due| due.saturating_sub(now_us));
        left_us.map_or(QUIET_MS, |left| (left / 1000 + 1).min(QUIET_MS))
    }

    fn alert(&self) -> Option<BorrowedFd<'_>> {
        Some(self.watch.as_fd())
    }

    fn release(&mut self, ip: IpAddr) -> Result<(), DriverError> {
        // Never an address of the machine's own, whatever the order says.
        if !self.gate.managed().contains(&ip) {
            return Ok(());
        }
        let failed = |cause| DriverError::ReleaseFailed { ip, cause };
        self.wanted.remove(&ip);
        let closed = self.gate.close(ip);
        self.take_off(ip).map_err(failed)?;
        closed.map_err(|error| failed(io::Error::other(error)))?;
        self.end_connections(ip, ROUNDS);
        Ok(())
    }

    fn shut(&mut self) -> Result<(), DriverError> {
        self.wanted.clear();
        self.gate.close_all().map_err(|(ip, error)| {
            let cause = io::Error::other(error);
            DriverError::ReleaseFailed { ip, cause }
        })
    }

    fn release_all(&mut self) -> Result<(), DriverError> {
        // Whatever is guarded and on an interface, with a lease or without.
        let managed: Vec<IpAddr> = match self.look() {
            Ok((on, _)) => on.into_iter().map(|address| address.ip).collect(),
            Err(_) => self.gate.managed().iter().copied().collect(),
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
        let on = self.wanted.iter().filter(|(_, wanted)| !wanted.off);
        let ips: Vec<IpAddr> = on.map(|(ip, _)| *ip).collect();
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
            detail: self.gate.describe(),
        }
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

impl Netlink {
    fn try_acquire(&mut self, address: ServiceAddress, epoch: u64) -> Result<Taken, AcquireFault> {
        let ip = address.ip;
        if !self.gate.managed().contains(&ip) {
            return Err(AcquireFault::Unmanaged);
        }
        if boottime_us() >= self.deadline_us {
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
            off: false,
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

    /// Step 12 of the protocol, but for the announcement.
    fn take(&mut self, wanted: &Wanted) -> Result<(), AcquireFault> {
        let Wanted {
            address,
            epoch,
            interface,
            ..
        } = wanted;
        let (ip, deadline_us) = (address.ip, self.deadline_us);
        let (on, leases) = self.look().map_err(system("look at the addresses"))?;
        let in_place = on.iter().any(|a| a.ip == ip && a.index == interface.index);
        if in_place && leases.contains_key(&ip) {
            // Held already, by us or by an earlier start of this host: nothing may be lost now.
            if self.gate.renew(&[(ip, *epoch)], deadline_us)?.is_empty() {
                return Ok(());
            }
        }
        self.take_off(ip).map_err(system("clear the address"))?;
        let mut elsewhere = on;
        elsewhere.retain(|address| address.ip != ip);
        self.gate
            .open_until(ip, *epoch, deadline_us)
            .map_err(too_late)?;
        if boottime_us() >= deadline_us {
            return Err(AcquireFault::TooLate);
        }
        self.put_on(wanted, &elsewhere)
            .map_err(system("add the address"))?;
        if boottime_us() >= deadline_us {
            return Err(AcquireFault::TooLate);
        }
        Ok(())
    }

    /// The first order after a start: what an earlier start left may be newer than the order.
    fn refuse_stale(&self, ip: IpAddr, offered: u64) -> Result<(), AcquireFault> {
        let leases = self.gate.leases()?;
        match leases.iter().find(|lease| lease.ip == ip) {
            Some(lease) if lease.epoch > offered => Err(AcquireFault::StaleEpoch {
                held: lease.epoch,
                offered,
            }),
            _ => Ok(()),
        }
    }

    /// Undoes what a failed take may have done. False when the address may answer still.
    fn abandon(&mut self, ip: IpAddr) -> bool {
        let closed = self.gate.close(ip);
        if let Err(error) = &closed {
            tracing::error!(%ip, %error, "the gate ends with the lease");
        }
        let off = self.take_off(ip);
        if let Err(error) = &off {
            tracing::error!(%ip, %error, "the address stays on its interface");
        }
        closed.is_ok() || off.is_ok()
    }

    fn look(&self) -> io::Result<(Vec<OnInterface>, BTreeMap<IpAddr, Lease>)> {
        let managed = self.gate.managed();
        let mut on = self.addresses.list()?;
        on.retain(|address| managed.contains(&address.ip));
        let leases = self.gate.leases().map_err(io::Error::other)?;
        Ok((
            on,
            leases.into_iter().map(|lease| (lease.ip, lease)).collect(),
        ))
    }

    fn take_off(&self, ip: IpAddr) -> io::Result<()> {
        let on = self.addresses.list()?;
        on.into_iter()
            .filter(|address| address.ip == ip)
            .try_for_each(|address| self.addresses.remove(address))
    }

    /// The lease ended at the gate: off with the address, until a lease that lives.
    fn lapse(&mut self, ip: IpAddr, incidents: &mut Vec<Incident>) {
        if let Some(wanted) = self.wanted.get_mut(&ip) {
            wanted.off = true;
        }
        incidents.push(Incident::Lapsed { ip });
        if let Err(error) = self.take_off(ip) {
            incidents.push(failed(error));
        }
    }

    fn mend_gate(&mut self, incidents: &mut Vec<Incident>) -> io::Result<()> {
        let news = self.watch.look()?;
        let Some(change) = self.change.or(news) else {
            self.gate.follow_devices();
            return Ok(());
        };
        // Until all is mended it stays to be mended.
        self.change = Some(change);
        // The gate first: taking addresses off waits for locks that others may hold.
        let restored = self.gate.restore().map_err(io::Error::other);
        if let Change::Foreign { .. } = change {
            for wanted in self.wanted.values_mut() {
                wanted.off = true;
            }
            let closed = self
                .gate
                .close_all()
                .map_err(|(_, error)| io::Error::other(error));
            let off = self.gate.managed().iter().map(|ip| self.take_off(*ip));
            let off: Vec<io::Result<()>> = off.collect();
            closed?;
            off.into_iter().collect::<io::Result<()>>()?;
        }
        restored?;
        if let Some(Change::Foreign { object }) = self.change.take() {
            incidents.push(Incident::GateTouched { object });
        }
        Ok(())
    }

    fn remove_without_lease(&mut self, incidents: &mut Vec<Incident>) -> io::Result<()> {
        let (on, leases) = self.look()?;
        for address in on
            .into_iter()
            .filter(|address| !leases.contains_key(&address.ip))
        {
            self.addresses.remove(address)?;
            let ip = address.ip;
            match self.wanted.get_mut(&ip) {
                Some(wanted) => {
                    wanted.off = true;
                    incidents.push(Incident::Lapsed { ip });
                }
                None => incidents.push(Incident::Removed { ip }),
            }
        }
        Ok(())
    }

    /// Puts back what somebody deleted while its lease lives, and keeps the lives of the rest.
    fn put_back(&mut self, incidents: &mut Vec<Incident>) -> io::Result<()> {
        let (mut on, leases) = self.look()?;
        let now_us = boottime_us();
        let refresh = now_us.saturating_sub(self.refreshed_us) >= REFRESH_US;
        self.remove_twins(&mut on, incidents)?;
        let mut wanted = std::mem::take(&mut self.wanted);
        for (ip, wanted) in wanted.iter_mut().filter(|(_, wanted)| !wanted.off) {
            let index = wanted.interface.index;
            let there = on.iter().any(|a| a.ip == *ip && a.index == index);
            if !leases.contains_key(ip) {
                wanted.off = true;
            } else if (!there || refresh) && now_us < self.deadline_us {
                match self.put_on(wanted, &on) {
                    Ok(address) if !there => {
                        on.push(address);
                        wanted.burst = Burst::starting(now_us);
                        incidents.push(Incident::Restored { ip: *ip });
                    }
                    Ok(_) => {}
                    // The interface may be gone or new: look for it by name, from the start.
                    Err(error) => {
                        wanted.off = true;
                        incidents.push(failed(error));
                    }
                }
            }
        }
        self.wanted = wanted;
        if refresh {
            self.refreshed_us = now_us;
        }
        Ok(())
    }

    /// Takes again what lost its lease or its gate, in the full order. What can't be taken any more is
    /// given up, so that another host can serve it.
    fn take_again(&mut self, incidents: &mut Vec<Incident>) {
        let now_us = boottime_us();
        if self.deadline_us < now_us + WORTH_US {
            return;
        }
        let due = |wanted: &&Wanted| wanted.off && wanted.again_us <= now_us;
        let off: Vec<Wanted> = self.wanted.values().filter(due).cloned().collect();
        for wanted in off {
            let (ip, epoch, mut keep) = (wanted.address.ip, wanted.epoch, wanted.clone());
            match self.try_acquire(wanted.address, epoch) {
                Ok(_) => incidents.push(Incident::Restored { ip }),
                Err(AcquireFault::TooLate) => {
                    keep.again_us = now_us + LATE_US;
                    self.wanted.insert(ip, keep);
                }
                Err(fault) => {
                    self.wanted.remove(&ip);
                    incidents.push(Incident::Lost {
                        ip,
                        epoch,
                        error: format!("cannot serve it any more: {fault}"),
                    });
                }
            }
        }
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
        let mut wanted = std::mem::take(&mut self.wanted);
        let now_us = boottime_us();
        for wanted in wanted.values_mut() {
            if !wanted.off && wanted.burst.due_us() <= now_us {
                self.announce(wanted);
            }
        }
        self.wanted = wanted;
    }

    fn announce(&self, wanted: &mut Wanted) {
        let ip = wanted.address.ip;
        let now_us = boottime_us();
        wanted.burst.sent(now_us);
        if now_us >= self.deadline_us {
            return;
        }
        // A frame that is lost is made good by the next one of the burst.
        if let Err(error) = self.announcer.announce(&wanted.interface, ip) {
            tracing::debug!(%ip, %error, "an announcement was not sent");
        }
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
