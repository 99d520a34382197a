//! What the system tells about a path: a watch on every folder of its [`Chain`], set anew when the
//! way to the file changes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

use super::chain::{Chain, FolderId};

/// What the watcher's thread tells the task.
#[derive(Default)]
pub(super) struct Signal {
    pub(super) changed: Notify,
    /// The file was renamed into place or closed after writing, or a link to it was switched.
    finished: AtomicBool,
    /// The names that matter.
    names: Mutex<BTreeSet<OsString>>,
}

impl Signal {
    /// Whether the file was finished since the last time.
    pub(super) fn take_finished(&self) -> bool {
        self.finished.swap(false, Ordering::AcqRel)
    }

    fn told(&self, event: notify::Result<Event>) {
        let Ok(event) = event else {
            self.changed.notify_one();
            return;
        };
        // An overflow has no paths: look.
        if event.need_rescan() || event.paths.is_empty() {
            self.changed.notify_one();
            return;
        }
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
        if !event.paths.iter().any(known) {
            return;
        }
        match kind_of(&event.kind) {
            NoticeKind::Finished => {
                self.finished.store(true, Ordering::Release);
                self.changed.notify_one();
            }
            NoticeKind::Changed => self.changed.notify_one(),
            NoticeKind::Read => {}
        }
    }
}

enum NoticeKind {
    Finished,
    Changed,
    Read,
}

fn kind_of(kind: &EventKind) -> NoticeKind {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => {
            NoticeKind::Finished
        }
        EventKind::Access(_) => NoticeKind::Read,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => NoticeKind::Changed,
    }
}

/// The watches of one path.
pub(super) struct Notices {
    watcher: RecommendedWatcher,
    signal: Arc<Signal>,
    watched: Vec<(PathBuf, Option<FolderId>)>,
}

impl Notices {
    /// Watches the way to this path. Blocks.
    pub(super) fn start(path: &Path, signal: &Arc<Signal>) -> notify::Result<Self> {
        let told = Arc::clone(signal);
        let watcher = notify::recommended_watcher(move |event| told.told(event))?;
        let mut notices = Self {
            watcher,
            signal: Arc::clone(signal),
            watched: Vec::new(),
        };
        match notices.follow(path) {
            Some(error) => Err(error),
            None => Ok(notices),
        }
    }

    /// Watches the folders on the way as it is now, and no others; gives the first failure. What
    /// cannot be watched is tried again the next time. Blocks.
    pub(super) fn follow(&mut self, path: &Path) -> Option<notify::Error> {
        let chain = Chain::of(path);
        *self
            .signal
            .names
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = chain.names;
        let mut failed = None;
        let watcher = &mut self.watcher;
        self.watched.retain(|(folder, id)| {
            let stays = chain.folders.get(folder) == Some(id);
            if !stays {
                // Fails if the folder is gone, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
            stays
        });
        for (folder, id) in chain.folders {
            if self.watched.iter().any(|(own, _)| *own == folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push((folder, id)),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed
    }
}
