//! Reads a file that a policy names, and cannot be held up by it: pipes and devices are refused, and what
//! is read is bounded. All tests of a host share one thread.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::OFlags;

/// The first `most` bytes of a file.
pub(super) fn read(path: &str, most: u64) -> Result<Vec<u8>> {
    // Not waited for, should somebody have put a pipe there.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
