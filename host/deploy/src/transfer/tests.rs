//! Components between two ends of a link.

use std::time::Duration;

use bytes::Bytes;
use tidegate_link::{Link, LinkSettings, pair};
use tidegate_wire::deploy::{CHUNK_BYTES_MAX, Deploy};
use tidegate_wire::frame::Frame;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::time::timeout;

use super::{AHEAD, Exchange, FetchError, From};
use crate::{Store, version_of};

const PATIENCE: Duration = Duration::from_secs(10);

fn node(role: Role) -> Node {
    Node {
        role,
        incarnation: Incarnation(1),
        address: None,
        name: "n".into(),
        tags: Vec::new(),
    }
}

fn links() -> (Link, Link) {
    let (left, right) = (node(Role::Worker), node(Role::Register));
    pair(left, right, &LinkSettings::default())
}

fn bytes(length: usize) -> Bytes {
    (0..length).map(|it| (it % 251) as u8).collect()
}

/// Passes what comes on to the exchange, as links do.
fn attend(exchange: Exchange, peer: u64, mut link: Link) {
    tokio::spawn(async move {
        let mut frames = Vec::new();
        while link.receiver.recv(&mut frames).await.is_ok() {
            for frame in frames.drain(..) {
                let Frame::Deploy(frame) = frame else {
                    panic!("no frame of a deploy");
                };
                if let Deploy::Fetch { version, offset } = *frame {
                    exchange.lend(peer, version, offset, &link.sender).await;
                } else {
                    exchange.received(peer, *frame);
                }
            }
        }
        exchange.leave(peer);
    });
}

#[tokio::test]
async fn components_of_every_length_arrive_whole() {
    let chunk = CHUNK_BYTES_MAX as usize;
    for length in [1, chunk - 1, chunk, chunk + 1, 7 * chunk + 5] {
        let (here, there) = links();
        let giver = Exchange::new(Store::in_memory(), PATIENCE);
        let bytes = bytes(length);
        let version = version_of(&bytes);
        let _offer = giver.offer(&version, bytes.clone());
        let store = Store::in_memory();
        let taker = Exchange::new(store.clone(), PATIENCE);
        taker.join(0, here.sender.clone());
        giver.join(9, there.sender.clone());
        attend(taker.clone(), 0, here);
        attend(giver, 9, there);
        let obtained = taker.obtain(&version, length as u64, From::Anyone).await;
        assert_eq!(*obtained.unwrap().bytes, bytes, "{length}");
    }
}

#[tokio::test]
async fn no_more_is_asked_for_than_a_few_chunks_ahead() {
    let (here, mut there) = links();
    let taker = Exchange::new(Store::in_memory(), Duration::from_millis(50));
    taker.join(0, here.sender.clone());
    let version = version_of(b"long");
    let silent = taker
        .obtain(&version, CHUNK_BYTES_MAX * 100, From::Anyone)
        .await;
    assert!(matches!(silent, Err(FetchError::Silent(_))));
    let mut frames = Vec::new();
    there.receiver.recv(&mut frames).await.unwrap();
    assert_eq!(frames.len(), AHEAD);
}

#[tokio::test]
async fn a_link_that_ends_ends_the_transfer_and_another_is_asked() {
    let bytes = bytes(1000);
    let version = version_of(&bytes);
    let giver = Exchange::new(Store::in_memory(), PATIENCE);
    let _offer = giver.offer(&version, bytes.clone());
    let taker = Exchange::new(Store::in_memory(), PATIENCE);
    let (broken, end) = links();
    taker.join(0, broken.sender.clone());
    attend(taker.clone(), 0, broken);
    let (here, there) = links();
    taker.join(1, here.sender.clone());
    attend(taker.clone(), 1, here);
    giver.join(9, there.sender.clone());
    attend(giver, 9, there);
    let obtaining = taker.obtain(&version, 1000, From::Anyone);
    let ending = async {
        let mut end = end;
        end.receiver.recv(&mut Vec::new()).await.unwrap();
    };
    let (obtained, ()) = tokio::join!(obtaining, ending);
    assert_eq!(*obtained.unwrap().bytes, bytes);
}

#[tokio::test]
async fn what_nobody_asked_for_is_dropped() {
    let (here, there) = links();
    let store = Store::in_memory();
    let taker = Exchange::new(store.clone(), PATIENCE);
    taker.join(0, here.sender.clone());
    let version = version_of(b"x");
    for _ in 0..1000 {
        taker.received(
            0,
            Deploy::Chunk {
                version: version.clone(),
                offset: 0,
                bytes: b"x".to_vec().into(),
            },
        );
    }
    assert!(!store.has(&version));
    drop(there);
}

#[tokio::test]
async fn of_what_does_not_fit_nothing_is_kept() {
    let (here, there) = links();
    let store = Store::in_memory();
    let taker = Exchange::new(store.clone(), PATIENCE);
    taker.join(0, here.sender.clone());
    let version = version_of(b"right");
    let lie = |offset, bytes: &[u8]| Deploy::Chunk {
        version: version.clone(),
        offset,
        bytes: bytes.to_vec().into(),
    };
    for (chunk, store_says) in [
        (lie(1, b"right"), false),
        (lie(0, b"righ"), false),
        (lie(0, b"right and more"), false),
        (lie(0, b"wrong"), true),
    ] {
        let obtaining = taker.obtain(&version, 5, From::Anyone);
        let answering = async {
            tokio::task::yield_now().await;
            taker.received(0, chunk.clone());
        };
        let both = async { tokio::join!(obtaining, answering) };
        let (obtained, ()) = timeout(PATIENCE, both).await.unwrap();
        let error = obtained.unwrap_err();
        assert_eq!(
            matches!(error, FetchError::OtherBytes(_)),
            store_says,
            "{error}"
        );
        assert!(!store.has(&version));
    }
    drop(there);
}
