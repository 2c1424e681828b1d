//! The rules of the house that a machine can keep and that neither rustc nor clippy keeps.
//!
//! Each violation says where, what and how to mend it. Rules look at text with comments and
//! strings masked out, not at a syntax tree: the tree of one big parser would cost more to build
//! than all of this, and the house's code is formatted by rustfmt, so lines can be trusted.
//!
//! Rooms: `tree` lists files, `mask` hides comments and strings, `shape` measures files and
//! functions, `calls` knows who may call what, `graph` compares crates with `docs/dag.txt`,
//! `litter` finds what should not be committed, `seed` looks for the tests that documents name.

mod calls;
mod graph;
mod litter;
mod mask;
mod seed;
mod shape;
mod tree;

use std::fmt;
use std::io;
use std::path::Path;

/// One place that breaks one rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path from the root of the tree.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            what,
            remedy,
        } = self;
        write!(f, "{path}:{line}: {what}\n    {remedy}")
    }
}

impl Violation {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// What a check of the tree found.
#[derive(Debug)]
pub struct Report {
    /// How many files were looked at.
    pub files: usize,
    /// What to mend, in order of path and line.
    pub violations: Vec<Violation>,
}

/// Checks every rule on the tree under `root`.
///
/// # Errors
/// When the tree can't be listed or a file can't be read.
pub fn check(root: &Path) -> io::Result<Report> {
    let files = tree::files(root)?;
    let mut violations = graph::check(&files);
    violations.extend(seed::check(&files));
    for file in &files {
        violations.extend(litter::check(file));
        let Some(text) = file.rust() else { continue };
        let source = mask::Source::new(&file.path, text);
        violations.extend(shape::check(&source));
        violations.extend(calls::check(&source));
    }
    violations.sort();
    Ok(Report {
        files: files.len(),
        violations,
    })
}
