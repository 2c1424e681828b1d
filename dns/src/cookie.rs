//! DNS cookies (RFC 7873) in the form of RFC 9018: a client that returns ours has shown that
//! it receives at its address, so it is never rate limited.
//!
//! The cookie is SipHash-2-4 over the client's cookie, its time and its address; nothing is
//! stored. The key of a day is derived from one secret of the process, so it rotates by itself
//! and the key that made a cookie is known from the cookie's own time. Another node has another
//! secret: clients keep a cookie for each server address.
//!
//! Limits: after a restart of the daemon a client's first query is that of a stranger.

use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Bytes of a client's cookie.
pub(crate) const CLIENT_LEN: usize = 8;

/// Bytes of ours: version, reserved, time, hash.
pub(crate) const SERVER_LEN: usize = 16;

/// Oldest cookie that is taken: an hour. RFC 9018, 4.3.
const MAX_AGE_S: u32 = 3_600;

/// Youngest cookie that is answered with a new one: half of that.
const RENEW_AGE_S: u32 = 1_800;

/// How far a cookie may be ahead of our clock: ours may have been set back. RFC 9018, 4.3.
const MAX_AHEAD_S: u32 = 300;

/// Seconds for which one key makes cookies: a day.
const KEY_LIFE_S: u32 = 86_400;

/// Makes and checks cookies at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Jar {
    secret: [u8; 16],
    now_s: u32,
    key: SipHasher24,
}

/// What a client's cookie option was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The client has shown its address.
    pub(crate) vouched: bool,
    /// What the answer carries.
    pub(crate) reply: [u8; CLIENT_LEN + SERVER_LEN],
}

impl Jar {
    /// A jar for the moment `now_s`, in seconds since 1970.
    pub fn new(secret: [u8; 16], now_s: u32) -> Jar {
        Jar {
            secret,
            now_s,
            key: day_key(&secret, now_s),
        }
    }

    /// The same jar later.
    pub(crate) fn at(&mut self, now_s: u32) {
        if now_s / KEY_LIFE_S != self.now_s / KEY_LIFE_S {
            self.key = day_key(&self.secret, now_s);
        }
        self.now_s = now_s;
    }

    /// Checks the content of a cookie option; `None`: its length is none that is allowed.
    pub(crate) fn check(&self, option: &[u8], client: IpAddr) -> Option<Checked> {
        if option.len() != CLIENT_LEN && !(16..=40).contains(&option.len()) {
            return None;
        }
        let (theirs, ours) = option.split_first_chunk::<CLIENT_LEN>()?;
        let known = <&[u8; SERVER_LEN]>::try_from(ours)
            .ok()
            .and_then(|ours| self.age_of(theirs, ours, client));
        let server = match (known, <[u8; SERVER_LEN]>::try_from(ours)) {
            (Some(age), Ok(ours)) if age <= RENEW_AGE_S => ours,
            _ => server_cookie(&self.key, theirs, self.now_s, client),
        };
        let mut reply = [0; CLIENT_LEN + SERVER_LEN];
        reply[..CLIENT_LEN].copy_from_slice(theirs);
        reply[CLIENT_LEN..].copy_from_slice(&server);
        Some(Checked {
            vouched: known.is_some(),
            reply,
        })
    }

    /// How many seconds ago we made this cookie; `None`: we did not, or too long ago.
    fn age_of(
        &self,
        theirs: &[u8; CLIENT_LEN],
        ours: &[u8; SERVER_LEN],
        client: IpAddr,
    ) -> Option<u32> {
        let made = u32::from_be_bytes(*ours[4..].first_chunk()?);
        // Serial arithmetic, as 2106 is a date like any other.
        let age = self.now_s.wrapping_sub(made);
        let ahead = made.wrapping_sub(self.now_s);
        if age > MAX_AGE_S && ahead > MAX_AHEAD_S {
            return None;
        }
        let expected = match made / KEY_LIFE_S == self.now_s / KEY_LIFE_S {
            true => server_cookie(&self.key, theirs, made, client),
            false => server_cookie(&day_key(&self.secret, made), theirs, made, client),
        };
        // A client that guesses sees no time of a comparison through a network's noise; still.
        let differs = expected
            .iter()
            .zip(ours)
            .fold(0, |differs, (a, b)| differs | (a ^ b));
        (differs == 0).then_some(if age <= MAX_AGE_S { age } else { 0 })
    }
}

/// The key of the day in which `at_s` lies.
fn day_key(secret: &[u8; 16], at_s: u32) -> SipHasher24 {
    let master = SipHasher24::new_with_key(secret);
    let half = |half: u8| {
        let mut day = [half; 5];
        day[..4].copy_from_slice(&(at_s / KEY_LIFE_S).to_be_bytes());
        master.hash(&day).to_le_bytes()
    };
    let mut key = [0; 16];
    key[..8].copy_from_slice(&half(0));
    key[8..].copy_from_slice(&half(1));
    SipHasher24::new_with_key(&key)
}

/// RFC 9018, 4: version 1, three zero bytes, the time, the hash.
fn server_cookie(
    key: &SipHasher24,
    theirs: &[u8; CLIENT_LEN],
    at_s: u32,
    client: IpAddr,
) -> [u8; SERVER_LEN] {
    let mut cookie = [0; SERVER_LEN];
    cookie[0] = 1;
    cookie[4..8].copy_from_slice(&at_s.to_be_bytes());
    let mut input = [0; CLIENT_LEN + 8 + 16];
    input[..8].copy_from_slice(theirs);
    input[8..16].copy_from_slice(&cookie[..8]);
    let length = match client {
        IpAddr::V4(v4) => {
            input[16..20].copy_from_slice(&v4.octets());
            20
        }
        IpAddr::V6(v6) => {
            input[16..].copy_from_slice(&v6.octets());
            32
        }
    };
    cookie[8..].copy_from_slice(&key.hash(&input[..length]).to_le_bytes());
    cookie
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECRET: [u8; 16] = *b"0123456789abcdef";
    const NOW: u32 = 1_800_000_000;

    fn client() -> IpAddr {
        "198.51.100.100".parse().unwrap()
    }

    /// Goal: the hash is that of RFC 9018.
    /// Method: its appendix A.1.
    #[test]
    fn cookie_is_that_of_the_rfc() {
        let secret = 0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf_u128.to_be_bytes();
        let theirs = 0x2464_c4ab_cf10_c957_u64.to_be_bytes();
        let key = SipHasher24::new_with_key(&secret);
        let made = server_cookie(&key, &theirs, 1_559_731_985, client());
        let expected = 0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480_u128.to_be_bytes();
        assert_eq!(made, expected);
    }

    /// Goal: a returned cookie vouches for its address and cookie only, for an hour, over
    /// the change of keys; after half an hour there is a new one.
    /// Method: return one at several moments, from elsewhere, and with a bit changed.
    #[test]
    fn returned_cookie_vouches_for_an_hour() {
        // Ten minutes before a change of keys.
        let made_at = NOW / KEY_LIFE_S * KEY_LIFE_S + KEY_LIFE_S - 600;
        let mut jar = Jar::new(SECRET, made_at);
        let first = jar.check(b"abcdefgh", client()).unwrap();
        assert!(!first.vouched);
        for (later, vouched, renewed) in [
            (0, true, false),
            (1_700, true, false),
            (1_900, true, true),
            (3_599, true, true),
            (3_700, false, true),
        ] {
            jar.at(made_at + later);
            let seen = jar.check(&first.reply, client()).unwrap();
            assert_eq!(seen.vouched, vouched, "{later}");
            assert_eq!(seen.reply != first.reply, renewed, "{later}");
        }
        jar.at(made_at - 200);
        assert!(jar.check(&first.reply, client()).unwrap().vouched);
        jar.at(made_at - 400);
        assert!(!jar.check(&first.reply, client()).unwrap().vouched);
        jar.at(made_at);
        let elsewhere = "198.51.100.101".parse().unwrap();
        assert!(!jar.check(&first.reply, elsewhere).unwrap().vouched);
        for at in 0..first.reply.len() {
            let mut changed = first.reply;
            changed[at] ^= 1;
            assert!(!jar.check(&changed, client()).unwrap().vouched, "{at}");
        }
    }

    /// Goal: only the lengths of RFC 7873 are cookies.
    /// Method: each length from 0 to 50.
    #[test]
    fn lengths_that_are_no_cookie_are_refused() {
        let jar = Jar::new(SECRET, NOW);
        for length in 0..50 {
            let legal = length == 8 || (16..=40).contains(&length);
            assert_eq!(jar.check(&[7; 50][..length], client()).is_some(), legal);
        }
    }
}
