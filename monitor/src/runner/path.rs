//! Refuses a program that somebody else than root could change: whoever can write it runs as its user.
//!
//! Every folder on the way counts, as written and as it is after symbolic links: who can write one of
//! them can put another file in its place. A folder with the sticky bit (`/tmp`) keeps others from
//! that, so it will do.
//!
//! Limits: an interpreter and what a script calls are not looked at.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Writable by the group, by others; sticky.
const GROUP_OR_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
const EXECUTABLE: u32 = 0o111;

/// Why a program is not run.
#[derive(Debug, thiserror::Error)]
pub enum Unsafe {
    /// It cannot be looked at.
    #[error("{path}: {source}")]
    Missing {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// It is no program.
    #[error("{path} is no program: make it a file with `chmod 755`")]
    NoProgram {
        /// Which.
        path: String,
    },
    /// Somebody else owns a part of the way.
    #[error("{path} belongs to user {owner}, who could change what is run: `chown root {path}`")]
    Owner {
        /// Which part.
        path: String,
        /// Who.
        owner: u32,
    },
    /// Others may write a part of the way.
    #[error("{path} may be written by others than its owner: `chmod go-w {path}`")]
    Writable {
        /// Which part.
        path: String,
    },
}

/// Whether only root, or the user that this process runs as, can change what `program` is.
///
/// # Errors
/// [`Unsafe`], with the part of the path and the remedy.
pub fn check_path(program: &Path) -> Result<PathBuf, Unsafe> {
    let real = std::fs::canonicalize(program).map_err(|source| missing(program, source))?;
    let found = look(&real)?;
    if !found.is_file() || found.permissions().mode() & EXECUTABLE == 0 {
        let path = real.display().to_string();
        return Err(Unsafe::NoProgram { path });
    }
    // As it is after links, and the folders in which those links stand.
    real.ancestors().try_for_each(check_part)?;
    program.ancestors().skip(1).try_for_each(check_part)?;
    Ok(real)
}

fn check_part(part: &Path) -> Result<(), Unsafe> {
    let found = look(part)?;
    let (mode, owner) = (found.permissions().mode(), found.uid());
    let path = || part.display().to_string();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(Unsafe::Owner {
            path: path(),
            owner,
        });
    }
    if mode & GROUP_OR_OTHERS != 0 && !(found.is_dir() && mode & STICKY != 0) {
        return Err(Unsafe::Writable { path: path() });
    }
    Ok(())
}

fn look(path: &Path) -> Result<Metadata, Unsafe> {
    std::fs::metadata(path).map_err(|source| missing(path, source))
}

fn missing(path: &Path, source: std::io::Error) -> Unsafe {
    let path = PathBuf::from(path).display().to_string();
    Unsafe::Missing { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{Permissions, create_dir_all, set_permissions, write};

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Goal: a path of which others can write any part is refused with that part and what to do.
    /// Method: a program that will do, then one permission after the other that will not.
    #[test]
    fn a_path_that_others_can_write_is_refused_with_the_remedy() {
        let base = std::env::temp_dir().join(format!("rais-path-{}", std::process::id()));
        let (dir, file) = (base.join("a/b"), base.join("a/b/check"));
        create_dir_all(&dir).unwrap();
        for part in [&base, &base.join("a"), &dir] {
            mode(part, 0o755);
        }
        write(&file, "#!/bin/sh\n").unwrap();
        mode(&file, 0o755);
        check_path(&file).unwrap();
        let link = base.join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        check_path(&link).unwrap();
        for (part, wrong, right) in [
            (&file, 0o775, 0o755),
            (&dir, 0o757, 0o755),
            (&base, 0o775, 0o755),
        ] {
            mode(part, wrong);
            let words = check_path(&file).unwrap_err().to_string();
            assert!(words.contains("chmod go-w"), "{words}");
            assert!(words.starts_with(&part.display().to_string()), "{words}");
            mode(part, right);
        }
        mode(&dir, 0o1777);
        check_path(&file).unwrap();
        mode(&file, 0o644);
        assert!(matches!(check_path(&file), Err(Unsafe::NoProgram { .. })));
        assert!(matches!(check_path(&dir), Err(Unsafe::NoProgram { .. })));
        assert!(matches!(
            check_path(&base.join("none")),
            Err(Unsafe::Missing { .. })
        ));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
