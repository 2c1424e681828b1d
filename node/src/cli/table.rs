//! A table of words in aligned columns.
//!
//! What a daemon sent may hold anything, so each cell is freed of control characters: no answer
//! can play with the terminal. Width counts characters; our words are ASCII but for a dash.

use super::style::{Style, Tone};

/// One cell.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// A cell with a tone.
pub(crate) fn toned(tone: Tone, text: impl AsRef<str>) -> Cell {
    Cell {
        text: clean(text.as_ref()),
        tone,
    }
}

/// A cell without one.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    toned(Tone::Plain, text)
}

/// A cell that may be empty, shown as a dash.
pub(crate) fn optional<T: ToString>(value: Option<T>) -> Cell {
    value.map_or_else(|| toned(Tone::Dim, "-"), |value| cell(value.to_string()))
}

/// `text` without control characters.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Rows under a header, columns aligned, two spaces between them; `empty` when there are no rows.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>], empty: &str, style: Style) -> String {
    if rows.is_empty() {
        return format!("{}\n", style.paint(Tone::Dim, empty));
    }
    let head: Vec<Cell> = header
        .iter()
        .map(|name| toned(Tone::Strong, name))
        .collect();
    let width = |column: usize| {
        let cells = std::iter::once(&head)
            .chain(rows)
            .filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (index, (one, width)) in row.iter().zip(&widths).enumerate() {
            line.push_str(&style.paint(one.tone, &one.text));
            if index + 1 < row.len() {
                line.push_str(&" ".repeat(width.saturating_sub(one.text.chars().count()) + 2));
            }
        }
        out.push_str(&line);
        out.push('\n');
    }
    out
}
