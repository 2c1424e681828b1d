//! Keeps what is on the interfaces like what should be: strays go, what was deleted comes back.
//!
//! Derived on each tick from what the kernel says, so nothing that went unheard does harm. Only this
//! thread opens, so a look at what is open can only be too generous: then the gate is shut already, and
//! the next tick, or the order that waits, takes the address off.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::{LATE_US, Netlink, REFRESH_US, WORTH_US, Wanted, failed};
use crate::address::OnInterface;
use crate::announce::Burst;
use crate::clock::boottime_us;
use crate::driver::{AcquireFault, Incident};
use crate::gate::{GateError, Lease};

impl Netlink {
    /// Tells what happened at the gate, and takes off what was shut there.
    pub(super) fn hear(&mut self, incidents: &mut Vec<Incident>) {
        let news = self.latch.news();
        let mut shut = BTreeSet::new();
        for incident in &news {
            match incident {
                Incident::Lapsed { ip } => drop(shut.insert(*ip)),
                Incident::Slept { .. } | Incident::GateTouched { .. } => {
                    shut.extend(&self.managed);
                }
                _ => {}
            }
        }
        incidents.extend(news);
        let open = self.latch.all_open();
        shut.retain(|ip| !open.contains(ip));
        if shut.is_empty() {
            return;
        }
        let on = self.addresses.list().map_err(failed);
        let off = on.map(|on| on.into_iter().filter(|address| shut.contains(&address.ip)));
        match off {
            Ok(off) => {
                let failures = off.filter_map(|address| self.addresses.remove(address).err());
                incidents.extend(failures.map(failed));
            }
            Err(incident) => incidents.push(incident),
        }
    }

    /// Mends the addresses, from one look.
    pub(super) fn mend(&mut self, incidents: &mut Vec<Incident>) -> io::Result<()> {
        let (on, leases) = self.look()?;
        let on = self.remove_strays(on, &leases, incidents)?;
        self.put_back(on, &leases, incidents)
    }

    /// Removes what stands on an interface and has no lease, or not that of this start which it should.
    /// Gives the rest.
    pub(super) fn remove_strays(
        &mut self,
        on: Vec<OnInterface>,
        leases: &BTreeMap<IpAddr, Lease>,
        incidents: &mut Vec<Incident>,
    ) -> io::Result<Vec<OnInterface>> {
        let open = self.latch.all_open();
        let is_stray = |ip: &IpAddr| {
            !leases.contains_key(ip) || (self.wanted.contains_key(ip) && !open.contains(ip))
        };
        let (strays, stay): (Vec<_>, Vec<_>) = on.into_iter().partition(|a| is_stray(&a.ip));
        for address in strays {
            let ip = address.ip;
            // The gate first: to take it off may have to wait.
            let closed = self.latch.close(ip).map_err(io::Error::other);
            self.addresses.remove(address)?;
            closed?;
            incidents.push(match self.wanted.contains_key(&ip) && open.contains(&ip) {
                true => Incident::Lapsed { ip },
                false => Incident::Removed { ip },
            });
        }
        Ok(stay)
    }

    /// Puts back what somebody deleted while its lease lives, and keeps the lives of the rest.
    fn put_back(
        &mut self,
        mut on: Vec<OnInterface>,
        leases: &BTreeMap<IpAddr, Lease>,
        incidents: &mut Vec<Incident>,
    ) -> io::Result<()> {
        let now_us = boottime_us();
        let refresh = now_us.saturating_sub(self.refreshed_us) >= REFRESH_US;
        self.remove_twins(&mut on, incidents)?;
        let open = self.latch.all_open();
        let mut wanted = std::mem::take(&mut self.wanted);
        for (ip, wanted) in wanted.iter_mut().filter(|(ip, _)| open.contains(*ip)) {
            let index = wanted.interface.index;
            let there = on.iter().any(|a| a.ip == *ip && a.index == index);
            if leases.contains_key(ip) && there && !refresh {
                continue;
            }
            // Over, or shut since: the next round finds it so.
            if self.latch.still_open(*ip).is_err() {
                continue;
            }
            let put_on = match leases.contains_key(ip) {
                true => self.put_on(wanted, &on).map_err(failed),
                false => Err(Incident::Lapsed { ip: *ip }),
            };
            match put_on {
                Ok(address) if !there => {
                    on.push(address);
                    wanted.burst = Burst::starting(now_us);
                    incidents.push(Incident::Restored { ip: *ip });
                }
                Ok(_) => {}
                // The interface may be gone or new: look for it by name, from the start.
                Err(incident) => {
                    incidents.push(incident);
                    let closed = self.latch.close(*ip);
                    incidents.extend(closed.err().map(failed));
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
    pub(super) fn take_again(&mut self, incidents: &mut Vec<Incident>) {
        let now_us = boottime_us();
        if self.latch.deadline_us() < now_us + WORTH_US {
            return;
        }
        let open = self.latch.all_open();
        let due =
            |wanted: &&Wanted| !open.contains(&wanted.address.ip) && wanted.again_us <= now_us;
        let off: Vec<Wanted> = self.wanted.values().filter(due).cloned().collect();
        for wanted in off {
            let (ip, epoch, mut keep) = (wanted.address.ip, wanted.epoch, wanted.clone());
            match self.try_acquire(wanted.address, epoch) {
                Ok(_) => incidents.push(Incident::Restored { ip }),
                Err(AcquireFault::TooLate | AcquireFault::Gate(GateError::Shut { .. })) => {
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
}
