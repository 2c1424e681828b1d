//! Hides what is not code: comments, strings and characters become blanks of the same length.
//!
//! So a brace in a string is no brace, a banned call in a comment is no call, and every place in
//! the mask is the same place in the file.
//!
//! Also tells which lines are tests: whole files by their path, and items under `cfg(test)`.
//! Limits: knows the tokens that hide others and nothing of the grammar; macros are plain text.

/// A Rust file, with its code masked and its test lines known.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub path: &'a str,
    pub text: &'a str,
    /// As long as `text`, line for line, with nothing left but code.
    pub code: String,
    /// For each line, from 0: whether it is part of a test.
    pub is_test: Vec<bool>,
}

impl<'a> Source<'a> {
    pub fn new(path: &'a str, text: &'a str) -> Self {
        let code = mask(text);
        let is_test = test_lines(path, &code);
        Self {
            path,
            text,
            code,
            is_test,
        }
    }

    /// Whether line `number`, from 1, is part of a test.
    pub fn in_test(&self, number: usize) -> bool {
        self.is_test
            .get(number.wrapping_sub(1))
            .copied()
            .unwrap_or(false)
    }
}

/// The line, from 1, that byte `at` of `text` is in.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// Places at which `word` stands in `code` as a word of its own. Ends of `word` that are no
/// letters (as in `todo!(`) match anything beside them.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    let starts = is_name(word.bytes().next());
    let ends = is_name(word.bytes().next_back());
    code.match_indices(word).filter_map(move |(at, _)| {
        let bytes = code.as_bytes();
        let before = at.checked_sub(1).and_then(|i| bytes.get(i)).copied();
        let after = bytes.get(at + word.len()).copied();
        let cut = (starts && is_name(before)) || (ends && is_name(after));
        (!cut).then_some(at)
    })
}

/// The place behind the bracket that closes the one at `open`.
pub(super) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// From `from` on, the first `{` or `;` that is not inside brackets: where an item's body starts
/// or the item ends without one.
pub(super) fn body_or_end(code: &str, from: usize) -> Option<(usize, u8)> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            b'{' | b';' if depth == 0 => return Some((at, byte)),
            _ => {}
        }
    }
    None
}

fn test_lines(path: &str, code: &str) -> Vec<bool> {
    let count = code.lines().count();
    let is_file = path.starts_with("tests/")
        || path.starts_with("bench/")
        || path.contains("/tests/")
        || path.contains("/examples/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
        || code.contains("#![cfg(test)]");
    let mut lines = vec![is_file; count];
    for marker in ["#[cfg(test)]", "#[cfg(all(test", "#[cfg(any(test"] {
        for (at, _) in code.match_indices(marker) {
            let Some(after) = closing(code, at + 1) else {
                continue;
            };
            let end = match body_or_end(code, after) {
                Some((open, b'{')) => closing(code, open).unwrap_or(code.len()),
                Some((end, _)) => end + 1,
                None => code.len(),
            };
            let (first, last) = (line_of(code, at), line_of(code, end));
            for line in lines.iter_mut().take(last).skip(first - 1) {
                *line = true;
            }
        }
    }
    lines
}

fn mask(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = Vec::with_capacity(bytes.len());
    while let Some(rest) = bytes.get(code.len()..).filter(|rest| !rest.is_empty()) {
        let previous = code.last().copied();
        let hidden = hidden_length(rest, previous);
        if hidden == 0 {
            code.extend(rest.first());
            continue;
        }
        let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
        code.extend(rest.iter().take(hidden).map(blank));
    }
    // Only whole characters were blanked, so this loses nothing.
    String::from_utf8_lossy(&code).into_owned()
}

/// How many bytes from the start of `rest` are comment or literal: 0 where code goes on.
fn hidden_length(rest: &[u8], previous: Option<u8>) -> usize {
    let in_name = previous.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match rest {
        [b'/', b'/', ..] => rest.iter().take_while(|b| **b != b'\n').count(),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', ..] => character(rest),
        [b'r' | b'b' | b'c', ..] if !in_name => prefixed(rest),
        _ => 0,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match rest.get(at..) {
            Some([b'/', b'*', ..]) => {
                depth += 1;
                at += 2;
            }
            Some([b'*', b'/', ..]) => {
                depth = depth.saturating_sub(1);
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            Some([_, ..]) => at += 1,
            _ => return rest.len(),
        }
    }
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while let Some(byte) = rest.get(at) {
        match *byte {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal; 0 for a lifetime or a label.
fn character(rest: &[u8]) -> usize {
    match rest {
        [_, b'\\', ..] => quoted(rest, b'\''),
        [_, first, ..] => {
            let width = match first {
                0xF0.. => 4,
                0xE0.. => 3,
                0xC0.. => 2,
                _ => 1,
            };
            if rest.get(1 + width) == Some(&b'\'') {
                width + 2
            } else {
                0
            }
        }
        _ => 0,
    }
}

/// A literal with a prefix: raw, byte and C strings, byte characters. 0 if it is a name.
fn prefixed(rest: &[u8]) -> usize {
    let letters = rest
        .iter()
        .take(2)
        .take_while(|b| matches!(b, b'r' | b'b' | b'c'))
        .count();
    let behind = rest.get(letters..).unwrap_or_default();
    let is_raw = rest.iter().take(letters).any(|b| *b == b'r');
    if !is_raw {
        return match behind {
            [b'"', ..] => letters + quoted(behind, b'"'),
            [b'\'', ..] if rest.first() == Some(&b'b') => letters + quoted(behind, b'\''),
            _ => 0,
        };
    }
    let hashes = behind.iter().take_while(|b| **b == b'#').count();
    if behind.get(hashes) != Some(&b'"') {
        return 0;
    }
    let content = letters + hashes + 1;
    let mut close = vec![b'#'; hashes + 1];
    if let Some(first) = close.first_mut() {
        *first = b'"';
    }
    let found = rest
        .get(content..)
        .unwrap_or_default()
        .windows(close.len())
        .position(|window| window == close);
    found.map_or(rest.len(), |at| content + at + close.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: nothing that is not code can look like code, and places stay where they were.
    /// Method: each kind of comment and literal with a brace in it; the braces left are real.
    #[test]
    fn braces_in_comments_and_literals_disappear_and_lines_stay() {
        let text = concat!(
            "fn a<'x>(s: &'x str) { // {\n",
            "/* { /* { */ { */ let c = '{'; let q = '\\''; let e = '\u{e9}';\n",
            "let s = \"{\\\"{\n{\"; let r = r#\"{\"{\"#; let b = b\"{\"; let d = b'{';\n",
            "let f = br##\"{\"#{\"##; let n = r#fn; 'l: loop { break 'l; }\n",
            "}\n"
        );
        let code = mask(text);
        assert_eq!(code.len(), text.len());
        assert_eq!(code.matches('\n').count(), text.matches('\n').count());
        assert_eq!(code.matches('{').count(), 2, "{code}");
        assert_eq!(code.matches('}').count(), 2, "{code}");
        assert!(code.contains("let n = r#fn; 'l: loop"), "{code}");
    }

    /// Goal: rules that spare tests know where tests are.
    /// Method: code, a test module, an item that ends in a semicolon, code.
    #[test]
    fn items_under_cfg_test_are_test_lines_and_nothing_else_is() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n\
                    #[cfg(test)]\nuse d::[e; 1];\nfn f() {}\n";
        let source = Source::new("x/src/a.rs", text);
        let tests: Vec<usize> = (1..=9).filter(|n| source.in_test(*n)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 7, 8]);
        assert!(Source::new("x/tests/a.rs", text).in_test(1));
        assert!(Source::new("x/src/a/tests.rs", text).in_test(1));
    }

    /// Goal: a word is found as a word only.
    /// Method: the word alone, inside others, with punctuation at its end.
    #[test]
    fn words_are_found_whole() {
        let places = |text, word| words(text, word).collect::<Vec<_>>();
        assert_eq!(places("unsafe_code unsafe {", "unsafe"), [12]);
        assert_eq!(places("my_std::fs std::fs::read", "std::fs"), [11]);
        assert_eq!(places("rng() brng( rng(x)", "rng("), [0, 12]);
    }
}
