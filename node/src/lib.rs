//! The daemon and the command line: everything that touches a clock, a socket, a disk or a process.
//!
//! `config` and `cli` face people, `daemon` puts the parts together, `raft` holds openraft at arm's
//! length, `transport` and `pki` talk to other hosts, `demo` runs a whole array on one machine.

pub mod admin;
pub mod api;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod found;
#[cfg(test)]
mod fuzzed;
pub mod log;
pub mod pki;
pub mod raft;
pub mod random;
pub mod transport;
pub mod traps;
pub mod warden;
