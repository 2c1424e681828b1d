//! Files of the data dir: written so that a crash leaves the old or the new one, read with care.
//!
//! Temporary file in the same directory, fsync, rename, fsync of the directory. All are 0600 in a
//! directory of 0700. Blocking: small files, used at start, join and renewal only.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::PkiError;

/// Mode of the data dir.
const DIR_MODE: u32 = 0o700;
/// Mode of each file in it.
const FILE_MODE: u32 = 0o600;
/// Bits that may not be set on a secret: any for group and others.
const OTHERS: u32 = 0o077;
/// Bits that may not be set on the directory: write for group and others, who could swap files.
const OTHERS_WRITE: u32 = 0o022;
/// Longest file read, bytes: a certificate or key is about 1 KiB.
const MAX_FILE: u64 = 64 * 1024;

fn io(path: &Path, action: &'static str) -> impl Fn(std::io::Error) -> PkiError {
    move |source| PkiError::Io {
        path: path.to_owned(),
        action,
        source,
    }
}

/// Makes the data dir, or takes an existing one and closes it to others.
pub(crate) fn prepare_dir(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(dir)
        .map_err(io(dir, "create the directory"))?;
    std::fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
        .map_err(io(dir, "set mode 0700"))
}

/// Refuses a directory in which others could swap files.
pub(crate) fn check_dir(dir: &Path) -> Result<(), PkiError> {
    let found = match std::fs::metadata(dir) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(PkiError::Missing {
                path: dir.to_owned(),
            });
        }
        Err(source) => return Err(io(dir, "look at the directory")(source)),
    };
    let mode = found.permissions().mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(PkiError::Mode {
            path: dir.to_owned(),
            mode,
            wanted: DIR_MODE,
        });
    }
    Ok(())
}

/// Writes `dir/name` as a whole, mode 0600, durable when this returns.
///
/// # Errors
/// [`PkiError::Io`] naming the file.
pub fn write_private(dir: &Path, name: &str, content: &[u8]) -> Result<(), PkiError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.new"));
    // A leftover of a crash may have any mode: begin with a file of ours.
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(io(&temporary, "remove")(error));
        }
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&temporary)
        .map_err(io(&temporary, "create"))?;
    file.write_all(content).map_err(io(&temporary, "write"))?;
    file.sync_all().map_err(io(&temporary, "sync"))?;
    std::fs::rename(&temporary, &path).map_err(io(&path, "rename into place"))?;
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io(dir, "sync the directory"))
}

/// Reads a secret; refuses one that others may read.
pub(crate) fn read_private(path: &Path) -> Result<String, PkiError> {
    read(path, OTHERS)
}

/// Reads a file that need not be secret (`control.addr`), but must be writable by its owner only.
///
/// # Errors
/// [`PkiError::Missing`], [`PkiError::Mode`], [`PkiError::Io`] or [`PkiError::Unparsable`].
pub fn read_public(path: &Path) -> Result<String, PkiError> {
    read(path, OTHERS_WRITE)
}

fn read(path: &Path, forbidden: u32) -> Result<String, PkiError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(PkiError::Missing {
                path: path.to_owned(),
            });
        }
        Err(source) => return Err(io(path, "open")(source)),
    };
    // Asked of the open file, so that it is the mode of what is read.
    let mode = file
        .metadata()
        .map_err(io(path, "look at"))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & forbidden != 0 {
        return Err(PkiError::Mode {
            path: path.to_owned(),
            mode,
            wanted: FILE_MODE,
        });
    }
    let mut text = String::new();
    let length =
        file.take(MAX_FILE + 1)
            .read_to_string(&mut text)
            .map_err(|source| match source.kind() {
                ErrorKind::InvalidData => unparsable(path, "not UTF-8 text"),
                _ => io(path, "read")(source),
            })?;
    if length as u64 > MAX_FILE {
        return Err(unparsable(path, "longer than 64 KiB"));
    }
    Ok(text)
}

pub(crate) fn unparsable(path: &Path, reason: impl Into<String>) -> PkiError {
    PkiError::Unparsable {
        path: path.to_owned(),
        reason: reason.into(),
    }
}
