//! What a client gets at its end, whoever ends it: all that was queued, the farewell, the close frame.

use tidegate_hub::outbound::{QueuePolicy, close_frame};
use tokio::time::timeout;

use crate::gateway::clients::connection::tests::*;
use crate::gateway::rig::eventually;

/// More than a kernel takes for a client that does not read.
const LARGE: usize = 21 << 20;

const POLICIES: [QueuePolicy; 3] = [
    QueuePolicy::Close,
    QueuePolicy::DropNew,
    QueuePolicy::DropOld,
];

#[tokio::test]
async fn a_farewell_comes_last_behind_a_full_queue_whatever_its_policy() {
    for policy in POLICIES {
        let mut gateway = gateway(Transport::WebSocket, |settings| {
            settings.listeners[0].queue_bytes_max = 1024;
            settings.listeners[0].queue_policy = policy;
            settings.close = Duration::from_secs(60);
        })
        .await;
        let mut worker = gateway.worker().await;
        let mut client = client(&gateway).await;
        let effects = |id| vec![say(id, "x".repeat(LARGE)), close(id, "good bye")];
        worker.welcome(effects).await;
        assert_eq!(closed(&mut worker).await, CloseReason::Server, "{policy:?}");
        // It begins to read when a fixed time of two seconds would be over.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let mut all = vec![0; LARGE + 10];
        soon("the queue", client.read_exact(&mut all))
            .await
            .unwrap();
        let expected = [&b"\x81\x08good bye"[..], &close_frame(1000, "")].concat();
        let mut last = vec![0; expected.len()];
        soon("the farewell", client.read_exact(&mut last))
            .await
            .unwrap();
        assert_eq!(last, expected, "{policy:?}");
        client.write_all(&masked(0x88, &[])).await.unwrap();
        assert_eq!(rest(&mut client).await.unwrap(), b"", "{policy:?}");
    }
}

#[tokio::test]
async fn a_web_socket_that_is_closed_has_the_time_of_an_end_to_answer() {
    let mut gateway = gateway(Transport::WebSocket, |settings| {
        settings.close = Duration::from_secs(60);
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker.welcome(|id| vec![close(id, "bye")]).await;
    let mut end = vec![0; 5 + 4];
    soon("the close frame", client.read_exact(&mut end))
        .await
        .unwrap();
    let early = timeout(Duration::from_millis(300), client.read_u8()).await;
    assert!(
        early.is_err(),
        "the connection ends before the answer: {early:?}"
    );
    // What it sent before it saw the frame is not a message any more.
    client.write_all(&masked(0x81, b"late")).await.unwrap();
    client
        .write_all(&masked(0x88, &1000_u16.to_be_bytes()))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    drop(client);
    eventually("the connection to be over", || gateway.sockets() == (0, 0)).await;
    assert_eq!(closed(&mut worker).await, CloseReason::Server);
}

#[tokio::test]
async fn a_client_that_does_not_take_its_end_is_cut_in_time() {
    for transport in [Transport::WebSocket, Transport::Tcp] {
        let mut gateway = gateway(transport, |settings| {
            settings.close = Duration::from_millis(200);
        })
        .await;
        let mut worker = gateway.worker().await;
        let _silent = client(&gateway).await;
        let effects = |id| vec![say(id, "x".repeat(LARGE)), close(id, "good bye")];
        worker.welcome(effects).await;
        eventually("the connection to be over", || gateway.sockets() == (0, 0)).await;
    }
}

#[tokio::test]
async fn a_client_that_goes_on_sending_still_reads_its_end() {
    for transport in [Transport::WebSocket, Transport::TextLines] {
        let mut gateway = gateway(transport, |settings| {
            settings.close = Duration::from_secs(60);
        })
        .await;
        let mut worker = gateway.worker().await;
        let client = client(&gateway).await;
        worker
            .welcome(|id| vec![say(id, "x".repeat(LARGE)), close(id, "bye")])
            .await;
        let (mut read, mut write) = client.into_split();
        let sending = tokio::spawn(async move {
            let message = framed(transport, &[b'y'; 1000]);
            for _ in 0..2000 {
                if write.write_all(&message).await.is_err() {
                    return;
                }
            }
            let _ = write.write_all(&masked(0x88, &[])).await;
        });
        let mut all = Vec::new();
        // A reset would be an error here.
        let reading = timeout(Duration::from_secs(60), read.read_to_end(&mut all));
        reading.await.unwrap().unwrap();
        assert!(all.len() > LARGE, "{} bytes", all.len());
        let bye = all.windows(3).rposition(|window| window == b"bye");
        assert!(bye.is_some(), "no farewell on {transport:?}");
        sending.await.unwrap();
    }
}

#[tokio::test]
async fn at_the_end_of_a_gateway_a_slow_client_has_all_of_its_time() {
    for transport in [Transport::WebSocket, Transport::Tcp] {
        let mut gateway = gateway(transport, |settings| {
            settings.close = Duration::from_millis(100);
            settings.shutdown = Duration::from_secs(60);
        })
        .await;
        let mut worker = gateway.worker().await;
        let mut client = client(&gateway).await;
        worker.welcome(|id| vec![say(id, "x".repeat(LARGE))]).await;
        let mut all = vec![0; 1 << 20];
        soon("the begin", client.read_exact(&mut all))
            .await
            .unwrap();
        gateway.stop.cancel();
        assert_eq!(closed(&mut worker).await, CloseReason::GoingAway);
        let mut count = all.len();
        let mut piece = vec![0; 1 << 20];
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            match soon("the rest", client.read(&mut piece)).await.unwrap() {
                0 => break,
                more => count += more,
            }
            if transport == Transport::WebSocket && count > LARGE + 10 {
                let _ = client.write_all(&masked(0x88, &[])).await;
            }
        }
        assert!(count >= LARGE, "{count} bytes");
        drop(client);
        soon("the gateway to end", &mut gateway.task).await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_ends_in_its_time_though_a_client_takes_nothing() {
    let mut gateway = gateway(Transport::WebSocket, |settings| {
        settings.close = Duration::from_secs(600);
        settings.shutdown = Duration::from_millis(500);
    })
    .await;
    let mut worker = gateway.worker().await;
    let _silent = client(&gateway).await;
    worker.welcome(|id| vec![say(id, "x".repeat(LARGE))]).await;
    gateway.stop.cancel();
    assert_eq!(closed(&mut worker).await, CloseReason::GoingAway);
    soon("the gateway to end", &mut gateway.task).await.unwrap();
}

#[tokio::test]
async fn a_close_frame_of_the_client_is_answered_behind_a_full_queue() {
    for policy in POLICIES {
        let mut gateway = gateway(Transport::WebSocket, |settings| {
            settings.listeners[0].queue_bytes_max = 1024;
            settings.listeners[0].queue_policy = policy;
            settings.close = Duration::from_secs(60);
        })
        .await;
        let mut worker = gateway.worker().await;
        let mut client = client(&gateway).await;
        worker.welcome(|id| vec![say(id, "x".repeat(LARGE))]).await;
        let mut begin = [0; 10];
        soon("the begin", client.read_exact(&mut begin))
            .await
            .unwrap();
        client
            .write_all(&masked(0x88, &1000_u16.to_be_bytes()))
            .await
            .unwrap();
        assert_eq!(closed(&mut worker).await, CloseReason::Client, "{policy:?}");
        let all = rest(&mut client).await.unwrap();
        assert_eq!(all.len(), LARGE + 4, "{policy:?}");
        assert!(all.ends_with(&close_frame(1000, "")), "{policy:?}");
    }
}

#[tokio::test]
async fn a_client_without_an_answer_to_pings_is_told_so() {
    let mut gateway = gateway(Transport::WebSocket, |settings| {
        settings.listeners[0].ping_interval = Duration::from_millis(100);
        settings.listeners[0].ping_not_response_limit = 2;
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker.welcome(|_| vec![]).await;
    assert_eq!(closed(&mut worker).await, CloseReason::Idle);
    let all = rest(&mut client).await.unwrap();
    assert!(
        all.ends_with(&close_frame(1001, "no answer to pings")),
        "{all:?}"
    );
}
