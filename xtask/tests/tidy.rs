//! The house rules as a test, so that `cargo test` keeps them.
#![allow(clippy::unwrap_used, clippy::panic)]

/// Goal: nobody needs to remember to run `cargo xtask tidy`.
/// Method: run it on the tree that this was built from.
#[test]
fn the_tree_keeps_the_house_rules() {
    let report = xtask::tidy::check(xtask::root()).unwrap();
    assert!(report.files > 0, "no files were found");
    let list: String = report.violations.iter().map(|v| format!("{v}\n")).collect();
    assert!(report.violations.is_empty(), "to mend:\n{list}");
}
