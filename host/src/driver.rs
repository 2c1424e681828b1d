//! The contract between a host's agent and whatever holds service addresses for it.
//!
//! Three verbs, all blocking and all idempotent, because the agent derives its work anew from the
//! replicated state each time and repeats whatever it can't see done. The epoch rides along as the
//! fencing token: what is held says under which assignment it is held.
//!
//! Whoever calls a driver has checked the lease's deadline before and checks it again after. A driver
//! with a gate in the kernel gets the deadline too ([`AddressDriver::acquire_until`]), is renewed past
//! the driver (`netlink_driver::Latch`), and wants to be called now and then (`tick`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

/// A service address and where on this host it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// The address that clients reach.
    pub ip: IpAddr,
    /// Length of the network prefix in bits: 0..=32 for v4, 0..=128 for v6.
    pub prefix_len: u8,
    /// Name of the interface that carries it, such as `eth0`.
    pub interface: String,
}

/// An address that this host holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The address.
    pub ip: IpAddr,
    /// The epoch of the assignment under which it is held.
    pub epoch: u64,
}

/// What stops packets for an address when its lease ends, even if the daemon can't.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gate {
    /// Nothing does: the promise of one holder then rests on the daemon alone.
    None {
        /// Why there is no gate, for `rais status` and the log.
        reason: &'static str,
    },
    /// The kernel drops what belongs to an address whose lease has ended.
    Kernel {
        /// Its tables and what shields them, for `rais status` and the log.
        detail: String,
    },
}

/// An established TCP connection of a service address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The service address and port.
    pub local: SocketAddr,
    /// The client.
    pub peer: SocketAddr,
}

/// Something that happened to an address without an order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Incident {
    /// Another machine claims an address that we hold under a live lease. Told, and answered with
    /// an announcement, once for each address in [`crate::claims::DEFEND_MS`].
    Conflict {
        /// The address.
        ip: IpAddr,
        /// The MAC of who claims it, as people write it.
        mac: String,
        /// The interface on which the claim was heard.
        interface: String,
    },
    /// The machine slept, and the gate with it: all was shut when it woke.
    Slept {
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Another hand changed the gate: all addresses were taken off, and the gate laid again.
    GateTouched {
        /// The kind of object that was touched.
        object: &'static str,
    },
    /// The lease ended at the gate before it was renewed; the address is off the interface.
    Lapsed {
        /// The address.
        ip: IpAddr,
    },
    /// A managed address stood on an interface without a lease, and was removed.
    Removed {
        /// The address.
        ip: IpAddr,
    },
    /// An address that should be held had gone, and is back.
    Restored {
        /// The address.
        ip: IpAddr,
    },
    /// An address that should be held can't be any more, and is given up. It may still answer: release
    /// it until that goes well.
    Lost {
        /// The address.
        ip: IpAddr,
        /// Under which assignment.
        epoch: u64,
        /// Why.
        error: String,
    },
    /// The driver could not do its rounds; what has no lease falls silent by itself.
    Failed {
        /// What it could not do, and why.
        error: String,
    },
}

/// Time between two calls of [`AddressDriver::tick`] while there is something to do, in ms: the
/// shortest step between announcements is about as long.
pub const TICK_MS: u64 = 20;
/// The same while all is quiet: an address that was deleted by hand comes back within this.
pub const QUIET_MS: u64 = 100;

/// An address that was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How long the first announcement took, in microseconds; 0 where nothing is announced.
    pub announce_us: u64,
}

/// Holds and lets go of service addresses on this host. Blocking: call it on its own thread.
pub trait AddressDriver: Send {
    /// Makes this host answer for `address` under `epoch`.
    ///
    /// An address that is already held keeps its connections and takes the newer epoch.
    ///
    /// # Errors
    /// [`DriverError::AcquireFailed`]; the address is then not held, or still held as before, but
    /// for [`AcquireFault::NotUndone`]: release it until that goes well.
    fn acquire(&mut self, address: ServiceAddress, epoch: u64) -> Result<Taken, DriverError>;

    /// As [`AddressDriver::acquire`], under a lease that ends at `deadline_us` (microseconds of
    /// CLOCK_BOOTTIME): after that nothing answers, whatever becomes of this process.
    ///
    /// # Errors
    /// As [`AddressDriver::acquire`], and when the lease ends before the address is taken.
    fn acquire_until(
        &mut self,
        address: ServiceAddress,
        epoch: u64,
        deadline_us: u64,
    ) -> Result<Taken, DriverError> {
        let _ = deadline_us;
        self.acquire(address, epoch)
    }

    /// Asks the link whether another machine has the address, before an acquire that no lease protects.
    ///
    /// # Errors
    /// As [`AddressDriver::acquire`]; [`AcquireFault::Conflict`] names who has it.
    fn ask_link(&self, address: &ServiceAddress) -> Result<(), DriverError> {
        let _ = address;
        Ok(())
    }

    /// Says which addresses this host could carry: all others are left alone. Call it before the
    /// first acquire, and again when the array's addresses change.
    ///
    /// # Errors
    /// [`DriverError::ManageFailed`]; the addresses of before are then still managed.
    fn manage(&mut self, addresses: &[ServiceAddress]) -> Result<(), DriverError> {
        let _ = addresses;
        Ok(())
    }

    /// Mends what others changed, and sends what is due. Call it every [`AddressDriver::pace_ms`].
    fn tick(&mut self) -> Vec<Incident> {
        Vec::new()
    }

    /// How long until the next tick is due, in ms: [`TICK_MS`] while there is something to do.
    fn pace_ms(&self) -> u64 {
        TICK_MS
    }

    /// The established connections of what is held, so that the next holder can [tickle] the
    /// clients should this host go silent. Walks all sockets of the host: for now and then.
    ///
    /// [tickle]: AddressDriver::tickle
    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }

    /// Makes the clients of these connections, which an earlier holder had, notice at once that
    /// they are gone. Call it after the acquire; the next ticks send what is due.
    fn tickle(&mut self, connections: &[Connection]) {
        let _ = connections;
    }

    /// Makes this host stop answering for `ip`: on return nothing answers any more, and
    /// connections that were established are closed. An address that is not held is no error.
    ///
    /// # Errors
    /// [`DriverError::ReleaseFailed`]; the address may then still answer.
    fn release(&mut self, ip: IpAddr) -> Result<(), DriverError>;

    /// Lets go of everything.
    ///
    /// # Errors
    /// As [`AddressDriver::release`], of the first that failed; the others were let go.
    fn release_all(&mut self) -> Result<(), DriverError> {
        let held: Vec<IpAddr> = self.held().iter().map(|held| held.ip).collect();
        let released: Vec<_> = held.into_iter().map(|ip| self.release(ip)).collect();
        released.into_iter().collect()
    }

    /// What is held now, as the machine says, not as the driver remembers; in order of address.
    fn held(&self) -> Vec<Held>;

    /// What keeps the promise when this process can't.
    fn gate(&self) -> Gate;

    /// A short name for status and logs, such as `loopback`.
    fn name(&self) -> &'static str;
}

/// Why a driver did not do what it was asked.
#[derive(Debug, Error)]
pub enum DriverError {
    /// The address could not be taken; the leader tries another host.
    #[error("cannot acquire {ip}: {cause}")]
    AcquireFailed {
        /// The address that was asked for.
        ip: IpAddr,
        /// What stood in the way.
        #[source]
        cause: AcquireFault,
    },
    /// The list of managed addresses could not be told to the kernel.
    #[error("cannot manage {count} addresses: {cause}")]
    ManageFailed {
        /// How many were to be managed.
        count: usize,
        /// What stood in the way.
        #[source]
        cause: io::Error,
    },
    /// The address could not be let go.
    #[error("cannot release {ip}: {cause}")]
    ReleaseFailed {
        /// The address that was to go.
        ip: IpAddr,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
}

/// What stood in the way of an acquire.
#[derive(Debug, Error)]
pub enum AcquireFault {
    /// Somebody else listens there: the old holder, or a program that is not ours.
    #[error(
        "port {port} is in use there: another holder has not let go, or a foreign program listens; see `ss -ltnp`"
    )]
    InUse {
        /// The TCP port that could not be bound.
        port: u16,
    },
    /// The driver holds the address under a newer assignment.
    #[error("order is stale: held under epoch {held}, the order says {offered}")]
    StaleEpoch {
        /// The epoch under which it is held.
        held: u64,
        /// The epoch of the order.
        offered: u64,
    },
    /// The driver can't carry such an address.
    #[error("not an address for the {driver} driver: it takes {takes}")]
    Unsupported {
        /// Which driver says so.
        driver: &'static str,
        /// What it would take instead.
        takes: &'static str,
    },
    /// The driver holds as many as it can.
    #[error("{limit} addresses are held already, the most this driver carries")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// Nobody said that this host could carry it.
    #[error("the gate does not guard it: `manage` was not told of it")]
    Unmanaged,
    /// The lease ended first.
    #[error("the lease ended before the address was taken")]
    TooLate,
    /// It failed, and what was done could not be undone: it may answer until the lease ends.
    #[error("{cause}; and it could not be let go again")]
    NotUndone {
        /// Why it failed.
        cause: Box<AcquireFault>,
    },
    /// The interface is not there.
    #[error("there is no interface `{name}`: see `ip link`, and `interface` in rais.toml")]
    NoInterface {
        /// Its name.
        name: String,
    },
    /// Another machine on the link has the address.
    #[error(
        "the machine with MAC {mac} answers for it: not a host of this array, or a fence failed"
    )]
    Conflict {
        /// Its MAC, as people write it.
        mac: String,
    },
    /// The gate refused.
    #[error(transparent)]
    Gate(#[from] crate::gate::GateError),
    /// The system refused.
    #[error("could not {action}: {source}")]
    System {
        /// The step that failed.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}
