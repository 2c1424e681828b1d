//! A flood of DNS queries at one host: random names below the zone, and bytes that are no query, as fast
//! as the client's socket takes them.
//!
//! Limits: from one address, so the name server's rates meet it; `chaos/tests/array/flood.rs` comes from
//! 250 networks with 10,000 connections.

use super::{DrillError, Stop};
use crate::Rng;
use crate::lab::{Lab, LabError, Network, now};
use std::net::UdpSocket;
use std::time::Duration;

/// The zone of the lab's group, as on the wire.
const ZONE: &[u8] = b"\x03web\x07example\x00";
/// So many queries between two looks at the clock.
const BURST: usize = 200;

/// Floods the name server of `host` for `ms`. Gives how many queries were sent.
pub(super) fn flood(lab: &Lab, host: u8, ms: u64, stop: &Stop) -> Result<u64, DrillError> {
    let server = (Network::Lan.v4(host), 53);
    let (stop, mut rng) = (stop.clone(), Rng::new(ms));
    let work = move || -> std::io::Result<u64> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let (end, mut sent) = (now().after(Duration::from_millis(ms)), 0);
        while now() < end && !stop.is_told() {
            for _ in 0..BURST {
                // A full buffer is what a flood wants; on it goes.
                let _lost = socket.send_to(&query(rng.draw()), server);
                sent += 1;
            }
        }
        Ok(sent)
    };
    let sent = lab.client().inside(work)?;
    let what = "flood from the client".to_owned();
    Ok(sent.map_err(|source| LabError::System { what, source })?)
}

/// A query of a random name and type; one in seven is damaged.
fn query(word: u64) -> Vec<u8> {
    let [a, b, c, d, ..] = word.to_be_bytes();
    let mut bytes = vec![a, b, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 16];
    bytes.extend(format!("{word:016x}").as_bytes());
    bytes.extend(ZONE);
    bytes.extend([0, c, 0, 1]);
    if word.is_multiple_of(7)
        && let Some(byte) = bytes.get_mut(usize::from(d) % 40)
    {
        *byte ^= 0xFF;
    }
    bytes
}
