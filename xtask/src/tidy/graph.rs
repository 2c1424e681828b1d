//! The crates and who may use whom: the manifests must say exactly what `docs/dag.txt` says.
//!
//! Both directions count. An arrow too many in the manifests is a wall broken; one too many in the
//! picture is a picture that lies.
//!
//! Reads the manifests line by line: they are plain, and versions, paths and lints stand in the
//! root alone, which this checks too. Development dependencies are arrows like any other.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::tree::File;

const ROOT: &str = "Cargo.toml";
const PICTURE: &str = "docs/dag.txt";

/// One arrow: who uses, who is used.
type Arrow = (String, String);

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    let Some(root) = text_of(files, ROOT) else {
        return vec![Violation::new(
            ROOT,
            1,
            "there is no root manifest",
            "restore it",
        )];
    };
    let rooms = rooms(root);
    let mut found = Vec::new();
    let mut drawn = BTreeMap::new();
    match text_of(files, PICTURE) {
        Some(picture) => found.extend(read_picture(picture, &mut drawn)),
        None => found.push(Violation::new(
            PICTURE,
            1,
            "the picture of the crates is missing",
            "write one line `a -> b` for each crate that uses another",
        )),
    }
    let mut built = BTreeMap::new();
    for room in members(root) {
        let path = format!("{room}/Cargo.toml");
        if let Some(manifest) = text_of(files, &path) {
            found.extend(read_manifest(&room, &path, manifest, &rooms, &mut built));
        }
    }
    found.extend(compare(&drawn, &built));
    found
}

fn compare(
    drawn: &BTreeMap<Arrow, usize>,
    built: &BTreeMap<Arrow, (String, usize)>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for (arrow @ (from, to), (path, line)) in built {
        if !drawn.contains_key(arrow) {
            found.push(Violation::new(
                path,
                *line,
                format!("`{from}` uses `{to}`, and {PICTURE} does not say so"),
                "do without it; or, if the wall should move, draw the arrow and say why in an ADR",
            ));
        }
    }
    for (arrow @ (from, to), line) in drawn {
        if !built.contains_key(arrow) {
            found.push(Violation::new(
                PICTURE,
                *line,
                format!("`{from} -> {to}` is drawn, but `{from}` does not use `{to}`"),
                "take the line away",
            ));
        }
    }
    found
}

fn text_of<'a>(files: &'a [File], path: &str) -> Option<&'a str> {
    files.iter().find(|file| file.path == path)?.text()
}

fn read_picture(text: &str, drawn: &mut BTreeMap<Arrow, usize>) -> Vec<Violation> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Some((from, to)) = line.split_once(" -> ") {
            drawn.insert((from.trim().to_owned(), to.trim().to_owned()), number);
        } else {
            let what = format!("`{line}` is no arrow");
            found.push(Violation::new(PICTURE, number, what, "write `a -> b`"));
        }
    }
    found
}

/// The folders of the workspace's members.
fn members(root: &str) -> BTreeSet<String> {
    let list = root
        .split_once("\nmembers = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split(',')
        .map(|member| member.trim().trim_matches('"').to_owned())
        .filter(|member| !member.is_empty())
        .collect()
}

/// From the name under which a crate is used to its folder.
fn rooms(root: &str) -> BTreeMap<String, String> {
    entries(root)
        .filter(|entry| entry.section == "workspace.dependencies")
        .filter_map(|entry| {
            let (_, path) = entry.value.split_once("path = \"")?;
            let (path, _) = path.split_once('"')?;
            Some((entry.key.to_owned(), path.to_owned()))
        })
        .collect()
}

fn read_manifest(
    room: &str,
    path: &str,
    manifest: &str,
    rooms: &BTreeMap<String, String>,
    built: &mut BTreeMap<Arrow, (String, usize)>,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut has_lints = false;
    for entry in entries(manifest) {
        if entry.section == "lints" && entry.key == "workspace" && entry.value == "true" {
            has_lints = true;
        }
        if !entry.section.ends_with("dependencies") {
            continue;
        }
        let name = entry.key.split('.').next().unwrap_or_default();
        let inherits =
            entry.key.ends_with(".workspace") || entry.value.contains("workspace = true");
        if !inherits {
            found.push(Violation::new(
                path,
                entry.line,
                format!("`{name}` has a version or path of its own"),
                "say it once in the root's [workspace.dependencies], here `NAME.workspace = true`",
            ));
        }
        if let Some(used) = rooms.get(name) {
            let arrow = (room.to_owned(), used.clone());
            built.insert(arrow, (path.to_owned(), entry.line));
        }
    }
    if !has_lints {
        found.push(Violation::new(
            path,
            1,
            "the crate does not use the workspace's lints",
            "add `[lints]` with `workspace = true`",
        ));
    }
    found
}

struct Entry<'a> {
    section: &'a str,
    key: &'a str,
    value: &'a str,
    line: usize,
}

/// The `key = value` lines of a manifest. Values of several lines show their first one.
fn entries(manifest: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut section = "";
    (1..).zip(manifest.lines()).filter_map(move |(line, text)| {
        let text = text.trim();
        if let Some(name) = text.strip_prefix('[') {
            section = name.trim_end_matches(']');
            return None;
        }
        let (key, value) = text.split_once('=').filter(|_| !text.starts_with('#'))?;
        Some(Entry {
            section,
            key: key.trim(),
            value: value.trim(),
            line,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT_TEXT: &str = "[workspace]\nmembers = [\"a\", \"b\"]\n\n[workspace.dependencies]\n\
                             a = { path = \"a\", package = \"other\" }\nserde = \"1\"\n";

    fn tree(picture: &str, manifest: &str) -> Vec<String> {
        let file = |path: &str, text: &str| File {
            path: path.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        let files = [
            file(ROOT, ROOT_TEXT),
            file(PICTURE, picture),
            file("b/Cargo.toml", manifest),
        ];
        check(&files).iter().map(ToString::to_string).collect()
    }

    /// Goal: manifests and picture agree, whatever kind of dependency it is.
    /// Method: the same arrow as a plain and as a development dependency.
    #[test]
    fn arrows_that_are_drawn_and_built_are_fine() {
        let lints = "[lints]\nworkspace = true\n";
        for section in [
            "dependencies",
            "dev-dependencies",
            "target.'cfg(unix)'.dependencies",
        ] {
            let manifest = format!("{lints}[{section}]\na.workspace = true\n");
            assert_eq!(tree("# why\nb -> a # here\n", &manifest), [""; 0]);
        }
    }

    /// Goal: an arrow on one side only is named with its place.
    /// Method: built and not drawn; drawn and not built.
    #[test]
    fn arrows_on_one_side_only_are_named() {
        let uses = "[lints]\nworkspace = true\n[dependencies]\na = { workspace = true }\n";
        let found = tree("", uses);
        assert!(
            found[0].starts_with("b/Cargo.toml:4: `b` uses `a`"),
            "{found:?}"
        );
        let uses_not = "[lints]\nworkspace = true\n";
        let found = tree("\nb -> a\n", uses_not);
        assert!(found[0].starts_with("docs/dag.txt:2: "), "{found:?}");
    }

    /// Goal: versions and lints stand once.
    /// Method: a member with a version of its own and without lints.
    #[test]
    fn members_take_versions_and_lints_from_the_root() {
        let found = tree("", "[dependencies]\nserde = \"1\"\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("b/Cargo.toml:2: `serde`"), "{found:?}");
        assert!(found[1].contains("lints"), "{found:?}");
    }
}
