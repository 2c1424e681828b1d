//! The tree of files: names that programs see, names that the disk has, and the journal between.
//!
//! As with the journal of ext4 or XFS: changes of names reach the disk in their order, and a sync that
//! has to write a file's own name, length or times takes all earlier ones along; `fdatasync` of a file
//! that did not grow takes none. The content of a file waits for its own sync. Numbers are never
//! used twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use fuser::Errno;

use super::file::File;
use super::{Loss, Trouble};
use crate::Rng;

/// The root's number, as FUSE has it.
pub(super) const ROOT: u64 = 1;

/// What a number stands for.
#[derive(Debug)]
pub(super) enum Kind {
    Dir,
    File(File),
    /// A socket: a name and nothing else.
    Socket,
}

/// A file or directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u16,
}

/// The names in each directory.
type Dirs = BTreeMap<u64, BTreeMap<OsString, u64>>;

/// A name in a directory.
type Place = (u64, OsString);

/// A change of names.
#[derive(Debug)]
enum Change {
    Add(Place, u64),
    Remove(Place),
    Move(Place, Place),
}

fn apply(dirs: &mut Dirs, change: &Change) {
    match change {
        Change::Add((dir, name), number) => {
            dirs.entry(*dir).or_default().insert(name.clone(), *number);
        }
        Change::Remove((dir, name)) => {
            dirs.entry(*dir).or_default().remove(name);
        }
        Change::Move((dir, name), to) => {
            if let Some(number) = dirs.entry(*dir).or_default().remove(name) {
                apply(dirs, &Change::Add(to.clone(), number));
            }
        }
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<u64, Node>,
    live: Dirs,
    kept: Dirs,
    pending: Vec<Change>,
    next: u64,
    pub(super) trouble: Option<Trouble>,
}

impl Tree {
    pub(super) fn new() -> Self {
        let (kind, mode) = (Kind::Dir, 0o755);
        Self {
            nodes: HashMap::from([(ROOT, Node { kind, mode })]),
            live: Dirs::new(),
            kept: Dirs::new(),
            pending: Vec::new(),
            next: ROOT + 1,
            trouble: None,
        }
    }

    pub(super) fn node(&mut self, number: u64) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&number).ok_or(Errno::ENOENT)
    }

    fn file(&mut self, number: u64) -> Result<&mut File, Errno> {
        match &mut self.node(number)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Dir => Err(Errno::EISDIR),
            Kind::Socket => Err(Errno::EINVAL),
        }
    }

    pub(super) fn find(&self, dir: u64, name: &OsStr) -> Result<u64, Errno> {
        let found = self.live.get(&dir).and_then(|names| names.get(name));
        found.copied().ok_or(Errno::ENOENT)
    }

    pub(super) fn list(&self, dir: u64) -> impl Iterator<Item = (&OsString, &u64)> {
        self.live.get(&dir).into_iter().flatten()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.live, &change);
        self.pending.push(change);
    }

    fn writable(&self) -> Result<(), Errno> {
        match self.trouble {
            Some(Trouble::ReadOnly) => Err(Errno::EROFS),
            _ => Ok(()),
        }
    }

    /// Room for something new.
    fn room(&self) -> Result<(), Errno> {
        match self.trouble {
            Some(Trouble::Full) => Err(Errno::ENOSPC),
            _ => self.writable(),
        }
    }

    pub(super) fn add(
        &mut self,
        dir: u64,
        name: &OsStr,
        kind: Kind,
        mode: u32,
    ) -> Result<u64, Errno> {
        self.room()?;
        if self.find(dir, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        let mode = u16::try_from(mode & 0o7777).unwrap_or(0o600);
        self.nodes.insert(number, Node { kind, mode });
        self.change(Change::Add((dir, name.into()), number));
        Ok(number)
    }

    pub(super) fn remove(&mut self, dir: u64, name: &OsStr) -> Result<(), Errno> {
        self.writable()?;
        let number = self.find(dir, name)?;
        if self.list(number).next().is_some() {
            return Err(Errno::ENOTEMPTY);
        }
        self.change(Change::Remove((dir, name.into())));
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        (dir, name): (u64, &OsStr),
        to: (u64, &OsStr),
    ) -> Result<(), Errno> {
        self.writable()?;
        self.find(dir, name)?;
        let to = (to.0, to.1.into());
        self.change(Change::Move((dir, name.into()), to));
        Ok(())
    }

    pub(super) fn read(&mut self, number: u64, at: u64, length: u32) -> Result<&[u8], Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::EINVAL)?;
        Ok(self.file(number)?.read(at, length as usize))
    }

    /// Writes; gives how much of it.
    pub(super) fn write(&mut self, number: u64, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let at = usize::try_from(at).map_err(|_| Errno::EFBIG)?;
        self.writable()?;
        let trouble = self.trouble;
        let file = self.file(number)?;
        match trouble {
            Some(Trouble::Full) => Err(Errno::ENOSPC),
            Some(Trouble::FailedWrites) => Err(Errno::EIO),
            Some(Trouble::TornWrites) => {
                file.write(at, &bytes[..bytes.len() / 2]);
                Err(Errno::EIO)
            }
            _ => {
                file.write(at, bytes);
                Ok(bytes.len())
            }
        }
    }

    pub(super) fn resize(&mut self, number: u64, length: u64) -> Result<(), Errno> {
        let length = usize::try_from(length).map_err(|_| Errno::EFBIG)?;
        self.writable()?;
        self.file(number)?.resize(length);
        Ok(())
    }

    /// `fsync`, or `fdatasync` if only the data count, of a file or a directory.
    pub(super) fn sync(&mut self, number: u64, only_data: bool) -> Result<(), Errno> {
        let failed = self.trouble == Some(Trouble::FailedSyncs);
        let is_new = !self
            .kept
            .values()
            .any(|names| names.values().any(|kept| *kept == number));
        let takes_names = match &mut self.node(number)?.kind {
            Kind::File(file) => {
                let (dirty, resized) = file.unsynced();
                if failed {
                    file.fail_sync()
                } else {
                    file.sync()
                }
                resized || is_new || dirty && !only_data
            }
            Kind::Dir | Kind::Socket => true,
        };
        if failed {
            return Err(Errno::EIO);
        }
        if takes_names {
            for change in self.pending.drain(..) {
                apply(&mut self.kept, &change);
            }
        }
        Ok(())
    }

    /// The power fails; gives how many changes were lost, whole or in part.
    pub(super) fn crash(&mut self, loss: Loss, dice: &mut Rng) -> usize {
        let pending = std::mem::take(&mut self.pending);
        let reached = match loss {
            Loss::All => 0,
            Loss::Torn | Loss::Scattered => dice.below(pending.len() as u64 + 1),
        };
        let reached = usize::try_from(reached).unwrap_or(0);
        let mut lost = pending.len() - reached;
        for change in &pending[..reached] {
            apply(&mut self.kept, change);
        }
        self.live.clone_from(&self.kept);
        let named: HashSet<u64> = self
            .kept
            .values()
            .flat_map(BTreeMap::values)
            .copied()
            .collect();
        self.nodes
            .retain(|number, _| *number == ROOT || named.contains(number));
        self.live
            .retain(|dir, _| *dir == ROOT || named.contains(dir));
        self.kept.clone_from(&self.live);
        // In the order of their numbers, so that a seed says all.
        let mut numbers: Vec<u64> = self.nodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            if let Some(Node {
                kind: Kind::File(file),
                ..
            }) = self.nodes.get_mut(&number)
            {
                lost += file.crash(loss, dice);
            }
        }
        lost
    }

    /// The file at `path`, seen from the root.
    pub(super) fn at(&mut self, path: &Path) -> Result<&mut File, Errno> {
        let number = path
            .iter()
            .try_fold(ROOT, |dir, name| self.find(dir, name))?;
        self.file(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> &OsStr {
        OsStr::new(text)
    }

    fn file() -> Kind {
        Kind::File(File::default())
    }

    /// Goal: a name is on the disk with the next sync of a new file, and in order before.
    /// Method: two new names, one synced file, a rename without a sync; all is lost.
    #[test]
    fn names_reach_the_disk_with_the_sync_of_a_new_file() {
        let mut tree = Tree::new();
        let one = tree.add(ROOT, name("one"), file(), 0o600).unwrap();
        tree.add(ROOT, name("two"), file(), 0o600).unwrap();
        tree.sync(one, false).unwrap();
        tree.rename((ROOT, name("two")), (ROOT, name("three")))
            .unwrap();
        assert!(tree.find(ROOT, name("three")).is_ok());
        assert_eq!(tree.crash(Loss::All, &mut Rng::new(1)), 1);
        assert!(tree.find(ROOT, name("two")).is_ok());
        assert!(tree.find(ROOT, name("three")).is_err());
    }

    /// Goal: `fdatasync` of a file that did not grow saves its content and no name.
    #[test]
    fn names_wait_when_only_data_are_synced() {
        let mut tree = Tree::new();
        let one = tree.add(ROOT, name("one"), file(), 0o600).unwrap();
        tree.write(one, 0, b"old").unwrap();
        tree.sync(one, true).unwrap();
        tree.add(ROOT, name("two"), file(), 0o600).unwrap();
        tree.write(one, 0, b"new").unwrap();
        tree.sync(one, true).unwrap();
        tree.crash(Loss::All, &mut Rng::new(1));
        assert!(tree.find(ROOT, name("two")).is_err());
        assert_eq!(tree.at(Path::new("one")).unwrap().read(0, 9), b"new");
    }

    /// Goal: what was removed without a sync may come back, with its content.
    #[test]
    fn removed_file_comes_back_whole_when_nobody_synced() {
        let mut tree = Tree::new();
        let one = tree.add(ROOT, name("one"), file(), 0o600).unwrap();
        tree.write(one, 0, b"here").unwrap();
        tree.sync(one, false).unwrap();
        tree.remove(ROOT, name("one")).unwrap();
        assert!(tree.find(ROOT, name("one")).is_err());
        tree.crash(Loss::All, &mut Rng::new(1));
        assert_eq!(tree.at(Path::new("one")).unwrap().read(0, 9), b"here");
    }

    /// Goal: each trouble says what a real disk says, and does what it does.
    #[test]
    fn troubles_refuse_as_a_disk_would() {
        let mut tree = Tree::new();
        let one = tree.add(ROOT, name("one"), file(), 0o600).unwrap();
        tree.write(one, 0, b"1234").unwrap();
        tree.sync(one, false).unwrap();
        let mut under = |trouble| {
            tree.trouble = Some(trouble);
            let wrote = tree.write(one, 0, b"ab").map_err(Errno::code);
            (wrote, tree.sync(one, false).map_err(Errno::code))
        };
        let code = |errno: Errno| Err(errno.code());
        assert_eq!(under(Trouble::Full).0, Err(Errno::ENOSPC.code()));
        assert_eq!(under(Trouble::FailedWrites).0, Err(Errno::EIO.code()));
        assert_eq!(under(Trouble::ReadOnly).0, Err(Errno::EROFS.code()));
        assert_eq!(under(Trouble::TornWrites).0, Err(Errno::EIO.code()));
        assert_eq!(under(Trouble::FailedSyncs).1, code(Errno::EIO));
        tree.crash(Loss::All, &mut Rng::new(1));
        assert_eq!(tree.at(Path::new("one")).unwrap().read(0, 9), b"a234");
    }
}
