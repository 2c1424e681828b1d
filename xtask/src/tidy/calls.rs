//! Who may call what: time, chance, the system and unfinished work.
//!
//! clippy's `disallowed-methods` (in `clippy.toml`) sees through aliases; this knows files and
//! rooms. The words themselves are put together from halves, so that this file is no hit.

use super::Violation;
use super::mask::{Source, line_of, words};

/// The files that read a clock.
const CLOCK_FILES: [&str; 3] = [
    "node/src/clock.rs",
    "host/src/clock.rs",
    "chaos/src/lab/clock.rs",
];
/// The file that draws random numbers.
const RANDOM_FILE: &str = "node/src/random.rs";
/// The one file outside of `host/` that may hold unsafe code: ADR-0022 says why.
const BATCH_FILE: &str = "dns/src/server/batch.rs";
/// The crates without clock, socket, disk, thread or chance.
const PURE_ROOMS: [&str; 3] = ["statemachine/src/", "control/src/", "monitor/src/judge/"];

/// Words that must not stand where `applies` says so.
struct Ban {
    words: &'static [&'static str],
    applies: fn(path: &str, in_test: bool) -> bool,
    what: &'static str,
    remedy: &'static str,
}

fn is_pure(path: &str, in_test: bool) -> bool {
    !in_test && PURE_ROOMS.iter().any(|room| path.starts_with(room))
}

const BANS: [Ban; 9] = [
    Ban {
        words: &["Instant::now", "SystemTime::now", "clock_gettime"],
        applies: |path, in_test| !in_test && !CLOCK_FILES.contains(&path),
        what: "reads a clock",
        remedy: "take `now` as an argument; only node/src/clock.rs and host/src/clock.rs read one",
    },
    Ban {
        words: &[
            "SystemRandom::new",
            "rand::rng",
            "rand::random",
            "thread_rng",
            "OsRng",
            "getrandom",
            "from_os_rng",
            "from_entropy",
        ],
        applies: |path, in_test| !in_test && path != RANDOM_FILE,
        what: "draws a random number",
        remedy: "take it as an argument; only node/src/random.rs draws, so that runs can be repeated",
    },
    Ban {
        words: &["unsafe"],
        applies: |path, _| !path.starts_with("host/") && path != BATCH_FILE,
        what: "unsafe code outside host/",
        remedy: "move the call into host/ behind a safe function, or use rustix",
    },
    Ban {
        words: &[
            "std::time",
            "std::fs",
            "std::thread",
            "std::process",
            "std::env",
            "std::io",
        ],
        applies: is_pure,
        what: "a pure crate reaches for the system",
        remedy: "pure code computes from its arguments: use core::time::Duration for spans, and let \
                 node/ or host/ do the rest",
    },
    Ban {
        words: &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "tokio",
            "tracing",
        ],
        applies: is_pure,
        what: "a pure crate reaches for sockets, runtime or logger",
        remedy: "return a value (an Output, an Effect) and let node/ or host/ act on it",
    },
    Ban {
        words: &["HashMap", "HashSet", "RandomState"],
        applies: is_pure,
        what: "a pure crate depends on an order that differs from process to process",
        remedy: "use BTreeMap or BTreeSet: replicas and simulator must agree",
    },
    Ban {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        applies: is_pure,
        what: "a pure crate prints",
        remedy: "return a value and let the caller show it",
    },
    Ban {
        words: &[
            concat!("to", "do!"),
            concat!("unimple", "mented!"),
            concat!("d", "bg!"),
        ],
        applies: |_, _| true,
        what: "unfinished work",
        remedy: "finish it, return an error that says what is missing, or open an issue",
    },
    Ban {
        words: &[concat!("#[ig", "nore")],
        applies: |_, _| true,
        what: "a test that never runs",
        remedy: "let it run; if it is long, return early unless RAIS_LONG is set and say so",
    },
];

pub(super) fn check(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    for ban in &BANS {
        for word in ban.words {
            for at in words(&source.code, word) {
                let line = line_of(&source.code, at);
                if (ban.applies)(source.path, source.in_test(line)) {
                    let what = format!("{} (`{word}`)", ban.what);
                    found.push(Violation::new(source.path, line, what, ban.remedy));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Source::new(path, text))
            .into_iter()
            .map(|v| v.line)
            .collect()
    }

    /// Goal: the clock is read in its files and in tests, nowhere else.
    /// Method: one call in each kind of place, and in a comment.
    #[test]
    fn clock_is_read_in_its_files_and_in_tests_only() {
        let text = "// Instant::now()\nlet a = Instant::now();\n#[cfg(test)]\nmod t { fn f() { Instant::now(); } }\n";
        assert_eq!(lines("node/src/raft.rs", text), [2]);
        for path in [
            "node/src/clock.rs",
            "host/src/clock.rs",
            "tests/e2e/main.rs",
        ] {
            assert_eq!(lines(path, text), [0; 0], "{path}");
        }
    }

    /// Goal: chance, unsafe code and unfinished work have their places.
    /// Method: each in a place where it may be and in one where it may not.
    #[test]
    fn chance_and_unsafe_code_have_one_place_and_unfinished_work_none() {
        let draw = "let r = ring::rand::SystemRandom::new();";
        assert_eq!(lines("node/src/tls.rs", draw), [1]);
        assert_eq!(lines("node/src/random.rs", draw), [0; 0]);
        let unsafe_block = "#![deny(unsafe_code)]\nunsafe { f() }";
        assert_eq!(lines("node/src/a.rs", unsafe_block), [2]);
        assert_eq!(lines("host/src/a.rs", unsafe_block), [0; 0]);
        let unfinished = concat!("fn f() { to", "do!() }\n#[ig", "nore]");
        assert_eq!(lines("tests/e2e/main.rs", unfinished), [1, 2]);
    }

    /// Goal: pure crates stay pure, and may still name addresses and spans of time.
    /// Method: forbidden and allowed paths in a pure and in an impure crate.
    #[test]
    fn pure_crates_compute_only() {
        let text = "use core::time::Duration;\nuse core::net::IpAddr;\nuse std::fs;\nuse std::collections::HashMap;\n";
        assert_eq!(lines("control/src/plan.rs", text), [3, 4]);
        assert_eq!(lines("statemachine/src/state.rs", text), [3, 4]);
        assert_eq!(lines("node/src/store.rs", text), [0; 0]);
    }
}
