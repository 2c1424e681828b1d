//! The hands on the machine: what a host does to its own kernel, and nothing else.
//!
//! Obeys and decides nothing: `control` says what to hold, this crate holds it and tells what is
//! true. Everything blocks, so each driver runs on a thread of its own, away from the heartbeat.
//!
//! Rooms that are furnished: [`driver`] (the contract), [`loopback`] (addresses of `rais demo`),
//! [`clock`] (CLOCK_BOOTTIME). Rooms kept free for the next releases: `netlink` (addresses on real
//! interfaces), `gate` (nftables lease sets), `announce` (ARP and ND), `warden` (the child process
//! that owns these three), `probe` (test and load objects), `script` (acquire and release scripts).
//!
//! The only crate where `unsafe` may appear, and it has none: rustix covers the system calls.

pub mod clock;
pub mod driver;
pub mod loopback;
