//! The service monitor: is each service on this host well, and how much is it used?
//!
//! ```text
//! state -> follow -> judge -- runs due --> probes (sockets, procfs, netlink)
//!                    judge <-- outcomes --
//!                    judge -- verdict of each group --> control -> heartbeat
//! ```
//!
//! [`judge`] is pure: what is due when, what counts, who is well. [`probe`] does the looking, and
//! [`watch`] puts both on a thread of their own, which gives way to every other: a test that is late
//! costs little, a heartbeat that is late costs a lease. [`runner`] is the process that runs programs.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod judge;
pub mod probe;
pub mod runner;
pub mod watch;
