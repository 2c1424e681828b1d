//! Response rate limiting: how often one network may hear the same thing over UDP.
//!
//! A UDP source can be forged, and then our answers hit whoever owns the address. So each
//! client network (/24, /56) has a rate for each thing that we say: a name and type, "no such
//! name" of a zone, an error. Above it answers are dropped, but for each `slip`th, which is
//! sent truncated: a real client among the forged ones then comes by TCP or with a cookie, and
//! neither is limited.
//!
//! A fixed table, four ways to a cache line, one word of time to an entry (GCRA): no
//! allocation. Who is nearest to recovery is overwritten, so a flood of random sources does not
//! push out the one who is limited.
//!
//! Limits: a table for each UDP thread, so n threads let up to n times the rate pass.

use std::net::IpAddr;

/// Sets of four entries. 8192 * 64 bytes = 512 KiB for a thread.
const SETS: usize = 8_192;

/// Entries in a set: what one cache line holds.
const WAYS: usize = 4;

/// How much may come at once after silence: what the rate allows in a second.
const BURST_US: u64 = 1_000_000;

/// The rates, in answers a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// For each client network, name and type.
    pub answers: u32,
    /// "No such name", for each client network and zone.
    pub negative: u32,
    /// REFUSED, FORMERR and the like, for each client network and kind.
    pub errors: u32,
    /// One answer of so many that are too much is sent, truncated.
    pub slip: u32,
    /// Bits of an IPv4 address that make a network.
    pub v4_prefix: u8,
    /// Bits of an IPv6 address that make a network.
    pub v6_prefix: u8,
}

impl Default for RateLimit {
    /// NSD's rate. A resolver asks once in a TTL for each name, so even thousands of them
    /// behind one /24 stay below it; forged traffic that stays below it is not worth sending.
    fn default() -> Self {
        RateLimit {
            answers: 200,
            negative: 200,
            errors: 50,
            slip: 2,
            v4_prefix: 24,
            v6_prefix: 56,
        }
    }
}

/// What is limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// One name and class of types.
    Answer(u64),
    /// "No such name" in one zone.
    Negative(u64),
    /// One response code.
    Error(u64),
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Send,
    /// It is sent without its records, and says so.
    Slip,
    /// It is not sent.
    Drop,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// When all that was said will have been paid for, in microseconds.
    paid_at: u64,
    tag: u32,
    /// Answers that were too much.
    excess: u32,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Set([Entry; WAYS]);

/// The table of one thread.
#[derive(Debug)]
pub struct Limiter {
    sets: Box<[Set]>,
    rates: RateLimit,
    seed: u64,
}

impl Limiter {
    /// `seed` is secret: who knows it can choose which clients share an entry.
    pub fn new(rates: RateLimit, seed: u64) -> Limiter {
        Limiter {
            sets: vec![Set::default(); SETS].into_boxed_slice(),
            rates,
            seed,
        }
    }

    /// Whether one more answer may go to `client`.
    pub fn judge(&mut self, client: IpAddr, bucket: Bucket, now_us: u64) -> Verdict {
        let (rate, kind, what) = match bucket {
            Bucket::Answer(what) => (self.rates.answers, 1, what),
            Bucket::Negative(what) => (self.rates.negative, 2, what),
            Bucket::Error(what) => (self.rates.errors, 3, what),
        };
        let cost = 1_000_000 / u64::from(rate.max(1));
        let network = self.network(client);
        let key = mix(
            mix(network ^ self.seed, what),
            self.seed.rotate_left(32) ^ kind,
        );
        let Some(Set(ways)) = self.sets.get_mut(key as usize % SETS) else {
            return Verdict::Send;
        };
        let tag = (key >> 32) as u32;
        let (mut way, mut soonest) = (0, u64::MAX);
        for (index, entry) in ways.iter().enumerate() {
            if entry.tag == tag {
                way = index;
                break;
            }
            if entry.paid_at < soonest {
                (way, soonest) = (index, entry.paid_at);
            }
        }
        let Some(entry) = ways.get_mut(way) else {
            return Verdict::Send;
        };
        if entry.tag != tag {
            *entry = Entry {
                tag,
                ..Entry::default()
            };
        }
        // Further ahead than anyone can get: the clock was set back.
        if entry.paid_at > now_us + BURST_US + cost {
            entry.paid_at = now_us;
        }
        let paid_at = entry.paid_at.max(now_us) + cost;
        if paid_at <= now_us + BURST_US {
            entry.paid_at = paid_at;
            return Verdict::Send;
        }
        entry.excess = entry.excess.wrapping_add(1);
        match self.rates.slip {
            0 => Verdict::Drop,
            slip if entry.excess.is_multiple_of(slip) => Verdict::Slip,
            _ => Verdict::Drop,
        }
    }

    fn network(&self, client: IpAddr) -> u64 {
        match client {
            IpAddr::V4(v4) => {
                let host_bits = 32_u32.saturating_sub(self.rates.v4_prefix.into());
                u64::from(v4.to_bits()) >> host_bits
            }
            IpAddr::V6(v6) => {
                // Networks are 64 bits at most; the upper half is all there is to keep.
                let host_bits = 64_u32.saturating_sub(self.rates.v6_prefix.into());
                let upper = (v6.to_bits() >> 64) as u64;
                !(upper.checked_shr(host_bits).unwrap_or(0))
            }
        }
    }
}

/// Mixes two words into one; both halves of a product, so that every bit counts.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let product = u128::from(a ^ 0x243F_6A88_85A3_08D3) * u128::from(b ^ ODD);
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000;
    const START: u64 = 1_800_000_000 * SECOND;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn count(
        limiter: &mut Limiter,
        client: &str,
        bucket: Bucket,
        n: usize,
        now: u64,
    ) -> [usize; 3] {
        let mut seen = [0; 3];
        for _ in 0..n {
            seen[limiter.judge(ip(client), bucket, now) as usize] += 1;
        }
        seen
    }

    /// Goal: the burst passes, then half of the rest is truncated and half dropped; after a
    /// second as much passes again.
    /// Method: 1000 at one moment, 1000 a second later, 1000 over the next second.
    #[test]
    fn burst_passes_and_the_rest_slips_or_is_dropped() {
        let mut limiter = Limiter::new(RateLimit::default(), 7);
        let what = Bucket::Answer(1);
        assert_eq!(
            count(&mut limiter, "10.0.0.1", what, 1_000, START),
            [200, 400, 400]
        );
        let later = START + SECOND;
        assert_eq!(
            count(&mut limiter, "10.0.0.1", what, 1_000, later),
            [200, 400, 400]
        );
        let mut sent = 0;
        for step in 1..=1_000 {
            let at = later + step * SECOND / 1_000;
            sent += count(&mut limiter, "10.0.0.1", what, 1, at)[0];
        }
        assert!((199..=201).contains(&sent), "{sent}");
    }

    /// Goal: a network is limited as one, others and other things are not concerned.
    /// Method: exhaust one; ask from its neighbours, for other names, classes, and over IPv6.
    #[test]
    fn only_the_same_network_and_thing_are_limited() {
        let mut limiter = Limiter::new(RateLimit::default(), 7);
        let (what, other) = (Bucket::Answer(1), Bucket::Answer(2));
        count(&mut limiter, "10.0.0.1", what, 1_000, START);
        count(&mut limiter, "fd00::1", what, 1_000, START);
        for (client, bucket, free) in [
            ("10.0.0.77", what, false),
            ("10.0.1.1", what, true),
            ("10.0.0.1", other, true),
            ("10.0.0.1", Bucket::Negative(1), true),
            ("10.0.0.1", Bucket::Error(1), true),
            ("fd00:0:0:ff::2", what, false),
            ("fd00:0:0:100::1", what, true),
        ] {
            let sent = count(&mut limiter, client, bucket, 1, START)[0];
            assert_eq!(sent == 1, free, "{client} {bucket:?}");
        }
    }

    /// Goal: a flood of random sources does not free the one who is limited.
    /// Method: exhaust one network, then a million queries of random ones, then ask again.
    #[test]
    fn random_sources_do_not_push_out_the_limited_one() {
        let mut limiter = Limiter::new(RateLimit::default(), 7);
        let what = Bucket::Answer(1);
        count(&mut limiter, "192.0.2.1", what, 1_000, START);
        let mut word = 1_u64;
        for _ in 0..1_000_000 {
            word = mix(word, 3);
            let source = IpAddr::from((word as u32).to_be_bytes());
            limiter.judge(source, what, START + 1_000);
        }
        assert_eq!(
            count(&mut limiter, "192.0.2.1", what, 10, START + 1_000)[0],
            0
        );
    }

    /// Goal: a clock that is set back limits nobody for ever.
    /// Method: a query, the clock an hour back, another.
    #[test]
    fn clock_set_back_limits_nobody() {
        let mut limiter = Limiter::new(RateLimit::default(), 7);
        let what = Bucket::Answer(1);
        count(&mut limiter, "10.0.0.1", what, 1_000, START);
        let back = START - 3_600 * SECOND;
        assert_eq!(count(&mut limiter, "10.0.0.1", what, 200, back)[0], 200);
    }
}
