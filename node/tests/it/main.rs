//! Tests of the daemon's parts through their public doors, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod store_kill;
