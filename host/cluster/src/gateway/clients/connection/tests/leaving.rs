//! Clients that leave, or end their own side, whether their socket is read at that moment or not.

use crate::gateway::clients::connection::tests::*;
use crate::gateway::rig::eventually;

const PLAIN: [Transport; 3] = [
    Transport::Tcp,
    Transport::TextLines,
    Transport::LengthPrefixed,
];

#[tokio::test]
async fn a_half_closed_client_gets_its_answers() {
    for transport in PLAIN {
        let mut gateway = gateway(transport, |settings| {
            settings.close = Duration::from_secs(60);
        })
        .await;
        let mut worker = gateway.worker().await;
        let mut client = client(&gateway).await;
        let id = worker.welcome(|_| vec![]).await;
        client.write_all(&framed(transport, b"hi")).await.unwrap();
        client.shutdown().await.unwrap();
        handle(&mut worker, "hi", vec![say(id, "hello")]).await;
        let answer = rest(&mut client).await.unwrap();
        assert!(
            answer.windows(5).any(|it| it == b"hello"),
            "{transport:?}: {answer:?}"
        );
        assert_eq!(closed(&mut worker).await, CloseReason::Client);
        eventually("the connection to be over", || gateway.sockets() == (0, 0)).await;
    }
}

#[tokio::test]
async fn a_half_closed_client_is_answered_by_a_worker_that_comes_later() {
    let mut gateway = gateway(Transport::TextLines, |settings| {
        settings.hold_bytes_max = 1024;
        settings.close = Duration::from_secs(60);
    })
    .await;
    let mut client = client(&gateway).await;
    // More than its lane takes: the rest is read because the client sends no more.
    let lines: Vec<String> = (0..100).map(|number| format!("{number:0100}")).collect();
    client
        .write_all(format!("{}\n", lines.join("\n")).as_bytes())
        .await
        .unwrap();
    client.shutdown().await.unwrap();
    let mut worker = gateway.worker().await;
    let id = worker.welcome(|_| vec![]).await;
    for line in &lines {
        handle(&mut worker, line, vec![say(id, line.as_str())]).await;
    }
    let answers = rest(&mut client).await.unwrap();
    assert_eq!(
        String::from_utf8(answers).unwrap(),
        format!("{}\n", lines.join("\n"))
    );
    assert_eq!(closed(&mut worker).await, CloseReason::Client);
}

#[tokio::test]
async fn a_half_closed_client_is_not_waited_for_beyond_the_time_of_an_end() {
    for transport in PLAIN {
        let mut gateway = gateway(transport, |settings| {
            settings.close = Duration::from_millis(200);
        })
        .await;
        let mut client = client(&gateway).await;
        client.write_all(&framed(transport, b"hi")).await.unwrap();
        client.shutdown().await.unwrap();
        eventually("the connection to be over", || gateway.sockets() == (0, 0)).await;
        let mut worker = gateway.worker().await;
        worker.welcome(|_| vec![]).await;
        handle(&mut worker, "hi", vec![]).await;
        assert_eq!(closed(&mut worker).await, CloseReason::Client);
    }
}

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum Going {
    Closes,
    Resets,
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_not_read_is_over_and_what_it_sent_is_handled() {
    for transport in [
        Transport::TextLines,
        Transport::LengthPrefixed,
        Transport::WebSocket,
    ] {
        for going in [Going::Closes, Going::Resets] {
            leaves(transport, going).await;
        }
    }
}

async fn leaves(transport: Transport, going: Going) {
    let mut gateway = gateway(transport, |settings| {
        settings.hold_bytes_max = 1024;
        settings.close = Duration::from_millis(500);
    })
    .await;
    let mut leaving = client(&gateway).await;
    // Few enough that the kernel of the gateway has them all: a reset destroys what is on its way.
    let messages: Vec<String> = (0..100).map(|number| format!("{number:0100}")).collect();
    for message in &messages {
        leaving
            .write_all(&framed(transport, message.as_bytes()))
            .await
            .unwrap();
    }
    // Its lane is full, and it is not read: what is beyond waits in the kernel.
    let held = || gateway.gateway.services.context.statuses.iter();
    eventually("the first messages", || {
        held().any(|status| status.events.load(std::sync::atomic::Ordering::Acquire) > 4)
    })
    .await;
    if matches!(going, Going::Resets) {
        socket2::SockRef::from(&leaving)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }
    drop(leaving);
    let what = format!("the connection to be over on {transport:?} when it {going:?}");
    eventually(&what, || gateway.sockets() == (0, 0)).await;
    let mut worker = gateway.worker().await;
    worker.welcome(|_| vec![]).await;
    for message in &messages {
        let delivery = worker.delivery().await;
        let EventKind::Message(_) = &delivery.kind else {
            panic!("{delivery:?} instead of {message} on {transport:?} when it {going:?}");
        };
        assert_eq!(&content(&delivery), message);
        worker.end(&delivery, Outcome::Done, vec![], None);
    }
    assert_eq!(closed(&mut worker).await, CloseReason::Client);
}

#[tokio::test]
async fn a_client_that_leaves_a_full_gateway_is_over_within_the_time_of_an_end() {
    let mut gateway = gateway(Transport::TextLines, |settings| {
        settings.pending_bytes_max = 2048;
        settings.hold_bytes_max = 1 << 20;
        settings.close = Duration::from_millis(300);
    })
    .await;
    let mut leaving = client(&gateway).await;
    leaving
        .write_all(&[&[b'x'; 5000][..], b"\n"].concat().repeat(20))
        .await
        .unwrap();
    drop(leaving);
    eventually("the connection to be over", || gateway.sockets() == (0, 0)).await;
    let mut worker = gateway.worker().await;
    worker.welcome(|_| vec![]).await;
}
