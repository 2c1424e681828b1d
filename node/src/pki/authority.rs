//! The array's certificate authority, host keys, and the proof a joiner sends for a certificate.
//!
//! Instead of a PKCS#10 request (which needs an X.509 parser to read) a joiner sends its public
//! key and a signature over the join token's id, the authority's fingerprint and its name: a proof
//! that it holds the key, of no use with another token, authority or name.
//!
//! `now` is an argument; only ring draws randomness, for keys and signatures.

use core::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use statemachine::{ArrayId, HostId, TokenId};

use super::PkiError;
use super::name::{CertificateName, DNS_NAME, Fingerprint};

/// Validity of an authority: 20 years. It is never rotated, so it must outlive the array.
pub const CA_VALID: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Validity of a host certificate: 2 years. Its daemon makes a new one in time ([`super::Validity::is_due`]).
pub const HOST_VALID: Duration = Duration::from_secs(2 * 365 * 24 * 3600);

/// Certificates are valid from a day before they were made: hosts' clocks may disagree.
const BACKDATE: Duration = Duration::from_secs(24 * 3600);

/// Longest host name, bytes (a DNS label).
pub const MAX_NAME: usize = 63;

/// Separates proofs from every other signature this key ever makes.
const PROOF_LABEL: &[u8] = b"rais join proof v1\0";

/// A host's private key (ECDSA P-256). Made on the host and never sent.
pub struct HostKey(KeyPair);

impl fmt::Debug for HostKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HostKey(..)")
    }
}

/// What a joiner sends to get a certificate: its public key and the proof that it holds the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinProof {
    /// P-256 point, uncompressed (65 bytes).
    pub public_key: Vec<u8>,
    /// ECDSA signature (ASN.1) over label, authority, token id and name.
    pub signature: Vec<u8>,
}

fn proof_message(authority: &Fingerprint, token: &TokenId, name: &str) -> Vec<u8> {
    [
        PROOF_LABEL,
        &authority.0,
        &token.0.to_be_bytes(),
        name.as_bytes(),
    ]
    .concat()
}

impl JoinProof {
    /// Checks that the sender holds the private key of `public_key`.
    ///
    /// # Errors
    /// [`PkiError::BadProof`] if the signature is not over these very values.
    pub fn verify(
        &self,
        authority: &Fingerprint,
        token: &TokenId,
        name: &str,
    ) -> Result<(), PkiError> {
        let algorithm = &ring::signature::ECDSA_P256_SHA256_ASN1;
        ring::signature::UnparsedPublicKey::new(algorithm, &self.public_key)
            .verify(&proof_message(authority, token, name), &self.signature)
            .map_err(|_| PkiError::BadProof)
    }
}

fn make(what: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |error| PkiError::Make {
        what,
        reason: error.to_string(),
    }
}

impl HostKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`PkiError::Make`] if the system gives no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(make("a host key"))
    }

    /// Reads a key from PEM (PKCS#8).
    ///
    /// # Errors
    /// A text for the caller to put the file's name to.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        key_from_pem(pem).map(Self)
    }

    /// The key as PEM (PKCS#8). A secret.
    pub fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key: P-256 point, uncompressed.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.public_key_raw().to_vec()
    }

    /// The proof for a join with this token under this name.
    ///
    /// # Errors
    /// [`PkiError::Make`] if the system gives no randomness.
    pub fn prove(
        &self,
        authority: &Fingerprint,
        token: &TokenId,
        name: &str,
    ) -> Result<JoinProof, PkiError> {
        let signature = self
            .0
            .sign(&proof_message(authority, token, name))
            .map_err(make("a join proof"))?;
        Ok(JoinProof {
            public_key: self.public_key(),
            signature,
        })
    }

    pub(crate) fn subject_public_key_info(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The key in the form rustls wants. A secret.
    pub(crate) fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.serialized_der().to_vec().into())
    }
}

fn key_from_pem(pem: &str) -> Result<KeyPair, String> {
    // The algorithm is fixed: a key of another kind is an error, not a choice.
    KeyPair::from_pkcs8_pem_and_sign_algo(pem, &PKCS_ECDSA_P256_SHA256)
        .map_err(|error| format!("not an ECDSA P-256 private key in PEM: {error}"))
}

/// A joiner's public key as rcgen wants it.
struct RemoteKey<'a>(&'a [u8]);

impl PublicKeyData for RemoteKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate that the authority made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// The certificate as PEM.
    pub pem: String,
    /// End of its validity, seconds since 1970.
    pub expires_unix: u64,
}

/// An array's certificate authority with its private key.
pub struct CertificateAuthority {
    array: ArrayId,
    key: KeyPair,
    der: CertificateDer<'static>,
    pem: String,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CertificateAuthority({}, key: ..)", self.fingerprint())
    }
}

impl CertificateAuthority {
    /// Makes the authority of a new array.
    ///
    /// # Errors
    /// [`PkiError::Make`] if the system gives no randomness.
    pub fn create(array: ArrayId, now: SystemTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make("the CA key"))?;
        let mut params = authority_params(array)?;
        set_validity(&mut params, key.public_key_raw(), now, CA_VALID);
        let certificate = params
            .self_signed(&key)
            .map_err(make("the CA certificate"))?;
        Ok(Self {
            array,
            key,
            der: certificate.der().clone(),
            pem: certificate.pem(),
        })
    }

    /// Reads an authority from its certificate and key, which must belong together.
    ///
    /// # Errors
    /// A text for the caller to put the file's name to.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, String> {
        let der = certificate_from_pem(certificate)?;
        let CertificateName::Authority { array } = CertificateName::of(&der)? else {
            return Err("not the certificate of an authority".to_owned());
        };
        let key = key_from_pem(key)?;
        if public_key_info(&der)? != key.subject_public_key_info() {
            return Err("the private key is not the one of the certificate".to_owned());
        }
        Ok(Self {
            array,
            key,
            der,
            pem: certificate.to_owned(),
        })
    }

    /// Makes a host's certificate for a public key whose owner has proved that it holds it
    /// ([`JoinProof::verify`]) and may join (its token).
    ///
    /// # Errors
    /// [`PkiError::BadName`] or [`PkiError::Make`].
    pub fn issue(
        &self,
        host: HostId,
        name: &str,
        public_key: &[u8],
        now: SystemTime,
    ) -> Result<IssuedCertificate, PkiError> {
        let mut params = host_params(self.array, host, name)?;
        let expires_unix = set_validity(&mut params, public_key, now, HOST_VALID);
        let issuer_params = authority_params(self.array)?;
        let issuer = Issuer::from_params(&issuer_params, &self.key);
        let certificate = params
            .signed_by(&RemoteKey(public_key), &issuer)
            .map_err(make("a host certificate"))?;
        Ok(IssuedCertificate {
            pem: certificate.pem(),
            expires_unix,
        })
    }

    /// The array this is the authority of.
    pub fn array(&self) -> ArrayId {
        self.array
    }

    /// SHA-256 of the certificate's DER.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.der)
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The private key as PEM. A secret: it may only go to a joiner that was admitted, over TLS.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

/// The certificate in a PEM text.
pub(crate) fn certificate_from_pem(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("not a certificate in PEM: {error}"))
}

/// The SubjectPublicKeyInfo of a certificate, DER.
pub(crate) fn public_key_info(der: &CertificateDer<'_>) -> Result<Vec<u8>, String> {
    let parsed = webpki::EndEntityCert::try_from(der)
        .map_err(|error| format!("not a certificate: {error}"))?;
    Ok(parsed.subject_public_key_info().to_vec())
}

/// Sets the validity and the serial number; returns the end in seconds since 1970.
///
/// The serial number is a hash of the key and the end of the validity: unique as RFC 5280 wants
/// it, since the same key is certified again only for a later end, and without randomness.
fn set_validity(
    params: &mut CertificateParams,
    public_key: &[u8],
    now: SystemTime,
    valid: Duration,
) -> u64 {
    let end = now + valid;
    // Verifiers know no time before 1970, where a clock without a battery may stand.
    params.not_before = (now - BACKDATE).max(UNIX_EPOCH).into();
    params.not_after = end.into();
    let end_unix = end
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| age.as_secs());
    let mut serial = Fingerprint::of(&[public_key, &end_unix.to_be_bytes()].concat()).0;
    // Positive and of full length (RFC 5280 section 4.1.2.2: at most 20 bytes).
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial[..16]));
    end_unix
}

fn uri_name(name: CertificateName) -> Result<SanType, PkiError> {
    Ok(SanType::URI(
        name.uri().try_into().map_err(make("a certificate's URI"))?,
    ))
}

/// All that the issuer of a certificate must know: fixed by the array id, so that it need not be
/// read back from the CA certificate.
fn authority_params(array: ArrayId) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        DnValue::Utf8String(format!("rais array {array}")),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.subject_alt_names = vec![uri_name(CertificateName::Authority { array })?];
    Ok(params)
}

fn host_params(array: ArrayId, host: HostId, name: &str) -> Result<CertificateParams, PkiError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(PkiError::BadName {
            name: name.to_owned(),
        });
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, DnValue::Utf8String(name.to_owned()));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names = vec![
        SanType::DnsName(
            DNS_NAME
                .try_into()
                .map_err(make("a certificate's DNS name"))?,
        ),
        uri_name(CertificateName::Host { array, host })?,
    ];
    Ok(params)
}
