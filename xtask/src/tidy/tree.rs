//! Lists the files of the tree: those that are committed, and new ones that would be.
//!
//! New files count too, so that a fault shows before the commit and not after it. Without git (a
//! source archive) every file is taken but `target/`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// A file of the tree.
#[derive(Debug)]
pub(super) struct File {
    /// Path from the root, with `/`.
    pub path: String,
    pub bytes: Vec<u8>,
}

impl File {
    /// The text; `None` for a binary.
    pub fn text(&self) -> Option<&str> {
        if self.bytes.contains(&0) {
            return None;
        }
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The text of a Rust file.
    pub fn rust(&self) -> Option<&str> {
        self.text().filter(|_| self.path.ends_with(".rs"))
    }
}

/// Every file of the tree with its content, in order of path.
pub(super) fn files(root: &Path) -> io::Result<Vec<File>> {
    let mut paths = match from_git(root) {
        Some(paths) => paths,
        None => from_disk(root)?,
    };
    paths.sort();
    paths.dedup();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let on_disk = root.join(&path);
        // Deleted but not yet committed, or a link: nothing to read.
        if !fs::symlink_metadata(&on_disk).is_ok_and(|found| found.is_file()) {
            continue;
        }
        let bytes = fs::read(on_disk)?;
        files.push(File { path, bytes });
    }
    Ok(files)
}

fn from_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .current_dir(root)
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .ok()
        .filter(|output| output.status.success() && !output.stdout.is_empty())?;
    let listed = String::from_utf8(output.stdout).ok()?;
    Some(listed.split_terminator('\0').map(str::to_owned).collect())
}

fn from_disk(root: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let name = entry.file_name();
            if entry.file_type()?.is_dir() {
                if name != "target" && name != ".git" {
                    folders.push(path);
                }
            } else if let Ok(relative) = path.strip_prefix(root) {
                found.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    Ok(found)
}
