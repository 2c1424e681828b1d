//! node.
pub mod api;
pub mod cli;
pub mod config;
pub mod pki;
