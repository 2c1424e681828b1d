//! Why a daemon did not start, and what to do.

use std::net::SocketAddr;

use crate::pki::PkiError;
use crate::raft::{OpenError, StoreError};
use crate::transport::TransportError;

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Keys or certificates.
    #[error(transparent)]
    Identity(#[from] PkiError),
    /// The configuration is another host's.
    #[error(
        "the configuration is that of host {config}, the data directory that of host {identity}; correct `name` or `data_dir`"
    )]
    Name {
        /// Name in the configuration.
        config: String,
        /// Name in the certificate.
        identity: String,
    },
    /// An address could not be bound.
    #[error(
        "cannot listen on {address}: {source}; is another daemon running there, and is the address on an interface?"
    )]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the data directory.
    #[error("cannot write {}: {source}; is the disk full or the directory another user's?", file.display())]
    File {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Raft or its store.
    #[error(transparent)]
    Raft(#[from] OpenError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Connections.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// DNS.
    #[error(transparent)]
    Dns(#[from] dns::BindError),
    /// A key that name servers which follow our zones sign with.
    #[error("[[dns.key]]: {0}")]
    DnsKey(#[from] crate::config::Complaint),
    /// A password or key of those who are told of events.
    #[error("[traps]: {0}")]
    TrapKey(crate::config::Complaint),
    /// The system gave no randomness.
    #[error("cannot draw the secret of DNS cookies: {0}; is /dev/urandom there?")]
    Random(std::io::Error),
    /// The system gave no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// There is no warden to hold service addresses.
    #[error(transparent)]
    Warden(#[from] crate::warden::child::NoWarden),
    /// There is nobody to run programs.
    #[error(transparent)]
    Runner(#[from] monitor::runner::NoRunner),
    /// Programs are to run as somebody who is not there.
    #[error("[programs] user: {0}")]
    ProgramUser(String),
    /// Whoever held the service addresses ended by itself, or did not keep up.
    #[error(
        "the warden has ended, so this host can hold no address; the log says why. Start the daemon again; the other hosts go on"
    )]
    DriverEnded,
    /// The control thread ended by itself.
    #[error(
        "the control thread ended; the log says why. Start the daemon again, and please report this"
    )]
    ControlEnded,
    /// Raft ended by itself.
    #[error(
        "Raft has stopped: {0}. Mend what it names (a full or broken disk?), then start the daemon again; the other hosts go on"
    )]
    RaftStopped(String),
}
