//! Tells the link that an address lives here now, and asks who has it.
//!
//! A client keeps the old holder's MAC for up to a minute unless it is told; a switch learns the
//! new port from the same frame. Told in a burst, because any one frame may be lost while ports
//! come up, then now and then, as in the seed's transmit thread.
//!
//! Frames go out past the kernel's ARP, so the caller looks at its deadline right before, and the
//! gate's egress table drops what is late all the same.

mod frame;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::address::Interface;
use crate::clock::boottime_us;
use crate::packet::{ARP, IPV6, Listener, Sender};
pub(crate) use frame::{
    ADVERTISEMENT, ARP_SENDER, ICMPV6, ND_TARGET_END, ND_TYPE, V6_NEXT, checksum,
};
pub use frame::{Mac, announcement, any_claim, claim, probe as probe_frame};

/// When the frames of a burst go out, in ms from its start: twice at once would be lost together.
pub const BURST_MS: [u64; 6] = [0, 20, 50, 100, 200, 500];
/// Time between announcements after the burst, in ms.
pub const PERIOD_MS: u64 = 30_000;
/// Longest frame that is looked at: ARP and ND fit into 128 bytes, the rest is cut.
pub(crate) const FRAME: usize = 256;
/// Times that a probe asks within its patience (RFC 5227, 1.1: PROBE_NUM): one may be lost, and an
/// address that has just been added does not hear v6 for some milliseconds.
const PROBES: u32 = 3;

/// When the next announcement of one address is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    began_us: u64,
    sent: u64,
}

impl Burst {
    /// A burst that begins now.
    #[must_use]
    pub fn starting(now_us: u64) -> Self {
        Self {
            began_us: now_us,
            sent: 0,
        }
    }

    /// When the next one is due, in microseconds of CLOCK_BOOTTIME.
    #[must_use]
    pub fn due_us(&self) -> u64 {
        let last = BURST_MS[BURST_MS.len() - 1];
        let place = usize::try_from(self.sent).unwrap_or(usize::MAX);
        let after = BURST_MS.get(place).copied().unwrap_or_else(|| {
            let periods = self.sent + 1 - BURST_MS.len() as u64;
            last + periods.saturating_mul(PERIOD_MS)
        });
        self.began_us.saturating_add(after.saturating_mul(1000))
    }

    /// Notes that one went out at `now_us`; those that were missed are not made up for.
    pub fn sent(&mut self, now_us: u64) {
        self.sent += 1;
        while self.due_us() <= now_us {
            self.sent += 1;
        }
    }
}

/// Sends announcements.
#[derive(Debug)]
pub struct Announcer {
    sender: Sender,
}

impl Announcer {
    /// Opens what it needs.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            sender: Sender::open()?,
        })
    }

    /// Tells the link of `interface` that `ip` is here.
    ///
    /// # Errors
    /// What the system says; an interface without a MAC has nobody to tell and is no error.
    pub fn announce(&self, interface: &Interface, ip: IpAddr) -> io::Result<()> {
        let Some(mac) = interface.mac else {
            return Ok(());
        };
        for frame in announcement(mac, ip) {
            self.sender.send(interface.index, &frame)?;
        }
        Ok(())
    }

    /// Says once more whose `ip` is, against who claims it too: one frame (RFC 5227, 2.4).
    ///
    /// # Errors
    /// What the system says.
    pub fn defend(&self, interface: &Interface, ip: IpAddr) -> io::Result<()> {
        let frames = interface.mac.map(|mac| announcement(mac, ip));
        match frames.iter().flatten().next() {
            Some(frame) => self.sender.send(interface.index, frame),
            None => Ok(()),
        }
    }

    /// Asks whether anybody else has `ip`, and waits at most `patience` for an answer: the MAC of
    /// who has it. The address must not be on the interface yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn probe(
        &self,
        interface: &Interface,
        ip: IpAddr,
        patience: Duration,
    ) -> io::Result<Option<Mac>> {
        let Some(mac) = interface.mac else {
            return Ok(None);
        };
        let listener = Listener::open(interface.index, if ip.is_ipv4() { ARP } else { IPV6 })?;
        let step = patience / PROBES;
        let mut buffer = [0; FRAME];
        for _ in 0..PROBES {
            self.sender.send(interface.index, &probe_frame(mac, ip))?;
            let step_us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
            let end_us = boottime_us().saturating_add(step_us);
            while let Some(left) = end_us.checked_sub(boottime_us()) {
                let frame = listener.receive(&mut buffer, Duration::from_micros(left))?;
                if let Some(holder) = frame
                    .and_then(|frame| claim(frame, ip))
                    .filter(|found| *found != mac)
                {
                    return Ok(Some(holder));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: announcements come at once, then thin out, and a pause makes no flood.
    /// Method: the due times of a burst; a look after a long pause.
    #[test]
    fn burst_thins_out_and_is_not_made_up_for_after_a_pause() {
        let mut burst = Burst::starting(1_000_000);
        let mut due = Vec::new();
        for _ in 0..8 {
            due.push((burst.due_us() - 1_000_000) / 1000);
            burst.sent(burst.due_us());
        }
        assert_eq!(due, [0, 20, 50, 100, 200, 500, 30_500, 60_500]);
        let mut paused = Burst::starting(0);
        paused.sent(150_000);
        assert_eq!(paused.due_us(), 200_000);
    }
}
