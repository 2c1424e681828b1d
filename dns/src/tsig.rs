//! Signatures of messages with a shared key (TSIG, RFC 8945), for requests, replies and streams.
//!
//! Of our own, on `ring`'s HMAC: hickory's needs its whole DNSSEC feature, and can sign a reply
//! but not a stream of them (ADR-0024). What is signed is bytes, so nothing is parsed before it
//! is known to be genuine but what finding the signature takes.
//!
//! Invariants: a MAC is compared in constant time and in full length; a secret is never shown.
//!
//! Limits: HMAC with SHA-256, SHA-384 or SHA-512. A shortened MAC is refused (BADTRUNC). No
//! memory of requests: one that is replayed within the fudge is answered again, which tells its
//! sender nothing new.

mod find;
mod key;

use std::sync::Arc;

use find::Found;
pub use find::{Malformed, payload_of};
pub use key::{Algorithm, Key, KeyError, Keys};

/// Seconds by which two clocks may differ. RFC 8945, section 10, recommends it.
pub const FUDGE_S: u16 = 300;

/// Type code of a signature.
const TSIG: u16 = 250;

/// Class of a signature: ANY.
const ANY: u16 = 255;

/// Where a header counts its additional records.
const ARCOUNT_AT: usize = 10;

/// Response code of a message whose signature is no good. RFC 8945, section 5.3.
pub const NOTAUTH: u8 = 9;

/// Why a signature is no good; the number is that of the record's error field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The MAC is not the message's.
    #[error("the signature does not fit (BADSIG): do both sides have the same secret?")]
    BadSig = 16,
    /// A key or algorithm that is not ours.
    #[error("the key or its algorithm is unknown (BADKEY)")]
    BadKey = 17,
    /// Too early or too late.
    #[error("the clocks differ by more than 300 s (BADTIME)")]
    BadTime = 18,
    /// The MAC is shorter than we accept.
    #[error("the signature is shortened (BADTRUNC)")]
    BadTrunc = 22,
}

/// What is known of a message's signature.
#[derive(Debug)]
pub enum Checked {
    /// It has none.
    Unsigned,
    /// It is genuine.
    Genuine {
        /// The message without its signature.
        message: Vec<u8>,
        /// Signs the reply to it.
        signer: Signer,
    },
    /// It is not, and this is the whole reply.
    Refused {
        /// Why.
        fault: Fault,
        /// The reply; empty where the message is none that can be replied to.
        reply: Vec<u8>,
    },
}

/// Signs one message after the other, each over the one before, as a stream wants it.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Arc<Key>,
    /// MAC of the message before this one: the request's, for a first reply.
    prior: Vec<u8>,
    /// The next message is the first on this side, and signs all of the record's fields.
    first: bool,
}

impl Signer {
    /// Signs requests with `key`.
    pub fn new(key: Arc<Key>) -> Signer {
        Signer {
            key,
            prior: Vec::new(),
            first: true,
        }
    }

    /// The key that signs.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// Bytes that [`Signer::sign`] adds to a message.
    pub fn room(&self) -> usize {
        let (name, algorithm) = (self.key.wire().len(), self.key.algorithm());
        // Type, class, TTL, length; time, fudge, MAC's length, id, error, other's length.
        name + 10 + algorithm.wire().len() + 16 + algorithm.mac_len()
    }

    /// Appends the signature to `message`.
    pub fn sign(&mut self, message: &mut Vec<u8>, now_s: u64) {
        self.sign_with(message, now_s, 0, &[]);
    }

    fn sign_with(&mut self, message: &mut Vec<u8>, time_s: u64, error: u16, other: &[u8]) {
        let stamp = Stamp {
            time_s,
            fudge: FUDGE_S,
            error,
            other,
        };
        let mac = {
            let mut hash = self.key.hash();
            if !self.prior.is_empty() {
                hash.update(&length(&self.prior));
                hash.update(&self.prior);
            }
            hash.update(message);
            match self.first {
                true => stamp.all(self.key.wire(), self.key.algorithm().wire(), |bytes| {
                    hash.update(bytes);
                }),
                false => hash.update(&stamp.timers()),
            }
            hash.sign().as_ref().to_vec()
        };
        stamp.append(message, self.key.wire(), self.key.algorithm().wire(), &mac);
        self.prior = mac;
        self.first = false;
    }

    /// Checks the signature of a reply to what was signed last, and takes it off; of a stream,
    /// each in turn.
    ///
    /// # Errors
    /// [`Fault`]; a reply without a signature is [`Fault::BadSig`].
    pub fn verify(&mut self, message: &[u8], now_s: u64, first: bool) -> Result<Vec<u8>, Fault> {
        let found = match find::find(message) {
            Ok(Some(found)) => found,
            Ok(None) | Err(Malformed) => return Err(Fault::BadSig),
        };
        if !self.key.is(&found.name, &found.algorithm) {
            return Err(Fault::BadKey);
        }
        let bare = found.taken_off(message);
        verify(&self.key, &found, &bare, &self.prior, first)?;
        if !found.is_timely(now_s) {
            return Err(Fault::BadTime);
        }
        self.prior = found.mac.to_vec();
        Ok(bare)
    }
}

/// Checks a request's signature with the key that it names.
///
/// # Errors
/// [`Malformed`]: the message can't be read as far as its signature, or has it in a wrong place.
pub fn check(keys: &Keys, message: &[u8], now_s: u64) -> Result<Checked, Malformed> {
    let Some(found) = find::find(message)? else {
        return Ok(Checked::Unsigned);
    };
    let refused = |fault| Checked::Refused {
        fault,
        reply: found.refusal(message, fault),
    };
    let Some(key) = keys.find(&found.name, &found.algorithm) else {
        return Ok(refused(Fault::BadKey));
    };
    let least = (key.algorithm().mac_len() / 2).max(10);
    if found.mac.len() > key.algorithm().mac_len() || found.mac.len() < least {
        return Err(Malformed);
    }
    let bare = found.taken_off(message);
    let mut signer = Signer::new(key.clone());
    let fault = match verify(key, &found, &bare, &[], true) {
        Ok(()) if found.is_timely(now_s) => {
            signer.prior = found.mac.to_vec();
            return Ok(Checked::Genuine {
                message: bare,
                signer,
            });
        }
        Ok(()) => Fault::BadTime,
        Err(Fault::BadTrunc) => Fault::BadTrunc,
        Err(fault) => return Ok(refused(fault)),
    };
    // These two are signed, so that the client can believe them.
    let mut reply = found.headed(message);
    signer.prior = found.mac.to_vec();
    let now = now_s.to_be_bytes();
    let other: &[u8] = match fault {
        Fault::BadTime => now.get(2..).unwrap_or_default(),
        _ => &[],
    };
    signer.sign_with(&mut reply, found.time_s, fault as u16, other);
    Ok(Checked::Refused { fault, reply })
}

/// Whether the MAC is that of `bare`.
fn verify(
    key: &Key,
    found: &Found<'_>,
    bare: &[u8],
    prior: &[u8],
    first: bool,
) -> Result<(), Fault> {
    let mut signed = Vec::with_capacity(bare.len() + 512);
    if !prior.is_empty() {
        signed.extend_from_slice(&length(prior));
        signed.extend_from_slice(prior);
    }
    let id_at = signed.len();
    signed.extend_from_slice(bare);
    if let Some(id) = signed.get_mut(id_at..id_at + 2) {
        id.copy_from_slice(&found.original_id.to_be_bytes());
    }
    let stamp = Stamp {
        time_s: found.time_s,
        fudge: found.fudge,
        error: found.error,
        other: found.other,
    };
    match first {
        true => stamp.all(&found.name, &found.algorithm, |bytes| {
            signed.extend_from_slice(bytes);
        }),
        false => signed.extend_from_slice(&stamp.timers()),
    }
    match key.verifies(&signed, found.mac) {
        true if found.mac.len() == key.algorithm().mac_len() => Ok(()),
        // An empty one begins every MAC; `check` asks for half of it at least.
        true if !found.mac.is_empty() => Err(Fault::BadTrunc),
        _ => Err(Fault::BadSig),
    }
}

/// What a signature says beside the MAC.
struct Stamp<'s> {
    time_s: u64,
    fudge: u16,
    error: u16,
    other: &'s [u8],
}

impl Stamp<'_> {
    /// Time and fudge: all that later messages of a stream sign. RFC 8945, section 5.3.1.
    fn timers(&self) -> [u8; 8] {
        let mut timers = [0; 8];
        let time = self.time_s.to_be_bytes();
        timers[..6].copy_from_slice(&time[2..]);
        timers[6..].copy_from_slice(&self.fudge.to_be_bytes());
        timers
    }

    /// All that is signed of the record, piece by piece. RFC 8945, section 4.3.3.
    fn all(&self, name: &[u8], algorithm: &[u8], mut add: impl FnMut(&[u8])) {
        add(name);
        add(&ANY.to_be_bytes());
        add(&[0; 4]);
        add(algorithm);
        add(&self.timers());
        add(&self.error.to_be_bytes());
        add(&length(self.other));
        add(self.other);
    }

    /// Writes the record to the end of `message` and counts it.
    fn append(&self, message: &mut Vec<u8>, name: &[u8], algorithm: &[u8], mac: &[u8]) {
        let id: [u8; 2] = message.first_chunk().copied().unwrap_or_default();
        let data = algorithm.len() + 16 + mac.len() + self.other.len();
        message.extend_from_slice(name);
        for word in [TSIG, ANY, 0, 0, u16::try_from(data).unwrap_or(u16::MAX)] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message.extend_from_slice(algorithm);
        message.extend_from_slice(&self.timers());
        message.extend_from_slice(&length(mac));
        message.extend_from_slice(mac);
        message.extend_from_slice(&id);
        message.extend_from_slice(&self.error.to_be_bytes());
        message.extend_from_slice(&length(self.other));
        message.extend_from_slice(self.other);
        if let Some(count) = message.get_mut(ARCOUNT_AT..ARCOUNT_AT + 2) {
            let counted = u16::from_be_bytes([count[0], count[1]]).wrapping_add(1);
            count.copy_from_slice(&counted.to_be_bytes());
        }
    }
}

/// A length as 16 bits; all that is measured here comes out of a message.
fn length(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests;
