//! Documents that name tests: each must exist, and `docs/seed.md` leaves nothing of the seed out.
//!
//! In any document a code span `PATH.rs::NAME` names a test, `tests/scenarios/NAME.txt` a story. Each row
//! of the seed's tables names at least one, and the first cells below each heading hold every part of
//! that figure. The figures are drawings in print, so their steps and fields are listed here.
//!
//! Limits: whether a test proves its row is for people to say.

use super::Violation;
use super::mask::words;
use super::tree::File;

/// The page with the tables.
const PAGE: &str = "docs/seed.md";
/// What each figure shows, by the heading of its table; `;` between the parts.
const FIGURES: [(&str, &str); 17] = [
    (
        "Figure 1A, 1B",
        "host 10;processors 32;memory 34;daemon 20;network services 30A, 30B;\
         service monitor SM1, SM2;test object TO1, TO2, TO3;load object LO1, LO2",
    ),
    (
        "Figure 2A",
        "service group 100;network 110;service group address 105",
    ),
    (
        "Figure 2B",
        "message seq number;message type;my host information;other host information;\
         service address db",
    ),
    (
        "Figure 2C",
        "id address;control addresses;ok;quiesce;load;capacity;service addresses",
    ),
    (
        "Figure 2D",
        "service address;state: releasing, acquiring, online",
    ),
    ("Figure 3", "300;305;310;320;330;350;360;370;380"),
    ("Figure 4A", "400;402;404;406;408;410"),
    ("Figure 4B", "412;414;416;418;420;422;424;426"),
    ("Figure 4C", "432;434;436;440;442;444"),
    ("Figure 4D", "450;452;454"),
    ("Figure 5A", "500;502;504;506;508;510;512;514;516"),
    ("Figure 5B", "530;532;534;536;538;540;542;544;546"),
    ("Figure 5C", "560;562;564;566;568;570"),
    ("Figure 6A", "600;602;604;606;608;610"),
    (
        "Figure 6B",
        "set of states;preferred id address;served by preferred;id addresses",
    ),
    ("Figure 6C", "service address;util;weighted util"),
    ("Claims", "1;2;3;4;5;6;7"),
];

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let pages = files.iter().filter(|file| file.path.ends_with(".md"));
    let mut found: Vec<Violation> = pages.flat_map(|page| lost(page, files)).collect();
    let page = files.iter().find(|file| file.path == PAGE);
    found.extend(gaps(page.and_then(File::text).unwrap_or_default()));
    found
}

/// Stories are text files; a folder or a pattern names none.
fn is_story(span: &str) -> bool {
    let name = span.strip_prefix("tests/scenarios/");
    name.is_some_and(|name| name.ends_with(".txt") && !name.contains('*'))
}

/// The test or story that a code span names: its file, and its name if it is a test.
fn named(span: &str) -> Option<(&str, Option<&str>)> {
    match span.split_once("::") {
        Some((path, name)) if path.ends_with(".rs") => Some((path, Some(name))),
        None if is_story(span) => Some((span, None)),
        _ => None,
    }
}

/// The code spans of a line that name a test or a story.
fn proofs(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(|span| named(span).is_some())
}

/// Tests and stories that a page names and that are not there.
fn lost(page: &File, files: &[File]) -> Vec<Violation> {
    let is_there = |span: &str| {
        let (path, name) = named(span)?;
        let text = files.iter().find(|file| file.path == path)?.text()?;
        name.is_none_or(|name| has_test(text, name)).then_some(())
    };
    let lines = (1..).zip(page.text().unwrap_or_default().lines());
    let all = lines.flat_map(|(at, line)| proofs(line).map(move |span| (at, span)));
    let gone = all.filter(|(_, span)| is_there(span).is_none());
    gone.map(|(line, span)| {
        let what = format!("names `{span}`, which is not there");
        let remedy = "name the test that proves it now";
        Violation::new(&page.path, line, what, remedy)
    })
    .collect()
}

/// Whether `text` has a test of this name.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let named = [format!("fn {name}("), format!("async fn {name}(")];
    let is_it = |line: &&str| named.iter().any(|start| line.starts_with(start));
    let Some(at) = lines.iter().position(is_it) else {
        return false;
    };
    let above = lines.iter().take(at).rev();
    let mut attributes = above.take_while(|line| line.starts_with("#["));
    attributes.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
}

/// Rows of the seed's tables without a test, and parts of its figures without a row.
fn gaps(text: &str) -> Vec<Violation> {
    let lines: Vec<&str> = text.lines().collect();
    let rule = |at: usize| lines.get(at).is_some_and(|line| line.starts_with("| ---"));
    let (mut figure, mut cells, mut found) = ("", Vec::new(), Vec::new());
    for (at, line) in lines.iter().enumerate() {
        figure = line.strip_prefix("## ").unwrap_or(figure);
        // The head of a table stands above its rule.
        if !line.starts_with("| ") || rule(at) || rule(at + 1) {
            continue;
        }
        cells.extend(line.split('|').nth(1).map(|cell| (figure, cell)));
        if proofs(line).next().is_none() {
            let remedy = "write the smallest test that is real, and name it";
            found.push(Violation::new(PAGE, at + 1, "a row without a test", remedy));
        }
    }
    let has = |heading: &str, part: &str| {
        let below = |figure: &str| figure.split(": ").next() == Some(heading);
        let mut cells = cells.iter().filter(|(figure, _)| below(figure));
        cells.any(|(_, cell)| words(cell, part).next().is_some())
    };
    for (heading, parts) in FIGURES {
        for part in parts.split(';').filter(|part| !has(heading, part)) {
            let what = format!("{heading} of the seed shows `{part}`, and no row names it");
            found.push(Violation::new(PAGE, 1, what, "add it, with its test"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }
    }

    /// Goal: a page may name tests and stories that are there, and nothing else as one.
    /// Method: a test, a helper beside it, a lost test, a lost file, a story, a pattern.
    #[test]
    fn what_a_page_names_must_be_a_test() {
        let code = "fn helper() {}\n/// Goal\n#[test]\n#[cfg(unix)]\nfn it_holds() {}\n";
        let page = "`a/b.rs::it_holds`\n`a/b.rs::helper`\n`a/b.rs::gone`\n`c.rs::it_holds`\n\
                    `tests/scenarios/one.txt` `tests/scenarios/*.txt`\n`tests/scenarios/two.txt`\n";
        let files = [
            file("a/b.rs", code),
            file("docs/x.md", page),
            file("tests/scenarios/one.txt", ""),
        ];
        let lost = lost(&files[1], &files);
        let lines: Vec<usize> = lost.iter().map(|one| one.line).collect();
        assert_eq!(lines, [2, 3, 4, 6]);
    }

    /// Goal: each row has a test, and each part of a figure a row below its heading.
    /// Method: a table of one figure, with a bare row, a missing step, and one that is elsewhere.
    #[test]
    fn a_part_without_a_row_and_a_row_without_a_test_are_told() {
        let page = "## Figure 4D: info\n| seed | proof |\n| --- | --- |\n| 450 update | `a.rs::b` |\n\
                    | 454 return | none |\n## Figure 5A: scripts\n| seed | proof |\n| --- | --- |\n\
                    | 452 | `a.rs::b` |\n";
        let found = gaps(page);
        assert_eq!(
            (found[0].line, found[0].what.as_str()),
            (5, "a row without a test")
        );
        let of_4d: Vec<&str> = found
            .iter()
            .filter(|one| one.what.starts_with("Figure 4D "))
            .map(|one| one.what.as_str())
            .collect();
        assert_eq!(
            of_4d,
            ["Figure 4D of the seed shows `452`, and no row names it"]
        );
    }
}
