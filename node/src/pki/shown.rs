//! The certificate that this host shows in handshakes, and when it is good.
//!
//! TLS configurations hold [`Shown`] and no certificate, so a renewal is one swap: whoever shakes hands
//! from then on sees the new one, and open connections go on.
//!
//! Its dates are asked of the verifier of rustls, at both ends of time: what counts is what peers
//! read there, and no X.509 parser is linked in.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// When a certificate is good, in seconds since 1970 on the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From then on.
    pub from: u64,
    /// Until then.
    pub until: u64,
}

impl Validity {
    /// The dates in a certificate. Verifies nothing else of it.
    ///
    /// # Errors
    /// A text that says what is wrong with it.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|error| format!("not a certificate: {error}"))?;
        // The dates are looked at first, so nobody needs to be trusted.
        let refusal = |secs| {
            let (time, usage) = (Duration::from_secs(secs), webpki::KeyUsage::client_auth());
            let time = UnixTime::since_unix_epoch(time);
            let verified = parsed.verify_for_usage(&[], &[], &[], time, usage, None, None);
            verified.err()
        };
        let from = match refusal(0) {
            Some(webpki::Error::CertNotValidYet { not_before, .. }) => not_before.as_secs(),
            _ => 0,
        };
        match refusal(u64::MAX) {
            Some(webpki::Error::CertExpired { not_after, .. }) => Ok(Self {
                from,
                until: not_after.as_secs(),
            }),
            _ => Err("certificate has no dates that can be read".to_owned()),
        }
    }

    /// From when on a new one is made: when a third of its time is left.
    #[must_use]
    pub fn renewed(self) -> u64 {
        self.until - self.until.saturating_sub(self.from) / 3
    }

    /// Whether it is good.
    #[must_use]
    pub fn is_good(self, now: SystemTime) -> bool {
        (self.from..=self.until).contains(&seconds(now))
    }

    /// Whether it is time for a new one. It also is while this one is not good yet, because the wall clock
    /// was ahead when it was made.
    #[must_use]
    pub fn is_due(self, now: SystemTime) -> bool {
        !(self.from..self.renewed()).contains(&seconds(now))
    }
}

/// Since 1970; before that there is nothing.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// A host's certificate with all that a handshake needs.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) pem: String,
    pub(super) validity: Validity,
    pub(super) certified: Arc<CertifiedKey>,
}

/// The certificate that is shown now.
#[derive(Debug)]
pub(crate) struct Shown(ArcSwap<Certificate>);

impl Shown {
    pub(super) fn new(certificate: Certificate) -> Self {
        Self(ArcSwap::from_pointee(certificate))
    }

    pub(super) fn now(&self) -> Arc<Certificate> {
        self.0.load_full()
    }

    pub(super) fn replace(&self, certificate: Certificate) {
        self.0.store(Arc::new(certificate));
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now().certified))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.now().certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}
