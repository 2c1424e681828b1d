//! TLS for `https` tests: whom a certificate must be signed by, and what that costs only now and then.
//!
//! A configuration is made anew each minute for each kind of trust. So a changed file of authorities is
//! seen, and so is a certificate that ran out or was exchanged: a session is resumed within that minute
//! only, which costs a third of a whole handshake.
//!
//! Limits: the authorities of the system are those of its file, where the usual systems keep it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use control::Instant;
use host::clock::boottime_us;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::file;
use super::tcp::{bare, short};

/// A configuration serves so long, in ms.
const FRESH_MS: u64 = 60_000;
/// Longest file of authorities, in bytes: that of a system has some 200 KiB.
const MAX_FILE: u64 = 1 << 20;
/// Where systems keep the authorities that they trust: Debian and Alpine, Red Hat, others.
const SYSTEM: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

/// Whose certificates count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Those that the system trusts.
    System,
    /// Those signed by one of this file.
    File(String),
    /// Anybody's.
    Anyone,
}

impl Trust {
    /// As a policy says it.
    pub(super) fn of(ca: Option<&String>, verify: bool) -> Self {
        match (verify, ca) {
            (false, _) => Self::Anyone,
            (true, Some(file)) => Self::File(file.clone()),
            (true, None) => Self::System,
        }
    }
}

/// Configurations that are fresh.
#[derive(Debug, Default)]
pub(super) struct Configs(RefCell<BTreeMap<Trust, (Instant, Arc<ClientConfig>)>>);

impl Configs {
    /// Shakes hands with whoever is at the other end of `stream`, who must be `name`.
    pub(super) async fn connect(
        &self,
        trust: Trust,
        name: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = self.get(trust)?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`{name}` is no name that a certificate holds"))?;
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        shaken.map_err(|error| format!("no TLS: {}", bare(&error)))
    }

    fn get(&self, trust: Trust) -> Result<Arc<ClientConfig>, String> {
        let now = Instant(boottime_us());
        let mut known = self.0.borrow_mut();
        // What nobody asks for any more goes too.
        known.retain(|_, (made, _)| now.ms_since(*made) < FRESH_MS);
        if let Some((_, config)) = known.get(&trust) {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(config(&trust)?);
        known.insert(trust, (now, Arc::clone(&config)));
        Ok(config)
    }
}

fn config(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| format!("no TLS: {error}");
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anyone => Arc::new(Anyone(provider)),
        Trust::File(file) => verifier(authorities(file)?, provider)?,
        Trust::System => {
            let mut found = SYSTEM.iter().map(|file| authorities(file));
            let roots = found
                .find_map(Result::ok)
                .ok_or_else(|| format!("{} is not there: name a file with `ca`", SYSTEM[0]))?;
            verifier(roots, provider)?
        }
    };
    let builder = builder.dangerous();
    let builder = builder.with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder
        .build()
        .map_err(|error| format!("no TLS: {error}"))?;
    Ok(verifier)
}

/// The certificates of a PEM file. What of it is none that can sign others is left out, as others do.
fn authorities(file: &str) -> Result<RootCertStore, String> {
    let pem = file::read(file, MAX_FILE + 1);
    let pem = pem.map_err(|error| format!("{file}: {}", short(&error)))?;
    if pem.len() as u64 > MAX_FILE {
        return Err(format!("{file} is longer than {} MiB", MAX_FILE >> 20));
    }
    let certificates = CertificateDer::pem_slice_iter(&pem);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    match roots.is_empty() {
        true => Err(format!("{file} holds no certificate")),
        false => Ok(roots),
    }
}

/// Takes any certificate; whoever shows it must have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
