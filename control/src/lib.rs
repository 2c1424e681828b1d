//! What a host does with what it knows: heartbeats, leases, suspicion, placement, plans, its own work.
//!
//! Pure: `now` is an argument, so a simulated hour costs microseconds. The only way in is
//! [`Core::step`], the only way out its outputs; both are closed enums, so the simulator can hold
//! both ends. What is decided here may change with each release: the log holds only outcomes.
//!
//! Absences: no clock, no socket, no thread, no randomness (a lot is drawn from `dice`, an argument).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod agent;
mod clients;
mod core;
mod currency;
mod event;
mod facts;
mod fence;
mod heartbeat;
mod holes;
mod lease;
mod lot;
mod pace;
mod placement;
mod plan;
mod promise;
mod resort;
mod time;
mod view;
mod why;
mod zone;

pub use agent::{Agent, HostAction, HostEvent, LocalGroup, Took};
pub use clients::{Client, ClientList};
pub use core::Core;
pub use event::{EntryId, Event, LogMark, Output, RaftStatus};
pub use fence::Fences;
pub use heartbeat::{GroupReport, Heartbeat, HeldPhase, HeldReport, MAX_WHY, Message, Report, Vow};
pub use lease::Lease;
pub use placement::{Candidate, Placed, Verdict, place};
pub use plan::{Plan, Step, plan};
pub use promise::Promises;
pub use resort::Orders;
pub use time::Instant;
pub use view::{Seen, View};
pub use why::{Why, why};
pub use zone::{Weighted, ZoneEntry, ZoneJudgement, ZoneVerdict, judge_zone, weigh};
