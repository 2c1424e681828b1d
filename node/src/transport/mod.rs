//! How hosts, joiners and the CLI talk: frames over mutual TLS 1.3, and sealed datagrams.
//!
//! `frame` is the wire format, `tls` decides who may connect, `server` accepts and serves, `pool`
//! keeps connections to the other hosts, `client` is the CLI's and the joiner's side, `seal`
//! protects heartbeats over UDP with keys of the control connections.
//!
//! Why frames of our own and not HTTP/2: one round trip per call, a size limit for each kind of
//! request before a byte is allocated, and few enough lines to read. Heartbeats and votes have a
//! connection of their own, so that they never wait behind a snapshot.
//!
//! Limits: 4 MiB a frame, 64 requests in flight on a connection, 512 connections. Revocation is
//! by host id, and it closes live connections.

mod backoff;
pub mod client;
mod connection;
mod dial;
mod error;
pub mod frame;
mod kind;
mod lane;
pub mod pool;
mod registry;
mod replay;
pub mod seal;
mod serve;
pub mod server;
mod tls;
mod writer;

#[cfg(test)]
mod tests;

pub use client::{
    CONTROL_ADDRESS_FILE, Client, ClientError, FrameStream, JoinReply, join_call,
    read_control_addresses, write_control_addresses,
};
pub use error::{FORGOTTEN, HandlerError, TransportError};
pub use kind::{Caller, Kind, RaftClass};
pub use pool::{PeerStatus, Peers, Timing};
pub use seal::{
    InstallError, MAX_PLAIN, MAX_SEALED, OpenError, Role, SealCounts, SessionKeys, SessionObserver,
    Sessions,
};
pub use server::{
    BoxFuture, Handler, STREAM_QUEUE, Server, ServerCounts, ServerLimits, StreamItems,
};
