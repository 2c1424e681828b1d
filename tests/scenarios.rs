//! Stories: what a simulated array does, told in lines that people read, compared with what is on file.
//!
//! `tests/scenarios/*.txt` hold them: orders above `----`, what came of them below. Virtual time and one
//! seed, so they are exact. `RAIS_RECORD=1 cargo test -p tests --test scenarios` writes them anew; read
//! the difference before you commit it. Orders are listed in `story/order.rs`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod story;

use std::path::{Path, PathBuf};

fn stories() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .collect();
    paths.sort();
    paths
}

/// Goal: the array does what its stories tell. Method: each is played and compared line by line.
#[test]
fn every_story_goes_as_it_is_told() {
    let record = std::env::var_os("RAIS_RECORD").is_some();
    let mut wrong = Vec::new();
    for path in stories() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let told = std::fs::read_to_string(&path).unwrap();
        let played = story::play(&told).unwrap_or_else(|why| panic!("{name}: {why}"));
        if record {
            std::fs::write(&path, &played).unwrap();
        } else if let Some(difference) = story::difference(&told, &played) {
            wrong.push(format!("{name}: {difference}"));
        }
    }
    let count = wrong.len();
    assert!(
        wrong.is_empty(),
        "{count} went otherwise:\n{}",
        wrong.join("\n")
    );
}

/// Goal: each row of failover.md has its story. Method: there are at least as many as it has rows.
#[test]
fn there_is_a_story_for_each_row() {
    assert!(stories().len() >= 14, "only {} stories", stories().len());
}
