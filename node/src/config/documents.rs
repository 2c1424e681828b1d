//! What documents say of files is what the reader takes: the guides' policies, and each block of TOML.

use std::path::{Path, PathBuf};

use super::{parse_host, parse_policy, parse_timing};

/// The files below `folder` whose names end with `end`.
fn documents(folder: &str, end: &str) -> Vec<PathBuf> {
    let mut folders = vec![
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(folder),
    ];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.to_string_lossy().ends_with(end) => found.push(path),
                false => {}
            }
        }
    }
    found
}

/// Goal: who copies the policy of a guide has one that works. Method: each is read and checked.
#[test]
fn the_policies_of_the_guides_are_read() {
    let policies = documents("docs/guides", ".toml");
    let read = policies.iter().map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let policy = parse_policy(&path.display().to_string(), &text)
            .unwrap_or_else(|wrong| panic!("{wrong}"));
        assert_eq!(policy.check(), Ok(()), "{}", path.display());
        assert!(
            !policy.tests.is_empty() && !policy.loads.is_empty(),
            "{}",
            path.display()
        );
    });
    assert!(read.count() >= 4);
}

/// Whether a block is a part of one of the three files, or all of it.
fn is_read(block: &str) -> bool {
    let policy = format!("name = 'g'\nzone = 'g.example.'\n{block}");
    let control = "[control]\nlisten = ['10.0.0.1:7400']\n";
    let host = format!("name = 'h1'\ndata_dir = '/var/lib/rais'\n{block}\n{control}");
    parse_policy("block", block).is_ok()
        || parse_host("block", block).is_ok()
        || parse_policy("block", &policy).is_ok()
        || parse_host("block", &host).is_ok()
        || parse_timing("block", block).is_ok()
}

/// Goal: no page shows a key that is none, or a value that is refused.
/// Method: each block of TOML in any page, alone or within the shortest file that it could be of.
#[test]
fn every_block_of_toml_in_the_documents_is_read() {
    let mut seen = 0;
    for page in documents("docs", ".md") {
        let text = std::fs::read_to_string(&page).unwrap();
        let blocks = text.split("```toml\n").skip(1);
        for block in blocks.filter_map(|rest| rest.split("```").next()) {
            assert!(
                is_read(block),
                "{}: no file takes this:\n{block}",
                page.display()
            );
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} blocks");
}
