//! Hot reload of one plugin file: whoever puts a new file in its place has a new version serving
//! within a second.
//!
//! The folder is watched, not the file, since files are best replaced by renaming. A file that was
//! renamed into place or closed after writing is taken at once; anything else waits until its size
//! and time stand still. A slow poll finds what the system does not tell (network file systems,
//! links into other folders). A file that is broken, or that refuses to start, is logged once and
//! changes nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tidegate_wire::Name;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::command::CommandDeployment;
use crate::deployment::Deployment;
use crate::engine::{Runtime, read_file};
use crate::plugin::{Plugin, PluginError, version_of};

/// How long an unfinished file must stand still.
const SETTLE: Duration = Duration::from_millis(120);
/// How often the file is looked at without being told.
const POLL: Duration = Duration::from_millis(1_000);

/// What runs one version of a plugin and can go over to another.
pub trait Swap: Send + Sync + 'static {
    /// The version that serves.
    fn serving(&self) -> Name;
    /// Goes over to another version, or stays with the old one and says why.
    fn swap_to(&self, plugin: Plugin) -> impl Future<Output = Result<(), PluginError>> + Send;
}

impl Swap for Deployment {
    fn serving(&self) -> Name {
        self.version().borrow().clone()
    }

    async fn swap_to(&self, plugin: Plugin) -> Result<(), PluginError> {
        self.swap(plugin).await
    }
}

impl Swap for CommandDeployment {
    fn serving(&self) -> Name {
        self.version().borrow().clone()
    }

    async fn swap_to(&self, plugin: Plugin) -> Result<(), PluginError> {
        self.swap(plugin).await
    }
}

/// Watches `path` until `stop` and swaps `deployment` to each new version of it.
pub async fn watch(
    path: PathBuf,
    runtime: Runtime,
    deployment: impl Swap,
    stop: CancellationToken,
) {
    let signal = Arc::new(Signal::default());
    let watcher = start_watcher(&path, &signal)
        .inspect_err(|error| {
            tracing::warn!(
                path = %path.display(),
                %error,
                "the plugin's folder cannot be watched; the file is looked at once a second"
            );
        })
        .ok();
    let follower = Follower {
        path,
        runtime,
        deployment,
        signal,
        seen: None,
        cut_short: None,
        refused: None,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follower.run() => {}
    }
    drop(watcher);
}

/// What the watcher's thread tells the task.
#[derive(Default)]
struct Signal {
    changed: Notify,
    /// The file itself was renamed into place or closed after writing.
    finished: AtomicBool,
}

fn start_watcher(path: &Path, signal: &Arc<Signal>) -> notify::Result<RecommendedWatcher> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file_name = path.file_name().map(ToOwned::to_owned);
    let signal = Arc::clone(signal);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let Ok(event) = event else {
            // An overflow, say: look.
            signal.changed.notify_one();
            return;
        };
        let own = event
            .paths
            .iter()
            .any(|path| path.file_name() == file_name.as_deref());
        match kind_of(&event.kind) {
            Kind::Finished if own => {
                signal.finished.store(true, Ordering::Release);
                signal.changed.notify_one();
            }
            // Another name in the folder may be a link that leads to the file.
            Kind::Finished | Kind::Changed => signal.changed.notify_one(),
            Kind::Read => {}
        }
    })?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

enum Kind {
    Finished,
    Changed,
    Read,
}

fn kind_of(kind: &EventKind) -> Kind {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)) => Kind::Finished,
        EventKind::Access(_) => Kind::Read,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => Kind::Changed,
    }
}

/// What tells one state of the file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    target: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

struct Follower<D> {
    path: PathBuf,
    runtime: Runtime,
    deployment: D,
    signal: Arc<Signal>,
    /// The state that was last looked into.
    seen: Option<Stamp>,
    /// A state that was cut short: perhaps somebody is still writing.
    cut_short: Option<Stamp>,
    /// A version that did not start; it is not tried, nor told, again.
    refused: Option<Name>,
}

impl<D: Swap> Follower<D> {
    async fn run(mut self) {
        loop {
            self.look().await;
            tokio::select! {
                () = self.signal.changed.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
        }
    }

    async fn look(&mut self) {
        let mut finished = self.signal.finished.swap(false, Ordering::AcqRel);
        let Some(mut stamp) = self.stamp().await else {
            // Gone, or between removal and replacement: the old version serves on.
            return;
        };
        if !finished && self.seen.as_ref() == Some(&stamp) {
            if self.cut_short.as_ref() != Some(&stamp) {
                return;
            }
            // It has stood still since the last look: it will stay like this.
            finished = true;
        }
        while !finished {
            tokio::time::sleep(SETTLE).await;
            finished = self.signal.finished.swap(false, Ordering::AcqRel);
            let Some(now) = self.stamp().await else {
                return;
            };
            if now == stamp {
                break;
            }
            stamp = now;
        }
        if self.seen.as_ref() != Some(&stamp) {
            // Written anew, if only with the same bytes: worth another try.
            self.refused = None;
        }
        self.seen = Some(stamp.clone());
        self.cut_short = None;
        if let Err(error) = self.reload().await {
            if matches!(error.1, PluginError::Truncated { .. }) && !finished {
                self.cut_short = Some(stamp);
                return;
            }
            self.refuse(error);
        }
    }

    /// Swaps if the content is new.
    async fn reload(&mut self) -> Result<(), (Option<Name>, PluginError)> {
        let started = Instant::now();
        let bytes = read_file(&self.path).await.map_err(|error| (None, error))?;
        let hash = tokio::task::spawn_blocking(move || (version_of(&bytes), bytes));
        let Ok((version, bytes)) = hash.await else {
            return Ok(());
        };
        let old = self.deployment.serving();
        if version == old || self.refused.as_ref() == Some(&version) {
            return Ok(());
        }
        let failed = |error| (Some(version.clone()), error);
        let source = self.path.display().to_string();
        let plugin = self
            .runtime
            .load_bytes(&source, bytes)
            .await
            .map_err(failed)?;
        self.deployment.swap_to(plugin).await.map_err(failed)?;
        self.refused = None;
        tracing::info!(
            path = %self.path.display(),
            old = &*old,
            new = &*version,
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a new version serves"
        );
        Ok(())
    }

    fn refuse(&mut self, (version, error): (Option<Name>, PluginError)) {
        let known = version.is_some() && version == self.refused;
        self.refused = version;
        if !known {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "the changed plugin is not taken; the old version serves on"
            );
        }
    }

    async fn stamp(&self) -> Option<Stamp> {
        let target = tokio::fs::canonicalize(&self.path).await.ok()?;
        let metadata = tokio::fs::metadata(&target).await.ok()?;
        Some(Stamp {
            bytes: metadata.len(),
            modified: metadata.modified().ok(),
            target,
        })
    }
}
