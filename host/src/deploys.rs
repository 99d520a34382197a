//! Deploys over the cluster, as this process takes part in them: where it keeps what is desired, and
//! where it finds the registers.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tidegate_deploy::{Coordinators, Store};

use crate::config::{Authority, Config, Purpose};

/// What this process keeps of deploys. The folder is its own as long as this lives.
#[derive(Debug)]
pub struct Kept {
    /// The desired state, and components.
    pub store: Store,
    _lock: Option<File>,
}

/// Opens the folder of this command below `deploy.state-dir`; without that key all is in memory.
///
/// # Errors
/// When the folder cannot be used, is in use by another process, or what is in it is damaged.
pub async fn open(config: &Config) -> anyhow::Result<Kept> {
    let Some(folder) = &config.deploy.state_dir else {
        let store = Store::open(None)?;
        return Ok(Kept { store, _lock: None });
    };
    let (folder, name) = (folder.clone(), folder_of(config.purpose));
    let opened = tokio::task::spawn_blocking(move || open_in(&folder, name));
    opened
        .await
        .context("`deploy.state-dir`")?
        .context("`deploy.state-dir`")
}

/// Each command has its own: on one machine they may share a configuration.
const fn folder_of(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Serve | Purpose::Check => "serve",
        Purpose::Register => "register",
        Purpose::Gateway => "gateway",
        Purpose::Worker => "worker",
    }
}

fn open_in(folder: &Path, name: &str) -> anyhow::Result<Kept> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    let lock = lock(folder.join(format!("{name}.lock")))?;
    let store = Store::open(Some(folder.join(name)))?;
    Ok(Kept {
        store,
        _lock: Some(lock),
    })
}

fn lock(path: PathBuf) -> anyhow::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!(
            "{} is in use by another process: give each process a folder of its own",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("{} cannot be locked", path.display()))
        }
    }
}

/// The registers that a node was told of; the first takes deploys.
#[must_use]
pub fn coordinators(registers: &[Authority]) -> Coordinators {
    Coordinators::Registers(registers.iter().map(Authority::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_process_and_to_one_command_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = open_in(folder.path(), "worker").unwrap();
        assert!(!first.store.is_in_memory());
        open_in(folder.path(), "register").unwrap();
        let error = open_in(folder.path(), "worker").unwrap_err().to_string();
        assert!(
            error.contains("worker.lock is in use by another"),
            "{error}"
        );
        drop(first);
        open_in(folder.path(), "worker").unwrap();
    }
}
