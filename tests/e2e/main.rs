//! End to end: the real binary, only through its public doors (command line, DNS, HTTP, control port,
//! signals, files of the data directory).
//!
//! Each array has ports and a directory of its own; `array.rs` says how. Build `rais` first:
//! `cargo build -p rais` (`tests/run` does).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod admin;
mod array;
mod ask;
mod certificate;
mod crash;
mod disk;
mod follow;
mod group;
mod intruder;
mod json;
mod life;
mod limits;
mod linear;
mod many;
mod monitor;
mod operator;
mod orphan;
mod push;
mod refuse;
mod reload;
mod timing;
mod traps;
mod why;
mod zone;
