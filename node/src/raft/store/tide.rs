//! The tide mark: how far the store had come, kept outside of it, so that a lost tail is noticed.
//!
//! sled takes a torn or damaged tail for an unfinished write and opens without it: right after a
//! crash, wrong after a bit flip, a truncated file or an old copy, when acknowledged entries and
//! votes would be gone in silence. Each flush writes a growing number into sled and, once sled's
//! file is synced, here. A store behind its mark is refused.
//!
//! The mark itself is written without a sync: after a power cut it may be older than the store,
//! never newer. Both slots lie in one sector; the one of the higher number that verifies counts.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::StoreError;

const SLOT: usize = 16;
const MAGIC: [u8; 4] = *b"tid1";

/// The open mark.
#[derive(Debug)]
pub(super) struct Tide {
    file: File,
}

fn slot(number: u64) -> [u8; SLOT] {
    let mut out = [0; SLOT];
    out[..4].copy_from_slice(&MAGIC);
    out[4..12].copy_from_slice(&number.to_le_bytes());
    let sum = crc32c::crc32c(&out[..12]);
    out[12..].copy_from_slice(&sum.to_le_bytes());
    out
}

fn number(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?);
    (bytes.get(..SLOT)? == slot(number)).then_some(number)
}

/// Makes a mark of zero. Renamed into place, so that a kill leaves none or a whole one.
fn create(dir: &Path, path: &Path) -> std::io::Result<()> {
    let draft = dir.join("tide.new");
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&draft)?;
    file.write_all_at(&[slot(0), slot(0)].concat(), 0)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    File::open(dir)?.sync_all()
}

impl Tide {
    /// Opens the mark, or makes it when `fresh` says that there is no store yet.
    pub(super) fn open(dir: &Path, fresh: bool) -> Result<(Self, u64), StoreError> {
        let path = dir.join("tide");
        let fault =
            |reason: std::io::Error| StoreError::io(format!("open {}", path.display()), reason);
        if fresh && !path.exists() {
            create(dir, &path).map_err(fault)?;
        }
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::corrupt(format!(
                    "{} is missing",
                    path.display()
                )));
            }
            Err(error) => return Err(fault(error)),
        };
        let mut bytes = Vec::new();
        let mut reader = std::io::Read::take(&file, 4 * SLOT as u64);
        std::io::Read::read_to_end(&mut reader, &mut bytes).map_err(fault)?;
        let slots = [bytes.get(..SLOT), bytes.get(SLOT..2 * SLOT)];
        let newest = slots.into_iter().flatten().filter_map(number).max();
        match newest {
            Some(newest) => Ok((Self { file }, newest)),
            None => Err(StoreError::corrupt(format!(
                "{} does not verify",
                path.display()
            ))),
        }
    }

    /// Raises the mark. Call it only after the store's own file was synced.
    pub(super) fn raise(&self, number: u64) -> Result<(), StoreError> {
        let at = (number % 2) * SLOT as u64;
        self.file
            .write_all_at(&slot(number), at)
            .map_err(|error| StoreError::io("write the tide mark", error))
    }
}
