//! A disk that forgets: a file system in memory, mounted through FUSE, on which nothing is durable
//! before it was synced. `crash` cuts its power: some or all of what was not synced is gone. It can
//! also fill up, fail, tear writes, turn read-only, and be damaged.
//!
//! For the real store and the real daemon: kill what runs on it, `crash`, start again. ADR-0045 says
//! why this layer and what it can't show.
//!
//! Limits: root and /dev/fuse; no links, no times, no owners; all of it in memory.

mod file;
mod fuse;
mod tree;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::{BackgroundSession, Config, MountOption};

use crate::Rng;
use tree::Tree;

/// What mount points are called, before the process id of who made them.
const NAME: &str = "rais-volatile";

/// What a power cut takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All that was not synced.
    All,
    /// What came after some moment, and parts of what was being written then.
    Torn,
    /// Any of it: the disk wrote in an order of its own.
    Scattered,
}

impl Loss {
    /// One of them by chance.
    pub fn draw(dice: &mut Rng) -> Self {
        let all = [Self::All, Self::Torn, Self::Scattered];
        dice.pick(&all).unwrap_or(Self::All)
    }
}

/// What is wrong with the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// No room: ENOSPC for each write, as where even writing over takes room (btrfs, ZFS).
    Full,
    /// Each write fails with EIO.
    FailedWrites,
    /// Each write gets half way, then fails with EIO.
    TornWrites,
    /// Each sync fails with EIO, and what it should have saved is never saved.
    FailedSyncs,
    /// Mounted read-only after an error: EROFS.
    ReadOnly,
}

/// A mounted disk. Dropping it unmounts, and all that was on it is gone.
#[derive(Debug)]
pub struct Volatile {
    tree: Arc<Mutex<Tree>>,
    path: PathBuf,
    session: Option<BackgroundSession>,
}

impl Volatile {
    /// Mounts an empty disk, after taking away what dead runs left mounted.
    ///
    /// # Errors
    /// Not root, or no /dev/fuse.
    pub fn mount() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        sweep();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{NAME}-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        let tree = Arc::new(Mutex::new(Tree::new()));
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(NAME.to_owned())];
        let session = fuser::spawn_mount(fuse::Fuse(tree.clone()), &path, &config);
        let mut disk = Self {
            tree,
            path,
            session: None,
        };
        disk.session = Some(session?);
        Ok(disk)
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts the power, and gives it back. Whoever uses the disk must be dead. Gives how many writes and
    /// changes of names were lost, whole or in part.
    pub fn crash(&self, loss: Loss, dice: &mut Rng) -> usize {
        self.tree().crash(loss, dice)
    }

    /// From now on this is wrong with it, or nothing.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        self.tree().trouble = trouble;
    }

    /// Changes the content of the file at `path`, seen from the disk's root: a flipped bit, a lost end.
    ///
    /// # Errors
    /// There is no such file.
    pub fn damage(&self, path: &Path, edit: impl Fn(&mut Vec<u8>)) -> io::Result<()> {
        let mut tree = self.tree();
        let file = tree.at(path);
        file.map_err(|errno| io::Error::from_raw_os_error(errno.code()))?
            .edit(edit);
        Ok(())
    }
}

impl Drop for Volatile {
    fn drop(&mut self) {
        take_away(&self.path);
        drop(self.session.take());
    }
}

/// Unmounts disks whose makers are dead.
fn sweep() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.map(Path::new) {
        let name = point
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let maker = name
            .strip_prefix(NAME)
            .and_then(|rest| rest.split('-').nth(1));
        let dead = maker.is_some_and(|id| !Path::new("/proc").join(id).exists());
        if dead {
            take_away(point);
        }
    }
}

/// Unmounts, at once even if somebody still looks into it: then it is gone when they end.
fn take_away(point: &Path) {
    let _ = Command::new("umount").arg("-l").arg(point).output();
    let _ = fs::remove_dir(point);
}
