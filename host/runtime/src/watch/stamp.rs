//! The state of a file, told from another without reading it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One state. The inode is no part of it: some file systems make it up at every look. The time of
/// the last change stands for it, which no tool can set back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    target: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
    changed: (i64, i64),
}

impl Stamp {
    /// The state now; none while there is no such file. Blocks.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let target = path.canonicalize().ok()?;
        let metadata = target.metadata().ok()?;
        Some(Self {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            target,
        })
    }
}
