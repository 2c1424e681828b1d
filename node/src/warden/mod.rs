//! The warden: a small process of its own that holds the service addresses, and outlives its node.
//!
//! ```text
//! node (control thread) -- orders, leases --> warden -- netlink --> gate, addresses, announcements
//!                       <-- what became of them --
//! ```
//!
//! Two threads: one renews and shuts the gate, the other changes addresses and may have to wait for that.
//! No async runtime, memory locked, first in turn where allowed, the only one that may change the
//! network. It renews only what its node orders, so a node that hangs lets the lease run out; when the
//! node dies it shuts the gate, tells the voters so (`word`), and cleans up. When it dies itself, the
//! kernel ends what it held, and the node ends too.

pub mod child;
pub mod keep;
pub use host::line;
mod orders;
pub mod predecessor;
pub mod wire;
pub mod word;
