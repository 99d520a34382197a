//! The versions of one deployment: what became of each, and the last ones, still compiled. Plain
//! data.

use std::collections::VecDeque;
use std::time::SystemTime;

use tidegate_wire::Name;

use crate::plugin::Plugin;

/// Entries of the history; the oldest goes first.
const RECORDS_MAX: usize = 100;

/// What became of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionState {
    /// Some clients try it.
    Canary,
    /// It serves.
    Active,
    /// It served until another took its place.
    Replaced,
    /// It never served, and why.
    FailedToStart {
        /// Why.
        reason: String,
    },
    /// It served, or was tried, until an older one took its place again.
    RolledBack {
        /// Why.
        reason: String,
    },
}

/// One time that a version came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    /// Which.
    pub version: Name,
    /// Where it came from.
    pub source: Name,
    /// When it came.
    pub at: SystemTime,
    /// What became of it.
    pub state: VersionState,
}

/// The versions of one deployment.
#[derive(Debug)]
pub(super) struct Versions {
    history: VecDeque<VersionRecord>,
    serving: Plugin,
    /// The last used stands at the end.
    kept: VecDeque<Plugin>,
    kept_max: usize,
}

impl Versions {
    /// The first version serves.
    pub(super) fn new(first: &Plugin, kept_max: usize) -> Self {
        let mut versions = Self {
            history: VecDeque::new(),
            serving: first.clone(),
            kept: VecDeque::new(),
            kept_max: kept_max.max(1),
        };
        versions.record(first, VersionState::Active);
        versions.keep(first);
        versions
    }

    /// The version that serves.
    pub(super) const fn serving(&self) -> &Plugin {
        &self.serving
    }

    /// A version serves now; what became of the one before it is given.
    pub(super) fn activate(&mut self, plugin: &Plugin, before: VersionState) {
        self.serving = plugin.clone();
        self.settle(&VersionState::Active, &before);
        // A canary that is promoted keeps its entry.
        if !self.settle(&VersionState::Canary, &VersionState::Active) {
            self.record(plugin, VersionState::Active);
        }
        self.keep(plugin);
    }

    /// Some clients try a version.
    pub(super) fn try_out(&mut self, plugin: &Plugin) {
        self.record(plugin, VersionState::Canary);
        self.keep(plugin);
    }

    /// They do not any more.
    pub(super) fn give_up(&mut self, reason: String) {
        self.settle(&VersionState::Canary, &VersionState::RolledBack { reason });
    }

    /// A version was not started.
    pub(super) fn failed(&mut self, plugin: &Plugin, reason: String) {
        self.record(plugin, VersionState::FailedToStart { reason });
    }

    /// The version before the one that serves: what served before it and was not taken back. Only if
    /// it is kept.
    pub(super) fn previous(&self) -> Option<Plugin> {
        let served = self.history.iter().rev().find(|record| {
            record.state == VersionState::Replaced
                && record.version != *self.serving.version()
                && !self.is_taken_back(&record.version)
        });
        served.and_then(|record| self.kept(&record.version))
    }

    /// The version before one that comes now.
    pub(super) fn before_next(&self) -> Option<Plugin> {
        match self.is_taken_back(self.serving.version()) {
            false => Some(self.serving.clone()),
            true => self.previous(),
        }
    }

    /// Whether this version was taken back the last time that it served.
    fn is_taken_back(&self, version: &Name) -> bool {
        let served = |it: &&VersionRecord| {
            it.version == *version && !matches!(it.state, VersionState::FailedToStart { .. })
        };
        let last = self.history.iter().rev().find(served);
        last.is_some_and(|it| matches!(it.state, VersionState::RolledBack { .. }))
    }

    /// A version that needs no compilation.
    pub(super) fn kept(&self, version: &str) -> Option<Plugin> {
        let found = self.kept.iter().find(|own| &**own.version() == version);
        found.cloned()
    }

    /// All of those, the last used first.
    pub(super) fn all_kept(&self) -> Vec<Name> {
        let kept = self.kept.iter().rev();
        kept.map(|plugin| plugin.version().clone()).collect()
    }

    /// All entries, oldest first.
    pub(super) fn history(&self) -> Vec<VersionRecord> {
        self.history.iter().cloned().collect()
    }

    /// The last entry of one state goes into another; false if there is none.
    fn settle(&mut self, from: &VersionState, to: &VersionState) -> bool {
        let mut records = self.history.iter_mut().rev();
        let found = records.find(|record| record.state == *from);
        let is_found = found.is_some();
        if let Some(record) = found {
            record.state = to.clone();
        }
        is_found
    }

    fn record(&mut self, plugin: &Plugin, state: VersionState) {
        let over = |record: &VersionRecord| match record.state {
            VersionState::Canary | VersionState::Active => false,
            VersionState::Replaced
            | VersionState::FailedToStart { .. }
            | VersionState::RolledBack { .. } => true,
        };
        if self.history.len() >= RECORDS_MAX
            && let Some(oldest) = self.history.iter().position(over)
        {
            self.history.remove(oldest);
        }
        self.history.push_back(VersionRecord {
            version: plugin.version().clone(),
            source: plugin.source().clone(),
            at: SystemTime::now(),
            state,
        });
    }

    fn keep(&mut self, plugin: &Plugin) {
        self.kept.retain(|own| own.version() != plugin.version());
        self.kept.push_back(plugin.clone());
        while self.kept.len() > self.kept_max {
            self.kept.pop_front();
        }
    }
}
