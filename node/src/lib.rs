//! node.
pub mod pki;
pub mod config;
