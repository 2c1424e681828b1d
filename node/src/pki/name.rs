//! Names inside certificates: the fixed DNS name and the URI that says which host this is.

use core::fmt;

use rustls::pki_types::CertificateDer;
use statemachine::{ArrayId, HostId};

/// The DNS name on every host certificate. It resolves nowhere; rustls wants one to check.
pub const DNS_NAME: &str = "rais.internal";

/// Start of every URI name: trust domain `rais`.
const URI_PREFIX: &str = "spiffe://rais/";

/// Bytes of an array id in hex.
const ARRAY_HEX: usize = 32;

/// Lower-case hex of any bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Parses 32 lower-case hex digits; upper case is refused so that each array has one spelling.
pub(crate) fn parse_array_hex(text: &str) -> Option<ArrayId> {
    let digits = text.as_bytes();
    if digits.len() != ARRAY_HEX {
        return None;
    }
    let mut id = [0u8; ARRAY_HEX / 2];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(ArrayId(id))
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// SHA-256 of a certificate's DER. A join token carries the authority's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Fingerprint({self})")
    }
}

/// What the URI in a certificate of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateName {
    /// The array's certificate authority.
    Authority {
        /// Whose authority.
        array: ArrayId,
    },
    /// One host of an array.
    Host {
        /// The array.
        array: ArrayId,
        /// The host.
        host: HostId,
    },
}

impl CertificateName {
    /// The URI: `spiffe://rais/<array hex>` with `/ca` or `/host/<id>`.
    pub fn uri(&self) -> String {
        match self {
            Self::Authority { array } => format!("{URI_PREFIX}{array}/ca"),
            Self::Host { array, host } => format!("{URI_PREFIX}{array}/host/{host}"),
        }
    }

    /// Reads the only spelling that [`Self::uri`] writes; `None` for anything else.
    pub fn parse(uri: &str) -> Option<Self> {
        let (array, rest) = uri.strip_prefix(URI_PREFIX)?.split_once('/')?;
        let array = parse_array_hex(array)?;
        let name = match rest.strip_prefix("host/") {
            Some(id) => Self::Host {
                array,
                host: HostId(id.parse().ok()?),
            },
            None if rest == "ca" => Self::Authority { array },
            None => return None,
        };
        // One spelling per name: no leading zeros, no plus sign.
        (name.uri() == uri).then_some(name)
    }

    /// The name in a certificate. Does not verify the certificate.
    ///
    /// # Errors
    /// A text that says what is wrong: not a certificate, no URI of ours, more than one.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        let parsed = webpki::EndEntityCert::try_from(certificate)
            .map_err(|error| format!("not a certificate: {error}"))?;
        let mut names = parsed.valid_uri_names().filter_map(Self::parse);
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            (None, _) => Err("certificate has no rais name".to_owned()),
            (Some(_), Some(_)) => Err("certificate has more than one rais name".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Goal: exactly one spelling of each name is accepted.
    /// Method: round trips, then near misses.
    #[test]
    fn names_have_one_spelling() {
        let array = ArrayId([0xab; 16]);
        for name in [
            CertificateName::Authority { array },
            CertificateName::Host {
                array,
                host: HostId(u64::MAX),
            },
        ] {
            assert_eq!(CertificateName::parse(&name.uri()), Some(name));
        }
        let hex = array.to_string();
        for wrong in [
            format!("spiffe://rais/{hex}"),
            format!("spiffe://rais/{hex}/host/"),
            format!("spiffe://rais/{hex}/host/01"),
            format!("spiffe://rais/{hex}/host/+1"),
            format!("spiffe://rais/{hex}/host/1/"),
            format!("spiffe://rais/{}/host/1", hex.to_uppercase()),
            format!("spiffe://rais/{hex}/ca/"),
            format!("spiffe://other/{hex}/ca"),
        ] {
            assert_eq!(CertificateName::parse(&wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        /// Goal: reading a name never panics. Method: random text with our prefix.
        #[test]
        fn any_text_is_parsed_without_panic(tail in ".{0,80}") {
            let _ = CertificateName::parse(&tail);
            let _ = CertificateName::parse(&format!("{URI_PREFIX}{tail}"));
        }
    }
}
