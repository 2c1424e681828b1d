//! Reads a file with a secret, which must be its owner's alone. What it says never tells the secret.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::scalar::{Complaint, complaint};

/// Longest file with a secret, in bytes: 512 in base64 are 684.
const MAX_SECRET_FILE: u64 = 1_024;

/// Bits of a file's mode that let others than its owner touch it.
const OTHERS: u32 = 0o077;

/// The text of the file.
pub(super) fn read_secret(path: &Path) -> Result<String, Complaint> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        complaint(
            format!("can't read the secret in `{shown}`: {error}"),
            "check the path and its permissions; it must belong to the daemon's user",
        )
    };
    // A pipe would keep the daemon waiting.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(complaint(
            format!("`{shown}` is no file"),
            "write the path of a file that holds the secret",
        ));
    }
    let file = File::open(path).map_err(unreadable)?;
    // Asked of the open file, so that it is the mode of what is read.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(complaint(
            format!("`{shown}` has mode {mode:04o}, so others can read the secret"),
            format!("run `chmod 0600 {shown}`, and make a new secret if others were there"),
        ));
    }
    let mut text = String::new();
    let read = file.take(MAX_SECRET_FILE + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= MAX_SECRET_FILE => Ok(text),
        Ok(_) => Err(complaint(
            format!("`{shown}` is longer than {MAX_SECRET_FILE} bytes"),
            "is this the right file?",
        )),
        Err(error) => Err(unreadable(error)),
    }
}
