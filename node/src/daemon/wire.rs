//! Bodies of the frames between CLI, hosts and joiners: bincode with a limit, nothing trailing.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use statemachine::{MemberSpec, Timing};
use std::net::SocketAddr;

use crate::pki::JoinProof;

/// Longest body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What a joiner sends. Its secret goes only over TLS to a host whose authority the token names.
#[derive(Clone, Serialize, Deserialize)]
pub struct JoinRequest {
    /// The token's public number.
    pub token: u64,
    /// The token's secret.
    pub secret: [u8; 16],
    /// The joiner's name.
    pub name: String,
    /// Its control addresses.
    pub control: Vec<SocketAddr>,
    /// Its public key, and the proof that it holds the private one.
    pub proof: JoinProof,
}

/// What a joiner gets.
#[derive(Clone, Serialize, Deserialize)]
pub enum JoinAnswer {
    /// It is in.
    Granted {
        /// Its keys.
        grant: crate::pki::Grant,
        /// The array's timing.
        timing: Timing,
    },
    /// It is not, and why.
    Refused(crate::api::Problem),
}

/// A host's own configuration, as it tells the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// Control addresses.
    pub control: Vec<SocketAddr>,
    /// Where it serves DNS.
    pub dns: Vec<SocketAddr>,
    /// Never holds an address.
    pub observer: bool,
    /// Its groups.
    pub members: Vec<MemberSpec>,
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_BODY>()
}

/// Encodes a body; empty when it is longer than any frame may be, which no receiver decodes.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, config()).unwrap_or_default()
}

/// Decodes a body; none when it is not one.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    if body.len() > MAX_BODY {
        return None;
    }
    let (value, read) = bincode::serde::decode_from_slice(body, config()).ok()?;
    (read == body.len()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Goal: a client's or joiner's bytes never panic nor allocate much, whatever they are.
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = decode::<crate::api::Request>(&bytes);
            let _ = decode::<crate::api::Response>(&bytes);
            let _ = decode::<JoinRequest>(&bytes);
            let _ = decode::<Introduction>(&bytes);
        }
    }
}
