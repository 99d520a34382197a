//! What is on the disk, and what becomes of it when somebody else writes there.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tidegate_wire::Name;
use tidegate_wire::deploy::{Deployed, Desired, Fate, Release};
use tidegate_wire::id::Incarnation;

use super::{Store, StoreError, version_of};

fn desired(generation: u64, versions: &[&Name]) -> Desired {
    let release = |version: &&Name| Release {
        generation,
        version: (*version).clone(),
        source: "s".into(),
        bytes: 3,
        at_ms: 0,
        by: "b".into(),
        fate: Fate::Replaced,
        instead_of: 0,
        unproven: false,
    };
    let releases = versions.iter().map(release).collect();
    Desired {
        generation,
        writer: Incarnation(1),
        tenants: [(
            "t".into(),
            Deployed {
                releases,
                withdrawn_in: 0,
            },
        )]
        .into(),
    }
}

fn open(folder: &Path) -> Result<Store, StoreError> {
    Store::open(Some(folder.to_owned()))
}

#[tokio::test]
async fn a_state_comes_back_and_a_lower_one_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let state = desired(5, &[]);
    let store = open(folder.path()).unwrap();
    assert!(store.adopt(state.clone()).await.unwrap());
    assert!(!store.adopt(desired(4, &[])).await.unwrap());
    assert!(!store.adopt(state.clone()).await.unwrap());
    drop(store);
    assert_eq!(*open(folder.path()).unwrap().desired(), state);
}

#[tokio::test]
async fn what_serves_is_looked_for_first_and_missed_alone() {
    let store = Store::in_memory();
    let [old, serves] = [Name::from("a"), Name::from("b")];
    let mut state = desired(1, &[&serves, &old]);
    assert!(store.adopt(state.clone()).await.unwrap());
    assert_eq!(store.lacks_in_use(), None);
    let deployed = state.tenants.get_mut("t").unwrap();
    deployed.releases[0].fate = Fate::Active;
    state.generation = 2;
    assert!(store.adopt(state).await.unwrap());
    assert_eq!(store.lacking(), [(serves.clone(), 3), (old, 3)]);
    assert_eq!(store.lacks_in_use(), Some(("t".into(), serves)));
}

#[tokio::test]
async fn of_two_states_of_one_generation_the_higher_writer_wins() {
    let store = Store::in_memory();
    let of = |writer| Desired {
        writer: Incarnation(writer),
        ..desired(5, &[])
    };
    assert!(store.adopt(of(2)).await.unwrap());
    assert!(!store.adopt(of(1)).await.unwrap());
    assert!(store.adopt(of(3)).await.unwrap());
}

#[tokio::test]
async fn a_damaged_or_foreign_state_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    store.adopt(desired(5, &[])).await.unwrap();
    drop(store);
    let path = folder.path().join("desired.json");
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let half = whole[..whole.len() / 2].to_vec();
    let cut = b"tidegate desired state 1 00".to_vec();
    for bytes in [flipped, half, cut, b"{}".to_vec(), Vec::new()] {
        fs::write(&path, &bytes).unwrap();
        let error = open(folder.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("desired.json"), "{error}");
        // Never reset silently.
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    fs::write(&path, whole).unwrap();
    assert_eq!(open(folder.path()).unwrap().desired().generation, 5);
}

#[test]
fn a_folder_has_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(store);
    open(folder.path()).unwrap();
}

#[tokio::test]
async fn components_are_kept_while_they_are_named_or_held() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let bytes = Bytes::from_static(b"one");
    let version = version_of(&bytes);
    let file = folder.path().join(format!("components/{version}.wasm"));
    let pin = store.pin(&version);
    store.put(&version, bytes.clone()).await.unwrap();
    store.tidy().await;
    assert!(file.exists());
    store.adopt(desired(1, &[&version])).await.unwrap();
    drop(pin);
    store.tidy().await;
    assert_eq!(*store.component(&version).await.unwrap(), bytes);
    assert!(store.lacking().is_empty());
    store.adopt(desired(2, &[])).await.unwrap();
    assert!(!file.exists());
    assert_eq!(store.component(&version).await, None);
}

#[tokio::test]
async fn bytes_are_checked_when_written_and_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let version = version_of(b"one");
    let wrong = store.put(&version, Bytes::from_static(b"two")).await;
    assert!(matches!(wrong, Err(StoreError::WrongHash(_))));
    let _pin = store.pin(&version);
    store
        .put(&version, Bytes::from_static(b"one"))
        .await
        .unwrap();
    let file = folder.path().join(format!("components/{version}.wasm"));
    fs::write(&file, b"two").unwrap();
    assert_eq!(store.component(&version).await, None);
    assert!(!file.exists() && !store.has(&version));
    let traversal = store
        .put(&"../../x".into(), Bytes::from_static(b"one"))
        .await;
    assert!(matches!(traversal, Err(StoreError::WrongHash(_))));
}

#[tokio::test]
async fn what_a_killed_process_left_unfinished_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    let unfinished = [
        folder.path().join("desired.tmp"),
        folder
            .path()
            .join(format!("components/{}.tmp", version_of(b"x"))),
    ];
    let unnamed = folder
        .path()
        .join(format!("components/{}.wasm", version_of(b"x")));
    for path in unfinished.iter().chain([&unnamed]) {
        fs::write(path, b"half").unwrap();
    }
    let _store = open(folder.path()).unwrap();
    for path in unfinished.iter().chain([&unnamed]) {
        assert!(!path.exists(), "{}", path.display());
    }
}

#[tokio::test]
async fn memory_keeps_the_last_few_components_only() {
    let store = Store::in_memory();
    let versions: Vec<Name> = (0..5u8).map(|it| version_of(&[it])).collect();
    let named: Vec<&Name> = versions.iter().collect();
    store.adopt(desired(1, &named)).await.unwrap();
    assert_eq!(store.lacking().len(), 3);
    for (version, byte) in versions.iter().zip(0..5u8) {
        store.put(version, vec![byte].into()).await.unwrap();
    }
    store.tidy().await;
    let kept: Vec<bool> = versions.iter().map(|it| store.has(it)).collect();
    assert_eq!(kept, [true, true, true, false, false]);
}

#[test]
fn a_state_that_an_earlier_build_has_written_is_read() {
    let release = r#"{"generation": 1, "version": "v", "source": "s", "bytes": 1, "at_ms": 1,
        "by": "b", "fate": "Active"}"#;
    let text = format!("{{\"releases\": [{release}]}}");
    let deployed: Deployed = serde_json::from_str(&text).unwrap();
    let current = deployed.current().unwrap();
    assert_eq!((deployed.withdrawn_in, current.instead_of), (0, 0));
}
