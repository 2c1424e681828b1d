//! How a service address goes on its interface, so that nothing else of the host depends on it.
//!
//! Where the host reaches the subnet without us, which is the rule, the address stands alone: /32 or
//! /128, and v4 in link scope. With the subnet's length it could become the primary of the host's
//! own address (after DHCP began anew), and its removal would take that with it; in v6 its short
//! life would become that of the subnet's route. Link scope, and deprecated for v6, keep the kernel
//! from choosing it as a source.
//!
//! Where nothing else leads to the subnet, the address brings the route and has the length that was
//! configured; then the kernel is told to keep the others of the subnet when one goes
//! (`promote_secondaries`, systemd's default).

use std::io;

use statemachine::Network;

use super::{Netlink, Wanted};
use crate::address::{OnInterface, Scope, label};
use crate::clock::boottime_us;
use crate::driver::Incident;

/// How long an address stays on its interface after its lease, in seconds, if nobody takes it off.
const LIVES_ON_S: u64 = 60;

impl Netlink {
    /// Puts an address on its interface, or prolongs its life where it is. `on`: the managed
    /// addresses that are on interfaces.
    pub(super) fn put_on(&self, wanted: &Wanted, on: &[OnInterface]) -> io::Result<OnInterface> {
        let (ip, index) = (wanted.address.ip, wanted.interface.index);
        let there = on.iter().find(|a| a.ip == ip && a.index == index);
        let (prefix_len, scope) = match there {
            Some(there) => (there.prefix_len, Scope::Global),
            None => self.place(wanted, on)?,
        };
        let left_us = self.latch.deadline_us().saturating_sub(boottime_us());
        let address = OnInterface {
            ip,
            prefix_len,
            index,
            // What a warden that was killed leaves goes by itself in the end. Its gate is shut long before.
            valid_s: Some(u32::try_from(left_us / 1_000_000 + LIVES_ON_S).unwrap_or(u32::MAX - 1)),
        };
        let label = label(&wanted.address.interface);
        self.addresses.add(address, scope, label.as_deref())?;
        Ok(address)
    }

    /// Removes what stands on interfaces beside a held address and is the same: on another
    /// interface, or of another length and, unlike ours, for ever. Leaves what it removed out of `on`.
    pub(super) fn remove_twins(
        &self,
        on: &mut Vec<OnInterface>,
        incidents: &mut Vec<Incident>,
    ) -> io::Result<()> {
        let is_ours = |a: &OnInterface, wanted: &Wanted| a.index == wanted.interface.index;
        let twins: Vec<OnInterface> = on
            .iter()
            .filter(|a| match self.wanted.get(&a.ip) {
                Some(wanted) if !is_ours(a, wanted) => true,
                Some(wanted) => {
                    let mut others = on.iter().filter(|b| b.ip == a.ip && b != a);
                    a.valid_s.is_none() && others.any(|b| is_ours(b, wanted) && b.valid_s.is_some())
                }
                None => false,
            })
            .copied()
            .collect();
        for twin in twins {
            self.addresses.remove(twin)?;
            on.retain(|address| *address != twin);
            incidents.push(Incident::Removed { ip: twin.ip });
        }
        Ok(())
    }

    /// The length and scope that harm nobody.
    fn place(&self, wanted: &Wanted, on: &[OnInterface]) -> io::Result<(u8, Scope)> {
        let (ip, index) = (wanted.address.ip, wanted.interface.index);
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        // A route that another service address brought goes with that one.
        let borrowed = on.iter().any(|a| {
            let (theirs, prefix_len) = (a.ip, a.prefix_len);
            let network = Network {
                ip: theirs,
                prefix_len,
            };
            a.index == index && prefix_len < whole && network.contains(ip)
        });
        if !borrowed && self.addresses.on_link(ip)? == Some(index) {
            return Ok((whole, Scope::Link));
        }
        let configured = wanted.address.prefix_len.min(whole);
        if ip.is_ipv4() && configured < whole {
            self.addresses.promote_secondaries(index)?;
        }
        Ok((configured, Scope::Global))
    }
}
