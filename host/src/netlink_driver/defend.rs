//! Answers foreign claims of held addresses, and wakes the clients of a holder that went silent.
//!
//! A claim counts while this host holds the address: wanted, on its interface, behind a live lease
//! in the kernel. So the announcement of the next holder after a hand-over is none, also when it
//! is read late. It is told and answered once in [`DEFEND_MS`], and never by giving way: the lease
//! says whose the address is (RFC 5227, 2.4, case c).
//!
//! Runs within a tick and is bounded in it, so that no storm on the link delays an order.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{AGAIN_US, Netlink, Wanted, failed, words};
use crate::announce::Mac;
use crate::claims::{Claim, DEFEND_MS};
use crate::clock::boottime_us;
use crate::driver::Incident;

impl Netlink {
    /// Hears who claims what is held, and answers.
    pub(super) fn answer_claims(&mut self, incidents: &mut Vec<Incident>) {
        let now_us = boottime_us();
        if now_us >= self.heed_again_us {
            let held = self.held_now().map(|(ip, wanted)| {
                (
                    *ip,
                    wanted.address.interface.clone(),
                    wanted.interface.index,
                )
            });
            let held = held.collect();
            if let Err(error) = self.claims.heed(held) {
                self.heed_again_us = now_us + AGAIN_US;
                incidents.push(failed(format!("cannot listen for conflicts: {error}")));
            }
        }
        let wanted = &self.wanted;
        self.defended_us.retain(|ip, at_us| {
            wanted.contains_key(ip) && now_us < at_us.saturating_add(DEFEND_MS * 1000)
        });
        let claims = match self.claims.hear() {
            Ok(claims) => claims,
            // The link has gone down: nobody is heard then.
            Err(error) => return tracing::debug!(%error, "cannot hear claims"),
        };
        let mut known = None;
        for claim in claims {
            if let Some(wanted) = self.is_foreign(&claim, &mut known) {
                self.latch.while_open(claim.ip, || {
                    self.announcer.defend(&wanted.interface, claim.ip)
                });
                incidents.push(Incident::Conflict {
                    ip: claim.ip,
                    mac: words(claim.mac),
                    interface: wanted.address.interface.clone(),
                });
                self.defended_us.insert(claim.ip, now_us);
            }
        }
    }

    /// What is held against `claim`, if it is another machine's and has not been answered of late.
    /// `known`, asked for once, is whose claims don't count and what lives in the kernel.
    fn is_foreign(
        &self,
        claim: &Claim,
        known: &mut Option<(BTreeSet<Mac>, BTreeSet<IpAddr>)>,
    ) -> Option<&Wanted> {
        let wanted = self.wanted.get(&claim.ip)?;
        let counts = wanted.interface.index == claim.index
            && wanted.interface.mac != Some(claim.mac)
            && self.latch.still_open(claim.ip).is_ok()
            && !self.defended_us.contains_key(&claim.ip);
        if !counts {
            return None;
        }
        // A second interface of ours on the same link answers ARP too.
        let (own, live) = known.get_or_insert_with(|| {
            let live = self.look().map(|(_, leases)| leases.into_keys().collect());
            (
                self.addresses.macs().unwrap_or_default(),
                live.unwrap_or_default(),
            )
        });
        (live.contains(&claim.ip) && !own.contains(&claim.mac)).then_some(wanted)
    }

    /// Sends the tickles that are due, of what is held now.
    pub(super) fn tickle_due(&mut self) {
        let now_us = boottime_us();
        if now_us >= self.latch.deadline_us() {
            return;
        }
        let held: BTreeSet<IpAddr> = self.held_now().map(|(ip, _)| *ip).collect();
        self.tickler.send_due(now_us, |ip| held.contains(&ip));
    }
}
