//! What should not be committed: binaries, big files, words of unfinished work, paths of one
//! machine, registries that others can't reach.
//!
//! The patterns are put together from halves, so that this file is no hit.

use super::Violation;
use super::mask::{line_of, words};
use super::tree::File;

/// Most bytes of a file: nothing that people wrote by hand is longer.
const MAX_BYTES: usize = 1024 * 1024;
/// Folders whose files may be binary: stored encodings that must be read for ever.
const BINARY_FOLDERS: [&str; 2] = ["/golden/", "/fuzz-seeds/"];
/// The one registry that a lock file may name.
const CRATES_IO: &str = "\"registry+https://github.com/rust-lang/crates.io-index\"";

/// Beginnings of paths that exist on somebody's machine only.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];
/// Signs that a manifest or a script was bent to one network's mirror.
const REGISTRIES: [&str; 3] = [
    concat!("replace", "-with"),
    concat!("sparse", "+http"),
    concat!("[regis", "tries"),
];
/// Words that say that something is not done.
const UNFINISHED: [&str; 3] = [
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
];

pub(super) fn check(file: &File) -> Vec<Violation> {
    let path = &file.path;
    let mut found = Vec::new();
    if file.bytes.len() > MAX_BYTES {
        found.push(Violation::new(
            path,
            1,
            format!("the file has {} bytes", file.bytes.len()),
            "generate it, or fetch it where it is needed",
        ));
    }
    let Some(text) = file.text() else {
        if !BINARY_FOLDERS.iter().any(|folder| path.contains(folder)) {
            found.push(Violation::new(
                path,
                1,
                "a binary file is committed",
                "commit what it is made from; pictures as SVG; stored encodings under golden/",
            ));
        }
        return found;
    };
    if path.ends_with("Cargo.lock") {
        found.extend(foreign_sources(path, text));
        return found;
    }
    found.extend(unfinished(path, text));
    found.extend(machine_paths(path, text));
    for needle in REGISTRIES {
        found.extend(words(text, needle).map(|at| {
            Violation::new(
                path,
                line_of(text, at),
                format!("names a registry (`{needle}`)"),
                "leave registries to the user's own cargo configuration",
            )
        }));
    }
    found
}

fn foreign_sources<'a>(path: &'a str, text: &'a str) -> impl Iterator<Item = Violation> + 'a {
    let sources = text.lines().enumerate().filter_map(|(at, line)| {
        let source = line.strip_prefix("source = ")?;
        (source != CRATES_IO).then_some((at + 1, source))
    });
    sources.map(move |(line, source)| {
        Violation::new(
            path,
            line,
            format!("a dependency comes from {source}"),
            "take it from crates.io (deny.toml says why)",
        )
    })
}

fn unfinished<'a>(path: &'a str, text: &'a str) -> impl Iterator<Item = Violation> + 'a {
    UNFINISHED.into_iter().flat_map(move |word| {
        words(text, word).map(move |at| {
            Violation::new(
                path,
                line_of(text, at),
                format!("says `{word}`"),
                "do it, or open an issue and say there what is missing",
            )
        })
    })
}

fn machine_paths<'a>(path: &'a str, text: &'a str) -> impl Iterator<Item = Violation> + 'a {
    MACHINE_PATHS.into_iter().flat_map(move |needle| {
        let starts_path = |at: &usize| {
            let before = at.checked_sub(1).and_then(|i| text.as_bytes().get(i));
            // Within a longer path or an address of the web it is a plain word.
            !before.is_some_and(|b| b.is_ascii_alphanumeric() || b"_-.}~*".contains(b))
        };
        let hits = text.match_indices(needle).map(|(at, _)| at);
        hits.filter(starts_path).map(move |at| {
            Violation::new(
                path,
                line_of(text, at),
                format!("names a path of one machine (`{needle}`)"),
                "say it relative to the checkout, or as a place every user has",
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, text: &str) -> Vec<(usize, String)> {
        let file = File {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        check(&file).into_iter().map(|v| (v.line, v.what)).collect()
    }

    /// Goal: what only works on one machine is found, what merely looks so is not.
    /// Method: absolute paths beside relative ones and web addresses.
    #[test]
    fn paths_of_one_machine_are_named() {
        let bad = concat!("fine\nsee /wo", "rk/main/x\n");
        assert_eq!(whats("docs/a.md", bad)[0].0, 2);
        let good = concat!(
            "./wo",
            "rk/x https://a.example/ho",
            "me/ target/wo",
            "rk/y\n"
        );
        assert_eq!(whats("docs/a.md", good), []);
    }

    /// Goal: the lock file names crates.io only.
    /// Method: one good and one foreign source.
    #[test]
    fn foreign_registries_are_named() {
        let lock = format!("source = {CRATES_IO}\nsource = \"git+https://a.example/x\"\n");
        let found = whats("Cargo.lock", &lock);
        assert_eq!((found.len(), found[0].0), (1, 2));
        assert_eq!(whats("a.toml", concat!("replace", "-with = 1\n")).len(), 1);
    }

    /// Goal: binaries and unfinished work stay out; golden files may be binary.
    /// Method: a NUL byte in two places, a word in a document.
    #[test]
    fn binaries_and_words_of_unfinished_work_are_named() {
        assert_eq!(whats("a/b.bin", "\0").len(), 1);
        assert_eq!(whats("statemachine/tests/golden/v1/a.bin", "\0"), []);
        assert_eq!(whats("docs/a.md", concat!("a\nFIX", "ME b\n"))[0].0, 2);
        assert_eq!(whats("a.sh", concat!("mktemp aXX", "XXXX\n")), []);
    }
}
