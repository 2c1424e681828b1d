//! A host's kernel as far as service addresses go, and the driver that arms its gate: what is on the
//! interface, and until when the gate lets it pass.
//!
//! As measured (lease.md, the gate): a time-out counts from when the kernel takes it, not from when
//! the driver worked it out; a renewal deletes and adds, so it fails on an element that ran out; only
//! an acquire makes a new one, while the address is on no interface. After each arm the driver looks
//! at the clock: was it away, it arms again with as much less, or shuts. It outlives the daemon.

use std::collections::BTreeMap;
use std::net::IpAddr;

use control::Instant;
use statemachine::{Epoch, Mutation, mutated};

/// Shortest time-out that is sent, in ms; as in `host/src/gate`.
const SHORTEST_MS: u64 = 10;
/// An arm that took longer may end too late, in microseconds; as in `host/src/gate`.
const SLACK_US: u64 = 5_000;
/// What must be left of a lease for an address to be taken again, in ms; as in the driver.
const WORTH_MS: u64 = 20;

/// One address that the driver was told to serve.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) epoch: Epoch,
    /// End of the gate's element, on the host's clock.
    pub(crate) until: Instant,
    /// Its end was told.
    pub(crate) told: bool,
    /// The address is on the interface; off when the driver found its lease ended at the gate.
    pub(crate) on: bool,
}

/// A time-out that was worked out and is not in the kernel yet: the driver was stopped between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halfway {
    began: Instant,
    deadline: Instant,
    timeout_us: u64,
}

/// The kernel of one host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) served: BTreeMap<IpAddr, Served>,
    /// The furthest end of a lease that the driver was told.
    pub(crate) deadline: Instant,
    pub(crate) halfway: Option<Halfway>,
}

impl Kernel {
    /// The address comes onto the interface behind an open gate.
    pub(crate) fn add(&mut self, ip: IpAddr, epoch: Epoch, until: Instant) {
        let (told, on) = (false, true);
        let served = Served {
            epoch,
            until,
            told,
            on,
        };
        self.served.insert(ip, served);
    }

    pub(crate) fn remove(&mut self, ip: IpAddr) -> Option<Served> {
        self.served.remove(&ip)
    }

    /// The daemon has ended; what it left half done is lost.
    pub(crate) fn orphaned(&mut self) {
        (self.halfway, self.deadline) = (None, Instant::default());
    }

    /// Works out the time-out of a renewal; none when there is nothing to arm.
    pub(crate) fn begin(&mut self, deadline: Instant, now: Instant) -> Option<Halfway> {
        self.deadline = self.deadline.max(deadline);
        let timeout_us = timeout_us(now, self.deadline, 0)?;
        (!self.served.is_empty()).then_some(Halfway {
            began: now,
            deadline: self.deadline,
            timeout_us,
        })
    }

    /// The kernel takes the renewal. Gives the addresses that pass again after they did not.
    pub(crate) fn arm(&mut self, half: Halfway, now: Instant) -> Vec<IpAddr> {
        let mut again = Vec::new();
        for (ip, served) in &mut self.served {
            let alive = served.on && served.until > now;
            let revives = mutated(Mutation::PlainAdd) && served.on;
            if alive || revives {
                served.until = end_of(now, half.timeout_us);
                if !alive {
                    served.told = false;
                    again.push(*ip);
                }
            } else {
                served.on = false;
            }
        }
        again
    }

    /// The look at the clock after an arm; true when it was late, and so is made good.
    pub(crate) fn look_again(&mut self, half: Halfway, now: Instant) -> bool {
        let took = now.us_since(half.began);
        if took <= SLACK_US || mutated(Mutation::NoLookAfterArming) {
            return false;
        }
        let timeout = timeout_us(now, half.deadline, 2 * took);
        for served in self.served.values_mut().filter(|s| s.on && s.until > now) {
            match timeout {
                Some(timeout) => served.until = end_of(now, timeout),
                None => (served.on, served.until) = (false, now),
            }
        }
        true
    }

    /// Takes again, in the full order, what is wanted and came off. Gives what passes again.
    pub(crate) fn take_again(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut again = Vec::new();
        if self.deadline < now.plus_ms(WORTH_MS) {
            return again;
        }
        for (ip, served) in self.served.iter_mut().filter(|(_, s)| !s.on) {
            (served.on, served.told, served.until) = (true, false, self.deadline);
            again.push(*ip);
        }
        again
    }

    pub(crate) fn is_open(&self, ip: IpAddr, now: Instant) -> bool {
        self.served.get(&ip).is_some_and(|s| s.on && s.until > now)
    }
}

/// What to send so that an element that the kernel makes within `doubt_us` ends in time; none when
/// that would be less than the shortest. 0 means for ever to the kernel.
fn timeout_us(now: Instant, deadline: Instant, doubt_us: u64) -> Option<u64> {
    let left = deadline.us_since(now).saturating_sub(doubt_us);
    if mutated(Mutation::TimeoutZero) {
        return Some(if left < 1000 { 0 } else { left });
    }
    (left >= SHORTEST_MS * 1000).then_some(left)
}

fn end_of(now: Instant, timeout_us: u64) -> Instant {
    match timeout_us {
        0 => Instant(u64::MAX),
        _ => now.plus_us(timeout_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 1, 1));

    fn serving(until_ms: u64) -> Kernel {
        let mut kernel = Kernel::default();
        kernel.add(IP, Epoch(1), Instant(until_ms * 1000));
        kernel
    }

    /// Goal: a driver that slept between clock and kernel does not outlive the lease for long.
    /// Method: 300 ms lease, stopped for 100 ms, armed with the old time-out.
    #[test]
    fn an_arm_after_a_short_stop_is_taken_back_by_the_look_at_the_clock() {
        let mut kernel = serving(150);
        let half = kernel.begin(Instant(300_000), Instant(0)).unwrap();
        assert!(kernel.arm(half, Instant(100_000)).is_empty());
        assert!(kernel.is_open(IP, Instant(399_000)), "too long by the stop");
        kernel.look_again(half, Instant(100_000));
        assert!(!kernel.is_open(IP, Instant(300_000)));
    }

    /// Goal: what ran out is not revived. Method: stopped for longer than the element lived.
    #[test]
    fn an_element_that_ran_out_is_not_renewed() {
        let mut kernel = serving(50);
        let half = kernel.begin(Instant(300_000), Instant(0)).unwrap();
        assert!(kernel.arm(half, Instant(60_000)).is_empty());
        assert!(!kernel.is_open(IP, Instant(60_000)));
        kernel.look_again(half, Instant(60_000));
        assert_eq!(kernel.take_again(Instant(60_000)), [IP], "but taken anew");
    }
}
