//! This host's identity on disk: who it is, in which array, and the keys that prove it.
//!
//! `identity.toml` is written last, so its presence says that the set is complete. A renewal keeps
//! the host's key, so no crash leaves a key without its certificate.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use statemachine::{ArrayId, HostId};

use super::authority::{CertificateAuthority, HostKey, certificate_from_pem, public_key_info};
use super::files::{check_dir, prepare_dir, read_private, unparsable, write_private};
use super::name::{CertificateName, Fingerprint, parse_array_hex};
use super::shown::{Certificate, Shown, Validity};
use super::{IssuedCertificate, PkiError};

/// The authority's certificate.
pub const CA_CERT_FILE: &str = "ca.pem";
/// The authority's private key.
pub const CA_KEY_FILE: &str = "ca.key";
/// This host's certificate.
pub const HOST_CERT_FILE: &str = "host.pem";
/// This host's private key.
pub const HOST_KEY_FILE: &str = "host.key";
/// Array id, host id, host name.
pub const IDENTITY_FILE: &str = "identity.toml";

/// The layout of `identity.toml` that this version writes and reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityToml {
    format: u32,
    array: String,
    host: u64,
    name: String,
    /// For people: what counts stands in `host.pem`.
    expires_unix: u64,
}

/// What a leader sends to a joiner that it has admitted.
///
/// It holds the authority's private key: every member host keeps it, so that whichever host is
/// leader can admit the next one. Hence a stolen disk of one host can admit hosts to the array;
/// the remedy is a new array. It goes only over TLS, and its `Debug` shows no key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The id given to the joiner.
    pub host: u64,
    /// The joiner's name as the log has it.
    pub name: String,
    /// The authority's certificate.
    pub ca_pem: String,
    /// The authority's private key. A secret.
    pub ca_key_pem: String,
    /// The joiner's certificate.
    pub host_pem: String,
    /// End of the certificate's validity, seconds since 1970.
    pub expires_unix: u64,
}

impl core::fmt::Debug for Grant {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            out,
            "Grant {{ host: {}, name: {:?}, keys: .. }}",
            self.host, self.name
        )
    }
}

/// This host's place in its array, with the keys that prove it.
///
/// Every member host holds the authority's key too (see [`Grant`]).
#[derive(Debug)]
pub struct ArrayIdentity {
    authority: CertificateAuthority,
    host: HostId,
    name: String,
    key: HostKey,
    shown: Arc<Shown>,
    /// Held while files are replaced.
    renewing: Mutex<()>,
}

impl ArrayIdentity {
    /// The identity of the first host of a new array.
    ///
    /// # Errors
    /// [`PkiError::BadName`] or [`PkiError::Make`].
    pub fn found(
        array: ArrayId,
        host: HostId,
        name: &str,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        let authority = CertificateAuthority::create(array, now)?;
        let key = HostKey::generate()?;
        let issued = authority.issue(host, name, &key.public_key(), now)?;
        let place = Path::new("new array");
        Self::assemble(place, authority, host, name, issued.pem, key)
    }

    /// The identity of a joiner from what the leader granted and the key it made itself.
    ///
    /// # Errors
    /// [`PkiError::WrongAuthority`] if the authority is not the one that the token named; else
    /// what [`Self::load`] says of files.
    pub fn from_grant(
        grant: &Grant,
        key: HostKey,
        expected: &Fingerprint,
    ) -> Result<Self, PkiError> {
        let place = Path::new("join reply");
        let authority = CertificateAuthority::from_pem(&grant.ca_pem, &grant.ca_key_pem)
            .map_err(|reason| unparsable(&place.join(CA_CERT_FILE), reason))?;
        if authority.fingerprint() != *expected {
            return Err(PkiError::WrongAuthority {
                found: authority.fingerprint().to_string(),
                expected: expected.to_string(),
            });
        }
        let (host, pem) = (HostId(grant.host), grant.host_pem.clone());
        Self::assemble(place, authority, host, &grant.name, pem, key)
    }

    /// What to send to a joiner for which `issued` was made.
    pub fn grant(&self, host: HostId, name: &str, issued: IssuedCertificate) -> Grant {
        Grant {
            host: host.0,
            name: name.to_owned(),
            ca_pem: self.authority.pem().to_owned(),
            ca_key_pem: self.authority.key_pem(),
            host_pem: issued.pem,
            expires_unix: issued.expires_unix,
        }
    }

    /// Makes a new certificate for the same host and key, writes it to `dir`, and shows it in every
    /// handshake from then on, with the TLS configurations that there are.
    ///
    /// # Errors
    /// [`PkiError::Make`] or [`PkiError::Io`]; the old one stays in use.
    pub fn renew(&self, dir: &Path, now: SystemTime) -> Result<Validity, PkiError> {
        let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let public_key = self.key.public_key();
        let issued = self
            .authority
            .issue(self.host, &self.name, &public_key, now)?;
        let made = check(dir, &self.authority, self.host, &self.key, issued.pem)?;
        write_private(dir, HOST_CERT_FILE, made.pem.as_bytes())?;
        let validity = made.validity;
        self.shown.replace(made);
        // The date there is for people, and the certificate is in use.
        if let Err(error) = self.save_identity(dir, validity) {
            tracing::warn!(%error, "the date of the new certificate is not noted");
        }
        Ok(validity)
    }

    /// Puts the parts together and checks that they belong together. `dir` is for messages.
    fn assemble(
        dir: &Path,
        authority: CertificateAuthority,
        host: HostId,
        name: &str,
        pem: String,
        key: HostKey,
    ) -> Result<Self, PkiError> {
        let certificate = check(dir, &authority, host, &key, pem)?;
        Ok(Self {
            authority,
            host,
            name: name.to_owned(),
            key,
            shown: Arc::new(Shown::new(certificate)),
            renewing: Mutex::new(()),
        })
    }

    /// Is there an identity in this data dir?
    pub fn exists(dir: &Path) -> bool {
        dir.join(IDENTITY_FILE).exists()
    }

    /// Writes the identity of a new host; refuses to overwrite one.
    ///
    /// # Errors
    /// [`PkiError::AlreadyInitialised`] or [`PkiError::Io`].
    pub fn save_new(&self, dir: &Path) -> Result<(), PkiError> {
        let path = dir.join(IDENTITY_FILE);
        if path.exists() {
            return Err(PkiError::AlreadyInitialised { path });
        }
        self.save(dir)
    }

    /// Writes all files; each is replaced as a whole and is durable when this returns.
    ///
    /// # Errors
    /// [`PkiError::Io`] naming the file.
    pub fn save(&self, dir: &Path) -> Result<(), PkiError> {
        prepare_dir(dir)?;
        write_private(dir, CA_KEY_FILE, self.authority.key_pem().as_bytes())?;
        write_private(dir, CA_CERT_FILE, self.authority.pem().as_bytes())?;
        write_private(dir, HOST_KEY_FILE, self.key.pem().as_bytes())?;
        let certificate = self.shown.now();
        write_private(dir, HOST_CERT_FILE, certificate.pem.as_bytes())?;
        self.save_identity(dir, certificate.validity)
    }

    /// Last of all files: where it is, all are.
    fn save_identity(&self, dir: &Path, validity: Validity) -> Result<(), PkiError> {
        let identity = toml::to_string(&IdentityToml {
            format: FORMAT,
            array: self.array().to_string(),
            host: self.host.0,
            name: self.name.clone(),
            expires_unix: validity.until,
        })
        .map_err(|error| PkiError::Make {
            what: IDENTITY_FILE,
            reason: error.to_string(),
        })?;
        write_private(dir, IDENTITY_FILE, identity.as_bytes())
    }

    /// Reads the identity of this host and checks that its files belong together.
    ///
    /// # Errors
    /// Each names the file and the remedy: [`PkiError::Missing`], [`PkiError::Mode`],
    /// [`PkiError::Unparsable`], [`PkiError::HostMismatch`], [`PkiError::ArrayMismatch`],
    /// [`PkiError::KeyMismatch`], [`PkiError::Io`].
    pub fn load(dir: &Path) -> Result<Self, PkiError> {
        check_dir(dir)?;
        let path = dir.join(IDENTITY_FILE);
        let identity: IdentityToml = toml::from_str(&read_private(&path)?)
            .map_err(|error| unparsable(&path, error.message().to_owned()))?;
        if identity.format != FORMAT {
            let reason = format!(
                "format {} is not {FORMAT}: written by another version",
                identity.format
            );
            return Err(unparsable(&path, reason));
        }
        let array = parse_array_hex(&identity.array)
            .ok_or_else(|| unparsable(&path, "array is not 32 lower-case hex digits"))?;

        let ca_path = dir.join(CA_CERT_FILE);
        let ca_pem = read_private(&ca_path)?;
        let ca_key_pem = read_private(&dir.join(CA_KEY_FILE))?;
        let authority = CertificateAuthority::from_pem(&ca_pem, &ca_key_pem)
            .map_err(|reason| unparsable(&ca_path, reason))?;
        if authority.array() != array {
            return Err(PkiError::ArrayMismatch {
                path: ca_path,
                certificate: authority.array().to_string(),
                identity: identity.array,
            });
        }

        let pem = read_private(&dir.join(HOST_CERT_FILE))?;
        let key_path = dir.join(HOST_KEY_FILE);
        let key = HostKey::from_pem(&read_private(&key_path)?)
            .map_err(|reason| unparsable(&key_path, reason))?;
        let host = HostId(identity.host);
        Self::assemble(dir, authority, host, &identity.name, pem, key)
    }

    /// The array.
    pub fn array(&self) -> ArrayId {
        self.authority.array()
    }

    /// This host.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// This host's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The array's authority.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.authority
    }

    /// When this host's certificate is good.
    pub fn validity(&self) -> Validity {
        self.shown.now().validity
    }

    /// Shows this host's certificate of the moment; for TLS configurations.
    pub(crate) fn shown(&self) -> Arc<Shown> {
        Arc::clone(&self.shown)
    }

    /// Certificate chain (host, authority), as it is shown now. The authority is sent so that a joiner can
    /// compare it with its token.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.shown.now().certified.cert.clone()
    }

    /// This host's private key for TLS. A secret.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        self.key.to_rustls()
    }
}

/// A host's certificate, if it is of this authority, host and key. `dir` is for messages.
fn check(
    dir: &Path,
    authority: &CertificateAuthority,
    host: HostId,
    key: &HostKey,
    pem: String,
) -> Result<Certificate, PkiError> {
    let path = dir.join(HOST_CERT_FILE);
    let wrong = |reason: String| unparsable(&path, reason);
    let der = certificate_from_pem(&pem).map_err(wrong)?;
    match CertificateName::of(&der).map_err(wrong)? {
        CertificateName::Authority { .. } => {
            let reason = "this is an authority's certificate, not a host's";
            return Err(unparsable(&path, reason));
        }
        CertificateName::Host { array, .. } if array != authority.array() => {
            return Err(PkiError::ArrayMismatch {
                path,
                certificate: array.to_string(),
                identity: authority.array().to_string(),
            });
        }
        CertificateName::Host {
            host: certified, ..
        } if certified != host => {
            return Err(PkiError::HostMismatch {
                path,
                certificate: certified,
                identity: host,
            });
        }
        CertificateName::Host { .. } => {}
    }
    if public_key_info(&der).map_err(wrong)? != key.subject_public_key_info() {
        let path = dir.join(HOST_KEY_FILE);
        return Err(PkiError::KeyMismatch {
            path,
            certificate: HOST_CERT_FILE,
        });
    }
    let validity = Validity::of(&der).map_err(wrong)?;
    let signing = rustls::crypto::ring::sign::any_ecdsa_type(&key.to_rustls());
    let signing = signing.map_err(|error| wrong(error.to_string()))?;
    let chain = vec![der, authority.der().clone()];
    Ok(Certificate {
        pem,
        validity,
        certified: Arc::new(CertifiedKey::new(chain, signing)),
    })
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
