//! The DNS face of the array: the zone of each group, answered from the committed state.
//!
//! ```text
//! State -> Zones::project -> swap -> parse -> answer(&Zones, &Query) -> build
//! ```
//!
//! All but [`server`] is pure: no clock, no socket, no randomness. So two nodes with one log
//! index hold one and the same zone, and a test asks `answer` a question without a network.
//!
//! Limits: no DNSSEC; UPDATE is sent, never taken, and nobody's NOTIFY is heard; no delegation, wildcard or alias: a group's zone has none.

pub mod answer;
mod compiled;
mod compose;
pub mod cookie;
mod draft;
mod exchange;
mod history;
pub mod hot;
pub mod limit;
pub mod name;
mod notify;
pub mod primary;
pub mod projection;
mod question;
pub mod serial;
pub mod server;
mod transfer;
pub mod tsig;
pub mod update;
pub mod wire;
pub mod zone;
pub mod zones;

pub use hickory_proto::rr::Record;

pub use answer::{Answer, Query, answer};
pub use limit::RateLimit;
pub use primary::{FollowedZone, Primary, Secondaries, Told};
pub use server::{BindError, Counters, DnsServer, Settings};
pub use wire::{Handled, Transport, respond};
pub use zone::{Zone, ZoneError, ZoneInput};
pub use zones::Zones;
