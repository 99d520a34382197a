//! The accept loop with real sockets; the arithmetic of waiting.

use std::sync::Mutex;

use tidegate_wire::membership::Role;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::link::LinkEnd;
use crate::link::tests::{LONG, identity, settings};

struct Host {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    served: Arc<Mutex<Vec<String>>>,
}

/// Serves each link until it ends.
async fn host(bounds: AcceptSettings) -> Host {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let served = Arc::new(Mutex::new(Vec::new()));
    let names = served.clone();
    let serve = move |mut link: Link| {
        names.lock().unwrap().push(link.peer.name.to_string());
        async move {
            let mut frames = Vec::new();
            while link.receiver.recv(&mut frames).await.is_ok() {}
        }
    };
    let gateway = identity(Role::Gateway, 2, "s");
    let task = accept_links(listener, gateway, settings(), bounds, stop.clone(), serve);
    Host {
        address,
        stop,
        task: tokio::spawn(task),
        served,
    }
}

async fn dial(host: &Host, incarnation: u64, secret: &str) -> Result<Link, LinkError> {
    let worker = identity(Role::Worker, incarnation, secret);
    let settings = settings();
    let link = link::dial(host.address, &worker, &settings);
    timeout(LONG, link).await.unwrap()
}

const ROOM: AcceptSettings = AcceptSettings {
    handshakes_max: 4,
    handshakes_per_address_max: 4,
    links_max: 4,
};

#[tokio::test]
async fn links_are_served_and_strangers_are_not() {
    let host = host(ROOM).await;
    assert!(dial(&host, 1, "wrong").await.is_err());
    let link = dial(&host, 3, "s").await.unwrap();
    assert_eq!(link.peer.role, Role::Gateway);
    timeout(LONG, async {
        while *host.served.lock().unwrap() != ["worker-3"] {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_link_over_the_limit_is_refused_until_another_ends() {
    let host = host(AcceptSettings {
        links_max: 1,
        ..ROOM
    })
    .await;
    let first = dial(&host, 1, "s").await.unwrap();
    // The first is served once its frames are; only then the second is surely too many.
    let mut second = dial(&host, 2, "s").await.unwrap();
    let end = timeout(LONG, second.receiver.recv(&mut Vec::new())).await;
    assert_eq!(end.unwrap(), Err(LinkEnd::Goodbye(Refusal::Full(1))));
    drop(first);
    timeout(LONG, async {
        while host.served.lock().unwrap().len() < 2 {
            // Each attempt waits for its answer, so that this does not spin.
            let mut link = dial(&host, 3, "s").await.unwrap();
            let mut frames = Vec::new();
            let answer = link.receiver.recv(&mut frames);
            let _ = timeout(Duration::from_millis(50), answer).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn strangers_that_fill_every_handshake_only_delay_others() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let quick = LinkSettings {
        handshake: Duration::from_millis(300),
        ..settings()
    };
    let bounds = AcceptSettings {
        handshakes_max: 2,
        handshakes_per_address_max: 2,
        links_max: 4,
    };
    let gateway = identity(Role::Gateway, 2, "s");
    let stop = CancellationToken::new();
    tokio::spawn(accept_links(
        listener,
        gateway,
        quick,
        bounds,
        stop,
        |mut link: Link| async move {
            let _ = link.receiver.recv(&mut Vec::new()).await;
        },
    ));
    let mut strangers = Vec::new();
    for _ in 0..4 {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    let worker = identity(Role::Worker, 1, "s");
    let settings = settings();
    let link = link::dial(address, &worker, &settings);
    assert!(timeout(LONG, link).await.unwrap().is_ok());
    for mut stranger in strangers {
        let ended = timeout(LONG, stranger.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn stop_closes_the_listener_and_leaves_links_alone() {
    let host = host(ROOM).await;
    let mut link = dial(&host, 1, "s").await.unwrap();
    host.stop.cancel();
    timeout(LONG, host.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(host.address).await.is_err());
    let mut frames = Vec::new();
    let end = timeout(Duration::from_millis(300), link.receiver.recv(&mut frames));
    assert!(end.await.is_err(), "the link goes on");
}

#[tokio::test]
async fn an_address_in_use_is_named_in_the_error() {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let error = bind(address).await.unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn names_resolve_and_errors_name_the_text() {
    let found = resolve("localhost:1236").await.unwrap();
    assert_eq!(found, "127.0.0.1:1236".parse().unwrap());
    let error = resolve("no port").await.unwrap_err();
    assert!(error.to_string().contains("no port"), "{error}");
}

#[test]
fn waits_grow_from_min_to_max_and_start_again() {
    let (min, max) = (Duration::from_millis(10), Duration::from_secs(1));
    for _ in 0..100 {
        let mut backoff = Backoff::new(min, max, 1);
        let mut bound = min * 2;
        for _ in 0..20 {
            let wait = backoff.next();
            assert!(wait >= min && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(max);
        }
        backoff.reset();
        assert!(backoff.next() <= min * 2);
    }
    assert_eq!(Backoff::new(max, min, 1).next(), max);
}
