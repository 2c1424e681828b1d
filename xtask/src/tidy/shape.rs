//! Sizes and headers: a file says what it is, and file and function can be read in one go.

use super::Violation;
use super::mask::{Source, body_or_end, closing, line_of, words};

/// Most lines of a file. 200 is the aim.
const MAX_FILE_LINES: usize = 800;
/// Most lines of a function, from `fn` to its closing brace: one screen. 10 is the aim.
const MAX_FUNCTION_LINES: usize = 70;
/// Most lines of a test: half of it may be a table, whose rows are data.
const MAX_TEST_LINES: usize = 2 * MAX_FUNCTION_LINES;
/// Most lines of a module header.
const MAX_HEADER_LINES: usize = 15;

pub(super) fn check(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    found.extend(header(source));
    let lines = source.text.lines().count();
    if lines > MAX_FILE_LINES {
        found.push(Violation::new(
            source.path,
            MAX_FILE_LINES + 1,
            format!("the file has {lines} lines, {MAX_FILE_LINES} are the most"),
            "split it by what changes together; around 200 lines read well",
        ));
    }
    found.extend(functions(source));
    found
}

fn header(source: &Source<'_>) -> Option<Violation> {
    let is_header = |line: &&str| line.starts_with("//!");
    let length = source.text.lines().take_while(is_header).count();
    let what = if length == 0 {
        "the file starts without a module header".to_owned()
    } else if length > MAX_HEADER_LINES {
        format!("the module header has {length} lines, {MAX_HEADER_LINES} are the most")
    } else {
        return None;
    };
    Some(Violation::new(
        source.path,
        1,
        what,
        "`//!` lines first: what it is, why so and not the obvious way, its limits; \
         the rest belongs into docs/",
    ))
}

fn functions<'a>(source: &'a Source<'_>) -> impl Iterator<Item = Violation> + 'a {
    let code = &source.code;
    words(code, "fn").filter_map(move |at| {
        let name = code.get(at + 2..)?.trim_start();
        let name: String = name
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        // `fn(` is a type.
        if name.is_empty() {
            return None;
        }
        let (open, b'{') = body_or_end(code, at)? else {
            return None;
        };
        let end = closing(code, open)?;
        let first = line_of(code, at);
        let lines = 1 + line_of(code, end - 1) - first;
        let most = if source.in_test(first) {
            MAX_TEST_LINES
        } else {
            MAX_FUNCTION_LINES
        };
        (lines > most).then(|| {
            Violation::new(
                source.path,
                first,
                format!("`{name}` has {lines} lines, {most} are the most"),
                "keep the decisions here and move each step into a function with a name",
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, String)> {
        check(&Source::new("x/src/a.rs", text))
            .into_iter()
            .map(|v| (v.line, v.what))
            .collect()
    }

    /// Goal: a header is there and short.
    /// Method: none, the longest that is allowed, one line more.
    #[test]
    fn header_is_asked_for_and_bounded() {
        assert_eq!(found("use a;\n")[0].0, 1);
        assert_eq!(found(&"//! x\n".repeat(15)), []);
        assert!(found(&"//! x\n".repeat(16))[0].1.contains("16 lines"));
    }

    /// Goal: files and functions are measured to the line.
    /// Method: a file and a function at the bound and one line beyond; trait methods, function
    /// pointers and array types in a signature must not confuse the measure.
    #[test]
    fn long_files_and_functions_are_named() {
        let file = |lines: usize| format!("//! x\n{}", "//\n".repeat(lines - 1));
        assert_eq!(found(&file(800)), []);
        assert_eq!(found(&file(801))[0].0, 801);

        let function = |lines: usize| {
            format!(
                "//! x\ntrait T {{ fn t(&self) -> fn(u8); }}\n\
                 fn long(\n    a: [u8; 4],\n) -> [u8; 4]\nwhere\n    A: B,\n{{\n{}}}\n",
                "    // {\n".repeat(lines - 7)
            )
        };
        assert_eq!(found(&function(70)), []);
        let long = found(&function(71));
        assert_eq!((long.len(), long[0].0), (1, 3), "{long:?}");
        assert!(long[0].1.contains("`long` has 71 lines"), "{long:?}");
    }
}
