//! The one place of the daemon that draws randomness: the system's, through `ring`.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` random bytes.
///
/// # Errors
/// When the system gives no randomness; nothing safe can be made without.
pub fn bytes<const N: usize>() -> Result<[u8; N], std::io::Error> {
    let mut drawn = [0; N];
    let failed = |_| std::io::Error::other("the system gives no randomness");
    SystemRandom::new().fill(&mut drawn).map_err(failed)?;
    Ok(drawn)
}

/// A random number of 32 bits; 0 when the system gives none. For lots only, never for secrets.
pub fn number() -> u32 {
    bytes().map(u32::from_le_bytes).unwrap_or(0)
}

/// A random number; 0 when the system gives none. For lots only, never for secrets.
pub fn dice() -> u64 {
    bytes().map(u64::from_le_bytes).unwrap_or(0)
}
