//! node.
pub mod pki;
pub mod raft;
pub mod config;
pub mod api;
pub mod cli;
