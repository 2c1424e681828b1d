//! Why an identity could not be made, read or written.
//!
//! Each message names the file and what to do, since an operator reads it on a terminal.

use std::path::PathBuf;

use statemachine::HostId;

/// A failure of the host's identity on disk or of a certificate operation.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the identity does not exist.
    #[error("{}: no such file; this data dir is not initialised: run `rais init` or `rais join`", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },

    /// An identity is there already and would have been overwritten.
    #[error("{}: this data dir already holds an identity; choose another --data-dir", path.display())]
    AlreadyInitialised {
        /// The file that was found.
        path: PathBuf,
    },

    /// A secret can be read by others than its owner.
    #[error("{}: mode {mode:04o} lets others read a secret; run `chmod {wanted:04o} {}`", path.display(), path.display())]
    Mode {
        /// The file or directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have.
        wanted: u32,
    },

    /// The operating system refused to read or write.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },

    /// The content of a file is not what it should be.
    #[error("{}: {reason}; restore the file from a backup, or `rais forget` this host and join it anew", path.display())]
    Unparsable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// The certificate belongs to another host than `identity.toml` says.
    #[error("{}: certificate of host {}, but identity.toml says host {}; the files are of two hosts: restore them from one backup", path.display(), certificate, identity)]
    HostMismatch {
        /// The certificate's file.
        path: PathBuf,
        /// The host in the certificate.
        certificate: HostId,
        /// The host in `identity.toml`.
        identity: HostId,
    },

    /// The certificate belongs to another array than `identity.toml` says.
    #[error("{}: certificate of array {certificate}, but identity.toml says array {identity}; the files are of two arrays: restore them from one backup", path.display())]
    ArrayMismatch {
        /// The certificate's file.
        path: PathBuf,
        /// The array in the certificate, in hex.
        certificate: String,
        /// The array in `identity.toml`, in hex.
        identity: String,
    },

    /// The private key is not the one of the certificate.
    #[error("{}: does not match {certificate}; restore both files from one backup", path.display())]
    KeyMismatch {
        /// The key's file.
        path: PathBuf,
        /// The certificate's file name.
        certificate: &'static str,
    },

    /// The authority that was received is not the one the join token names.
    #[error(
        "the array's certificate authority is {found}, the join token names {expected}; the token is of another array, or the peer is not what it says: ask for a new token"
    )]
    WrongAuthority {
        /// Fingerprint of the authority received, in hex.
        found: String,
        /// Fingerprint in the token, in hex.
        expected: String,
    },

    /// A joiner did not prove that it holds the private key.
    #[error("join proof does not verify: the joiner does not hold the key it presents")]
    BadProof,

    /// A host name can't stand in a certificate.
    #[error(
        "host name {name:?} is empty, longer than 63 bytes or has control characters; choose another --name"
    )]
    BadName {
        /// The name.
        name: String,
    },

    /// A key or certificate could not be made.
    #[error("cannot make {what}: {reason}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// The library's reason.
        reason: String,
    },
}
