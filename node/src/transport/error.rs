//! Why a call failed, and what a handler says when it refuses one.

use std::net::SocketAddr;
use std::time::Duration;

use statemachine::HostId;

use super::Kind;

/// Longest message of a refusal on the wire, bytes; longer ones are cut.
const MAX_MESSAGE: usize = 4096;
/// How a host is told that the array has forgotten it; part of what others answer.
pub const FORGOTTEN: &str = "this host was forgotten";

/// Why a handler did not answer a request. Travels to the caller with its message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The caller may not ask this.
    #[error("denied: {0}")]
    Denied(String),
    /// Too many requests at once; asking again later may help.
    #[error("busy: {0}")]
    Busy(String),
    /// This host can't answer now (starting, no leader); another host, or later, may.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The request can't be understood.
    #[error("bad request: {0}")]
    BadRequest(String),
    /// Something went wrong while answering.
    #[error("failed: {0}")]
    Failed(String),
}

impl HandlerError {
    pub(super) fn encode(&self) -> Vec<u8> {
        let (code, message) = match self {
            Self::Denied(message) => (1, message),
            Self::Busy(message) => (2, message),
            Self::NotReady(message) => (3, message),
            Self::BadRequest(message) => (4, message),
            Self::Failed(message) => (5, message),
        };
        let cut = message.floor_char_boundary(MAX_MESSAGE);
        let mut body = vec![code];
        body.extend_from_slice(&message.as_bytes()[..cut]);
        body
    }

    /// Total: an unknown code, of a newer version, is a failure with its message.
    pub(super) fn decode(body: &[u8]) -> Self {
        let (code, message) = body
            .split_first()
            .map_or((0, &[][..]), |(code, rest)| (*code, rest));
        let message =
            String::from_utf8_lossy(&message[..message.len().min(MAX_MESSAGE)]).into_owned();
        match code {
            1 => Self::Denied(message),
            2 => Self::Busy(message),
            3 => Self::NotReady(message),
            4 => Self::BadRequest(message),
            _ => Self::Failed(message),
        }
    }
}

/// Why a call to another host failed.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No control address of the host is known here.
    #[error("host {0} has no known control address")]
    NoAddress(HostId),
    /// The host was forgotten.
    #[error("host {0} was forgotten and is not called any more")]
    Forgotten(HostId),
    /// None of its addresses answers as it should.
    #[error("host {host} is unreachable: {reason}")]
    Unreachable {
        /// The host.
        host: HostId,
        /// What each attempt said.
        reason: String,
    },
    /// No answer in time. The host may have done what it was asked.
    #[error("host {host} did not answer {kind:?} within {} ms", ttl.as_millis())]
    Timeout {
        /// The host.
        host: HostId,
        /// What was asked.
        kind: Kind,
        /// How long the caller would wait.
        ttl: Duration,
    },
    /// The connection ended before the answer. The host may have done what it was asked.
    #[error("connection to host {host} ended: {reason}")]
    Closed {
        /// The host.
        host: HostId,
        /// Why it ended.
        reason: String,
    },
    /// The request is longer than its kind allows.
    #[error("request of {length} bytes is longer than the {limit} allowed for {kind:?}; split it")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
        /// Its kind.
        kind: Kind,
    },
    /// The host refused the request.
    #[error("host {host}: {error}")]
    Refused {
        /// The host.
        host: HostId,
        /// Its answer.
        error: HandlerError,
    },
    /// A listening socket could not be opened.
    #[error(
        "cannot listen on {address}: {source}; is another daemon running, and is the address on this host?"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The identity can't be used for TLS.
    #[error(
        "cannot set up TLS with this host's identity: {0}; check host.pem, host.key and ca.pem in the data dir"
    )]
    Tls(String),
}

impl TransportError {
    /// Did the request surely not reach the host? Then it may be sent elsewhere at once.
    pub fn was_not_sent(&self) -> bool {
        !matches!(
            self,
            Self::Timeout { .. } | Self::Closed { .. } | Self::Refused { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Goal: refusals travel, and any bytes are read without panic.
        /// Method: round trip; random bytes.
        #[test]
        fn refusals_travel(message in ".{0,60}", noise: Vec<u8>) {
            for error in [
                HandlerError::Denied(message.clone()),
                HandlerError::Busy(message.clone()),
                HandlerError::NotReady(message.clone()),
                HandlerError::BadRequest(message.clone()),
                HandlerError::Failed(message.clone()),
            ] {
                proptest::prop_assert_eq!(HandlerError::decode(&error.encode()), error);
            }
            let _ = HandlerError::decode(&noise);
        }
    }

    /// Goal: a long message is cut between characters. Method: two-byte characters, odd limit.
    #[test]
    fn long_messages_are_cut_between_characters() {
        let error = HandlerError::Failed(format!("x{}", "é".repeat(MAX_MESSAGE)));
        assert!(error.encode().len() <= MAX_MESSAGE + 1);
        assert!(
            matches!(HandlerError::decode(&error.encode()), HandlerError::Failed(text) if !text.contains('\u{fffd}'))
        );
    }
}
