//! The tree as a file system that the kernel asks through FUSE.
//!
//! Nothing is cached: files are opened for direct I/O and names have no time to live, so each write
//! comes here at once, and after a power cut nobody sees anything older. `sync_file_range` does not
//! come here at all: it promises nothing about a disk's cache, and here it keeps nothing.

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use super::Trouble;
use super::file::{File, SECTOR};
use super::tree::{Kind, Tree};

/// What the kernel may remember of a name.
const NOTHING: Duration = Duration::ZERO;
/// Size of a disk as `df` shows it: 1 GiB of blocks of 4 KiB.
const BLOCKS: u64 = 1 << 18;
const BLOCK: u32 = 4 << 10;
/// The bits of a mode that say what it is, and their value for a socket and a regular file.
const KIND_BITS: u32 = 0o170_000;
const SOCKET_BITS: u32 = 0o140_000;
const FILE_BITS: u32 = 0o100_000;

/// The tree, shared with whoever cuts its power.
#[derive(Debug)]
pub(super) struct Fuse(pub(super) Arc<Mutex<Tree>>);

fn attributes(tree: &mut Tree, number: u64) -> Result<FileAttr, Errno> {
    let node = tree.node(number)?;
    let (kind, size) = match &node.kind {
        Kind::Dir => (FileType::Directory, 0),
        Kind::File(file) => (FileType::RegularFile, file.len() as u64),
        Kind::Socket => (FileType::Socket, 0),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(SECTOR as u64),
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: node.mode,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    })
}

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn entry(result: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match result {
        Ok(attributes) => reply.entry(&NOTHING, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

impl Fuse {
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, dir: INodeNo, name: &OsStr, kind: Kind, mode: u32) -> Result<FileAttr, Errno> {
        let mut tree = self.tree();
        let number = tree.add(dir.0, name, kind, mode)?;
        attributes(&mut tree, number)
    }
}

impl Filesystem for Fuse {
    fn lookup(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut tree = self.tree();
        let found = tree.find(dir.0, name);
        entry(
            found.and_then(|number| attributes(&mut tree, number)),
            reply,
        );
    }

    fn getattr(&self, _: &Request, file: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match attributes(&mut self.tree(), file.0) {
            Ok(attributes) => reply.attr(&NOTHING, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        file: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree();
        let set = |tree: &mut Tree| {
            if let Some(size) = size {
                tree.resize(file.0, size)?;
            }
            if let Some(mode) = mode.and_then(|mode| u16::try_from(mode & 0o7777).ok()) {
                tree.node(file.0)?.mode = mode;
            }
            attributes(tree, file.0)
        };
        match set(&mut tree) {
            Ok(attributes) => reply.attr(&NOTHING, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: u32,
        reply: ReplyEntry,
    ) {
        let kind = match mode & KIND_BITS {
            SOCKET_BITS => Kind::Socket,
            FILE_BITS => Kind::File(File::default()),
            _ => return reply.error(Errno::EPERM),
        };
        entry(self.add(dir, name, kind, mode & !umask), reply);
    }

    fn mkdir(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        entry(self.add(dir, name, Kind::Dir, mode & !umask), reply);
    }

    fn create(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let kind = Kind::File(File::default());
        match self.add(dir, name, kind, mode & !umask) {
            Ok(attributes) => {
                let direct = FopenFlags::FOPEN_DIRECT_IO;
                reply.created(&NOTHING, &attributes, Generation(0), FileHandle(0), direct);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree().remove(dir.0, name), reply);
    }

    fn rmdir(&self, _: &Request, dir: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree().remove(dir.0, name), reply);
    }

    fn rename(
        &self,
        _: &Request,
        dir: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        empty(self.tree().rename((dir.0, name), (to.0, new)), reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        at: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree().read(file.0, at, size) {
            Ok(bytes) => reply.data(bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        file: INodeNo,
        _: FileHandle,
        at: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.tree().write(file.0, at, bytes) {
            Ok(length) => reply.written(u32::try_from(length).unwrap_or(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn fsync(&self, _: &Request, file: INodeNo, _: FileHandle, only_data: bool, reply: ReplyEmpty) {
        empty(self.tree().sync(file.0, only_data), reply);
    }

    fn fsyncdir(&self, _: &Request, dir: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.tree().sync(dir.0, false), reply);
    }

    fn readdir(
        &self,
        _: &Request,
        dir: INodeNo,
        _: FileHandle,
        from: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut tree = self.tree();
        let names: Vec<_> = tree
            .list(dir.0)
            .map(|(name, number)| (name.clone(), *number))
            .collect();
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for (place, (name, number)) in (1..).zip(names).skip(from) {
            let Ok(found) = attributes(&mut tree, number) else {
                continue;
            };
            if reply.add(INodeNo(number), place, found.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let full = self.tree().trouble == Some(Trouble::Full);
        let free = if full { 0 } else { BLOCKS / 2 };
        reply.statfs(BLOCKS, free, free, BLOCKS, free, BLOCK, 255, BLOCK);
    }
}
