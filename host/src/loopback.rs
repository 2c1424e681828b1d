//! The driver of `rais demo`: a loopback address is held while a tiny HTTP service answers there.
//!
//! Every address of 127.0.0.0/8 exists on every Linux machine, so "on the interface" can't be the
//! test of holding one, and no root is needed. Listening is the test instead: the port is bound
//! without SO_REUSEPORT, so the kernel refuses a second holder on the same machine for as long as
//! the first one lives, whatever the daemons believe.
//!
//! Limits: the kernel is one judge for all hosts only because they share it, so this shows
//! failover and proves nothing about leases. There is no gate. A stopped (SIGSTOP) daemon keeps
//! its ports: its addresses are silent and can't be taken until it dies or goes on.

mod http;
mod responder;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::driver::{AcquireFault, AddressDriver, DriverError, Gate, Held, ServiceAddress, Taken};
pub use responder::Limits;
use responder::{Identity, Responder};

/// Most addresses held at once. Each costs one thread and one listener; a demo has some ten.
pub const MAX_HELD: usize = 64;

/// Name in status, logs and errors.
const NAME: &str = "loopback";

/// Holds 127.0.0.0/8 addresses by answering HTTP on them.
#[derive(Debug)]
pub struct Loopback {
    host: String,
    http_port: u16,
    limits: Limits,
    responders: BTreeMap<Ipv4Addr, Responder>,
}

impl Loopback {
    /// A driver that answers as `host` on `http_port` of each address it holds.
    #[must_use]
    pub fn new(host: impl Into<String>, http_port: u16) -> Self {
        Self::with_limits(host, http_port, Limits::default())
    }

    /// As [`Loopback::new`], with bounds other than the usual ones (tests make them small).
    #[must_use]
    pub fn with_limits(host: impl Into<String>, http_port: u16, limits: Limits) -> Self {
        Self {
            host: host.into(),
            http_port,
            limits,
            responders: BTreeMap::new(),
        }
    }

    fn try_acquire(&mut self, ip: IpAddr, epoch: u64) -> Result<(), AcquireFault> {
        let ip = loopback_v4(ip)?;
        if let Some(responder) = self.alive(ip) {
            let held = responder.epoch();
            if epoch < held {
                return Err(AcquireFault::StaleEpoch {
                    held,
                    offered: epoch,
                });
            }
            responder.set_epoch(epoch);
            return Ok(());
        }
        // A responder whose thread is gone no longer listens: make room for a new one.
        self.responders.remove(&ip);
        if self.responders.len() >= MAX_HELD {
            return Err(AcquireFault::Full { limit: MAX_HELD });
        }
        let identity = Identity {
            host: self.host.clone(),
            ip,
        };
        let endpoint = SocketAddr::from((ip, self.http_port));
        let responder = Responder::start(identity, endpoint, epoch, self.limits)
            .map_err(|error| self.fault(error))?;
        self.responders.insert(ip, responder);
        Ok(())
    }

    fn alive(&self, ip: Ipv4Addr) -> Option<&Responder> {
        self.responders
            .get(&ip)
            .filter(|responder| responder.is_alive())
    }

    fn fault(&self, error: io::Error) -> AcquireFault {
        if error.kind() == io::ErrorKind::AddrInUse {
            AcquireFault::InUse {
                port: self.http_port,
            }
        } else {
            AcquireFault::System {
                action: "start the responder",
                source: error,
            }
        }
    }
}

impl AddressDriver for Loopback {
    fn acquire(&mut self, address: ServiceAddress, epoch: u64) -> Result<Taken, DriverError> {
        let ip = address.ip;
        self.try_acquire(ip, epoch)
            .map_err(|cause| DriverError::AcquireFailed { ip, cause })?;
        tracing::debug!(%ip, epoch, port = self.http_port, "loopback address is held");
        Ok(Taken::default())
    }

    fn release(&mut self, ip: IpAddr) -> Result<(), DriverError> {
        let IpAddr::V4(v4) = ip else {
            return Ok(());
        };
        // Dropping it waits until its thread has closed the listener and every connection.
        if self.responders.remove(&v4).is_some() {
            tracing::debug!(%ip, "loopback address is released");
        }
        Ok(())
    }

    fn held(&self) -> Vec<Held> {
        self.responders
            .iter()
            .filter(|(_, responder)| responder.is_alive())
            .map(|(ip, responder)| Held {
                ip: IpAddr::V4(*ip),
                epoch: responder.epoch(),
            })
            .collect()
    }

    fn gate(&self) -> Gate {
        Gate::None {
            reason: "loopback addresses have no packets to gate; the kernel refuses a second listener",
        }
    }

    fn name(&self) -> &'static str {
        NAME
    }
}

fn loopback_v4(ip: IpAddr) -> Result<Ipv4Addr, AcquireFault> {
    match ip {
        IpAddr::V4(v4) if v4.is_loopback() => Ok(v4),
        _ => Err(AcquireFault::Unsupported {
            driver: NAME,
            takes: "127.0.0.0/8",
        }),
    }
}
