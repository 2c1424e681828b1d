//! Takes a TOML table apart key by key, keeping the place of everything it takes.
//!
//! serde stops at the first mistake and knows little of places, so the tables are walked by hand:
//! each getter reports what it refuses and answers `None`, and the reader goes on with the next
//! key. What a caller built from `None`s is thrown away when the report isn't clean.
//!
//! Limits: the nesting depth is the TOML parser's (80).

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Report;
use super::scalar::Complaint;

/// A value and where it stood.
#[derive(Clone, Debug)]
pub(crate) struct Placed<T> {
    pub(crate) value: T,
    pub(crate) span: Range<usize>,
}

/// An item of an array.
pub(crate) enum Item<'a, 'i> {
    /// A string.
    Text(Placed<String>),
    /// A table.
    Table(Section<'a, 'i>),
}

/// One table: its keys, its place, and the keys that it may have.
pub(crate) struct Section<'a, 'i> {
    table: &'a DeTable<'i>,
    /// Where the table's header (or the inline table) stands; empty for the root.
    pub(crate) span: Range<usize>,
    /// How messages call it: `[control]`, or `the top of the file`.
    pub(crate) title: String,
}

/// What a key of the wrong kind is called.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

impl<'a, 'i> Section<'a, 'i> {
    /// Opens `table` and reports each key that is not among `known`. `elsewhere` names keys of the
    /// file's top, which people often write below a header by mistake.
    pub(crate) fn open(
        table: &'a DeTable<'i>,
        span: Range<usize>,
        title: impl Into<String>,
        known: &[&str],
        elsewhere: &[&str],
        report: &mut Report<'_>,
    ) -> Self {
        let title = title.into();
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let remedy = if report.is_full() {
                    String::new()
                } else {
                    unknown_remedy(name, known, elsewhere)
                };
                report.add(
                    key.span(),
                    format!("unknown key `{name}` in {title}"),
                    remedy,
                );
            }
        }
        Self { table, span, title }
    }

    /// The value under `key`.
    fn get(&self, key: &str) -> Option<&'a Spanned<DeValue<'i>>> {
        self.table.get(key)
    }

    /// Whether `key` is there at all.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Where the key's value stands, or the section's header when it is missing.
    pub(crate) fn span_of(&self, key: &str) -> Range<usize> {
        self.get(key).map_or(self.span.clone(), Spanned::span)
    }

    /// Reports that `key` is missing.
    pub(crate) fn missing(&self, key: &str, example: &str, report: &mut Report<'_>) {
        report.add(
            self.span.clone(),
            format!("`{key}` is missing in {}", self.title),
            format!("add `{example}`"),
        );
    }

    /// Reports that `key` has a value of the wrong kind.
    fn wrong(
        &self,
        key: &str,
        value: &Spanned<DeValue<'i>>,
        wanted: &str,
        report: &mut Report<'_>,
    ) {
        let what = format!("`{key}` is {}", kind(value.get_ref()));
        report.add(value.span(), what, format!("write {wanted}"));
    }

    /// A string, read by `parse`.
    pub(crate) fn text<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
        report: &mut Report<'_>,
    ) -> Option<Placed<T>> {
        let value = self.get(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong(key, value, wanted, report);
            return None;
        };
        accept(parse(text), value.span(), report)
    }

    /// A string that has to be there, read by `parse`.
    pub(crate) fn need<T>(
        &self,
        key: &str,
        example: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
        report: &mut Report<'_>,
    ) -> Option<Placed<T>> {
        if !self.has(key) {
            self.missing(key, &format!("{key} = {example}"), report);
        }
        self.text(key, &format!("a string, such as {example}"), parse, report)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&self, key: &str, report: &mut Report<'_>) -> Option<bool> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false, without quotes", report);
        }
        flag
    }

    /// A whole number within `range`.
    pub(crate) fn number(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u64>,
        report: &mut Report<'_>,
    ) -> Option<Placed<u64>> {
        let value = self.get(key)?;
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong(key, value, &wanted, report);
            return None;
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(Placed {
                value: number,
                span: value.span(),
            }),
            _ => {
                let what = format!("`{key}` is {}, out of range", shorten(integer.as_str()));
                report.add(value.span(), what, format!("write {wanted}"));
                None
            }
        }
    }

    /// The items of an array. None when missing, or when it is something else, which is told.
    fn items(
        &self,
        key: &str,
        wanted: &str,
        report: &mut Report<'_>,
    ) -> impl Iterator<Item = &'a Spanned<DeValue<'i>>> + use<'a, 'i> {
        let value = self.get(key);
        let array = value.and_then(|value| value.get_ref().as_array());
        if let (Some(value), None) = (value, array) {
            self.wrong(key, value, &format!("a list: {key} = [{wanted}]"), report);
        }
        array.into_iter().flat_map(|array| array.iter())
    }

    /// An array of strings, each read by `parse`; a refused one is left out. Empty when missing.
    pub(crate) fn list<T>(
        &self,
        key: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Result<T, Complaint>,
        report: &mut Report<'_>,
    ) -> Vec<Placed<T>> {
        let mut taken = Vec::new();
        for item in self.items(key, wanted, report) {
            match item.get_ref().as_str() {
                Some(text) => taken.extend(accept(parse(text), item.span(), report)),
                None => {
                    let what = format!("`{key}` holds {}", kind(item.get_ref()));
                    report.add(
                        item.span(),
                        what,
                        format!("write strings: {key} = [{wanted}]"),
                    );
                }
            }
        }
        taken
    }

    /// An array whose items are strings or tables. Empty when missing.
    pub(crate) fn mixed(
        &self,
        key: &str,
        wanted: &str,
        known: &[&str],
        report: &mut Report<'_>,
    ) -> Vec<Item<'a, 'i>> {
        let mut taken = Vec::new();
        for item in self.items(key, wanted, report) {
            let span = item.span();
            match item.get_ref() {
                DeValue::String(text) => taken.push(Item::Text(Placed {
                    value: text.to_string(),
                    span,
                })),
                DeValue::Table(table) => {
                    let section =
                        Section::open(table, span, format!("`{key}`"), known, &[], report);
                    taken.push(Item::Table(section));
                }
                other => report.add(
                    span,
                    format!("`{key}` holds {}", kind(other)),
                    format!("write strings or tables: {key} = [{wanted}]"),
                ),
            }
        }
        taken
    }

    /// A table under `key`: `[key]` or `key = { … }`.
    pub(crate) fn table(
        &self,
        key: &str,
        title: &str,
        known: &[&str],
        elsewhere: &[&str],
        report: &mut Report<'_>,
    ) -> Option<Section<'a, 'i>> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, &format!("a table: {title}"), report);
            return None;
        };
        Some(Section::open(
            table,
            value.span(),
            title,
            known,
            elsewhere,
            report,
        ))
    }

    /// The tables under `key`: `[[key]]` or `key = [{ … }]`. Empty when missing.
    pub(crate) fn tables(
        &self,
        key: &str,
        title: &str,
        known: &[&str],
        elsewhere: &[&str],
        report: &mut Report<'_>,
    ) -> Vec<Section<'a, 'i>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(
                key,
                value,
                &format!("{title} with two brackets on each side, once for each"),
                report,
            );
            return Vec::new();
        };
        let mut taken = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_table() {
                Some(table) => taken.push(Section::open(
                    table,
                    item.span(),
                    title,
                    known,
                    elsewhere,
                    report,
                )),
                None => {
                    let what = format!("`{key}` holds {}", kind(item.get_ref()));
                    report.add(item.span(), what, format!("write tables: {title}"));
                }
            }
        }
        taken
    }
}

/// The value, or `None` after its complaint was reported.
fn accept<T>(
    parsed: Result<T, Complaint>,
    span: Range<usize>,
    report: &mut Report<'_>,
) -> Option<Placed<T>> {
    match parsed {
        Ok(value) => Some(Placed { value, span }),
        Err(no) => {
            report.add(span, no.what, no.remedy);
            None
        }
    }
}

/// A number as it was written, cut if somebody wrote a very long one.
fn shorten(text: &str) -> String {
    if text.chars().count() <= 24 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(24).collect::<String>())
    }
}

/// What to do about a key that isn't known.
fn unknown_remedy(name: &str, known: &[&str], elsewhere: &[&str]) -> String {
    if elsewhere.contains(&name) {
        return "move it to the top of the file, before the first [section]".to_owned();
    }
    if let Some(near) = nearest(name, known) {
        return format!("did you mean `{near}`?");
    }
    if known.is_empty() {
        return "remove it; nothing goes in here".to_owned();
    }
    format!("remove it; known here: {}", known.join(", "))
}

/// The word of `known` that is at most two slips from `name` (one for short words), if any.
pub(crate) fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = if name.chars().count() <= 4 { 1 } else { 2 };
    let near = known
        .iter()
        .map(|word| (distance(name, word), *word))
        .min()?;
    (near.0 <= allowed).then_some(near.1)
}

/// Edit distance in which swapping two neighbours counts as one slip; long names are not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(33).collect(), b.chars().collect());
    if a.len() > 32 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: slips of the finger find their word, other words don't.
    /// Method: one letter lost, doubled, swapped; then strangers.
    #[test]
    fn finds_the_word_that_was_meant() {
        let known = ["listen", "name", "data_dir", "observer"];
        for slip in ["lisen", "listenn", "lsiten"] {
            assert_eq!(nearest(slip, &known), Some("listen"));
        }
        assert_eq!(nearest("datadir", &known), Some("data_dir"));
        assert_eq!(nearest("port", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"listen".repeat(100), &known), None);
    }
}
