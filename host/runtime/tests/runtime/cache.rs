//! Compiled code is kept, and never trusted when it is damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tidegate_runtime::{Runtime, RuntimeSettings};

use crate::harness::guest_version;

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
