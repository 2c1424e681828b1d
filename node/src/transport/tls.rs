//! Who may connect: TLS 1.3 with the array's certificates on both sides, and joiners without one.
//!
//! rustls checks chain, validity and DNS name; the URI (array and host) is ours to compare. There
//! is no session resumption and no early data: a resumed session would skip the certificate, and
//! with it the revocation.
//!
//! A joiner has no authority to trust yet. It takes the one in the server's chain whose SHA-256 is
//! in its token, and verifies the server with that.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName,
    RootCertStore, ServerConfig, SignatureScheme,
};
use statemachine::{ArrayId, HostId};

use super::{FORGOTTEN, TransportError};
use crate::pki::{ArrayIdentity, CertificateName, DNS_NAME, Fingerprint};

/// Name of the protocol in the TLS handshake, so that no other service is taken for rais.
const ALPN: &[u8] = b"rais/1";
/// The same for the admin API, whose clients are browsers and scrapers.
const HTTP_ALPN: &[u8] = b"http/1.1";

/// Hosts that were forgotten: their certificates are valid for years, but refused from then on.
#[derive(Debug, Default)]
pub(super) struct Revoked(RwLock<BTreeSet<HostId>>);

impl Revoked {
    pub(super) fn insert(&self, host: HostId) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(host);
    }

    pub(super) fn contains(&self, host: HostId) -> bool {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&host)
    }
}

fn tls_error(error: impl core::fmt::Display) -> TransportError {
    TransportError::Tls(error.to_string())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn roots(identity: &ArrayIdentity) -> Result<Arc<RootCertStore>, TransportError> {
    let mut roots = RootCertStore::empty();
    roots
        .add(identity.authority().der().clone())
        .map_err(tls_error)?;
    Ok(Arc::new(roots))
}

/// The name that every host's certificate carries.
pub(super) fn server_name() -> Result<ServerName<'static>, TransportError> {
    ServerName::try_from(DNS_NAME).map_err(tls_error)
}

/// How this host accepts connections of hosts and joiners.
pub(super) fn server_config(
    identity: &ArrayIdentity,
    revoked: Arc<Revoked>,
) -> Result<Arc<ServerConfig>, TransportError> {
    accepting(identity, revoked, ALPN)
}

/// How this host accepts connections to its admin API.
pub(super) fn https_config(
    identity: &ArrayIdentity,
    revoked: Arc<Revoked>,
) -> Result<Arc<ServerConfig>, TransportError> {
    accepting(identity, revoked, HTTP_ALPN)
}

fn accepting(
    identity: &ArrayIdentity,
    revoked: Arc<Revoked>,
    protocol: &[u8],
) -> Result<Arc<ServerConfig>, TransportError> {
    let provider = provider();
    let inner =
        WebPkiClientVerifier::builder_with_provider(roots(identity)?, Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(tls_error)?;
    let verifier = ArrayClientVerifier {
        inner,
        array: identity.array(),
        revoked,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(identity.shown());
    config.alpn_protocols = vec![protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How this host calls others of its array.
pub(super) fn client_config(identity: &ArrayIdentity) -> Result<Arc<ClientConfig>, TransportError> {
    let provider = provider();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(roots(identity)?, Arc::clone(&provider))
            .build()
            .map_err(tls_error)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(identity.shown());
    Ok(finish_client(config))
}

/// How a joiner calls a host of the array that its token names.
pub(super) fn joiner_config(
    authority: Fingerprint,
) -> Result<(Arc<ClientConfig>, Arc<TokenVerifier>), TransportError> {
    let provider = provider();
    let verifier = Arc::new(TokenVerifier {
        authority,
        provider: Arc::clone(&provider),
        seen: Mutex::new(None),
    });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls_error)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
        .with_no_client_auth();
    Ok((finish_client(config), verifier))
}

fn finish_client(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}

/// The array and host in the certificate that the peer has proved to own.
pub(super) fn peer_host(certificates: Option<&[CertificateDer<'_>]>) -> Option<(ArrayId, HostId)> {
    match CertificateName::of(certificates?.first()?) {
        Ok(CertificateName::Host { array, host }) => Some((array, host)),
        Ok(CertificateName::Authority { .. }) | Err(_) => None,
    }
}

/// Stands in every reason that is about our own certificate.
pub(super) const TURNED_AWAY: &str = "it refuses our certificate";
/// Stands in every reason that is about the dates of the other's.
pub(super) const NOT_NOW: &str = "its certificate is not valid now";

/// Says in our words why a handshake or a first read failed.
pub(super) fn explain(error: &io::Error) -> String {
    let Some(tls) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    else {
        return error.to_string();
    };
    let words = match tls {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is of another array's authority"
            }
            CertificateError::ApplicationVerificationFailure => {
                "its certificate names another array, another authority, or no host"
            }
            CertificateError::Revoked => "its host was forgotten",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate is not valid now: expired; compare the clocks, and see its log: a daemon renews its own in time"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid now, but later; compare the clocks"
            }
            _ => return tls.to_string(),
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "it refuses our certificate: it is of another array"
            }
            AlertDescription::AccessDenied => "it refuses our certificate: not a host of its array",
            AlertDescription::CertificateRevoked => {
                return format!(
                    "it refuses our certificate: {FORGOTTEN}; stop this daemon, and join anew with an empty data dir"
                );
            }
            AlertDescription::CertificateExpired => {
                "it refuses our certificate: not valid by its clock; compare the clocks, and see `rais cert show`"
            }
            AlertDescription::NoApplicationProtocol => "it is no rais daemon",
            _ => return tls.to_string(),
        },
        rustls::Error::NoApplicationProtocol => "it speaks TLS, but is no rais",
        _ => return tls.to_string(),
    };
    words.to_owned()
}

/// Accepts certificates of this array's living hosts, and callers without any.
#[derive(Debug)]
struct ArrayClientVerifier {
    inner: Arc<dyn ClientCertVerifier>,
    array: ArrayId,
    revoked: Arc<Revoked>,
}

impl ClientCertVerifier for ArrayClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hint: a host of another array shall show its certificate and be told, and not be
        // taken for a joiner.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        match CertificateName::of(end_entity) {
            Ok(CertificateName::Host { array, host }) if array == self.array => {
                if self.revoked.contains(host) {
                    return Err(CertificateError::Revoked.into());
                }
                Ok(verified)
            }
            _ => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts the authority whose fingerprint is in the join token, if the server shows it.
#[derive(Debug)]
pub(super) struct TokenVerifier {
    authority: Fingerprint,
    provider: Arc<CryptoProvider>,
    /// The fingerprint of the last certificate shown, for the message when it does not fit.
    seen: Mutex<Option<Fingerprint>>,
}

impl TokenVerifier {
    /// The authority that the server showed instead of the token's, if that was what failed.
    pub(super) fn other_authority(&self) -> Option<Fingerprint> {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for TokenVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trusted = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == self.authority);
        let Some(trusted) = trusted else {
            let shown = intermediates.last().unwrap_or(end_entity);
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(Fingerprint::of(shown));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
