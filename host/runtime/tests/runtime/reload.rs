//! A changed file is served within a second; a broken one changes nothing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_runtime::{Deployment, Watching, watch};
use tidegate_wire::deploy::version_of;
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
    watched_by(tenant, Watching::Told).await
}

async fn watched_by(tenant: &str, watching: Watching) -> Watched {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin.wasm");
    fs::write(&path, guest()).unwrap();
    let deployment = deploy(settings(tenant)).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch(
        path,
        watching,
        runtime(),
        deployment.clone(),
        stop.clone(),
    ));
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

/// Watches `path` below a folder and waits until it has been looked at.
async fn follow(tenant: &str, folder: tempfile::TempDir, path: &str) -> Watched {
    let deployment = deploy(settings(tenant)).await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(watch(
        folder.path().join(path),
        Watching::Told,
        runtime(),
        deployment.clone(),
        stop.clone(),
    ));
    Watched {
        deployment,
        folder,
        stop,
        task,
    }
}

fn switch(folder: &Path, link: &str, to: &str) {
    let next = folder.join("next");
    symlink(to, &next).unwrap();
    fs::rename(next, folder.join(link)).unwrap();
}

fn put(folder: &Path, path: &str, bytes: &[u8]) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn a_volume_switched_as_kubernetes_does_is_followed_again_and_again() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "..2026_1/plugin.wasm", &guest());
    symlink("..2026_1", folder.path().join("..data")).unwrap();
    symlink("..data/plugin.wasm", folder.path().join("plugin.wasm")).unwrap();
    let watched = follow("volume", folder, "plugin.wasm").await;
    for (old, new, mark) in [(1, 2, 23), (2, 3, 25), (3, 4, 26)] {
        let root = watched.folder.path();
        put(
            root,
            &format!("..2026_{new}/plugin.wasm"),
            &guest_version(mark),
        );
        switch(root, "..data", &format!("..2026_{new}"));
        fs::remove_dir_all(root.join(format!("..2026_{old}"))).unwrap();
        watched.serves(&guest_version(mark)).await;
    }
    watched.end().await;
}

#[tokio::test]
async fn a_parent_that_is_a_link_may_be_switched() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "one/bin/plugin.wasm", &guest());
    put(folder.path(), "two/bin/plugin.wasm", &guest_version(27));
    symlink("one", folder.path().join("current")).unwrap();
    let watched = follow("parents", folder, "current/bin/plugin.wasm").await;
    switch(watched.folder.path(), "current", "two");
    watched.serves(&guest_version(27)).await;
    // What is watched has followed: the new folder tells of its own changes.
    put(
        watched.folder.path(),
        "two/bin/plugin.wasm",
        &guest_version(28),
    );
    watched.serves(&guest_version(28)).await;
    watched.end().await;
}

#[tokio::test]
async fn a_folder_that_was_replaced_is_watched_anew() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "bin/plugin.wasm", &guest());
    let watched = follow("replaced", folder, "bin/plugin.wasm").await;
    let root = watched.folder.path();
    put(root, "new/plugin.wasm", &guest_version(29));
    fs::rename(root.join("bin"), root.join("old")).unwrap();
    fs::rename(root.join("new"), root.join("bin")).unwrap();
    watched.serves(&guest_version(29)).await;
    put(root, "bin/plugin.wasm", &guest_version(30));
    watched.serves(&guest_version(30)).await;
    watched.end().await;
}

#[tokio::test]
async fn an_editor_that_moves_the_old_file_aside_is_survived() {
    let watched = watched("edited").await;
    let path = watched.folder.path().join("plugin.wasm");
    for mark in 31..34 {
        let backup = watched.folder.path().join("plugin.wasm~");
        fs::rename(&path, &backup).unwrap();
        fs::write(&path, guest_version(mark)).unwrap();
        fs::remove_file(&backup).unwrap();
        watched.serves(&guest_version(mark)).await;
    }
    watched.end().await;
}

#[tokio::test]
async fn without_notices_a_file_is_found_by_looking_even_with_its_old_time_and_size() {
    let watched = watched_by("polled", Watching::Polled).await;
    let path = watched.folder.path().join("plugin.wasm");
    let old = fs::metadata(&path).unwrap().modified().unwrap();
    rename_into(watched.folder.path(), &guest_version(34));
    watched.serves(&guest_version(34)).await;
    for mark in [35, 36] {
        fs::write(&path, guest_version(mark)).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
        watched.serves(&guest_version(mark)).await;
    }
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

#[tokio::test]
async fn a_version_that_was_rolled_back_is_not_taken_again_until_the_content_changes() {
    let watched = watched("declined").await;
    let path = watched.folder.path().join("plugin.wasm");
    rename_into(watched.folder.path(), &guest_version(37));
    watched.serves(&guest_version(37)).await;
    watched.deployment.rollback(None).await.unwrap();
    rename_into(watched.folder.path(), &guest_version(37));
    // A refusal after it, so that it is known that both were looked into.
    rename_into(watched.folder.path(), b"nonsense");
    let name = path.display().to_string();
    eventually("the refusal is told", || {
        !logged(&["WARN", &name, "is not taken"]).is_empty()
    })
    .await;
    assert_eq!(*watched.deployment.version().borrow(), version_of(&guest()));
    rename_into(watched.folder.path(), &guest_version(38));
    watched.serves(&guest_version(38)).await;
    watched.end().await;
}
