//! What a node keeps of deploys: the desired state, and components by their hash.
//!
//! Guarantees: a state replaces a lower one only, and is on the disk before anybody is told; bytes
//! are handed out only after their hash was checked; what neither the state names nor anybody
//! holds is deleted. One process owns a folder. Without one everything is held in memory.

mod disk;
mod intent;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::deploy::{Desired, Fate, Release, is_version};
use tokio::task::spawn_blocking;

use super::version_of;
use disk::Disk;
pub(super) use intent::Intent;

/// How many components of a tenant are kept where only memory is there for them.
const KEPT_IN_MEMORY: usize = 3;

/// Why what is kept cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error("{}: {error}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error(
        "{} is not a state that this node has written: {what}; restore it from a copy, or move it \
         away: this node then learns the state from the others",
        .path.display()
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// Two processes with one folder.
    #[error("{} is used by another process: give each a `state-dir` of its own", .0.display())]
    InUse(PathBuf),
    /// Bytes that are not those of the version.
    #[error("the bytes are not those of version {0}")]
    WrongHash(Name),
    /// A bug here.
    #[error("the task that used the disk has failed")]
    Task,
}

/// What this node keeps. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    disk: Option<Disk>,
    /// Preparation while the disk is written, so that a state never overwrites a higher one.
    writing: Mutex<()>,
    state: Mutex<StoreState>,
}

#[derive(Debug, Default)]
struct StoreState {
    desired: Arc<Desired>,
    /// The components that are there.
    present: BTreeSet<Name>,
    /// How many hold a component that the state may not name yet.
    pins: BTreeMap<Name, usize>,
    /// Components where there is no disk.
    memory: BTreeMap<Name, Bytes>,
    /// Components that somebody reads: those who send it to several nodes share it.
    lent: BTreeMap<Name, Weak<Bytes>>,
    told_memory: bool,
    /// The disk has not taken the desired state yet.
    unwritten: bool,
    /// The order that is being carried out.
    intent: Option<Intent>,
}

/// Keeps a component from being deleted although no state names it.
#[derive(Debug)]
pub(super) struct Pin {
    inner: Arc<StoreInner>,
    version: Name,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.inner.state();
        if let Some(count) = state.pins.get_mut(&self.version) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.version);
            }
        }
    }
}

impl Store {
    /// Opens the folder, made if it is not there; without one everything is held in memory only.
    /// Blocks for as long as the disk needs.
    ///
    /// # Errors
    /// When it cannot be read or written, when another process uses it, or when the state in it is
    /// damaged.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, StoreError> {
        let Some(folder) = folder else {
            return Ok(Self::in_memory());
        };
        let (disk, desired) = Disk::open(folder)?;
        let state = StoreState {
            intent: disk.read_intent(),
            desired: Arc::new(desired),
            present: disk.components()?,
            ..StoreState::default()
        };
        let store = Self::with(Some(disk), state);
        store.inner.prune();
        Ok(store)
    }

    /// A store that a restart forgets.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::with(None, StoreState::default())
    }

    fn with(disk: Option<Disk>, state: StoreState) -> Self {
        show_generation(&state.desired);
        Self {
            inner: Arc::new(StoreInner {
                disk,
                writing: Mutex::default(),
                state: Mutex::new(state),
            }),
        }
    }

    /// Whether a restart forgets it.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.inner.disk.is_none()
    }

    /// What is desired.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        self.inner.state().desired.clone()
    }

    /// Whether a decision could be written now.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.on_disk(|inner| inner.disk.as_ref().map_or(Ok(()), Disk::probe))
            .await
    }

    /// The order that was being carried out when this was written last.
    pub(super) fn intent(&self) -> Option<Intent> {
        self.inner.state().intent.clone()
    }

    /// Writes down which order is being carried out, or that it is over.
    pub(super) async fn intend(&self, intent: Option<Intent>) -> Result<(), StoreError> {
        if self.intent() == intent {
            return Ok(());
        }
        self.on_disk(move |inner| {
            if let Some(disk) = &inner.disk {
                disk.write_intent(intent.as_ref())?;
            }
            inner.state().intent = intent;
            Ok(())
        })
        .await
    }

    /// Whether the component is there.
    #[must_use]
    pub fn has(&self, version: &str) -> bool {
        self.inner.state().present.contains(version)
    }

    /// The components that are to be kept and are not there, with their lengths; first those that
    /// serve, which a disk with little room has to take first.
    pub(super) fn lacking(&self) -> Vec<(Name, u64)> {
        let state = self.inner.state();
        let kept = kept(&state.desired, self.inner.disk.is_some());
        let lacking = kept.filter(|it| !state.present.contains(&it.version));
        let mut lacking: Vec<&Release> = lacking.collect();
        lacking.sort_by_key(|it| (!is_in_use(it), &it.version));
        let mut lacking: Vec<(Name, u64)> = lacking
            .into_iter()
            .map(|it| (it.version.clone(), it.bytes))
            .collect();
        let mut seen = BTreeSet::new();
        lacking.retain(|(version, _)| seen.insert(version.clone()));
        lacking
    }

    /// A version that is to serve and whose component is not here, with its tenant.
    #[must_use]
    pub fn lacks_in_use(&self) -> Option<(Name, Name)> {
        let state = self.inner.state();
        state.desired.tenants.iter().find_map(|(tenant, deployed)| {
            let mut in_use = deployed.releases.iter().filter(|it| is_in_use(it));
            let lacking = in_use.find(|it| !state.present.contains(&it.version))?;
            Some((tenant.clone(), lacking.version.clone()))
        })
    }

    /// Takes a state if it beats the one that is known: false if it does not.
    pub(super) async fn adopt(&self, desired: Desired) -> Result<bool, StoreError> {
        if !self.inner.state().lacks(&desired) {
            return Ok(false);
        }
        self.say_memory(desired.generation);
        self.on_disk(move |inner| inner.adopt(desired)).await
    }

    /// Goes by a state that the disk does not take, if it beats the one that is known, until it is
    /// adopted or the process ends.
    pub(super) fn hold(&self, desired: Desired) -> bool {
        let _writing = self.inner.writing();
        let mut state = self.inner.state();
        let is_new = desired.beats(&state.desired);
        if is_new {
            show_generation(&desired);
            state.desired = Arc::new(desired);
            state.unwritten = true;
        }
        is_new
    }

    /// The bytes of a component, checked; none if they are not there or damaged.
    pub(super) async fn component(&self, version: &Name) -> Option<Arc<Bytes>> {
        if let Some(bytes) = self.inner.state().lent.get(version).and_then(Weak::upgrade) {
            return Some(bytes);
        }
        let version = version.clone();
        let read = self.on_disk(move |inner| Ok(inner.read(&version))).await;
        read.ok().flatten()
    }

    /// Keeps a component, if it is one.
    pub(super) async fn put(&self, version: &Name, bytes: Bytes) -> Result<(), StoreError> {
        let version = version.clone();
        self.on_disk(move |inner| inner.put(&version, bytes)).await
    }

    /// Keeps the component for as long as the pin lives.
    pub(super) fn pin(&self, version: &Name) -> Pin {
        *self.inner.state().pins.entry(version.clone()).or_default() += 1;
        Pin {
            inner: self.inner.clone(),
            version: version.clone(),
        }
    }

    /// Deletes what nobody needs.
    pub(super) async fn tidy(&self) {
        // Cannot fail: what cannot be deleted is logged.
        let work = self.on_disk(|inner| {
            inner.prune();
            Ok(())
        });
        let _ = work.await;
    }

    /// Work for the disk runs on a thread that may block; memory is used at once.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreInner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        if inner.disk.is_none() {
            return work(&inner);
        }
        match spawn_blocking(move || work(&inner)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Task),
        }
    }

    fn say_memory(&self, generation: u64) {
        let mut state = self.inner.state();
        if self.is_in_memory() && !state.told_memory {
            state.told_memory = true;
            tracing::warn!(
                generation,
                "what is deployed is held in memory only: set `state-dir` so that a restart of all \
                 nodes does not forget it"
            );
        }
    }
}

/// Nodes whose generations differ have not heard of each other.
fn show_generation(desired: &Desired) {
    let generation = u32::try_from(desired.generation).unwrap_or(u32::MAX);
    metrics::gauge!("tidegate_deploy_generation").set(generation);
}

impl StoreState {
    /// Whether it is still to be kept.
    fn lacks(&self, desired: &Desired) -> bool {
        desired.beats(&self.desired) || (self.unwritten && *desired == *self.desired)
    }
}

impl StoreInner {
    /// The state is plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn adopt(&self, desired: Desired) -> Result<bool, StoreError> {
        let writing = self.writing();
        if !self.state().lacks(&desired) {
            return Ok(false);
        }
        if let Some(disk) = &self.disk {
            disk.write_desired(&desired)?;
        }
        show_generation(&desired);
        let mut state = self.state();
        state.desired = Arc::new(desired);
        state.unwritten = false;
        drop(state);
        drop(writing);
        self.prune();
        Ok(true)
    }

    fn read(&self, version: &Name) -> Option<Arc<Bytes>> {
        let kept = self.state().memory.get(version).cloned();
        let bytes = match (&self.disk, kept) {
            (_, Some(bytes)) => bytes,
            (None, None) => return None,
            (Some(disk), None) => {
                let Some(bytes) = disk.read_component(version) else {
                    self.state().present.remove(version);
                    return None;
                };
                if version_of(&bytes) != *version {
                    tracing::error!(%version, "a kept component is damaged: it is fetched again");
                    self.delete(disk, version);
                    return None;
                }
                bytes
            }
        };
        let bytes = Arc::new(bytes);
        let mut state = self.state();
        state.lent.retain(|_, lent| lent.strong_count() > 0);
        state.lent.insert(version.clone(), Arc::downgrade(&bytes));
        Some(bytes)
    }

    fn put(&self, version: &Name, bytes: Bytes) -> Result<(), StoreError> {
        if !is_version(version) || version_of(&bytes) != *version {
            return Err(StoreError::WrongHash(version.clone()));
        }
        let _writing = self.writing();
        if self.state().present.contains(version) {
            return Ok(());
        }
        match &self.disk {
            Some(disk) => disk.write_component(version, &bytes)?,
            None => {
                self.state().memory.insert(version.clone(), bytes);
            }
        }
        self.state().present.insert(version.clone());
        Ok(())
    }

    /// Deletes the components that nobody needs.
    fn prune(&self) {
        let _writing = self.writing();
        let unwanted: Vec<Name> = {
            let state = self.state();
            let kept = kept(&state.desired, self.disk.is_some());
            let wanted: BTreeSet<&Name> = kept.map(|it| &it.version).collect();
            let needed = |it: &Name| wanted.contains(it) || state.pins.contains_key(it);
            let unwanted = state.present.iter().filter(|it| !needed(it));
            unwanted.cloned().collect()
        };
        for version in unwanted {
            match &self.disk {
                Some(disk) => self.delete(disk, &version),
                None => {
                    let mut state = self.state();
                    state.memory.remove(&version);
                    state.present.remove(&version);
                }
            }
        }
    }

    fn delete(&self, disk: &Disk, version: &Name) {
        match disk.delete_component(version) {
            Ok(()) => {
                self.state().present.remove(version);
            }
            Err(error) => tracing::warn!(%error, "a component could not be deleted"),
        }
    }
}

/// Whether it serves, all clients or some.
const fn is_in_use(release: &Release) -> bool {
    matches!(release.fate, Fate::Active | Fate::Canary(_))
}

/// The releases whose bytes are kept for this state.
fn kept(desired: &Desired, on_disk: bool) -> impl Iterator<Item = &Release> {
    let most = if on_disk { usize::MAX } else { KEPT_IN_MEMORY };
    let tenants = desired.tenants.values();
    tenants.flat_map(move |deployed| deployed.kept().into_iter().take(most))
}

#[cfg(test)]
mod tests;
