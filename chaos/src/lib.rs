//! A simulated array in one thread: the shipped `control::Core`, virtual time, one seed, a checker for
//! each law.
//!
//! Real are `control` and `statemachine`; modelled are clocks (each with its own drift), datagrams,
//! Raft (log, votes and commit as in the paper, elections decided by the world), disks, drivers and
//! the kernel. The kernel's gate is modelled as closing exactly at the deadline passed with the last
//! arm, since the real gate comes next: a stopped host whose lease ran out counts as silent.
//!
//! The same seed gives the same trace. Never shipped.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod checker;
mod clock;
pub mod drill;
pub mod fuzz;
mod host;
mod hunt;
mod kernel;
pub mod lab;
pub mod linear;
mod link;
mod queue;
mod quiet;
mod record;
mod reference;
mod rng;
mod setup;
mod storm;
mod tell;
mod trace;
pub mod volatile;
mod world;

pub use checker::{Breach, Law};
pub use clock::Clock;
pub use hunt::{Found, Hunt};
pub use link::{Block, MOST_HOSTS, Weather};
pub use rng::Rng;
pub use setup::Setup;
pub use storm::{Blow, Fault, Outcome, Storm, Whom, shrink};
pub use tell::{say_command, say_verdict};
pub use trace::Trace;
pub use world::World;
