//! The kernel part on real interfaces: two network namespaces on one wire, real packets, and what
//! the client sees of them.
//!
//! Where there is no root, or `ip` or `nft` is missing, each test says SKIPPED and why.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_methods)]

mod changes;
mod driver;
mod gate;
mod link;
mod neighbours;
mod netns;
mod observer;
mod place;
mod restarted;
mod stopped;
