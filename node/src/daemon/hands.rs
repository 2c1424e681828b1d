//! The driver's thread: performs the control's actions, one after the other, and tells how they went.
//!
//! A thread of its own, since a driver may block. The lease's deadline is looked at before and after the
//! address is taken: a thread that was away too long undoes what it did.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use control::{Event, HostAction, Instant};
use host::driver::{AddressDriver, Gate, Incident, ServiceAddress, TICK_MS};
use statemachine::{Epoch, GroupName};

use super::mailbox::{Letter, Mailbox};
use crate::clock;

/// Actions that may wait: an acquire and a release for each address that a host may hold.
const QUEUE: usize = 2_048;

/// Starts the thread. `interfaces` says for each group where its addresses go.
///
/// # Errors
/// When the system gives no thread.
pub fn start(
    driver: Box<dyn AddressDriver>,
    interfaces: BTreeMap<String, String>,
    mailbox: Mailbox,
) -> std::io::Result<(SyncSender<HostAction>, JoinHandle<()>)> {
    let (sender, actions) = sync_channel(QUEUE);
    let hands = Hands {
        gated: is_gated(driver.as_ref()),
        driver,
        interfaces,
        mailbox,
        ticked: Instant::default(),
        unreleased: Vec::new(),
    };
    let thread = std::thread::Builder::new()
        .name("driver".into())
        .spawn(move || hands.run(&actions))?;
    Ok((sender, thread))
}

/// Whether a lease's end is watched by the kernel.
pub fn is_gated(driver: &dyn AddressDriver) -> bool {
    matches!(driver.gate(), Gate::Kernel { .. })
}

struct Hands {
    driver: Box<dyn AddressDriver>,
    gated: bool,
    ticked: Instant,
    unreleased: Vec<(IpAddr, Epoch)>,
    interfaces: BTreeMap<String, String>,
    mailbox: Mailbox,
}

impl Hands {
    fn run(mut self, actions: &Receiver<HostAction>) {
        while let Some(action) = self.next(actions) {
            let event = match action {
                HostAction::Acquire {
                    address,
                    prefix_len,
                    group,
                    epoch,
                    deadline,
                } => {
                    let wanted = self.placed(address, prefix_len, &group);
                    let result = self.acquire(wanted, epoch.0, deadline);
                    match &result {
                        Ok(()) => tracing::info!(%address, %epoch, %group, "serving"),
                        Err(error) => {
                            tracing::warn!(%address, %epoch, %group, error, "cannot serve");
                        }
                    }
                    Event::Acquired {
                        address,
                        epoch,
                        result,
                    }
                }
                HostAction::Release {
                    address,
                    group,
                    epoch,
                } => {
                    tracing::info!(%address, %epoch, %group, "letting go");
                    self.release(address, epoch);
                    continue;
                }
                HostAction::Renew { deadline } => {
                    let incidents = self.driver.renew(deadline.0);
                    tell(&incidents);
                    continue;
                }
                HostAction::Manage { addresses } => {
                    self.manage(&addresses);
                    continue;
                }
            };
            self.mailbox.post(Letter::Event(event));
        }
        let held: Vec<IpAddr> = self.driver.held().iter().map(|held| held.ip).collect();
        held.into_iter().for_each(|ip| self.let_go(ip));
    }

    /// The next action; none at the end. Between them a driver with a gate does its rounds, and what could not be
    /// let go is tried again.
    fn next(&mut self, actions: &Receiver<HostAction>) -> Option<HostAction> {
        loop {
            if !self.gated && self.unreleased.is_empty() {
                return actions.recv().ok();
            }
            let since = clock::now().ms_since(self.ticked);
            if since >= TICK_MS {
                self.ticked = clock::now();
                tell(&self.driver.tick());
                self.confirm();
                continue;
            }
            match actions.recv_timeout(Duration::from_millis(TICK_MS - since)) {
                Ok(action) => return Some(action),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    fn release(&mut self, address: IpAddr, epoch: Epoch) {
        self.unreleased.push((address, epoch));
        self.confirm();
        if self.unreleased.contains(&(address, epoch)) {
            tracing::error!(%address, %epoch, "cannot let go; it is not given to another host until it can");
        }
    }

    /// Reports what is let go. An address that the driver could not let go may still answer: its release is
    /// not confirmed, so the leader gives it to nobody, until a later try succeeds or this host is fenced.
    fn confirm(&mut self) {
        for (address, epoch) in std::mem::take(&mut self.unreleased) {
            // Idempotent: what is gone already is no error.
            match self.driver.release(address) {
                Ok(()) => {
                    let released = Event::Released { address, epoch };
                    self.mailbox.post(Letter::Event(released));
                }
                Err(_) => self.unreleased.push((address, epoch)),
            }
        }
    }

    fn placed(&self, ip: IpAddr, prefix_len: u8, group: &GroupName) -> ServiceAddress {
        let interface = self.interfaces.get(&group.0).cloned().unwrap_or_default();
        ServiceAddress {
            ip,
            prefix_len,
            interface,
        }
    }

    fn manage(&mut self, addresses: &[(IpAddr, u8, GroupName)]) {
        let known = addresses
            .iter()
            .filter(|(_, _, group)| self.interfaces.contains_key(&group.0));
        let placed: Vec<ServiceAddress> = known
            .map(|(ip, prefix_len, group)| self.placed(*ip, *prefix_len, group))
            .collect();
        if let Err(error) = self.driver.manage(&placed) {
            tracing::error!(%error, "the gate does not guard what it should");
        }
    }

    fn acquire(
        &mut self,
        address: ServiceAddress,
        epoch: u64,
        deadline: Instant,
    ) -> Result<(), String> {
        let ended = || "the lease ended before the address was taken".to_owned();
        if clock::now() >= deadline {
            return Err(ended());
        }
        let ip = address.ip;
        self.driver
            .acquire_until(address, epoch, deadline.0)
            .map_err(|error| error.to_string())?;
        // With a gate the kernel watches the deadline, and it may have been renewed meanwhile.
        if !self.gated && clock::now() >= deadline {
            self.driver.release(ip).map_err(|error| error.to_string())?;
            return Err(ended());
        }
        Ok(())
    }

    fn let_go(&mut self, address: IpAddr) {
        if let Err(error) = self.driver.release(address) {
            tracing::error!(%address, %error, "cannot let go");
        }
    }
}

fn tell(incidents: &[Incident]) {
    for incident in incidents {
        match incident {
            Incident::GateTouched { object } => {
                tracing::error!(object, "another hand changed the gate: it is laid again");
            }
            Incident::Lapsed { ip } => tracing::warn!(%ip, "the lease ended at the gate"),
            Incident::Removed { ip } => tracing::warn!(%ip, "stood without a lease: removed"),
            Incident::Restored { ip } => tracing::info!(%ip, "served again"),
            Incident::Failed { error } => tracing::error!(error, "the driver cannot do its rounds"),
            other => tracing::warn!(?other, "something happened to an address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::mailbox::mailbox;
    use host::driver::{DriverError, Held};
    use std::sync::Arc;

    /// A driver whose first releases fail.
    struct Stubborn {
        failures: u32,
    }

    impl AddressDriver for Stubborn {
        fn acquire(&mut self, _: ServiceAddress, _: u64) -> Result<(), DriverError> {
            Ok(())
        }
        fn release(&mut self, ip: IpAddr) -> Result<(), DriverError> {
            if self.failures == 0 {
                return Ok(());
            }
            self.failures -= 1;
            let cause = std::io::Error::other("not now");
            Err(DriverError::ReleaseFailed { ip, cause })
        }
        fn held(&self) -> Vec<Held> {
            Vec::new()
        }
        fn gate(&self) -> Gate {
            Gate::None { reason: "a test" }
        }
        fn name(&self) -> &'static str {
            "stubborn"
        }
    }

    /// Goal: a release that failed is not confirmed, or two hosts could answer; one that succeeds later is,
    /// once. Method: two failures, the letters counted after each try.
    #[test]
    fn a_release_is_confirmed_only_when_the_driver_did_it() {
        let poll = mio::Poll::new().unwrap();
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        let (mailbox, inbox) = mailbox(waker);
        let mut hands = Hands {
            driver: Box::new(Stubborn { failures: 2 }),
            gated: false,
            ticked: Instant::default(),
            unreleased: Vec::new(),
            interfaces: BTreeMap::new(),
            mailbox,
        };
        hands.release(IpAddr::from([10, 77, 0, 101]), Epoch(4));
        assert_eq!(inbox.take(9).len(), 0);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 0);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 1);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 0);
    }
}
