//! Performs the control's actions, one after the other, and tells how they went.
//!
//! In the warden for real interfaces; on a thread of the node's for a driver without a gate, since a
//! driver may block. The lease's deadline is looked at before and after the
//! address is taken: a thread that was away too long undoes what it did.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use control::{Client, Event, HostAction, HostEvent, Instant, Took};
use host::driver::{
    AcquireFault, AddressDriver, Connection, DriverError, Gate, Incident, ServiceAddress, TICK_MS,
};
use statemachine::{Epoch, GroupName};

use super::mailbox::{Letter, Mailbox};
use crate::clock;

/// Actions that may wait: an acquire and a release for each address that a host may hold.
const QUEUE: usize = 2_048;

/// Between two looks who the clients of each address are, in ms; those of the last moment go unnoticed.
const CLIENTS_MS: u64 = 1_000;
/// What did not change is told again after this long, in ms: a datagram may be lost, a host may be new.
const CLIENTS_AGAIN_MS: u64 = 10_000;

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
    let report = move |told| mailbox.post(Letter::Event(Event::Host(told)));
    let hands = Hands::new(driver, interfaces, Box::new(report));
    let thread = std::thread::Builder::new()
        .name("driver".into())
        .spawn(move || hands.run(&actions))?;
    Ok((sender, thread))
}

/// Whether a lease's end is watched by the kernel.
fn is_gated(driver: &dyn AddressDriver) -> bool {
    matches!(driver.gate(), Gate::Kernel { .. })
}

/// Where it is told how an action went.
pub type Report = Box<dyn FnMut(HostEvent) + Send>;

/// A driver, and what is owed to the control.
pub struct Hands {
    driver: Box<dyn AddressDriver>,
    gated: bool,
    next_round: Instant,
    next_look: Instant,
    told: BTreeMap<IpAddr, (Epoch, Vec<Client>, Instant)>,
    /// What could not be let go yet, and what is told when it is.
    unreleased: Vec<(IpAddr, HostEvent)>,
    /// The addresses that the gate should guard, when that could not be done yet.
    unmanaged: Option<Vec<ServiceAddress>>,
    /// The addresses of the last order to guard some.
    guarded: Vec<(IpAddr, u8, GroupName)>,
    /// Where the file says that each group's addresses go.
    said: BTreeMap<String, String>,
    /// Where they do go.
    interfaces: BTreeMap<String, String>,
    report: Report,
}

impl Hands {
    /// Puts `driver` to work. `interfaces` says for each group where its addresses go.
    #[must_use]
    pub fn new(
        driver: Box<dyn AddressDriver>,
        interfaces: BTreeMap<String, String>,
        report: Report,
    ) -> Self {
        Self {
            gated: is_gated(driver.as_ref()),
            driver,
            next_round: Instant::default(),
            next_look: Instant::default(),
            told: BTreeMap::new(),
            unreleased: Vec::new(),
            unmanaged: None,
            guarded: Vec::new(),
            said: interfaces.clone(),
            interfaces,
            report,
        }
    }

    /// From now on each group's addresses go there. A group of which something is guarded stays where it
    /// is: the log may not know yet that it leaves, and may never agree.
    pub fn place(&mut self, interfaces: BTreeMap<String, String>) {
        self.said = interfaces;
        self.guard(self.guarded.clone());
    }

    /// Guards `addresses`, and forgets where those of other groups went.
    fn guard(&mut self, addresses: Vec<(IpAddr, u8, GroupName)>) {
        let before = std::mem::replace(&mut self.interfaces, self.said.clone());
        let known = |group: &String| addresses.iter().any(|(_, _, of)| of.0 == *group);
        let stay = before.into_iter().filter(|(group, _)| known(group));
        self.interfaces.extend(stay);
        self.unmanaged = Some(self.placed_all(&addresses));
        self.guarded = addresses;
        if let Err(error) = self.manage() {
            tracing::error!(%error, "the gate does not guard what it should; tried again");
        }
    }

    /// Performs one action, and reports it.
    pub fn perform(&mut self, action: HostAction) {
        match action {
            HostAction::Acquire {
                address,
                prefix_len,
                group,
                epoch,
                deadline,
                probe,
            } => {
                let wanted = self.placed(address, prefix_len, &group);
                let free = match probe {
                    true => self.driver.ask_link(&wanted).map_err(Refused::from),
                    false => Ok(()),
                };
                let result = free.and_then(|()| self.acquire(wanted, epoch.0, deadline));
                match &result {
                    Ok(_) => tracing::info!(%address, %epoch, %group, "serving"),
                    Err(error) => tracing::warn!(%address, %epoch, %group, %error, "cannot serve"),
                }
                let silent = result.as_ref().map_or_else(Refused::is_silent, |_| true);
                let event = HostEvent::Acquired {
                    address,
                    epoch,
                    result: result.map_err(|refused| refused.to_string()),
                };
                match silent {
                    true => (self.report)(event),
                    false => self.tell_once_silent(address, event),
                }
            }
            HostAction::Release {
                address,
                group,
                epoch,
            } => {
                tracing::info!(%address, %epoch, %group, "letting go");
                self.tell_once_silent(address, HostEvent::Released { address, epoch });
            }
            // By the warden's other thread (`warden::keep`); without a gate nothing is renewed.
            HostAction::Renew { .. } => {}
            HostAction::Tickle { address, clients } => self.tickle(address, &clients),
            HostAction::Manage { addresses } => self.guard(addresses),
        }
    }

    /// The driver's round, if it is due, and another try at what could not be let go. Says when the next is.
    pub fn round(&mut self, now: Instant) -> Instant {
        let pace = |hands: &Self| match hands.owes() {
            true => now.plus_ms(TICK_MS),
            false => now.plus_ms(hands.driver.pace_ms()),
        };
        if now >= self.next_round {
            // Told once, when it was ordered.
            let _again = self.manage();
            self.tick();
            self.look_for_clients(now);
            self.confirm();
            self.next_round = pace(self);
        } else {
            // What was ordered meanwhile may be due sooner.
            self.next_round = self.next_round.min(pace(self));
        }
        self.next_round
    }

    /// Whether something is to be tried again.
    fn owes(&self) -> bool {
        !self.unreleased.is_empty() || self.unmanaged.is_some()
    }

    /// Tells what happened without an order, some of it to the control.
    fn tick(&mut self) {
        for incident in self.driver.tick() {
            tell(&incident);
            match incident {
                Incident::Conflict { ip, mac, .. } => (self.report)(HostEvent::Contested {
                    address: ip,
                    by: mac,
                }),
                Incident::Lost { ip, epoch, error } => {
                    let (address, epoch) = (ip, Epoch(epoch));
                    let event = HostEvent::Lost {
                        address,
                        epoch,
                        error,
                    };
                    self.tell_once_silent(address, event);
                }
                _ => {}
            }
        }
    }

    fn tickle(&mut self, address: IpAddr, clients: &[Client]) {
        tracing::info!(%address, clients = clients.len(), "clients of the former holder are told");
        let connection = |(port, peer): &Client| Connection {
            local: SocketAddr::new(address, *port),
            peer: *peer,
        };
        let connections: Vec<Connection> = clients.iter().map(connection).collect();
        self.driver.tickle(&connections);
    }

    /// Now and then, who the clients of each address are, where that changed.
    fn look_for_clients(&mut self, now: Instant) {
        if now < self.next_look {
            return;
        }
        self.next_look = now.plus_ms(CLIENTS_MS);
        let mut clients: BTreeMap<IpAddr, Vec<Client>> = BTreeMap::new();
        for Connection { local, peer } in self.driver.connections() {
            let of = clients.entry(local.ip()).or_default();
            of.push((local.port(), peer));
        }
        for held in self.driver.held() {
            let (ip, epoch) = (held.ip, Epoch(held.epoch));
            let mut clients = clients.remove(&ip).unwrap_or_default();
            clients.sort_unstable();
            let told = self.told.get(&ip);
            let same =
                told.is_some_and(|told| told.0 == epoch && told.1 == clients && now < told.2);
            // An address that never had a client is not worth a message.
            if same || (told.is_none() && clients.is_empty()) {
                continue;
            }
            let again = now.plus_ms(CLIENTS_AGAIN_MS);
            self.told.insert(ip, (epoch, clients.clone(), again));
            (self.report)(HostEvent::Clients {
                address: ip,
                epoch,
                clients,
            });
        }
    }

    /// Something happened: the next round is due at once.
    pub fn alerted(&mut self) {
        self.next_round = Instant::default();
    }

    /// Lets go of everything. False when that could not be done.
    pub fn end(&mut self) -> bool {
        let released = self.driver.release_all();
        if let Err(error) = &released {
            tracing::error!(%error, "cannot let go of everything");
        }
        released.is_ok()
    }

    /// The thread's life: actions until their queue is closed.
    fn run(mut self, actions: &Receiver<HostAction>) {
        loop {
            // Without a gate and with nothing owed there is no round to make.
            let idle = !self.gated && !self.owes();
            let next = if idle {
                actions.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                let left = self.round(clock::now()).us_since(clock::now());
                actions.recv_timeout(Duration::from_micros(left))
            };
            match next {
                Ok(action) => self.perform(action),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.end();
                    return;
                }
            }
        }
    }

    /// Lets go of an address, and tells `event` when that is done.
    fn tell_once_silent(&mut self, address: IpAddr, event: HostEvent) {
        self.unreleased.push((address, event));
        self.confirm();
        if self.unreleased.iter().any(|(left, _)| *left == address) {
            tracing::error!(%address, "cannot let go; it is not given to another host until it can");
        }
    }

    /// Tells what is let go. An address that the driver could not let go may still answer: nothing is said
    /// of it, so the leader gives it to nobody, until a later try succeeds or this host is fenced.
    fn confirm(&mut self) {
        for (address, event) in std::mem::take(&mut self.unreleased) {
            // Idempotent: what is gone already is no error.
            match self.driver.release(address) {
                Ok(()) => (self.report)(event),
                Err(_) => self.unreleased.push((address, event)),
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

    fn placed_all(&self, addresses: &[(IpAddr, u8, GroupName)]) -> Vec<ServiceAddress> {
        addresses
            .iter()
            .filter(|(_, _, group)| self.interfaces.contains_key(&group.0))
            .map(|(ip, prefix_len, group)| self.placed(*ip, *prefix_len, group))
            .collect()
    }

    /// Tells the driver what to guard, again until that goes well.
    fn manage(&mut self) -> Result<(), DriverError> {
        let Some(addresses) = self.unmanaged.take() else {
            return Ok(());
        };
        let managed = self.driver.manage(&addresses);
        if managed.is_err() {
            self.unmanaged = Some(addresses);
        }
        managed
    }

    fn acquire(
        &mut self,
        address: ServiceAddress,
        epoch: u64,
        deadline: Instant,
    ) -> Result<Took, Refused> {
        // With a gate the kernel watches the deadline, and it may have been renewed meanwhile.
        let gated = self.gated;
        let is_late = || !gated && clock::now() >= deadline;
        if is_late() {
            return Err(Refused::TooLate { silent: true });
        }
        let taken = self.driver.acquire_until(address, epoch, deadline.0)?;
        if is_late() {
            return Err(Refused::TooLate { silent: false });
        }
        Ok(Took {
            announce_ms: taken.announce_us / 1000,
        })
    }
}

/// Why an address is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the lease ended before the address was taken")]
    TooLate {
        /// Nothing was done.
        silent: bool,
    },
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl Refused {
    /// Whether the address is not held by what failed.
    fn is_silent(&self) -> bool {
        match self {
            Self::TooLate { silent } => *silent,
            Self::Driver(DriverError::AcquireFailed { cause, .. }) => {
                !matches!(cause, AcquireFault::NotUndone { .. })
            }
            Self::Driver(_) => true,
        }
    }
}

fn tell(incident: &Incident) {
    match incident {
        Incident::GateTouched { object } => {
            tracing::error!(object, "another hand changed the gate: it is laid again");
        }
        Incident::Conflict { ip, mac, interface } => {
            tracing::error!(%ip, mac, interface, "another machine claims the address; answered");
        }
        Incident::Slept { ms } => {
            tracing::error!(ms, "the machine slept: everything was shut when it woke");
        }
        Incident::Lapsed { ip } => tracing::warn!(%ip, "the lease ended at the gate"),
        Incident::Removed { ip } => tracing::warn!(%ip, "stood without a lease: removed"),
        Incident::Restored { ip } => tracing::info!(%ip, "served again"),
        Incident::Lost { ip, error, .. } => tracing::error!(%ip, error, "given up"),
        Incident::Failed { error } => tracing::error!(error, "the driver cannot do its rounds"),
        other => tracing::warn!(?other, "something happened to an address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::mailbox::mailbox;
    use host::driver::{Held, Taken};
    use std::sync::Arc;

    /// A driver whose first releases fail.
    struct Stubborn {
        failures: u32,
    }

    impl AddressDriver for Stubborn {
        fn acquire(&mut self, _: ServiceAddress, _: u64) -> Result<Taken, DriverError> {
            Ok(Taken::default())
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
        let report = move |told| mailbox.post(Letter::Event(Event::Host(told)));
        let driver = Box::new(Stubborn { failures: 2 });
        let mut hands = Hands::new(driver, BTreeMap::new(), Box::new(report));
        let (address, epoch) = (IpAddr::from([10, 77, 0, 101]), Epoch(4));
        hands.tell_once_silent(address, HostEvent::Released { address, epoch });
        assert_eq!(inbox.take(9).len(), 0);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 0);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 1);
        hands.confirm();
        assert_eq!(inbox.take(9).len(), 0);
    }

    /// A driver that notes what it is to guard.
    struct Guard(std::sync::mpsc::SyncSender<Vec<(IpAddr, String)>>);

    impl AddressDriver for Guard {
        fn acquire(&mut self, _: ServiceAddress, _: u64) -> Result<Taken, DriverError> {
            Ok(Taken::default())
        }
        fn manage(&mut self, addresses: &[ServiceAddress]) -> Result<(), DriverError> {
            let told = addresses.iter().map(|one| (one.ip, one.interface.clone()));
            self.0.send(told.collect()).unwrap();
            Ok(())
        }
        fn release(&mut self, _: IpAddr) -> Result<(), DriverError> {
            Ok(())
        }
        fn held(&self) -> Vec<Held> {
            Vec::new()
        }
        fn gate(&self) -> Gate {
            Gate::None { reason: "a test" }
        }
        fn name(&self) -> &'static str {
            "guard"
        }
    }

    /// Goal: a file that the log has not agreed to, and may refuse, takes no address from the gate; and what
    /// was not guarded for want of an interface is once there is one.
    /// Method: an address of `web` while the file moves it to `web2`, then the log does, then the file goes back.
    #[test]
    fn a_group_stays_where_it_is_until_the_log_lets_it_go() {
        let (sender, guarded) = std::sync::mpsc::sync_channel(8);
        let file = |text: &str| -> BTreeMap<String, String> {
            let pairs = text
                .split_whitespace()
                .map(|pair| pair.split_once('=').unwrap());
            pairs.map(|(group, at)| (group.into(), at.into())).collect()
        };
        let ip = IpAddr::from([10, 77, 0, 101]);
        let of = |group: &str| HostAction::Manage {
            addresses: vec![(ip, 24, group.into())],
        };
        let at = |interface: &str| vec![(ip, interface.to_owned())];
        let mut hands = Hands::new(Box::new(Guard(sender)), file("web=eth0"), Box::new(|_| {}));
        hands.perform(of("web"));
        hands.place(file("web2=eth1"));
        hands.place(file("web=eth2 web2=eth1"));
        hands.place(file("web2=eth1"));
        hands.perform(of("web2"));
        hands.perform(of("web"));
        hands.place(file("web=eth3"));
        let seen: Vec<_> = guarded.try_iter().collect();
        let [first, moved, back, gone] = [at("eth0"), at("eth1"), at("eth3"), vec![]];
        let stays = first.clone();
        assert_eq!(
            seen,
            [
                first,
                stays.clone(),
                stays.clone(),
                stays,
                moved,
                gone,
                back
            ]
        );
    }
}
