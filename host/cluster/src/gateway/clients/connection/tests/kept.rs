//! What strangers can make a gateway keep is bounded, and an honest client is answered meanwhile.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gateway::clients::connection::tests::*;
use crate::gateway::rig::eventually;

const LIMIT: usize = 8 << 20;

/// A worker that answers every message with `hello` and counts closes.
async fn work(mut worker: Scripted, closes: Arc<AtomicUsize>) {
    loop {
        let delivery = worker.delivery().await;
        let effects = match &delivery.kind {
            EventKind::Message(_) => vec![say(delivery.client, "hello")],
            EventKind::Close(closed) => {
                assert_eq!(closed.reason, CloseReason::Server);
                closes.fetch_add(1, Ordering::AcqRel);
                vec![]
            }
            EventKind::Connect { .. }
            | EventKind::Request { .. }
            | EventKind::Timer { .. }
            | EventKind::BufferFull { .. }
            | EventKind::BufferDrain
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. }
            | EventKind::TaskFinished { .. } => vec![],
        };
        worker.end(&delivery, Outcome::Done, effects, None);
    }
}

/// The begin of a message that never ends.
fn unfinished(transport: Transport, bytes: usize) -> Vec<u8> {
    let payload = vec![b'x'; bytes];
    match transport {
        Transport::WebSocket => masked(0x01, &payload),
        Transport::Tcp | Transport::TextLines => payload,
        Transport::LengthPrefixed => {
            let mut framed = framed(transport, &vec![b'x'; bytes + 1]);
            framed.pop();
            framed
        }
    }
}

#[tokio::test]
async fn unfinished_messages_are_bounded_together_and_the_largest_and_oldest_go() {
    for transport in [
        Transport::WebSocket,
        Transport::TextLines,
        Transport::LengthPrefixed,
    ] {
        let mut gateway = gateway(transport, |settings| {
            settings.clients_bytes_max = LIMIT;
            settings.pending_bytes_max = LIMIT / 2;
            settings.close = Duration::from_millis(200);
        })
        .await;
        let (worker, closes) = (gateway.worker().await, Arc::new(AtomicUsize::new(0)));
        let working = tokio::spawn(work(worker, closes.clone()));
        let mut honest = client(&gateway).await;
        let mut strangers = Vec::new();
        for _ in 0..40 {
            let stranger = client(&gateway).await;
            let bytes = unfinished(transport, 900 << 10);
            strangers.push(tokio::spawn(async move {
                let (mut read, mut write) = stranger.into_split();
                let writing = tokio::spawn(async move {
                    let _ = write.write_all(&bytes).await;
                    write
                });
                let mut all = Vec::new();
                let _ = read.read_to_end(&mut all).await;
                writing.abort();
            }));
        }
        // Four times the limit was to be kept: most are closed, and those that are not fit.
        let counted = || gateway.sockets().1;
        eventually("most strangers to be closed", || {
            counted() <= 1 + LIMIT / (900 << 10)
        })
        .await;
        honest.write_all(&framed(transport, b"hi")).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            answer.push(soon("the answer", honest.read_u8()).await.unwrap());
        }
        eventually("their closes", || closes.load(Ordering::Acquire) >= 30).await;
        working.abort();
        strangers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn queues_of_clients_that_do_not_read_are_bounded_together() {
    let mut gateway = gateway(Transport::Tcp, |settings| {
        settings.clients_bytes_max = LIMIT;
        settings.pending_bytes_max = LIMIT / 2;
        settings.listeners[0].queue_bytes_max = 1 << 30;
        settings.close = Duration::from_millis(200);
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut slow = Vec::new();
    for _ in 0..6 {
        slow.push(client(&gateway).await);
    }
    for _ in 0..6 {
        worker
            .welcome(|id| vec![say(id, "x".repeat(6 << 20))])
            .await;
    }
    eventually("some to be closed", || gateway.sockets().1 < 6).await;
    assert_eq!(closed(&mut worker).await, CloseReason::Server);
}

#[tokio::test]
async fn requests_that_do_not_end_are_counted_and_others_wait_for_their_room() {
    // Room for eight of them.
    let limit = 8 * (16 << 10);
    let mut gateway = gateway(Transport::WebSocket, |settings| {
        settings.shards = 1;
        settings.clients_bytes_max = limit;
        settings.listeners[0].handshake = Duration::from_millis(500);
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut strangers = Vec::new();
    for _ in 0..50 {
        let mut stranger = gateway.client().await;
        stranger.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        strangers.push(stranger);
    }
    let kept = || {
        gateway.gateway.services.context.statuses[0]
            .kept
            .load(Ordering::Acquire)
    };
    eventually("the limit to be reached", || kept() == limit).await;
    eventually("the strangers to be gone", || {
        kept() == 0 && gateway.sockets() == (0, 0)
    })
    .await;
    let _honest = client(&gateway).await;
    worker.welcome(|_| vec![]).await;
}
