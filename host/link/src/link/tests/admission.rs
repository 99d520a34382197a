//! Who gets a link and who does not.

use std::time::Duration;

use bytes::BytesMut;
use tidegate_wire::frame::encode;
use tidegate_wire::hello::{HELLO_BYTES_MAX, Hello, MAGIC, Proof, Refusal, VERSION};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::link::LinkError;

fn hello_bytes(version: u16) -> BytesMut {
    let hello = Hello {
        magic: MAGIC,
        version,
        node: node(Role::Worker, 7),
        nonce: [3; 32],
    };
    let mut bytes = BytesMut::new();
    encode(&hello, &mut bytes).unwrap();
    bytes
}

/// What an acceptor makes of a peer that sends these bytes and then stays, and what the peer gets.
async fn strange(bytes: &[u8], settings: LinkSettings) -> (LinkError, Vec<u8>) {
    let (listener, address) = listen().await;
    let accepted = async {
        let identity = identity(Role::Gateway, 2, "s");
        let (stream, _) = listener.accept().await.unwrap();
        accept(stream, &identity, &settings).await.unwrap_err()
    };
    let peer = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset says as much as an orderly end.
        let _ = socket.read_to_end(&mut answer).await;
        answer
    };
    timeout(LONG, async { tokio::join!(accepted, peer) })
        .await
        .unwrap()
}

/// What a dialer makes of an acceptor that answers the hello and the proof with these bytes.
async fn impostor(hello: BytesMut, proof: impl Fn(&[u8]) -> Vec<u8>) -> LinkError {
    let (listener, address) = listen().await;
    let acceptor = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let _ = stream.read(&mut bytes).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let read = stream.read(&mut bytes).await.unwrap_or(0);
        let _ = stream.write_all(&proof(&bytes[..read])).await;
        let _ = stream.read(&mut bytes).await;
    };
    let worker = identity(Role::Worker, 1, "s");
    let settings = settings();
    let (dialed, ()) = timeout(LONG, async {
        tokio::join!(dial(address, &worker, &settings), acceptor)
    })
    .await
    .unwrap();
    dialed.unwrap_err()
}

#[tokio::test]
async fn both_ends_learn_who_the_other_is() {
    let (dialed, accepted) = linked(&settings()).await;
    assert_eq!(dialed.peer, node(Role::Gateway, 2));
    assert_eq!(accepted.peer, node(Role::Worker, 1));
}

#[tokio::test]
async fn a_wrong_secret_is_refused_at_both_ends_with_the_reason() {
    for (dialer, acceptor) in [("right", "wrong"), ("wrong", "right"), ("", "right")] {
        let (listener, address) = listen().await;
        let dialer = identity(Role::Worker, 1, dialer);
        let acceptor = identity(Role::Gateway, 2, acceptor);
        let settings = settings();
        let (dialed, accepted) = tokio::join!(dial(address, &dialer, &settings), async {
            accept(listener.accept().await.unwrap().0, &acceptor, &settings).await
        });
        for end in [dialed, accepted] {
            let error = end.unwrap_err();
            assert!(matches!(error, LinkError::Refused(Refusal::WrongSecret)));
            assert!(error.to_string().contains("secret differs"), "{error}");
        }
    }
}

#[tokio::test]
async fn while_the_secret_is_changed_the_other_one_is_taken_from_who_dials() {
    for (dialed_with, taken) in [("old", true), ("new", true), ("other", false)] {
        let (listener, address) = listen().await;
        let dialer = identity(Role::Worker, 1, dialed_with);
        let mut acceptor = identity(Role::Gateway, 2, "old");
        acceptor.secret = acceptor.secret.or_also(b"new");
        let settings = settings();
        let (dialed, accepted) = tokio::join!(dial(address, &dialer, &settings), async {
            accept(listener.accept().await.unwrap().0, &acceptor, &settings).await
        });
        assert_eq!((dialed.is_ok(), accepted.is_ok()), (taken, taken));
    }
}

#[tokio::test]
async fn an_acceptor_that_cannot_prove_the_secret_is_not_trusted() {
    let mut made_up = BytesMut::new();
    encode(&Proof::Mac([9; 32]), &mut made_up).unwrap();
    let error = impostor(hello_bytes(VERSION), |_| made_up.to_vec()).await;
    assert!(matches!(error, LinkError::Unproven), "{error}");
}

#[tokio::test]
async fn a_reflected_proof_proves_nothing() {
    let error = impostor(hello_bytes(VERSION), <[u8]>::to_vec).await;
    assert!(matches!(error, LinkError::Unproven), "{error}");
}

#[test]
fn debug_does_not_show_the_secret() {
    let identity = identity(Role::Worker, 1, "hunter2");
    let shown = format!("{identity:?} {:?}", identity.secret);
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117"));
}

#[tokio::test]
async fn garbage_is_not_answered() {
    let mut wrong_magic = hello_bytes(VERSION);
    let place = wrong_magic.windows(4).position(|four| four == MAGIC);
    wrong_magic[place.unwrap()] ^= 1;
    let empty = [0; 8];
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &wrong_magic, &empty] {
        let (error, answer) = strange(bytes, settings()).await;
        assert!(matches!(error, LinkError::NotTidegate), "{error}");
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn a_hello_over_the_limit_is_refused_by_its_first_four_bytes() {
    let length = u32::try_from(HELLO_BYTES_MAX + 1).unwrap();
    let (error, _) = strange(&length.to_le_bytes(), settings()).await;
    assert!(matches!(error, LinkError::NotTidegate), "{error}");
}

#[tokio::test]
async fn a_stranger_that_says_nothing_is_dropped_in_time() {
    let settings = LinkSettings {
        handshake: Duration::from_millis(50),
        ..settings()
    };
    let half_a_hello = hello_bytes(VERSION).split_to(20);
    for bytes in [&b""[..], &half_a_hello, &hello_bytes(VERSION)] {
        let (error, _) = strange(bytes, settings).await;
        assert!(matches!(error, LinkError::Timeout(_)), "{error}");
    }
}

#[tokio::test]
async fn another_version_is_refused_by_either_end() {
    let (error, answer) = strange(&hello_bytes(VERSION + 1), settings()).await;
    let expected = Refusal::WrongVersion {
        theirs: VERSION + 1,
        ours: VERSION,
    };
    assert!(matches!(&error, LinkError::Refused(reason) if *reason == expected));
    assert!(!answer.is_empty(), "the dialer is told");

    let error = impostor(hello_bytes(VERSION + 1), |_| Vec::new()).await;
    let expected = Refusal::WrongVersion {
        theirs: VERSION,
        ours: VERSION + 1,
    };
    assert!(matches!(&error, LinkError::Refused(reason) if *reason == expected));
}

#[tokio::test]
async fn a_node_whose_hello_is_too_long_is_told_so_itself() {
    let (_listener, address) = listen().await;
    let mut long = identity(Role::Worker, 1, "s");
    long.node.tags = vec!["t".repeat(200).into(); 30];
    let error = dial(address, &long, &settings()).await.unwrap_err();
    assert!(error.to_string().contains("name or tags"), "{error}");
}
