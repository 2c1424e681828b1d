//! The hands on the machine: what a host does to its own kernel, and nothing else.
//!
//! Obeys and decides nothing: `control` says what to hold, this crate holds it and tells what is
//! true. Everything blocks, so each driver runs on a thread of its own, away from the heartbeat.
//!
//! Rooms that are furnished: [`driver`] (the contract), [`loopback`] (addresses of `rais demo`),
//! [`clock`] (CLOCK_BOOTTIME), [`gate`] (nftables lease sets), [`address`] (addresses on interfaces),
//! [`announce`] (ARP and ND), [`claims`] (who else says he has one), [`packet`] (raw frames),
//! [`connections`] and [`tickle`] (TCP that must end), and [`netlink_driver`], which puts these
//! together. Who runs it for real interfaces is the warden, in `node`. [`steady`] keeps that at work.
//!
//! The only crate where `unsafe` may appear: in [`packet`] and [`steady`]. rustix covers the rest.

pub mod address;
pub mod announce;
pub mod changes;
pub mod claims;
pub mod clock;
pub mod connections;
pub mod driver;
pub mod gate;
pub mod line;
pub mod loopback;
pub mod neighbours;
mod netlink;
pub mod netlink_driver;
pub mod packet;
pub mod refusing;
pub mod steady;
pub mod tickle;
