//! Bytes of the messages between control threads: version byte, then bincode, inside a sealed packet.
//!
//! The seal was opened before anything is parsed here, so a stranger's bytes never reach this; a host's
//! damaged or newer ones are refused, never guessed at.

use control::Message;

/// First byte of every message of this version.
const VERSION: u8 = 2;
/// Longest message, in bytes: what a sealed datagram may carry. Some 300 held addresses.
pub const MAX_MESSAGE: usize = crate::transport::seal::MAX_PLAIN;

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MAX_MESSAGE>()
}

/// Encodes a message; none when it is too long for a datagram.
pub fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = vec![VERSION];
    bytes.extend(bincode::serde::encode_to_vec(message, config()).ok()?);
    (bytes.len() <= MAX_MESSAGE).then_some(bytes)
}

/// Decodes a message; none when it is not one.
pub fn decode(bytes: &[u8]) -> Option<Message> {
    let (version, body) = bytes.split_first()?;
    if *version != VERSION || bytes.len() > MAX_MESSAGE {
        return None;
    }
    let (message, read) = bincode::serde::decode_from_slice(body, config()).ok()?;
    (read == body.len()).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::EntryId;
    use proptest::prelude::*;
    use statemachine::HostId;

    #[test]
    fn a_message_survives_and_a_longer_or_newer_one_is_refused() {
        let message = Message::AskFence {
            host: HostId(3),
            entry: EntryId {
                term: 2,
                leader: HostId(1),
                index: 70_000,
            },
            lease_ms: 300,
        };
        let mut bytes = encode(&message).unwrap();
        assert_eq!(decode(&bytes), Some(message));
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
        bytes.pop();
        bytes[0] = VERSION + 1;
        assert_eq!(decode(&bytes), None);
    }

    proptest! {
        /// Goal: bytes from a damaged host never panic nor allocate much.
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
            let mut framed = vec![VERSION];
            framed.extend(bytes);
            let _ = decode(&framed);
        }
    }
}
