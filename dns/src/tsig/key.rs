//! Shared keys: a name, an algorithm and a secret that nobody gets to see.

use std::fmt;
use std::sync::Arc;

use hickory_proto::rr::Name;
use ring::hmac;

use crate::name::NameKey;

/// Fewest bytes of a secret: half of the shortest MAC. RFC 8945 asks for as many as the MAC has;
/// shorter ones are in use, and refusing them would only lead to no signature at all.
const MIN_SECRET: usize = 16;

/// Most bytes of a secret: more than a block of SHA-512 adds nothing.
const MAX_SECRET: usize = 512;

/// How a message is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The one that every name server has.
    HmacSha256,
    /// A longer MAC.
    HmacSha384,
    /// The longest MAC.
    HmacSha512,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Algorithm; 3] = [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512];

    /// Its name, as configurations of all name servers spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }

    /// Its name in wire form.
    pub(super) const fn wire(self) -> &'static [u8] {
        match self {
            Self::HmacSha256 => b"\x0bhmac-sha256\0",
            Self::HmacSha384 => b"\x0bhmac-sha384\0",
            Self::HmacSha512 => b"\x0bhmac-sha512\0",
        }
    }

    /// Bytes of a MAC.
    pub const fn mac_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
        }
    }

    fn ring(self) -> hmac::Algorithm {
        match self {
            Self::HmacSha256 => hmac::HMAC_SHA256,
            Self::HmacSha384 => hmac::HMAC_SHA384,
            Self::HmacSha512 => hmac::HMAC_SHA512,
        }
    }
}

/// Why a key can't be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The name is no DNS name.
    #[error("`{name}` is no name of a key: write labels of 1 to 63 characters, as in xfer-key")]
    Name {
        /// The name as given.
        name: String,
    },
    /// The secret is too short or too long.
    #[error(
        "the secret of key `{name}` has {bytes} bytes: use {MIN_SECRET} to {MAX_SECRET}, best as many as the MAC has; `tsig-keygen` and `keymgr -t` make one"
    )]
    Secret {
        /// The key's name.
        name: String,
        /// How many bytes there are.
        bytes: usize,
    },
}

/// A shared key.
pub struct Key {
    text: String,
    name: Box<[u8]>,
    algorithm: Algorithm,
    secret: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The secret stays where it is.
        write!(f, "Key({} {})", self.text, self.algorithm.as_str())
    }
}

impl Key {
    /// A key of this name, with or without its last dot.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn new(name: &str, algorithm: Algorithm, secret: &[u8]) -> Result<Key, KeyError> {
        if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) {
            return Err(KeyError::Secret {
                name: name.to_owned(),
                bytes: secret.len(),
            });
        }
        let wire = wire_name(name).ok_or_else(|| KeyError::Name {
            name: name.to_owned(),
        })?;
        Ok(Key {
            text: name.to_owned(),
            name: wire,
            algorithm,
            secret: hmac::Key::new(algorithm.ring(), secret),
        })
    }

    /// Its name as it was given.
    pub fn name(&self) -> &str {
        &self.text
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn wire(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn is(&self, name: &[u8], algorithm: &[u8]) -> bool {
        *self.name == *name && self.algorithm.wire() == algorithm
    }

    pub(super) fn hash(&self) -> hmac::Context {
        hmac::Context::with_key(&self.secret)
    }

    /// Whether `mac` is that of `signed`, or the beginning of it; compared in constant time.
    pub(super) fn verifies(&self, signed: &[u8], mac: &[u8]) -> bool {
        let own = hmac::sign(&self.secret, signed);
        let pairs = own.as_ref().iter().zip(mac);
        let differs = pairs.fold(0, |differs, (own, theirs)| differs | (own ^ theirs));
        mac.len() <= own.as_ref().len() && differs == 0
    }
}

/// A key's name in lower-cased wire form.
fn wire_name(name: &str) -> Option<Box<[u8]>> {
    let labels = name.strip_suffix('.').unwrap_or(name).split('.');
    let labels: Vec<&[u8]> = labels.map(str::as_bytes).collect();
    if !labels.iter().all(|label| (1..=63).contains(&label.len())) {
        return None;
    }
    let name = Name::from_labels(labels).ok()?;
    NameKey::of(&name).map(|key| key.wire().into())
}

/// The keys of this host.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Arc<Key>>);

impl Keys {
    /// These keys; of two with one name the first counts.
    pub fn new(keys: Vec<Key>) -> Keys {
        Keys(keys.into_iter().map(Arc::new).collect())
    }

    /// The key of this name in text.
    pub fn named(&self, name: &str) -> Option<&Arc<Key>> {
        let wire = wire_name(name)?;
        self.0.iter().find(|key| *key.name == *wire)
    }

    pub(super) fn find(&self, name: &[u8], algorithm: &[u8]) -> Option<&Arc<Key>> {
        self.0.iter().find(|key| key.is(name, algorithm))
    }
}
