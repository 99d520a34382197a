//! Hot reload of one plugin file: whoever puts a new file in its place has a new version serving
//! within a second.
//!
//! Folders are watched, not the file, since files are best replaced by renaming: the file's own, and
//! that of each link on the way to it. A file that was renamed into place or closed after writing is
//! taken at once, and so is one to which a link was switched; anything else waits until it stands
//! still. A slow poll of size and times finds what the system does not tell; where nothing is told
//! at all (network file systems) the content is compared too, now and then. A file that is broken,
//! or that refuses to start, is logged once and changes nothing. A version is taken once: one that
//! was rolled back comes again only after the file had another content.

mod chain;
mod notices;
mod stamp;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tidegate_wire::Name;
use tidegate_wire::deploy::version_of;
use tokio_util::sync::CancellationToken;

use crate::codec::CodecDeployment;
use crate::command::CommandDeployment;
use crate::deployment::Deployment;
use crate::engine::{Runtime, read_file};
use crate::plugin::{Plugin, PluginError};
use crate::router::RouterDeployment;

use notices::{Notices, Signal};
use stamp::Stamp;

/// How long an unfinished file must stand still.
const SETTLE: Duration = Duration::from_millis(120);
/// How often the file is looked at without being told.
const POLL: Duration = Duration::from_millis(1_000);
/// How often its content is compared where nothing is told.
const READ_POLL: Duration = Duration::from_secs(5);

/// How changes of a file are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watching {
    /// The system tells; if it cannot, by looking.
    Told,
    /// By looking alone, at the content too.
    Polled,
    /// Only [`look_at_plugins`] makes it look.
    Asked,
}

/// Counts how often somebody has asked all watches to look. Global, as the signal is that asks.
static ASKED: LazyLock<tokio::sync::watch::Sender<u64>> = LazyLock::new(Default::default);

/// Has every plugin file looked at now, also those that are not watched: what was refused is tried
/// again.
pub fn look_at_plugins() {
    ASKED.send_modify(|asked| *asked += 1);
}

/// What runs one version of a plugin and can go over to another.
pub trait Swap: Send + Sync + 'static {
    /// The version that serves.
    fn serving(&self) -> Name;
    /// A version that needs no compilation; none where only the one that serves is kept.
    fn kept(&self, _version: &str) -> Option<Plugin> {
        None
    }
    /// Goes over to another version, or begins to; or stays with the old one and says why.
    fn swap_to(&self, plugin: Plugin) -> impl Future<Output = Result<(), PluginError>> + Send;
}

impl Swap for Deployment {
    fn serving(&self) -> Name {
        self.version().borrow().clone()
    }

    fn kept(&self, version: &str) -> Option<Plugin> {
        self.kept(version)
    }

    async fn swap_to(&self, plugin: Plugin) -> Result<(), PluginError> {
        if self.serving() == *plugin.version() && self.canary().is_none() {
            return Ok(());
        }
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

impl Swap for CodecDeployment {
    fn serving(&self) -> Name {
        self.version().borrow().clone()
    }

    async fn swap_to(&self, plugin: Plugin) -> Result<(), PluginError> {
        self.swap(plugin).await
    }
}

impl Swap for RouterDeployment {
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
    watching: Watching,
    runtime: Runtime,
    deployment: impl Swap,
    stop: CancellationToken,
) {
    let signal = Arc::new(Signal::default());
    let follower = Follower {
        taken: deployment.serving(),
        path,
        runtime,
        deployment,
        signal,
        notices: None,
        read: Instant::now(),
        seen: None,
        cut_short: None,
        refused: None,
        asked: false,
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = follower.run(watching) => {}
    }
}

struct Follower<D> {
    path: PathBuf,
    runtime: Runtime,
    deployment: D,
    signal: Arc<Signal>,
    /// None if the file is only looked at.
    notices: Option<Notices>,
    /// When its content was last compared.
    read: Instant,
    /// The state that was last looked into.
    seen: Option<Stamp>,
    /// A state that was cut short: perhaps somebody is still writing.
    cut_short: Option<Stamp>,
    /// The version that was last taken. It may have been rolled back since.
    taken: Name,
    /// What was not taken, with the words that were logged; it is not tried, nor told, again.
    refused: Option<(Option<Name>, String)>,
    /// Somebody waits for the outcome of this look: there may be no other one.
    asked: bool,
}

/// Why a state of the file is not taken.
enum WatchRefusal {
    /// It changed while it was read.
    Moving,
    /// It is no good.
    Bad(Option<Name>, PluginError),
}

impl<D: Swap> Follower<D> {
    async fn run(mut self, watching: Watching) {
        if watching == Watching::Told {
            self.start_notices().await;
        }
        let mut asked = ASKED.subscribe();
        let mut looks = watching != Watching::Asked;
        loop {
            if looks {
                self.look().await;
            }
            looks = true;
            let polls = watching != Watching::Asked;
            tokio::select! {
                () = self.signal.changed.notified() => {}
                () = tokio::time::sleep(POLL), if polls => {}
                // The sender is never dropped.
                _ = asked.changed() => {
                    self.seen = None;
                    self.refused = None;
                    self.asked = true;
                }
            }
        }
    }

    async fn start_notices(&mut self) {
        let (path, signal) = (self.path.clone(), Arc::clone(&self.signal));
        let started = tokio::task::spawn_blocking(move || Notices::start(&path, &signal)).await;
        match started {
            Ok(Ok(notices)) => self.notices = Some(notices),
            Ok(Err(error)) => tracing::warn!(
                path = %self.path.display(),
                %error,
                "the plugin's folder cannot be watched; the file is looked at once a second"
            ),
            Err(_) => {}
        }
    }

    async fn look(&mut self) {
        let mut finished = self.signal.take_finished();
        let Some(mut stamp) = self.stamp().await else {
            // Gone, or between removal and replacement: the old version serves on.
            return;
        };
        if !finished && self.seen.as_ref() == Some(&stamp) {
            let unread = self.notices.is_none() && self.read.elapsed() >= READ_POLL;
            if self.cut_short.as_ref() != Some(&stamp) && !unread {
                return;
            }
            // It has stood still since the last look: it will stay like this.
            finished = true;
        }
        while !finished {
            tokio::time::sleep(SETTLE).await;
            finished = self.signal.take_finished();
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
        let asked = std::mem::take(&mut self.asked);
        match self.reload(&stamp).await {
            Ok(()) => {
                self.seen = Some(stamp);
                self.cut_short = None;
            }
            Err(WatchRefusal::Moving) => self.signal.changed.notify_one(),
            Err(WatchRefusal::Bad(_, PluginError::Truncated { .. })) if !finished && !asked => {
                self.seen = Some(stamp.clone());
                self.cut_short = Some(stamp);
            }
            Err(WatchRefusal::Bad(version, error)) => {
                self.seen = Some(stamp);
                self.cut_short = None;
                self.refuse(version, &error);
            }
        }
    }

    /// Swaps if the content is new.
    async fn reload(&mut self, stamp: &Stamp) -> Result<(), WatchRefusal> {
        let started = Instant::now();
        let bytes = read_file(&self.path)
            .await
            .map_err(|error| WatchRefusal::Bad(None, error))?;
        if self.stamp().await.as_ref() != Some(stamp) {
            return Err(WatchRefusal::Moving);
        }
        self.read = Instant::now();
        let hash = tokio::task::spawn_blocking(move || (version_of(&bytes), bytes));
        let Ok((version, bytes)) = hash.await else {
            return Ok(());
        };
        let refused = self.refused.as_ref().and_then(|(own, _)| own.as_ref());
        if version == self.taken || refused == Some(&version) {
            return Ok(());
        }
        let old = self.deployment.serving();
        let failed = |error| WatchRefusal::Bad(Some(version.clone()), error);
        let source = self.path.display().to_string();
        let plugin = match self.deployment.kept(&version) {
            Some(plugin) => plugin,
            None => {
                let loaded = self.runtime.load_bytes(&source, bytes).await;
                loaded.map_err(failed)?
            }
        };
        self.deployment.swap_to(plugin).await.map_err(failed)?;
        self.refused = None;
        self.taken = version.clone();
        if version == old {
            return Ok(());
        }
        let serves = self.deployment.serving() == version;
        tracing::info!(
            path = %self.path.display(),
            old = &*old,
            new = &*version,
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "a new version {}", if serves { "serves" } else { "is tried on some clients" }
        );
        Ok(())
    }

    fn refuse(&mut self, version: Option<Name>, error: &PluginError) {
        let refused = (version, error.to_string());
        if self.refused.as_ref() != Some(&refused) {
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "the changed plugin is not taken; the old version serves on"
            );
        }
        self.refused = Some(refused);
        // The file has had another content now.
        self.taken = self.deployment.serving();
    }

    /// The state of the file; what is watched follows the way to it.
    async fn stamp(&mut self) -> Option<Stamp> {
        let (path, mut notices) = (self.path.clone(), self.notices.take());
        let watched = notices.is_some();
        let looked = tokio::task::spawn_blocking(move || {
            if let Some(notices) = &mut notices {
                // Told once, at the start; the poll finds what is not told.
                let _ = notices.follow(&path);
            }
            (Stamp::of(&path), notices)
        });
        match looked.await {
            Ok((stamp, notices)) => {
                self.notices = notices;
                stamp
            }
            Err(error) => {
                if watched {
                    tracing::warn!(path = %self.path.display(), %error, "the watch was lost");
                }
                None
            }
        }
    }
}
