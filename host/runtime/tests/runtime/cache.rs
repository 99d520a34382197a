//! Compiled code is kept, and never trusted when it is damaged.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tidegate_runtime::{Runtime, RuntimeSettings};

use crate::harness::{eventually, guest_version};

fn runtime_with(dir: &Path) -> Runtime {
    Runtime::new(RuntimeSettings {
        cache_dir: Some(dir.to_owned()),
        pooling: false,
        ..RuntimeSettings::default()
    })
    .unwrap()
}

fn entry(dir: &Path, extension: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn what_was_not_used_for_longest_goes_when_the_cache_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let load = async |runtime: &Runtime, number| {
        let bytes = guest_version(number);
        runtime.load_bytes("a", bytes).await.unwrap();
    };
    let wide = runtime_with(dir);
    load(&wide, 1).await;
    let one = fs::metadata(entry(dir, "cwasm")).unwrap().len();
    load(&wide, 2).await;
    // Used again, so that the second is the oldest.
    load(&runtime_with(dir), 1).await;
    let narrow = Runtime::new(RuntimeSettings {
        cache_dir: Some(dir.to_owned()),
        cache_bytes_max: 2 * one + one / 2,
        pooling: false,
        ..RuntimeSettings::default()
    })
    .unwrap();
    let before = files_of(dir);
    load(&narrow, 3).await;
    assert_eq!(files_of(dir).len(), 4, "two are kept");
    let gone = before.iter().filter(|path| !path.exists()).count();
    assert_eq!(gone, 2, "the code and the checksum of one");
    let written = files_of(dir);
    load(&runtime_with(dir), 1).await;
    assert_eq!(files_of(dir), written, "the first is still kept");
}

#[tokio::test]
async fn what_another_one_compiles_already_is_waited_for_and_not_compiled_twice() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = guest_version(20);
    let other = runtime_with(there.path());
    other.load_bytes("a", bytes.clone()).await.unwrap();
    let [code, sum] = ["cwasm", "blake3"].map(|extension| entry(there.path(), extension));
    let copy_of = |file: &Path| here.path().join(file.file_name().unwrap());

    // The other one, in the middle of its work.
    let lock = copy_of(&code).with_extension("lock");
    let compiling = fs::File::create(&lock).unwrap();
    compiling.lock().unwrap();
    let runtime = runtime_with(here.path());
    let load = tokio::spawn(async move { runtime.load_bytes("a", bytes).await });
    eventually("both have the file open", || open_here(&lock) == 2).await;
    fs::copy(&code, copy_of(&code)).unwrap();
    fs::copy(&sum, copy_of(&sum)).unwrap();
    let written = fs::metadata(copy_of(&code)).unwrap().ino();
    drop(compiling);
    load.await.unwrap().unwrap();
    let kept = fs::metadata(copy_of(&code)).unwrap().ino();
    assert_eq!(kept, written, "compiled by the other one only");
}

/// How often this process has the file open.
fn open_here(path: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    let targets = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target == path).count()
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap();
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_second_load_uses_the_kept_code_and_a_damaged_entry_is_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("deep/cache");
    let bytes = guest_version(10);
    runtime_with(&dir)
        .load_bytes("a", bytes.clone())
        .await
        .unwrap();
    assert_eq!(
        fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
        0o700
    );
    let code = entry(&dir, "cwasm");
    let written = || fs::metadata(&code).unwrap().modified().unwrap();
    let first = written();
    let sound = fs::read(&code).unwrap();

    runtime_with(&dir)
        .load_bytes("a", bytes.clone())
        .await
        .unwrap();
    assert_eq!(written(), first, "not compiled again");

    let mut damaged = sound.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    fs::write(&code, &damaged).unwrap();
    runtime_with(&dir)
        .load_bytes("a", bytes.clone())
        .await
        .unwrap();
    assert_eq!(fs::read(&code).unwrap().len(), sound.len());
    assert_ne!(fs::read(&code).unwrap(), damaged);

    // With a checksum that fits, the engine itself must refuse what is not its own.
    fs::write(&code, b"not code").unwrap();
    let sum = blake3::hash(b"not code").to_hex();
    fs::write(entry(&dir, "blake3"), sum.as_bytes()).unwrap();
    runtime_with(&dir).load_bytes("a", bytes).await.unwrap();
    assert!(fs::read(&code).unwrap().len() > 1000);
}
