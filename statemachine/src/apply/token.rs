//! Join tokens. The log holds only the hash of a secret.

use super::Context;
use crate::{Effect, Happening, MAX_TOKENS, Rejected, State, Token, TokenCommand};

/// Longest life of a token, in ms: 30 days.
const MAX_TTL_MS: u64 = 30 * 24 * 3600 * 1000;

pub(super) fn apply(
    state: &mut State,
    command: &TokenCommand,
    cx: &mut Context<'_>,
) -> Result<(), Rejected> {
    let TokenCommand::Create {
        token,
        secret_hash,
        ttl_ms,
        uses,
    } = command;
    let now = state.at;
    state.tokens.retain(|_, token| token.expires >= now);
    if state.tokens.len() >= MAX_TOKENS || state.tokens.contains_key(token) {
        return Err(Rejected::Full {
            what: "open join tokens".into(),
            limit: MAX_TOKENS as u64,
        });
    }
    if *uses == 0 || *ttl_ms == 0 || *ttl_ms > MAX_TTL_MS {
        return Err(Rejected::WrongState(
            "a token needs at least one use and a life of up to 30 days".into(),
        ));
    }
    let open = Token {
        secret_hash: *secret_hash,
        expires: now.plus(*ttl_ms),
        uses: *uses,
    };
    state.tokens.insert(*token, open);
    cx.tell(Effect::new(Happening::TokenCreated));
    Ok(())
}
