//! Join tokens: one line of text that lets a new host find the right array and be let in.
//!
//! `rais1.` and base64url of: authority's fingerprint (32), token id (8), secret (16), CRC-32C of
//! the 56 bytes before (4). The fingerprint keeps a joiner from talking to an impostor, the
//! checksum tells a mistyped token from a wrong one. The log holds only a hash of the secret; 128
//! random bits need no slow hash.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use statemachine::TokenId;

use super::Fingerprint;

const PREFIX: &str = "rais1.";
const BODY: usize = 32 + 8 + 16;
const WHOLE: usize = BODY + 4;
/// Characters after the prefix: 60 bytes are 80 characters of base64, without padding.
const TEXT: usize = WHOLE / 3 * 4;

/// Why a text is not a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It does not begin as a token does.
    #[error("not a join token: it should begin with `rais1.`; make one with `rais token create`")]
    Prefix,
    /// It is too short or too long.
    #[error(
        "join token has {found} characters after `rais1.`, not {TEXT}: it was not copied as a whole"
    )]
    Length {
        /// How many characters follow the prefix.
        found: usize,
    },
    /// It has a character that no token has.
    #[error("join token has a character that does not belong there: copy it anew")]
    Encoding,
    /// It was changed on the way.
    #[error("join token is mistyped (its checksum does not fit): copy it anew")]
    Checksum,
}

/// The secret of a token. Whoever has it may join.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSecret(pub [u8; 16]);

impl fmt::Debug for TokenSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenSecret(..)")
    }
}

/// SHA-256 of a token's secret: all that the log holds of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TokenSecretHash(pub [u8; 32]);

impl TokenSecret {
    /// The hash that stands in the log.
    pub fn hash(&self) -> TokenSecretHash {
        TokenSecretHash(Fingerprint::of(&self.0).0)
    }
}

/// A join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The authority of the array to join.
    pub authority: Fingerprint,
    /// The token's public number.
    pub id: TokenId,
    /// What lets the holder in.
    pub secret: TokenSecret,
}

impl JoinToken {
    /// Makes a token from 24 random bytes: 8 for the id, 16 for the secret.
    pub fn draw(authority: Fingerprint, random: &[u8; 24]) -> Self {
        let (mut id, mut secret) = ([0u8; 8], [0u8; 16]);
        id.copy_from_slice(&random[..8]);
        secret.copy_from_slice(&random[8..]);
        let id = TokenId(u64::from_be_bytes(id));
        Self {
            authority,
            id,
            secret: TokenSecret(secret),
        }
    }

    /// The text to give to the new host's operator. A secret, hence no `Display`.
    pub fn reveal(&self) -> String {
        let mut bytes = [0u8; WHOLE];
        bytes[..32].copy_from_slice(&self.authority.0);
        bytes[32..40].copy_from_slice(&self.id.0.to_be_bytes());
        bytes[40..BODY].copy_from_slice(&self.secret.0);
        let sum = crc32c::crc32c(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&sum.to_be_bytes());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token; white space around it is ignored. Total: any text gives a token or an error.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TokenError::Prefix)?;
        if body.len() != TEXT {
            return Err(TokenError::Length {
                found: body.chars().count(),
            });
        }
        let mut bytes = [0u8; WHOLE];
        match URL_SAFE_NO_PAD.decode_slice(body, &mut bytes) {
            Ok(WHOLE) => {}
            _ => return Err(TokenError::Encoding),
        }
        let (body, sum) = bytes.split_at(BODY);
        if crc32c::crc32c(body).to_be_bytes() != *sum {
            return Err(TokenError::Checksum);
        }
        let (mut authority, mut id, mut secret) = ([0u8; 32], [0u8; 8], [0u8; 16]);
        authority.copy_from_slice(&body[..32]);
        id.copy_from_slice(&body[32..40]);
        secret.copy_from_slice(&body[40..]);
        let authority = Fingerprint(authority);
        Ok(Self {
            authority,
            id: TokenId(u64::from_be_bytes(id)),
            secret: TokenSecret(secret),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn token() -> JoinToken {
        JoinToken::draw(Fingerprint([9; 32]), &core::array::from_fn(|at| at as u8))
    }

    /// Goal: a token survives the copy, its secret does not show in logs.
    /// Method: round trip with white space; look at `Debug`.
    #[test]
    fn token_is_read_back_and_not_shown() {
        let token = token();
        assert_eq!(
            JoinToken::parse(&format!(" {}\n", token.reveal())),
            Ok(token)
        );
        assert!(format!("{token:?}").contains("TokenSecret(..)"));
    }

    /// Goal: cut, foreign and mistyped texts have their own messages.
    /// Method: damage a token in each way; each single changed character.
    #[test]
    fn each_way_to_miscopy_a_token_is_told_apart() {
        let text = token().reveal();
        assert_eq!(
            JoinToken::parse(&text[..50]),
            Err(TokenError::Length { found: 44 })
        );
        assert_eq!(JoinToken::parse("hello"), Err(TokenError::Prefix));
        assert_eq!(
            JoinToken::parse(&text.replace("rais1", "rais2")),
            Err(TokenError::Prefix)
        );
        assert_eq!(
            JoinToken::parse(&format!("{}!", &text[..85])),
            Err(TokenError::Encoding)
        );
        for at in PREFIX.len()..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let wrong = String::from_utf8(bytes).unwrap();
            assert_eq!(
                JoinToken::parse(&wrong),
                Err(TokenError::Checksum),
                "at {at}"
            );
        }
    }

    proptest! {
        /// Goal: parse is total. Method: random text, bare and with the prefix.
        #[test]
        fn any_text_is_parsed_without_panic(text in ".{0,120}", like in "[A-Za-z0-9_-]{80}") {
            let _ = JoinToken::parse(&text);
            let _ = JoinToken::parse(&format!("{PREFIX}{text}"));
            let like = format!("{PREFIX}{like}");
            prop_assert!(JoinToken::parse(&like).is_err());
        }

        /// Goal: every token has one text. Method: random fields, round trip.
        #[test]
        fn every_token_is_read_back(
            authority in any::<[u8; 32]>(), id in any::<[u8; 8]>(), secret in any::<[u8; 16]>(),
        ) {
            let authority = Fingerprint(authority);
            let token = JoinToken { authority, id: TokenId(u64::from_be_bytes(id)), secret: TokenSecret(secret) };
            prop_assert_eq!(JoinToken::parse(&token.reveal()), Ok(token));
        }
    }
}
