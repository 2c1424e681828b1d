//! What is wrong with a configuration file, where, and what to do about it.
//!
//! A file is read to its end before anything is said, so that one run of `rais check` shows every
//! mistake. Each is printed as `FILE:LINE:COL: what is wrong; what to do`, which editors jump to,
//! followed by the line and a caret.
//!
//! Limits: columns count characters, not bytes or cells; a long line is cut to a window around the
//! caret; control characters are shown as `?`, since the file may not be a friend of the terminal.

use std::fmt::{self, Write as _};
use std::ops::Range;

/// Most mistakes kept for one file. More than a screenful helps nobody, and a random megabyte may
/// hold a million.
pub const MAX_DIAGNOSTICS: usize = 50;

/// Characters of a source line that are shown around the caret.
const WINDOW: usize = 100;

/// One mistake in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Line, from 1. 0: the mistake is about the file as a whole (it can't be read).
    pub line: usize,
    /// Column in characters, from 1. 0 together with line 0.
    pub column: usize,
    /// What is wrong, in lower case, without a full stop.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    snippet: String,
    caret: Range<usize>,
}

impl Diagnostic {
    /// `LINE:COL: what is wrong; what to do`, without the file's name and the source line.
    pub fn headline(&self) -> String {
        if self.line == 0 {
            return format!("{}; {}", self.what, self.remedy);
        }
        format!(
            "{}:{}: {}; {}",
            self.line, self.column, self.what, self.remedy
        )
    }
}

/// All mistakes found in one file, in the order of the file; never empty when returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    file: String,
    found: Vec<Diagnostic>,
    left_off: usize,
}

impl std::error::Error for Diagnostics {}

impl Diagnostics {
    /// The mistakes, in the order of the file.
    pub fn found(&self) -> &[Diagnostic] {
        &self.found
    }

    /// The name of the file, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// A file that can't be read at all.
    pub fn unreadable(file: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let found = vec![Diagnostic {
            line: 0,
            column: 0,
            what: what.into(),
            remedy: remedy.into(),
            snippet: String::new(),
            caret: 0..0,
        }];
        Self {
            file: file.to_owned(),
            found,
            left_off: 0,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_char('\n')?;
            }
            let gap = if one.line == 0 { " " } else { "" };
            write!(f, "{}:{gap}{}", self.file, one.headline())?;
            if one.line > 0 {
                let number = one.line.to_string();
                let margin = " ".repeat(number.len());
                let before = " ".repeat(one.caret.start);
                let carets = "^".repeat(one.caret.len().max(1));
                write!(
                    f,
                    "\n {number} | {}\n {margin} | {before}{carets}",
                    one.snippet
                )?;
            }
        }
        if self.left_off > 0 {
            write!(
                f,
                "\n{}: and {} more; mend these first",
                self.file, self.left_off
            )?;
        }
        Ok(())
    }
}

/// Collects the mistakes of one file while it is being read.
pub(crate) struct Report<'s> {
    source: &'s str,
    found: Vec<(usize, Diagnostic)>,
    left_off: usize,
}

impl<'s> Report<'s> {
    /// An empty report on `source`.
    pub(crate) fn new(source: &'s str) -> Self {
        Self {
            source,
            found: Vec::new(),
            left_off: 0,
        }
    }

    /// Adds a mistake at the bytes `span` of the source.
    pub(crate) fn add(
        &mut self,
        span: Range<usize>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if self.is_full() {
            self.left_off += 1;
            return;
        }
        let place = Place::of(self.source, &span);
        let diagnostic = Diagnostic {
            line: place.line,
            column: place.column,
            what: printable(&what.into()),
            remedy: printable(&remedy.into()),
            snippet: place.snippet,
            caret: place.caret,
        };
        self.found.push((span.start, diagnostic));
    }

    /// Whether further mistakes are only counted, so that nobody needs to word them.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MAX_DIAGNOSTICS
    }

    /// The line, from 1, of the byte at `offset`; 0 when the report is full, to save the search.
    pub(crate) fn line_of(&self, offset: usize) -> usize {
        if self.is_full() {
            return 0;
        }
        Place::of(self.source, &(offset..offset)).line
    }

    /// How many mistakes were found so far.
    pub(crate) fn count(&self) -> usize {
        self.found.len() + self.left_off
    }

    /// Whether nothing was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// The mistakes in the order of the file.
    pub(crate) fn finish(mut self, file: &str) -> Diagnostics {
        self.found.sort_by_key(|(start, _)| *start);
        Diagnostics {
            file: file.to_owned(),
            found: self.found.into_iter().map(|(_, one)| one).collect(),
            left_off: self.left_off,
        }
    }
}

/// Where a span lies, and what of its line is shown.
struct Place {
    line: usize,
    column: usize,
    snippet: String,
    caret: Range<usize>,
}

impl Place {
    fn of(source: &str, span: &Range<usize>) -> Self {
        let start = source.floor_char_boundary(span.start);
        let end = source.floor_char_boundary(span.end).max(start);
        let head = source.get(..start).unwrap_or_default();
        let tail = source.get(start..).unwrap_or_default();
        let line = head.matches('\n').count() + 1;
        let line_start = head.rfind('\n').map_or(0, |at| at + 1);
        let line_end = tail.find('\n').map_or(source.len(), |at| start + at);
        let column0 = source
            .get(line_start..start)
            .unwrap_or_default()
            .chars()
            .count();
        let width = source
            .get(start..end.min(line_end))
            .unwrap_or_default()
            .chars()
            .count();
        let text = source
            .get(line_start..line_end)
            .unwrap_or_default()
            .trim_end();
        let skip = if column0 > WINDOW * 3 / 4 {
            column0 - WINDOW / 2
        } else {
            0
        };
        let snippet = printable(&text.chars().skip(skip).take(WINDOW).collect::<String>());
        let from = column0 - skip;
        let caret = from..(from + width).min(WINDOW).max(from);
        Self {
            line,
            column: column0 + 1,
            snippet,
            caret,
        }
    }
}

/// `text` with each control character shown as `?`, tabs as one space so that the caret stays put.
fn printable(text: &str) -> String {
    let clean = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a mistake can be jumped to and seen without opening the file.
    /// Method: one mistake in the second line, behind a tab and an umlaut.
    #[test]
    fn shows_file_line_column_and_a_caret() {
        let source = "a = 1\n\tö = bad\n";
        let mut report = Report::new(source);
        report.add(12..15, "wrong", "do right");
        let text = report.finish("x.toml").to_string();
        assert_eq!(
            text,
            "x.toml:2:6: wrong; do right\n 2 |  ö = bad\n   |      ^^^"
        );
    }

    /// Goal: neither offsets off the end nor inside a character panic.
    /// Method: every pair of offsets of a short text with wide characters, and beyond.
    #[test]
    fn takes_any_offset() {
        let source = "ä\n日本\n\u{7}";
        for start in 0..source.len() + 3 {
            for end in 0..source.len() + 3 {
                let mut report = Report::new(source);
                report.add(start..end, "w", "r");
                assert!(!report.finish("f").to_string().contains('\u{7}'));
            }
        }
    }

    /// Goal: a hopeless file gives a bounded report.
    /// Method: twice as many mistakes as are kept, on a very long line.
    #[test]
    fn bounds_the_number_of_mistakes_and_the_width() {
        let source = "x".repeat(100_000);
        let mut report = Report::new(&source);
        for at in 0..MAX_DIAGNOSTICS * 2 {
            report.add(at * 100..at * 100 + 5_000, "w", "r");
        }
        let all = report.finish("f");
        assert_eq!(all.found().len(), MAX_DIAGNOSTICS);
        let text = all.to_string();
        assert!(text.ends_with("and 50 more; mend these first"), "{text}");
        assert!(text.lines().all(|line| line.len() < 300));
    }
}
