//! Tests of Raft and its store, on real directories and an in-memory transport.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod cluster;
mod damage;
mod messages;
mod power;
#[cfg(feature = "seeded")]
mod seeded;
mod storage;
mod suite;
mod support;

pub(crate) use messages::examples;
