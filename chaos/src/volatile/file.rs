//! A file of which two states are known: what programs see, and what the disk has for sure. Between
//! them stand the writes since the last sync; a power cut keeps some of them, never all of what was
//! promised to nobody.
//!
//! A sector goes to the disk whole, and in any state it had since the last sync: so each keeps a
//! version, not each write. That is what a page cache and a reordering disk do, no less.

use std::collections::HashMap;

use super::Loss;
use crate::Rng;

/// What a disk writes in one piece, in bytes.
pub(super) const SECTOR: usize = 512;

/// A change since the last sync.
#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct File {
    live: Vec<u8>,
    kept: Vec<u8>,
    pending: Vec<Change>,
}

fn put(content: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[at..end].copy_from_slice(bytes);
}

/// The pieces of `at..end`, cut at sectors.
fn sectors(at: usize, end: usize) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
    (at / SECTOR..end.div_ceil(SECTOR)).map(move |sector| {
        let from = at.max(sector * SECTOR);
        (sector, from..end.min((sector + 1) * SECTOR))
    })
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    pub(super) fn read(&self, at: usize, length: usize) -> &[u8] {
        let end = self.live.len().min(at.saturating_add(length));
        self.live.get(at..end).unwrap_or(&[])
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        put(&mut self.live, at, bytes);
        let bytes = bytes.to_vec();
        self.pending.push(Change::Write { at, bytes });
    }

    pub(super) fn resize(&mut self, length: usize) {
        self.live.resize(length, 0);
        self.pending.push(Change::Resize(length));
    }

    /// What a sync would save: anything, and the length.
    pub(super) fn unsynced(&self) -> (bool, bool) {
        (!self.pending.is_empty(), self.live.len() != self.kept.len())
    }

    /// All that was written is on the disk.
    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { at, bytes } => put(&mut self.kept, at, &bytes),
                Change::Resize(length) => self.kept.resize(length, 0),
            }
        }
    }

    /// A sync failed: programs still see what they wrote, and no later sync writes it. So do Linux'
    /// file systems, which take a page for clean once its write has failed.
    pub(super) fn fail_sync(&mut self) {
        self.pending.clear();
    }

    /// Damages the file behind everybody's back.
    pub(super) fn edit(&mut self, edit: impl Fn(&mut Vec<u8>)) {
        edit(&mut self.live);
        edit(&mut self.kept);
    }

    /// The power fails. Gives how many changes were not wholly on the disk.
    pub(super) fn crash(&mut self, loss: Loss, dice: &mut Rng) -> usize {
        let pending = std::mem::take(&mut self.pending);
        let count = pending.len() as u64;
        let draw = |dice: &mut Rng| usize::try_from(dice.below(count + 1)).unwrap_or(0);
        let common = draw(dice);
        // How many of the changes have reached a sector.
        let mut versions: HashMap<usize, usize> = HashMap::new();
        let mut version = |sector, dice: &mut Rng| {
            *versions.entry(sector).or_insert_with(|| match loss {
                Loss::All => 0,
                Loss::Torn => common + usize::from(dice.chance(500)),
                Loss::Scattered => draw(dice),
            })
        };
        let lengths = match loss {
            Loss::All => 0,
            Loss::Torn => common,
            Loss::Scattered => draw(dice),
        };
        let mut length = self.kept.len();
        let (mut content, mut lost) = (std::mem::take(&mut self.kept), 0);
        for (number, change) in pending.iter().enumerate() {
            let mut whole = number < lengths;
            match change {
                Change::Write { at, bytes } => {
                    let end = at + bytes.len();
                    for (sector, range) in sectors(*at, end) {
                        let reached = number < version(sector, dice);
                        whole &= reached;
                        if reached {
                            put(
                                &mut content,
                                range.start,
                                &bytes[range.start - at..range.end - at],
                            );
                        }
                    }
                    length = if number < lengths {
                        length.max(end)
                    } else {
                        length
                    };
                }
                Change::Resize(to) => {
                    for (sector, range) in sectors(*to, content.len()) {
                        if number < version(sector, dice) {
                            content[range].fill(0);
                        }
                    }
                    length = if number < lengths { *to } else { length };
                }
            }
            lost += usize::from(!whole);
        }
        content.resize(length, 0);
        self.live.clone_from(&content);
        self.kept = content;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kept: &[u8]) -> File {
        let mut file = File::default();
        file.write(0, kept);
        file.sync();
        file
    }

    /// Goal: what was synced is there after any power cut, and what was not may be gone.
    /// Method: synced bytes in one sector, unsynced ones in others; many seeds of each loss.
    #[test]
    fn synced_bytes_survive_every_loss_and_unsynced_ones_do_not_always() {
        for loss in [Loss::All, Loss::Torn, Loss::Scattered] {
            let mut gone = 0;
            for seed in 0..100 {
                let mut file = file(&[1; SECTOR]);
                file.write(SECTOR, &[2; 3 * SECTOR]);
                file.write(100, &[3; 10]);
                let lost = file.crash(loss, &mut Rng::new(seed));
                assert_eq!(file.read(0, 100), [1; 100]);
                assert_eq!(file.read(110, 400), [1; 400]);
                let whole = file.len() == 4 * SECTOR && file.read(SECTOR, SECTOR) == [2; SECTOR];
                gone += usize::from(!whole);
                assert!(lost <= 2 && (lost > 0 || whole));
            }
            assert!(gone > 20, "{loss:?} lost something {gone} times in 100");
            assert!(loss != Loss::All || gone == 100);
        }
    }

    /// Goal: a sector never shows a later write without the earlier one to the same sector.
    /// Method: two appends to one sector, 200 seeds of the wildest loss.
    #[test]
    fn sector_has_a_state_that_it_once_had() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut file = file(&[0; SECTOR]);
            file.write(0, &[1; 10]);
            file.write(10, &[2; 10]);
            file.crash(Loss::Scattered, &mut Rng::new(seed));
            seen.insert((file.read(0, 1)[0], file.read(10, 1)[0]));
        }
        assert_eq!(seen, [(0, 0), (1, 0), (1, 2)].into());
    }

    /// Goal: after a failed sync a later one that succeeds has not saved what the first should have.
    #[test]
    fn what_a_failed_sync_left_is_never_written() {
        let mut file = file(b"old");
        file.write(0, b"new");
        file.fail_sync();
        file.write(3, b"er");
        file.sync();
        assert_eq!(file.read(0, 9), b"newer");
        file.crash(Loss::All, &mut Rng::new(0));
        assert_eq!(file.read(0, 9), b"older");
    }

    /// Goal: a file that was cut short is short after a sync, and may be long again before.
    #[test]
    fn cut_is_lost_without_a_sync() {
        let mut file = file(&[7; 1000]);
        file.resize(10);
        file.crash(Loss::All, &mut Rng::new(0));
        assert_eq!(file.read(0, 2000), [7; 1000]);
        file.resize(10);
        file.sync();
        file.crash(Loss::All, &mut Rng::new(0));
        assert_eq!(file.read(0, 2000), [7; 10]);
    }
}
