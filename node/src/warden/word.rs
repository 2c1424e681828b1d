//! The last word: "this start of host H has ended, and holds nothing" (lease.md, the gate).
//!
//! The warden draws a secret when it starts; the host's heartbeats carry its digest, sealed as all they
//! say. Who tells the secret is the warden, and it tells it once, when the node is dead and the gate is
//! shut. What it says of that start stays true for ever: overheard, late or doubled it does no harm.
//! So the word needs no key, and the warden has none.

use control::Vow;
use statemachine::{Boot, HostId};

/// First bytes of the datagram; a sealed one starts with its version, 1.
const MAGIC: &[u8; 8] = b"RAISlast";
/// Length of the datagram in bytes.
pub const LENGTH: usize = 8 + 8 + 8 + 32;

/// What only the warden knows until the end.
pub struct Secret([u8; 32]);

impl Secret {
    /// Draws one.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn draw() -> std::io::Result<Self> {
        crate::random::bytes().map(Self)
    }

    /// By what the word will be known.
    pub fn vow(&self) -> Vow {
        vow_of(&self.0)
    }

    /// The datagram of the word.
    pub fn word(&self, host: HostId, boot: Boot) -> [u8; LENGTH] {
        let mut word = [0; LENGTH];
        word[..8].copy_from_slice(MAGIC);
        word[8..16].copy_from_slice(&host.0.to_be_bytes());
        word[16..24].copy_from_slice(&boot.0.to_be_bytes());
        word[24..].copy_from_slice(&self.0);
        word
    }
}

fn vow_of(secret: &[u8; 32]) -> Vow {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret);
    let mut vow = [0; 16];
    for (to, from) in vow.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    Vow(vow)
}

/// Reads a datagram: whose word it claims to be, and the digest of the secret that it tells; none when it
/// is no last word. Whether the secret is the right one is the control's to say.
pub fn read(datagram: &[u8]) -> Option<(HostId, Boot, Vow)> {
    let datagram: &[u8; LENGTH] = datagram.try_into().ok()?;
    let (magic, rest) = datagram.split_first_chunk::<8>()?;
    let (host, rest) = rest.split_first_chunk::<8>()?;
    let (boot, rest) = rest.split_first_chunk::<8>()?;
    let secret: &[u8; 32] = rest.try_into().ok()?;
    (magic == MAGIC).then(|| {
        (
            HostId(u64::from_be_bytes(*host)),
            Boot(u64::from_be_bytes(*boot)),
            vow_of(secret),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Goal: a word is known by the vow of its secret and by no other.
    #[test]
    fn a_word_is_known_by_its_vow() {
        let (ours, other) = (Secret::draw().unwrap(), Secret::draw().unwrap());
        let (host, boot) = (HostId(7), Boot(3));
        assert_eq!(read(&ours.word(host, boot)), Some((host, boot, ours.vow())));
        assert_ne!(ours.vow(), other.vow());
    }

    proptest! {
        /// Goal: strangers' datagrams never panic, and none is a word without the first bytes.
        #[test]
        fn random_bytes_are_no_word(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            prop_assert_eq!(read(&bytes), None);
        }
    }
}
