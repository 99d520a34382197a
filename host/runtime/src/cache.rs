//! Compiled code on disk, so that a restart or a second load costs a look-up instead of a compile.
//!
//! An entry is two files, named by the plugin's content and the engine's own compatibility hash:
//! the code, and the checksum of the code. Loading compiled code is as trusting as running it, so
//! the directory belongs to this user alone and the checksum is compared before the code is mapped.
//! Whatever is wrong with an entry makes it a miss: it is compiled and written again.
//!
//! Who is about to compile what another one compiles already, in this process or another one of the
//! machine, waits for its entry: a file that is locked says so.
//!
//! What is kept is bounded in bytes: beyond the bound the entries go that were not used for longest,
//! also those of other engines. Removing one that is in use hurts nobody: it stays mapped.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use wasmtime::Engine;
use wasmtime::component::Component;

/// Changes when the meaning of an entry does.
const SCHEMA: u64 = 1;

/// A file that is not renamed yet, or still locked, belongs to a writer that is gone after so long.
const WRITING_MAX: Duration = Duration::from_secs(3600);

/// So long a compile by somebody else is waited for; who takes longer may be frozen.
const COMPILING_MAX: Duration = Duration::from_secs(60);

/// How often somebody who waits looks whether the other one is done: files have no lock with a deadline.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A directory of compiled plugins for one engine.
#[derive(Debug)]
pub(crate) struct CompileCache {
    dir: PathBuf,
    /// How much all entries may have, those of other engines too.
    bytes_max: u64,
    /// Stands for wasmtime's version, the CPU's features and all settings that shape the code.
    engine: String,
}

impl CompileCache {
    pub(crate) fn open(dir: &Path, bytes_max: u64, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        // Fails unless the directory is ours: code in a stranger's directory is not to be trusted.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
        let mut hasher = ContentHasher::default();
        SCHEMA.hash(&mut hasher);
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self {
            dir: dir.to_owned(),
            bytes_max,
            engine: format!("{:016x}", hasher.finish()),
        })
    }

    /// The component of this content hash; None if there is no sound entry.
    pub(crate) fn get(&self, engine: &Engine, hash: &str) -> Option<Component> {
        let code = self.path(hash, "cwasm");
        let expected = fs::read_to_string(self.path(hash, "blake3")).ok()?;
        let actual = checksum(&code).ok()?;
        if expected.trim() != actual.to_hex().as_str() {
            tracing::warn!(entry = %code.display(), "a damaged cache entry is compiled again");
            return None;
        }
        #[allow(
            unsafe_code,
            reason = "compiled code from our own directory, whose checksum was just compared"
        )]
        let component = unsafe { Component::deserialize_file(engine, &code) };
        component
            .inspect(|_| self.used(hash))
            .inspect_err(|error| {
                tracing::warn!(
                    entry = %code.display(),
                    error = format!("{error:#}"),
                    "a cache entry that the engine refuses is compiled again"
                );
            })
            .ok()
    }

    /// Waits for whoever compiles this entry now, and gives the turn to compile it if it is still not there;
    /// none as well where no file can be locked, or who has the turn takes too long. Blocks.
    pub(crate) fn turn(&self, hash: &str) -> Option<Turn> {
        let sum = self.path(hash, "blake3");
        if sum.exists() {
            return None;
        }
        let path = self.path(hash, "lock");
        let file = fs::File::create(&path).ok()?;
        let until = Instant::now() + COMPILING_MAX;
        loop {
            match file.try_lock() {
                Ok(()) if sum.exists() => return None,
                Ok(()) => return Some(Turn { path, _file: file }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < until => {}
                Err(_) => return None,
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "a thread that would compile, and has nothing else to do"
            )]
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Keeps a compiled component. A failure costs only the next start and is only logged.
    pub(crate) fn put(&self, hash: &str, component: &Component) {
        let written = component
            .serialize()
            .map_err(io::Error::other)
            .and_then(|code| {
                let sum = blake3::hash(&code).to_hex();
                self.replace(&self.path(hash, "cwasm"), &code)?;
                self.replace(&self.path(hash, "blake3"), sum.as_bytes())?;
                self.trim(&self.path(hash, "cwasm"))
            });
        if let Err(error) = written {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled plugin cannot be kept");
        }
    }

    /// The time of the checksum says when an entry was used last; the code is not written to.
    fn used(&self, hash: &str) {
        let sum = fs::File::options()
            .write(true)
            .open(self.path(hash, "blake3"));
        // A directory that cannot be written to is not trimmed either.
        let _ = sum.and_then(|sum| sum.set_modified(SystemTime::now()));
    }

    /// Removes entries, least lately used first, until the rest is within the bound. The newest stays.
    fn trim(&self, newest: &Path) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.dir)? {
            let path = file?.path();
            // Another process may have removed it in between.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let written = metadata.modified()?;
            match path.extension().and_then(|it| it.to_str()) {
                Some("cwasm") => {
                    let sum = fs::metadata(path.with_extension("blake3"));
                    let used = sum.and_then(|it| it.modified()).unwrap_or(written);
                    entries.push((used, metadata.len(), path));
                }
                Some("tmp" | "lock") if written.elapsed().is_ok_and(|it| it > WRITING_MAX) => {
                    let _ = fs::remove_file(&path);
                }
                Some(_) | None => {}
            }
        }
        entries.sort();
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, own, path) in entries.iter().filter(|(.., path)| path != newest) {
            if bytes <= self.bytes_max {
                break;
            }
            // The checksum last: code without one is a miss.
            for file in [path.clone(), path.with_extension("blake3")] {
                let _ = fs::remove_file(file);
            }
            bytes -= own;
            tracing::debug!(entry = %path.display(), "a compiled plugin is no longer kept");
        }
        Ok(())
    }

    fn path(&self, hash: &str, extension: &str) -> PathBuf {
        self.dir.join(format!("{hash}-{}.{extension}", self.engine))
    }

    /// Written beside and renamed, so that an entry that is mapped never changes under its reader.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = self
            .dir
            .join(format!(".{}-{count}.tmp", std::process::id()));
        let result = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, path));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result
    }
}

/// Who has it compiles; the others wait until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    path: PathBuf,
    /// Its lock ends with it.
    _file: fs::File,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Removed while it is locked: who has opened it already finds the entry, who comes later another file.
        let _ = fs::remove_file(&self.path);
    }
}

fn checksum(path: &Path) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut fs::File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize())
}

/// A hasher that gives the same in every run and every build.
#[derive(Default)]
struct ContentHasher(blake3::Hasher);

impl Hasher for ContentHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let hash = self.0.finalize();
        hash.as_bytes()
            .iter()
            .take(8)
            .fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
    }
}
