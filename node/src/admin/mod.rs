//! The HTTPS API, the metrics and the dashboard: the commands' other face, behind the same door.
//!
//! HTTP says nothing that `rais` cannot say: each route is translated to one [`Request`] of the
//! command line and its answer back, so the two can't drift apart. `door` is what the API sees of
//! a daemon, `access` who may do what, `routes` the table that the OpenAPI document is tested
//! against, `serve` connections and their bounds.
//!
//! Roles: a host's certificate is admin, a local user may be let in as viewer by `rais.toml`.
//! There are no certificates for people yet.
//!
//! Limits: HTTP/1.1 only; 64 connections; no work while nobody asks.
//!
//! [`Request`]: crate::api::Request

mod access;
mod dashboard;
mod door;
mod fault;
mod front;
mod metrics;
mod policy;
mod reads;
mod reply;
mod routes;
mod serve;
mod stream;
mod writes;

#[cfg(test)]
mod tests;

pub use door::{Age, Door, Measures, Unconfirmed};
pub use front::Front;
pub use serve::{AdminServer, Listening};
