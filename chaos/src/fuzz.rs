//! Feeds a decoder with damaged messages until it panics: on stable Rust, without instrumentation.
//!
//! Inputs are made from good messages and from kept ones by flips, cuts, copies, splices and numbers at
//! the edges. What stands in for coverage is the decoder's own verdict: an input with a verdict that
//! nobody had so far (digits and what stands in backticks do not count) joins those from which others are made. Same seed, same
//! inputs. A panic is made small and told as a line for the corpus.
//!
//! Limits: it knows nothing of branches that look alike from outside, and nothing of memory.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::Rng;

/// Longest input that is made.
const LONGEST: usize = 8 << 10;
/// Most changes to one input.
const CHANGES: u64 = 4;
/// Longest piece that is inserted, removed or copied at a time, in bytes.
const PIECE: u64 = 32;
/// Most inputs that are kept to make others from: a decoder may quote its input in each verdict.
const POOL: usize = 500;
/// Tries to make a fatal input smaller.
const SHRINKS: usize = 2_000;
/// Bytes at the edges of numbers; 251 to 254 announce longer ones in bincode, 192 a pointer in DNS.
const EDGES: [u8; 14] = [0, 1, 2, 63, 64, 127, 128, 192, 250, 251, 252, 253, 254, 255];

/// A decoder, and messages to begin with.
pub struct Target<'d> {
    /// Its name.
    pub name: &'static str,
    /// Good messages, and bad ones that were kept.
    pub corpus: Vec<Vec<u8>>,
    /// Decodes, and says in a word or a sentence what it made of it.
    pub decode: &'d dyn Fn(&[u8]) -> String,
}

/// A run without a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// How many inputs were tried.
    pub inputs: u64,
    /// Each verdict, without digits and quotes.
    pub verdicts: BTreeSet<String>,
    /// The inputs that led to a new one.
    pub led_on: Vec<Vec<u8>>,
}

/// An input that the decoder did not survive.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{target} panics after {after} inputs, seed {seed}: keep this line in its corpus\n{}", .input.escape_ascii())]
pub struct Fatal {
    /// Which decoder.
    pub target: &'static str,
    /// The seed of the run.
    pub seed: u64,
    /// How many inputs came before.
    pub after: u64,
    /// The input, made small.
    pub input: Vec<u8>,
}

/// Reads a corpus: a message in each line, as `escape_ascii` writes it; `#` begins a comment.
#[must_use]
pub fn lines(text: &str) -> Vec<Vec<u8>> {
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(unescape).collect()
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = line.bytes();
    let mut out = Vec::new();
    while let Some(byte) = bytes.next() {
        out.push(
            match (byte, if byte == b'\\' { bytes.next() } else { None }) {
                (_, Some(b'n')) => b'\n',
                (_, Some(b'r')) => b'\r',
                (_, Some(b't')) => b'\t',
                (_, Some(b'x')) => {
                    let digits: Vec<u8> = bytes.by_ref().take(2).collect();
                    let digits = std::str::from_utf8(&digits).unwrap_or_default();
                    u8::from_str_radix(digits, 16).unwrap_or(0)
                }
                (_, Some(other)) => other,
                (byte, None) => byte,
            },
        );
    }
    out
}

/// A verdict without what varies: digits, and what it quotes.
fn essence(verdict: &str) -> String {
    let said = verdict.split('`').step_by(2).collect::<String>();
    said.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn place(dice: &mut Rng, length: usize) -> usize {
    usize::try_from(dice.below(length as u64)).unwrap_or(0)
}

/// A piece of `from`: its start and its end.
fn piece(dice: &mut Rng, length: usize) -> (usize, usize) {
    let at = place(dice, length);
    let long = 1 + place(dice, usize::try_from(PIECE).unwrap_or(1));
    (at, length.min(at + long))
}

fn change(input: &mut Vec<u8>, other: &[u8], dice: &mut Rng) {
    let at = place(dice, input.len());
    let edge = dice.pick(&EDGES).unwrap_or(0);
    let (from, to) = piece(dice, input.len());
    let (first, last) = piece(dice, other.len());
    match dice.below(9) {
        0 if !input.is_empty() => input[at] ^= 1 << dice.below(8),
        1 if !input.is_empty() => input[at] = edge,
        2 => input.insert(at, edge),
        3 => drop(input.drain(from..to)),
        4 => {
            let copied = input[from..to].to_vec();
            drop(input.splice(at..at, copied));
        }
        5 => drop(input.splice(at..at, other[first..last].iter().copied())),
        6 => drop(input.splice(from..to, other[first..last].iter().copied())),
        7 => input.truncate(at),
        _ => {
            // A number of several bytes, at an edge.
            let wide = to.min(from + 8);
            input[from..wide].fill(edge);
        }
    }
    input.truncate(LONGEST);
}

/// The verdict, or none if the decoder panicked.
fn judge(target: &Target<'_>, input: &[u8]) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| (target.decode)(input))).ok()
}

/// Leaves out what the panic does not need.
fn shrink(target: &Target<'_>, mut input: Vec<u8>) -> Vec<u8> {
    let mut length = input.len().div_ceil(2);
    let mut tries = 0;
    while length > 0 && tries < SHRINKS {
        let mut at = 0;
        while at < input.len() && tries < SHRINKS {
            tries += 1;
            let mut less = input.clone();
            less.drain(at..less.len().min(at + length));
            if judge(target, &less).is_none() {
                input = less;
            } else {
                at += length;
            }
        }
        length /= 2;
    }
    input
}

/// Tries the whole corpus, then `inputs` made from it.
///
/// # Errors
/// [`Fatal`], with the smallest input found that makes the decoder panic.
pub fn fuzz(target: &Target<'_>, seed: u64, inputs: u64) -> Result<Walk, Fatal> {
    let mut dice = Rng::new(seed);
    let mut pool = target.corpus.clone();
    let mut verdicts = BTreeSet::new();
    let known = pool.len() as u64;
    for number in 0..known + inputs {
        let one = |dice: &mut Rng| {
            pool.get(place(dice, pool.len()))
                .cloned()
                .unwrap_or_default()
        };
        let mut input = one(&mut dice);
        if number < known {
            input = pool[usize::try_from(number).unwrap_or(0)].clone();
        } else {
            for _ in 0..=dice.below(CHANGES) {
                let other = one(&mut dice);
                change(&mut input, &other, &mut dice);
            }
        }
        match judge(target, &input) {
            None => {
                return Err(Fatal {
                    target: target.name,
                    seed,
                    after: number,
                    input: shrink(target, input),
                });
            }
            Some(verdict) => {
                let is_new = verdicts.insert(essence(&verdict));
                if is_new && number >= known && pool.len() < POOL {
                    pool.push(input);
                }
            }
        }
    }
    let led_on = pool.split_off(target.corpus.len());
    Ok(Walk {
        inputs,
        verdicts,
        led_on,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder with a usual bug: it believes the length in front of a name, if the version is known.
    fn planted(bytes: &[u8]) -> String {
        let [version, length, rest @ ..] = bytes else {
            return "short".to_owned();
        };
        match version {
            3 => format!("a name of {} bytes", rest[..usize::from(*length)].len()),
            _ => format!("version {version}"),
        }
    }

    /// A decoder whose bug is two steps deep: nothing tells of the way but its verdicts.
    fn deep(bytes: &[u8]) -> String {
        match bytes {
            [b'a', b'b', b'c', 0xff, ..] => panic!("on purpose"),
            [b'a', b'b', b'c', ..] => "three".to_owned(),
            [b'a', b'b', ..] => "two".to_owned(),
            [b'a', ..] => "one".to_owned(),
            _ => "none".to_owned(),
        }
    }

    /// Goal: a planted bug is found, from good messages alone, and told as small as it can be.
    #[test]
    fn decoder_that_believes_a_length_is_caught() {
        let corpus = vec![b"\x03\x04name".to_vec(), b"\x03\x00".to_vec()];
        for seed in 0..20 {
            let target = Target {
                name: "planted",
                corpus: corpus.clone(),
                decode: &planted,
            };
            let fatal = fuzz(&target, seed, 10_000).unwrap_err();
            assert!(fatal.after < 1_000, "{fatal}");
            assert_eq!((fatal.input[0], fatal.input.len()), (3, 2), "{fatal}");
        }
    }

    /// Goal: verdicts lead the way to a bug that chance alone would not find in this time.
    #[test]
    fn verdicts_lead_to_a_deep_bug() {
        let target = Target {
            name: "deep",
            corpus: vec![b"zcbz".to_vec()],
            decode: &deep,
        };
        let found = (0..5)
            .filter(|seed| fuzz(&target, *seed, 400_000).is_err())
            .count();
        assert!(found >= 4, "{found} of 5");
    }

    /// Goal: a line of the corpus is the input that was told, byte for byte.
    #[test]
    fn corpus_lines_are_what_was_told() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&all.escape_ascii().to_string()), all);
        assert_eq!(lines("# said why\n\na\\x00b\n"), vec![b"a\0b".to_vec()]);
    }

    /// Goal: the same seed makes the same inputs.
    #[test]
    fn same_seed_same_walk() {
        let target = |decode| Target {
            name: "x",
            corpus: vec![b"\x03\x01n".to_vec()],
            decode,
        };
        let known = |bytes: &[u8]| format!("{:?}", bytes.first());
        let walk = |seed| fuzz(&target(&known), seed, 500);
        assert_eq!(walk(7), walk(7));
    }
}
