//! What happens on a link once it is there.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tidegate_wire::frame::{FRAME_BYTES_MAX, GatewayFrame, WorkerFrame, encode};
use tidegate_wire::hello::Refusal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{interval, timeout};

use super::*;
use crate::link::LinkEnd;
use crate::link::queue::Queue;

/// Frames up to the end of the link, and the end.
async fn rest(link: &mut Link) -> (Vec<Frame>, LinkEnd) {
    let mut frames = Vec::new();
    let end = timeout(LONG, async {
        loop {
            if let Err(end) = link.receiver.recv(&mut frames).await {
                return end;
            }
        }
    });
    let end = end.await.unwrap();
    (frames, end)
}

fn numbers(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_keep_their_order_under_load_in_both_directions() {
    const COUNT: u64 = 20_000;
    for (left, right) in of_both_kinds(&settings()).await {
        let ends = [left, right].map(|mut link| {
            tokio::spawn(async move {
                let payload = Bytes::from(vec![7; 500]);
                let mut frames = Vec::new();
                for next in 0..COUNT {
                    link.sender.send(numbered(next, &payload)).unwrap();
                    if next % 64 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                while frames.len() < COUNT as usize {
                    link.receiver.recv(&mut frames).await.unwrap();
                }
                assert!(numbers(&frames).into_iter().eq(0..COUNT));
                link
            })
        });
        for end in ends {
            timeout(LONG, end).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn close_hands_over_what_is_queued_although_the_peer_sends_too() {
    const COUNT: u64 = 500;
    for (left, mut right) in of_both_kinds(&settings()).await {
        let payload = Bytes::from(vec![7; 20_000]);
        for next in 0..COUNT {
            // What nobody will read here must not reset the socket under what is sent.
            right.sender.send(numbered(next, &payload)).unwrap();
            left.sender.send(numbered(next, &payload)).unwrap();
        }
        left.sender.close();
        let sender = left.sender.clone();
        drop(left);
        assert_eq!(
            sender.send(WorkerFrame::Drain),
            Err(LinkEnd::ClosedHere),
            "no frame is taken after the end"
        );
        let (frames, end) = rest(&mut right).await;
        assert!(numbers(&frames).into_iter().eq(0..COUNT));
        assert_eq!(end, LinkEnd::Closed);
        assert_eq!(right.sender.send(WorkerFrame::Drain), Err(LinkEnd::Closed));
        timeout(LONG, sender.flushed()).await.unwrap();
    }
}

#[tokio::test]
async fn the_reason_of_a_refusal_arrives_behind_the_frames_before_it() {
    for (left, mut right) in of_both_kinds(&settings()).await {
        left.sender.send(WorkerFrame::Drain).unwrap();
        left.sender.refuse(Refusal::Lost);
        let (frames, end) = rest(&mut right).await;
        assert_eq!(frames, [WorkerFrame::Drain.into()]);
        assert_eq!(end, LinkEnd::Goodbye(Refusal::Lost));
        assert_eq!(rest(&mut right).await, (vec![], end), "an end is an end");
    }
}

#[tokio::test]
async fn dropping_the_receiver_closes_the_link() {
    for (left, mut right) in of_both_kinds(&settings()).await {
        drop(left.receiver);
        assert!(left.sender.is_closed());
        assert_eq!(rest(&mut right).await.1, LinkEnd::Closed);
        timeout(LONG, right.sender.closed()).await.unwrap();
    }
}

#[tokio::test]
async fn an_end_that_closes_reads_no_further() {
    for (mut left, right) in of_both_kinds(&settings()).await {
        right.sender.send(WorkerFrame::Drain).unwrap();
        left.sender.close();
        let (_, end) = rest(&mut left).await;
        assert_eq!(end, LinkEnd::ClosedHere);
    }
}

#[tokio::test]
async fn a_full_queue_ends_the_link_of_a_peer_that_does_not_read() {
    let settings = LinkSettings {
        queue_bytes_max: 1 << 20,
        ..settings()
    };
    for (mut left, right) in of_both_kinds(&settings).await {
        let payload = Bytes::from(vec![7; 10_000]);
        let mut sent = 0;
        let end = loop {
            match left.sender.send(numbered(sent, &payload)) {
                Ok(()) => sent += 1,
                Err(end) => break end,
            }
            assert!(left.sender.queued_bytes() <= 1 << 20);
            // Lets the writer fill the kernel's buffers.
            tokio::task::yield_now().await;
        };
        assert!(matches!(end, LinkEnd::Overflow(_)), "{end}");
        assert_eq!(rest(&mut left).await.1, end);
        timeout(LONG, left.sender.flushed())
            .await
            .expect("the writer does not stay in its write");
        drop(right);
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_cannot_keep_a_closed_link() {
    let settings = LinkSettings {
        lease: Duration::from_millis(200),
        ..settings()
    };
    let (link, _socket) = linked_to_socket(&settings).await;
    let payload = Bytes::from(vec![7; 100_000]);
    for next in 0..200 {
        link.sender.send(numbered(next, &payload)).unwrap();
    }
    link.sender.close();
    timeout(LONG, link.sender.flushed()).await.unwrap();
}

#[tokio::test]
async fn a_frame_over_the_queues_bound_passes_through_an_empty_queue() {
    let settings = LinkSettings {
        queue_bytes_max: 1000,
        ..settings()
    };
    for (left, mut right) in of_both_kinds(&settings).await {
        let large = numbered(1, &Bytes::from(vec![7; 3 << 20]));
        left.sender.send(large.clone()).unwrap();
        let mut frames = Vec::new();
        timeout(LONG, right.receiver.recv(&mut frames))
            .await
            .unwrap()
            .unwrap();
        assert!(frames == [large]);
    }
}

#[tokio::test]
async fn a_silent_peer_is_noticed_however_often_the_wait_is_cancelled() {
    let settings = LinkSettings {
        lease: Duration::from_millis(200),
        ..settings()
    };
    let (mut link, _socket) = linked_to_socket(&settings).await;
    let mut frames = Vec::new();
    let mut tick = interval(Duration::from_millis(10));
    let end = timeout(LONG, async {
        loop {
            tokio::select! {
                received = link.receiver.recv(&mut frames) => break received,
                _ = tick.tick() => {}
            }
        }
    });
    assert_eq!(end.await.unwrap(), Err(LinkEnd::Silent(200)));
    assert!(link.sender.is_closed());
}

#[tokio::test]
async fn heartbeats_keep_an_idle_link() {
    let settings = LinkSettings {
        heartbeat: Duration::from_millis(50),
        lease: Duration::from_millis(500),
        ..settings()
    };
    let (mut left, mut right) = linked(&settings).await;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let idle = timeout(settings.lease * 3, async {
        tokio::select! {
            end = left.receiver.recv(&mut one) => end,
            end = right.receiver.recv(&mut two) => end,
        }
    });
    assert!(idle.await.is_err(), "neither a frame nor an end");
}

#[tokio::test]
async fn good_frames_before_a_bad_one_are_handed_out_and_none_behind_it() {
    let (mut link, mut socket) = linked_to_socket(&settings()).await;
    let mut bytes = BytesMut::new();
    encode(&Frame::from(WorkerFrame::Drain), &mut bytes).unwrap();
    bytes.extend_from_slice(&[5, 0, 0, 0, 1, 0, 0, 0, 0xff]);
    encode(&Frame::from(GatewayFrame::Drained), &mut bytes).unwrap();
    socket.write_all(&bytes).await.unwrap();
    let (frames, end) = rest(&mut link).await;
    assert_eq!(frames, [WorkerFrame::Drain.into()]);
    assert!(matches!(end, LinkEnd::Frame(_)), "{end}");
    let mut last = Vec::new();
    let _ = timeout(LONG, socket.read_to_end(&mut last)).await.unwrap();
}

#[tokio::test]
async fn a_frame_over_the_limit_ends_the_link_before_its_body_is_awaited() {
    let (mut link, mut socket) = linked_to_socket(&settings()).await;
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
    socket.write_all(&length.to_le_bytes()).await.unwrap();
    let (_, end) = rest(&mut link).await;
    assert!(end.to_string().contains("over the limit"), "{end}");
}

#[tokio::test]
async fn an_oversized_frame_of_ours_ends_the_link_with_the_reason() {
    let (mut left, _right) = linked(&settings()).await;
    let payload = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
    left.sender.send(numbered(1, &payload)).unwrap();
    let (_, end) = rest(&mut left).await;
    assert!(matches!(end, LinkEnd::Frame(_)), "{end}");
}

#[tokio::test]
async fn who_waits_for_less_to_be_queued_is_told_when_it_is_and_at_the_end() {
    let queue = Arc::new(Queue::new(1 << 20));
    let wait = || {
        let queue = queue.clone();
        tokio::spawn(async move { queue.at_most(0).await })
    };
    queue.push(numbered(0, &Bytes::from(vec![7; 500]))).unwrap();
    let waiting = wait();
    let mut frames = Vec::new();
    queue.take(&mut frames).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished(), "what the reader has in hand counts");
    // It comes for more.
    let more = timeout(Duration::from_millis(1), queue.take(&mut frames));
    more.await.expect_err("there is no more");
    timeout(LONG, waiting).await.unwrap().unwrap();
    queue.push(numbered(1, &Bytes::from(vec![7; 500]))).unwrap();
    let waiting = wait();
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    queue.finish(LinkEnd::Closed);
    timeout(LONG, waiting).await.unwrap().unwrap();
}
