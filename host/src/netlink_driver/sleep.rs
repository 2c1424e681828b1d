//! Shuts everything when the machine wakes from suspend.
//!
//! The kernel counts the time-outs of the gate in jiffies, which stand still in suspend, while the
//! lease goes on: so at waking an entry may outlive its lease by the time slept. Nothing is judged
//! then: all is shut with the first call, and what has a lease that lives comes back with the next
//! tick, in the full order.
//!
//! Limits: between waking and that call (the kernel thaws its devices before its processes) an
//! address may answer for as long as its entry had left when the machine fell asleep, L at most.

use super::{Netlink, failed};
use crate::clock::boottime_us;
use crate::driver::Incident;

impl Netlink {
    /// Looks whether the machine slept, and shuts everything if it did.
    pub(super) fn look_for_sleep(&mut self) {
        if let Some(ms) = self.naps.look() {
            self.woke(ms);
        }
    }

    /// Shuts everything, since the machine slept for `ms`: the driver finds that by itself with
    /// each call; this is for who hears it earlier. Told with the next renewal or tick.
    pub fn woke(&mut self, ms: u64) {
        self.untold.push(Incident::Slept { ms });
        // Entries of an earlier start of ours, too.
        if let Err((_, error)) = self.gate.close_all() {
            self.untold.push(failed(error));
        }
        let now_us = boottime_us();
        for wanted in self.wanted.values_mut() {
            wanted.off = true;
            wanted.again_us = now_us;
        }
        // Behind a closed gate; what can't be removed now goes with a tick.
        for ip in self.gate.managed().clone() {
            if let Err(error) = self.take_off(ip) {
                self.untold.push(failed(error));
            }
        }
    }
}
