//! The driver's thread: performs the control's actions, one after the other, and tells how they went.
//!
//! A thread of its own, since a driver may block. The lease's deadline is looked at before and after the
//! address is taken: a thread that was away too long undoes what it did.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use control::{Event, HostAction, Instant};
use host::driver::{AddressDriver, ServiceAddress};

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
        driver,
        interfaces,
        mailbox,
    };
    let thread = std::thread::Builder::new()
        .name("driver".into())
        .spawn(move || hands.run(&actions))?;
    Ok((sender, thread))
}

struct Hands {
    driver: Box<dyn AddressDriver>,
    interfaces: BTreeMap<String, String>,
    mailbox: Mailbox,
}

impl Hands {
    fn run(mut self, actions: &Receiver<HostAction>) {
        while let Ok(action) = actions.recv() {
            let event = match action {
                HostAction::Acquire {
                    address,
                    prefix_len,
                    group,
                    epoch,
                    deadline,
                } => {
                    let interface = self.interfaces.get(&group.0).cloned().unwrap_or_default();
                    let wanted = ServiceAddress {
                        ip: address,
                        prefix_len,
                        interface,
                    };
                    let result = self.acquire(wanted, epoch.0, deadline);
                    match &result {
                        Ok(()) => tracing::info!(%address, %epoch, %group, "serving"),
                        Err(error) => {
                            tracing::warn!(%address, %epoch, %group, error, "cannot serve")
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
                    match self.driver.release(address) {
                        Ok(()) => tracing::info!(%address, %epoch, %group, "let go"),
                        Err(error) => {
                            tracing::error!(%address, %epoch, %group, %error, "cannot let go")
                        }
                    }
                    Event::Released { address, epoch }
                }
            };
            self.mailbox.post(Letter::Event(event));
        }
        self.let_go_of_all();
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
            .acquire(address, epoch)
            .map_err(|error| error.to_string())?;
        if clock::now() >= deadline {
            self.driver.release(ip).map_err(|error| error.to_string())?;
            return Err(ended());
        }
        Ok(())
    }

    fn let_go_of_all(&mut self) {
        let held: Vec<IpAddr> = self.driver.held().iter().map(|held| held.ip).collect();
        for ip in held {
            if let Err(error) = self.driver.release(ip) {
                tracing::error!(address = %ip, %error, "cannot let go");
            }
        }
    }
}
