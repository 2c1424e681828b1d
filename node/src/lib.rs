//! node.
pub mod pki;
