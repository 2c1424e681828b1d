//! A disk for a host of the lab that can be frozen: ext4 in an image file, mounted through a loop
//! device. While it is frozen (`fsfreeze`) reads go on and each write or fsync waits, as on a disk
//! or a storage network that hangs.
//!
//! The images are on a tmpfs of the lab's own, so an fsync costs what it costs elsewhere and no more,
//! and a lab that is torn down leaves nothing. That tmpfs is a shared mount: what is unmounted below
//! it goes from the mount namespaces of all programs as well, which `ip netns exec` makes.
//!
//! A process that waits for a frozen disk can't be killed: so a freeze ends with its handle, and
//! whoever takes a lab away (also after a run that was killed) thaws first, then kills, then unmounts.

use super::clock;
use super::command;
use super::error::LabError;
use super::net::host_name;
use super::{Lab, names};
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Size of a disk; the file is sparse.
const DISK_BYTES: u64 = 256 << 20;
/// Where the disks of a lab are, in its directory.
const DISKS: &str = "disks";
/// The file that fills a disk, and how much of it is written at once.
const FILLER: &str = "filler";
const FILL_CHUNK: usize = 1 << 20;
/// Processes that were just killed may hold a disk for a moment: so often it is tried again.
const UNMOUNT_ROUNDS: usize = 50;
/// Between two tries.
const UNMOUNT_PAUSE: Duration = Duration::from_millis(20);

/// A frozen disk. Dropping it thaws.
#[derive(Debug)]
pub(super) struct Frozen(Option<PathBuf>);

impl Frozen {
    fn new(disk: PathBuf) -> Result<Self, LabError> {
        command::run("fsfreeze", &["-f", &text(&disk)])?;
        Ok(Self(Some(disk)))
    }

    /// Thaws it.
    pub(super) fn thaw(mut self) -> Result<(), LabError> {
        match self.0.take() {
            Some(disk) => command::run("fsfreeze", &["-u", &text(&disk)]).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(disk) = self.0.take() {
            let _ = command::run("fsfreeze", &["-u", &text(&disk)]);
        }
    }
}

/// Whether disks that freeze can be had here: makes one, freezes and thaws it. Takes some 50 ms.
///
/// # Errors
/// What is missing: a program, root, loop devices, ext4.
pub fn disks_available() -> Result<(), LabError> {
    super::available()?;
    let name = names::new_base("disk", false)?;
    let place = Place(std::env::temp_dir().join(name));
    let disk = make(&place.0, 1)?;
    Frozen::new(disk)?.thaw()
}

/// A directory with disks in it that goes when this does.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        take_away(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Lab {
    /// The directory of a disk of its own for host `host`, made and mounted if it is not there yet.
    /// It goes with the lab, with all that is in it.
    ///
    /// # Errors
    /// No such host, or this machine has no loop devices or no ext4: `disks_available` tells before.
    pub fn disk(&self, host: u8) -> Result<PathBuf, LabError> {
        self.host(host)?;
        let disk = place(self.logs(), host);
        if mounted_below(self.logs()).contains(&disk) {
            return Ok(disk);
        }
        make(self.logs(), host)
    }

    /// Freezes the disk of host `host`.
    pub(super) fn freeze(&self, host: u8) -> Result<Frozen, LabError> {
        Frozen::new(self.own_disk(host)?)
    }

    /// Fills the disk of host `host`, and gives the file that takes all the room.
    pub(super) fn fill(&self, host: u8) -> Result<PathBuf, LabError> {
        let file = self.own_disk(host)?.join(FILLER);
        let failed = |source| LabError::system(format!("fill {}", file.display()), source);
        let mut filler = fs::File::create(&file).map_err(failed)?;
        let chunk = vec![0; FILL_CHUNK];
        loop {
            match filler.write(&chunk) {
                Ok(_) => {}
                Err(full) if full.kind() == ErrorKind::StorageFull => return Ok(file),
                Err(other) => return Err(failed(other)),
            }
        }
    }

    fn own_disk(&self, host: u8) -> Result<PathBuf, LabError> {
        let disk = place(self.logs(), host);
        if mounted_below(self.logs()).contains(&disk) {
            return Ok(disk);
        }
        Err(LabError::Range {
            what: format!("h{host} has no disk of its own"),
            allowed: "one that `Lab::disk` was called for".to_owned(),
        })
    }
}

/// Makes room again.
pub(super) fn remove(filler: &Path) -> Result<(), LabError> {
    let failed = |source| LabError::system(format!("remove {}", filler.display()), source);
    fs::remove_file(filler).map_err(failed)
}

fn place(lab: &Path, host: u8) -> PathBuf {
    lab.join(DISKS).join(host_name(host))
}

fn make(lab: &Path, host: u8) -> Result<PathBuf, LabError> {
    let disks = lab.join(DISKS);
    let disk = place(lab, host);
    let refused = |source| LabError::system(format!("make {}", disk.display()), source);
    fs::create_dir_all(&disks).map_err(refused)?;
    if !mounted_below(lab).contains(&disks) {
        command::run("mount", &["-t", "tmpfs", "raislab", &text(&disks)])?;
        command::run("mount", &["--make-shared", &text(&disks)])?;
    }
    let image = disk.with_extension("img");
    fs::create_dir_all(&disk).map_err(refused)?;
    let file = fs::File::create(&image).map_err(refused)?;
    file.set_len(DISK_BYTES).map_err(refused)?;
    command::run("mkfs.ext4", &["-q", "-F", &text(&image)])?;
    // With `loop` the kernel gives the device back as soon as nobody has it mounted.
    command::run("mount", &["-o", "loop", &text(&image), &text(&disk)])?;
    Ok(disk)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Mount points below `lab`, the innermost first.
fn mounted_below(lab: &Path) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    let mut below: Vec<PathBuf> = points.map(PathBuf::from).collect();
    below.retain(|point| point.starts_with(lab));
    below.sort();
    below.reverse();
    below
}

/// Thaws each disk of the lab at `lab`: to be called before its processes are killed.
pub(super) fn thaw_all(lab: &Path) {
    let disks = mounted_below(lab);
    for disk in disks.iter().filter(|disk| !disk.ends_with(DISKS)) {
        // One that was not frozen says so; that is fine.
        let _ = command::run("fsfreeze", &["-u", &text(disk)]);
    }
}

/// Thaws and unmounts each disk of the lab at `lab`. Its processes are dead.
pub(super) fn take_away(lab: &Path) {
    thaw_all(lab);
    for _ in 0..UNMOUNT_ROUNDS {
        let disks = mounted_below(lab);
        if disks.is_empty() {
            return;
        }
        let tried = disks
            .iter()
            .map(|disk| command::run("umount", &[&text(disk)]));
        if tried.filter(Result::is_err).count() > 0 {
            clock::wait_until(clock::now().after(UNMOUNT_PAUSE));
        }
    }
    for disk in mounted_below(lab) {
        // Somebody still looks into it: out of sight now, gone when they end.
        let _ = command::run("umount", &["-l", &text(&disk)]);
    }
}

/// The directories of labs with disks mounted whose makers are gone.
pub(super) fn orphans() -> Vec<PathBuf> {
    let labs = std::env::temp_dir();
    let lab_of = |point: &PathBuf| {
        let name = point.strip_prefix(&labs).ok()?.iter().next()?.to_owned();
        names::is_orphan(name.to_str()?).then(|| labs.join(name))
    };
    let mut found: Vec<PathBuf> = mounted_below(&labs).iter().filter_map(lab_of).collect();
    found.dedup();
    found
}
