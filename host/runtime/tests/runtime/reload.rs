//! A changed file is served within a second; a broken one changes nothing.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_runtime::{Deployment, version_of, watch};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    DEADLINE, Home, client, deploy, eventually, guest, guest_version, logged, runtime, said,
    settings,
};

struct Watched {
    deployment: Deployment,
    folder: tempfile::TempDir,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn watched(tenant: &str) -> Watched {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::write(&path, guest()).unwrap();
    let deployment = deploy(settings(tenant)).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch(path, runtime(), deployment.clone(), stop.clone()));
    Watched {
        deployment,
        folder,
        stop,
        task,
    }
}

impl Watched {
    async fn serves(&self, bytes: &[u8]) {
        let expected = version_of(bytes);
        let mut version = self.deployment.version();
        let serves = version.wait_for(|version| *version == expected);
        let result = tokio::time::timeout(DEADLINE, serves).await;
        result.expect("the new version does not serve").unwrap();
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(DEADLINE, self.task)
            .await
            .unwrap()
            .unwrap();
    }
}

fn rename_into(folder: &Path, bytes: &[u8]) {
    let temporary = folder.join("plugin.tmp");
    fs::write(&temporary, bytes).unwrap();
    fs::rename(&temporary, folder.join("plugin.wasm")).unwrap();
}

#[tokio::test]
async fn a_file_renamed_into_place_or_written_over_is_served() {
    let watched = watched("renamed").await;
    let home = Home::new();
    let old = said(&home.run(&watched.deployment, client(1), "version").await);
    let start = Instant::now();
    rename_into(watched.folder.path(), &guest_version(20));
    watched.serves(&guest_version(20)).await;
    assert!(start.elapsed() < Duration::from_secs(10));
    fs::write(watched.folder.path().join("plugin.wasm"), guest_version(21)).unwrap();
    watched.serves(&guest_version(21)).await;
    let new = said(&home.run(&watched.deployment, client(1), "version").await);
    assert_ne!(new, old);
    eventually("the change is logged", || {
        let path = watched.folder.path().display().to_string();
        logged(&["INFO", &path, "a new version serves", &new[0]]).len() == 1
    })
    .await;
    watched.end().await;
}

#[tokio::test]
async fn a_half_written_file_is_told_once_and_the_rest_of_it_is_served() {
    let watched = watched("halfway").await;
    let path = watched.folder.path().join("plugin.wasm");
    let bytes = guest_version(22);
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    fs::write(&path, half).unwrap();
    let name = path.display().to_string();
    eventually("the broken file is told", || {
        !logged(&["WARN", &name, "is cut short"]).is_empty()
    })
    .await;
    assert_eq!(
        **watched.deployment.version().borrow(),
        *version_of(&guest())
    );
    let home = Home::new();
    let commit = home
        .run(&watched.deployment, client(1), "echo still here")
        .await;
    assert_eq!(said(&commit), ["still here"]);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, rest).unwrap();
    drop(file);
    watched.serves(&bytes).await;
    assert_eq!(logged(&["WARN", &name]).len(), 1);
    watched.end().await;
}

#[tokio::test]
async fn a_link_that_is_switched_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("one")).unwrap();
    fs::create_dir(at("two")).unwrap();
    fs::write(at("one/plugin.wasm"), guest()).unwrap();
    fs::write(at("two/plugin.wasm"), guest_version(23)).unwrap();
    std::os::unix::fs::symlink("one", at("current")).unwrap();
    std::os::unix::fs::symlink("current/plugin.wasm", at("plugin.wasm")).unwrap();
    let deployment = deploy(settings("linked")).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch(
        at("plugin.wasm"),
        runtime(),
        deployment.clone(),
        stop.clone(),
    ));
    std::os::unix::fs::symlink("two", at("next")).unwrap();
    fs::rename(at("next"), at("current")).unwrap();
    let watched = Watched {
        deployment,
        folder,
        stop,
        task,
    };
    watched.serves(&guest_version(23)).await;
    watched.end().await;
}

#[tokio::test]
async fn a_removed_file_changes_nothing_until_it_is_back() {
    let watched = watched("removed").await;
    let path = watched.folder.path().join("plugin.wasm");
    fs::remove_file(&path).unwrap();
    let home = Home::new();
    let commit = home
        .run(&watched.deployment, client(1), "echo still here")
        .await;
    assert_eq!(said(&commit), ["still here"]);
    fs::write(&path, guest_version(24)).unwrap();
    watched.serves(&guest_version(24)).await;
    watched.end().await;
}
