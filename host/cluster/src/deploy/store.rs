//! What a node keeps of deploys: skeleton.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_wire::deploy::Desired;

/// Why what is kept cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What.
        error: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{path} is damaged: {what}; restore it from a copy, or remove it and this node learns the state from the others")]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What.
        what: String,
    },
    /// Bytes that are not those of the version.
    #[error("the bytes are not those of version {0}")]
    WrongHash(String),
}

/// What this node keeps: the desired state, and components. Clones share it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Option<PathBuf>>,
}

impl Store {
    /// Opens the folder, made if it is not there; without one everything is held in memory only.
    /// Blocks for as long as the disk needs.
    ///
    /// # Errors
    /// When it cannot be read or written, or when the state in it is damaged.
    pub fn open(folder: Option<PathBuf>) -> Result<Self, StoreError> {
        Ok(Self { inner: Arc::new(folder) })
    }

    /// A store that a restart forgets.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            inner: Arc::new(None),
        }
    }

    /// Whether a restart forgets it.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        self.inner.is_none()
    }

    /// What is desired.
    #[must_use]
    pub fn desired(&self) -> Arc<Desired> {
        Arc::default()
    }
}
