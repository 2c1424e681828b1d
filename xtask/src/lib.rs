//! What the chores are made of, as a library so that tests call it.
//!
//! No dependencies: a chore must build in a second, or nobody runs it.

use std::path::Path;

pub mod tidy;

/// The root of the workspace that this crate was built in.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}
