//! The folder of a store: `desired.json`, `components/<version>.wasm`, `order.json` while an order is
//! carried out, and a lock.
//!
//! A file is written beside its place, synced, renamed into it, and the folder synced: whatever
//! happens, the place has the old file or the new one. `desired.json` opens with a line that has
//! the hash of the rest.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::deploy::{COMPONENT_BYTES_MAX, Desired, is_version};

use super::{Intent, StoreError};

/// What the first line of a state begins with.
const OPENING: &str = "tidegate desired state 1 ";
/// What a file is called until it is whole.
const UNFINISHED: &str = "tmp";

/// How much is written to see whether the disk takes anything.
const PROBE_BYTES: usize = 4_096;

/// The most that is written for it, where more was refused.
const PROBE_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// The bytes of the largest file that could not be written since the last that could.
    refused: AtomicUsize,
    /// Locked for as long as the process has the folder.
    _lock: File,
}

impl Disk {
    pub(super) fn open(folder: PathBuf) -> Result<(Self, Desired), StoreError> {
        let components = folder.join("components");
        fs::create_dir_all(&components).map_err(at(&components))?;
        let path = folder.join("lock");
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).open(&path);
        let lock = file.map_err(at(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(folder)),
            Err(TryLockError::Error(error)) => return Err(StoreError::Io { path, error }),
        }
        let disk = Self {
            folder,
            refused: AtomicUsize::new(0),
            _lock: lock,
        };
        for folder in [&disk.folder, &components] {
            remove_unfinished(folder).map_err(at(folder))?;
        }
        let desired = disk.read_desired()?;
        Ok((disk, desired))
    }

    fn intent_path(&self) -> PathBuf {
        self.folder.join("order.json")
    }

    /// One that cannot be read is none: what it would add is a line in the history.
    pub(super) fn read_intent(&self) -> Option<Intent> {
        let text = fs::read(self.intent_path()).ok()?;
        serde_json::from_slice(&text).ok()
    }

    pub(super) fn write_intent(&self, intent: Option<&Intent>) -> Result<(), StoreError> {
        let path = self.intent_path();
        let Some(intent) = intent else {
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
                Ok(()) | Err(_) => Ok(()),
            };
        };
        let json = serde_json::to_vec(intent).map_err(|error| at(&path)(error.into()))?;
        self.write(&path, &[&json])
    }

    /// Writes something and takes it away again: as much as was refused last, since a full disk has
    /// often room for a little.
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let path = self.folder.join("probe").with_extension(UNFINISHED);
        let refused = self.refused.load(Ordering::Relaxed);
        let bytes = refused.clamp(PROBE_BYTES, PROBE_BYTES_MAX) as u64;
        let written = File::create(&path)
            .and_then(|mut file| io::copy(&mut io::repeat(0).take(bytes), &mut file));
        // What cannot be removed is written over the next time.
        let _ = fs::remove_file(&path);
        written.map_err(at(&path))?;
        // What came meanwhile and was refused is still to be tried.
        let _ = self
            .refused
            .compare_exchange(refused, 0, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    /// Writes a file anew, and remembers what the disk refused.
    fn write(&self, path: &Path, parts: &[&[u8]]) -> Result<(), StoreError> {
        replace(path, parts).map_err(|error| {
            let bytes = parts.iter().map(|it| it.len()).sum();
            self.refused.fetch_max(bytes, Ordering::Relaxed);
            at(path)(error)
        })
    }

    fn desired_path(&self) -> PathBuf {
        self.folder.join("desired.json")
    }

    fn component_path(&self, version: &str) -> PathBuf {
        let name = format!("{version}.wasm");
        self.folder.join("components").join(name)
    }

    fn read_desired(&self) -> Result<Desired, StoreError> {
        let path = self.desired_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Desired::default()),
            Err(error) => return Err(StoreError::Io { path, error }),
        };
        parse(&text).map_err(|what| StoreError::Damaged { path, what })
    }

    pub(super) fn write_desired(&self, desired: &Desired) -> Result<(), StoreError> {
        let path = self.desired_path();
        let json = serde_json::to_vec_pretty(desired).map_err(|error| StoreError::Io {
            path: path.clone(),
            error: error.into(),
        })?;
        let opening = format!("{OPENING}{}\n", blake3::hash(&json).to_hex());
        self.write(&path, &[opening.as_bytes(), &json])
    }

    /// The versions that have a file, whatever is in it.
    pub(super) fn components(&self) -> Result<BTreeSet<Name>, StoreError> {
        let folder = self.folder.join("components");
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let name = entry.map_err(at(&folder))?.file_name();
            let version = name.to_str().and_then(|name| name.strip_suffix(".wasm"));
            if let Some(version) = version.filter(|it| is_version(it)) {
                found.insert(Name::from(version));
            }
        }
        Ok(found)
    }

    /// None if there is no such file, or one that cannot be a component.
    pub(super) fn read_component(&self, version: &str) -> Option<Bytes> {
        if !is_version(version) {
            return None;
        }
        let path = self.component_path(version);
        let length = fs::metadata(&path).ok()?.len();
        if length > COMPONENT_BYTES_MAX {
            // The hash of nothing is not that of the version.
            return Some(Bytes::new());
        }
        fs::read(&path).ok().map(Bytes::from)
    }

    pub(super) fn write_component(&self, version: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.component_path(version);
        self.write(&path, &[bytes])
    }

    pub(super) fn delete_component(&self, version: &str) -> Result<(), StoreError> {
        let path = self.component_path(version);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |error| StoreError::Io {
        path: path.to_owned(),
        error,
    }
}

fn parse(text: &[u8]) -> Result<Desired, String> {
    let foreign = || format!("it does not begin with {OPENING:?}");
    let rest = text.strip_prefix(OPENING.as_bytes()).ok_or_else(foreign)?;
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (hash, json) = rest.split_at(end.ok_or_else(|| "it is cut short".to_owned())?);
    let json = json.get(1..).unwrap_or_default();
    if blake3::hash(json).to_hex().as_bytes() != hash {
        return Err("its content does not have the hash that its first line says".to_owned());
    }
    let desired: Desired = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    desired.check().map_err(|error| error.to_string())?;
    Ok(desired)
}

fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let written = (|| {
        let mut file = File::create(&unfinished)?;
        for part in parts {
            file.write_all(part)?;
        }
        file.sync_all()?;
        fs::rename(&unfinished, path)
    })();
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
    }
    written?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What a process left when it was killed while it wrote.
fn remove_unfinished(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == UNFINISHED) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_what_the_next_look_tries() {
        let folder = tempfile::tempdir().unwrap();
        let (disk, _) = Disk::open(folder.path().to_owned()).unwrap();
        let version = "ab".repeat(32);
        let in_the_way = folder.path().join(format!("components/{version}.tmp"));
        fs::create_dir(&in_the_way).unwrap();
        disk.write_component(&version, &[0; 100_000]).unwrap_err();
        assert_eq!(disk.refused.load(Ordering::Relaxed), 100_000);
        let probe = folder.path().join("probe.tmp");
        std::os::unix::fs::symlink("/dev/full", &probe).unwrap();
        disk.probe().unwrap_err();
        assert_eq!(disk.refused.load(Ordering::Relaxed), 100_000, "no room yet");
        disk.probe().unwrap();
        assert_eq!(disk.refused.load(Ordering::Relaxed), 0);
        assert!(!probe.exists());
    }
}
