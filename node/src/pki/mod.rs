//! Who is who: the array's certificate authority, each host's certificate, and join tokens.
//!
//! One ECDSA P-256 authority per array signs one certificate per host. P-256 and not Ed25519,
//! since browsers must accept the dashboard's certificate. A host's name in the protocol is a URI
//! in its certificate; the DNS name is the same on all, because rustls checks only DNS names.
//!
//! No X.509 parser is linked in: the issuer is rebuilt from fixed parameters and the key, and
//! peers' certificates are read by rustls-webpki, which verifies them anyway.
//!
//! Limits: one authority, never rotated (20 years); a forgotten host is refused by its id
//! (`transport::Server::close_host`), not by a revocation list.

mod authority;
mod error;
mod files;
mod identity;
mod name;
mod shown;
#[cfg(test)]
pub(crate) mod testing;
mod token;

pub use authority::{
    CA_VALID, CertificateAuthority, HOST_VALID, HostKey, IssuedCertificate, JoinProof, MAX_NAME,
};
pub use error::PkiError;
pub use files::{read_public, write_private};
pub use identity::{
    ArrayIdentity, CA_CERT_FILE, CA_KEY_FILE, Grant, HOST_CERT_FILE, HOST_KEY_FILE, IDENTITY_FILE,
};
pub use name::{CertificateName, DNS_NAME, Fingerprint};
pub use shown::Validity;
pub use token::{JoinToken, TokenError, TokenSecret, TokenSecretHash};
