//! What a look found alive and is watched until the next one, so that its end is seen at once.

use std::os::fd::{AsRawFd, OwnedFd};

use host::address::Addresses;
use host::changes::{Changes, Topic};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process, or the link of an interface.
#[derive(Debug)]
pub enum Life {
    /// A process.
    Process {
        /// Its number.
        pid: i32,
        /// Readable when it has ended.
        end: OwnedFd,
    },
    /// An interface with carrier.
    Link {
        /// Its name.
        name: String,
        /// Its number.
        index: u32,
    },
}

impl Life {
    /// Tells lives of one object apart.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::Process { pid, .. } => pid.unsigned_abs().into(),
            Self::Link { index, .. } => (*index).into(),
        }
    }

    /// Waits for its end, and says that it came; none when it cannot be watched.
    pub async fn ended(self) -> Option<String> {
        match self {
            Self::Process { pid, end } => {
                // Readable for good once it has ended: an error means as much.
                let _ended = watched(end)?.readable().await;
                Some(format!("process {pid} has ended"))
            }
            Self::Link { name, index } => link_lost(&name, index).await,
        }
    }
}

async fn link_lost(name: &str, index: u32) -> Option<String> {
    let changes = watched(Changes::open(Topic::Link, index).ok()?)?;
    loop {
        // First of all: it may be lost already.
        let found = Addresses::open().and_then(|open| open.interface(name));
        match found.ok()? {
            None => return Some(super::interface::gone(name)),
            Some(found) if !found.carrier => return Some(super::interface::no_carrier(name)),
            Some(_) => await_change(&changes).await?,
        }
    }
}

/// Waits until something was told; none when the socket fails.
pub(super) async fn await_change(changes: &AsyncFd<Changes>) -> Option<()> {
    loop {
        let mut ready = changes.readable().await.ok()?;
        // Read to the end: what comes later is news.
        let changed = ready.get_inner().look().ok()?;
        ready.clear_ready();
        if changed {
            return Some(());
        }
    }
}

pub(super) fn watched<T: AsRawFd>(inner: T) -> Option<AsyncFd<T>> {
    #[expect(
        deprecated,
        reason = "the new name is unsafe; what is watched owns its descriptor"
    )]
    let watched = AsyncFd::with_interest(inner, Interest::READABLE);
    watched.ok()
}
