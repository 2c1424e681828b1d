//! The driver of a host that serves no address: it refuses each, and says why.
//!
//! For observers, and for a host without a gate: the promise that no address is ever served twice goes
//! before service. The leader hears the refusal and gives the address to another.

use std::net::IpAddr;

use crate::driver::{AcquireFault, AddressDriver, DriverError, Gate, Held, ServiceAddress, Taken};

/// Serves nothing.
#[derive(Clone, Debug)]
pub struct Refusing {
    why: String,
}

impl Refusing {
    /// Refuses for this reason.
    #[must_use]
    pub fn new(why: &str) -> Self {
        Self {
            why: why.to_owned(),
        }
    }
}

impl AddressDriver for Refusing {
    fn acquire(&mut self, address: ServiceAddress, _epoch: u64) -> Result<Taken, DriverError> {
        let source = std::io::Error::other(self.why.clone());
        let action = "serve any address on this host";
        Err(DriverError::AcquireFailed {
            ip: address.ip,
            cause: AcquireFault::System { action, source },
        })
    }

    fn release(&mut self, _ip: IpAddr) -> Result<(), DriverError> {
        Ok(())
    }

    fn held(&self) -> Vec<Held> {
        Vec::new()
    }

    fn gate(&self) -> Gate {
        Gate::None {
            reason: "this host serves no address",
        }
    }

    fn name(&self) -> &'static str {
        "refusing"
    }
}
