//! Listeners with a codec: one that speaks in lines, and waits when it is told to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tidegate_hub::outbound::{Plain, QueuePolicy};
use tokio::sync::{Notify, watch};

use crate::gateway::clients::connection::tests::*;
use crate::gateway::codecs::{
    Boxed, Codec, CodecFault, CodecInput, CodecJob, CodecOutcome, Decoded, ListenerCodec,
};
use crate::gateway::rig::eventually;

/// A line is a message. `bad` is refused; an empty one is answered when the client has ended.
struct Lines {
    open: watch::Sender<bool>,
    jobs: AtomicUsize,
    under_way: Arc<AtomicUsize>,
    overlapped: Arc<AtomicBool>,
    begun: Notify,
}

impl Lines {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            open: watch::Sender::new(true),
            jobs: AtomicUsize::new(0),
            under_way: Arc::default(),
            overlapped: Arc::default(),
            begun: Notify::new(),
        })
    }
}

impl Codec for Lines {
    fn run(&self, job: CodecJob) -> Boxed<CodecOutcome> {
        self.jobs.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.subscribe();
        let (under_way, overlapped) = (self.under_way.clone(), self.overlapped.clone());
        self.begun.notify_one();
        Box::pin(async move {
            if under_way.fetch_add(1, Ordering::SeqCst) > 0 {
                overlapped.store(true, Ordering::SeqCst);
            }
            let _ = open.wait_for(|open| *open).await;
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::SeqCst);
            done(job)
        })
    }

    fn trouble(&self) -> Option<String> {
        Some("it is only a test".to_owned())
    }
}

fn done(job: CodecJob) -> CodecOutcome {
    let mut outcome = CodecOutcome {
        state: job.state,
        ..CodecOutcome::default()
    };
    for plain in job.send {
        outcome.bytes.push(match plain {
            Plain::Raw(bytes) => bytes,
            Plain::Message(message) => [&message.payload()[..], b"\n"].concat().into(),
        });
    }
    if let Some(CodecInput { bytes, ended }) = job.input {
        let mut decoded = Decoded::default();
        let mut rest = &bytes[..];
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            if line == b"bad" {
                outcome.fault = Some(CodecFault::Client);
                return outcome;
            }
            decoded.messages.push(Message::Text(line.to_vec().into()));
            rest = &after[1..];
        }
        decoded.rest = rest.to_vec();
        if ended && !rest.is_empty() {
            let last = std::mem::take(&mut decoded.rest);
            decoded.messages.push(Message::Text(last.into()));
        }
        outcome.state = Bytes::from(vec![b's'; decoded.messages.len() % 3]);
        outcome.decoded = Some(decoded);
    }
    outcome
}

async fn gateway_of(codec: &Arc<Lines>, set: impl FnOnce(&mut GatewaySettings)) -> Running {
    gateway(Transport::Tcp, |settings| {
        settings.listeners[0].codec = Some(ListenerCodec {
            name: "lines".into(),
            codec: codec.clone(),
        });
        set(settings);
    })
    .await
}

async fn expect(client: &mut TcpStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    let read = client.read_exact(&mut got);
    soon("what was sent", read).await.unwrap();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn both_directions_keep_their_order_and_one_job_is_under_way() {
    let codec = Lines::new();
    let mut gateway = gateway_of(&codec, |_| {}).await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    let id = worker.welcome(|id| vec![say(id, "hello")]).await;
    let all: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    let bytes = format!("{}\n", all.join("\n"));
    for piece in bytes.as_bytes().chunks(7) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    for number in &all {
        let answers = vec![say(id, number.clone()), say(id, format!("again {number}"))];
        handle(&mut worker, number, answers).await;
    }
    expect(&mut client, b"hello\n").await;
    for number in all {
        expect(
            &mut client,
            format!("{number}\nagain {number}\n").as_bytes(),
        )
        .await;
    }
    assert!(!codec.overlapped.load(Ordering::SeqCst));
    assert!(codec.jobs.load(Ordering::SeqCst) > 0);
    let access = gateway.gateway.access();
    let failing = access.failing(&crate::gateway::rig::tenant());
    assert_eq!(failing, ["the codec lines: it is only a test"]);
}

#[tokio::test]
async fn a_farewell_comes_behind_all_that_waited_for_the_codec() {
    let codec = Lines::new();
    let mut gateway = gateway_of(&codec, |_| {}).await;
    let mut worker = gateway.worker().await;
    codec.open.send_replace(false);
    let mut client = client(&gateway).await;
    let many = |id| {
        let all = (0..200).map(|number| say(id, number.to_string()));
        all.chain([close(id, "bye")]).collect()
    };
    worker.welcome(many).await;
    assert_eq!(closed(&mut worker).await, CloseReason::Server);
    codec.open.send_replace(true);
    let expected: String = (0..200).map(|number| format!("{number}\n")).collect();
    let all = rest(&mut client).await.unwrap();
    assert_eq!(String::from_utf8(all).unwrap(), expected + "bye\n");
}

#[tokio::test]
async fn a_codec_that_never_answers_holds_up_an_end_for_its_time_only() {
    let codec = Lines::new();
    codec.open.send_replace(false);
    let mut gateway = gateway_of(&codec, |settings| {
        settings.close = Duration::from_millis(200);
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker.welcome(|id| vec![close(id, "bye")]).await;
    assert_eq!(closed(&mut worker).await, CloseReason::Server);
    // It may be reset: something is left.
    let _ = rest(&mut client).await;
    eventually("it is gone", || gateway.sockets() == (0, 0)).await;
}

#[tokio::test]
async fn who_only_ends_its_side_has_its_last_bytes_decoded_and_answered() {
    let codec = Lines::new();
    let mut gateway = gateway_of(&codec, |_| {}).await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    let id = worker.welcome(|_| vec![]).await;
    codec.open.send_replace(false);
    client.write_all(b"one\ntw").await.unwrap();
    codec.begun.notified().await;
    client.write_all(b"o").await.unwrap();
    client.shutdown().await.unwrap();
    codec.open.send_replace(true);
    handle(&mut worker, "one", vec![say(id, "1")]).await;
    handle(&mut worker, "two", vec![say(id, "2")]).await;
    assert_eq!(rest(&mut client).await.unwrap(), b"1\n2\n");
    assert_eq!(closed(&mut worker).await, CloseReason::Client);
}

#[tokio::test]
async fn a_client_whose_bytes_are_refused_is_closed_behind_its_answers() {
    let codec = Lines::new();
    let mut gateway = gateway_of(&codec, |_| {}).await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    let id = worker.welcome(|_| vec![]).await;
    client.write_all(b"good\n").await.unwrap();
    handle(&mut worker, "good", vec![say(id, "better")]).await;
    expect(&mut client, b"better\n").await;
    client.write_all(b"bad\nnever\n").await.unwrap();
    assert_eq!(rest(&mut client).await.unwrap(), b"");
    assert_eq!(closed(&mut worker).await, CloseReason::Protocol);
}

#[tokio::test]
async fn a_message_that_does_not_end_is_no_message() {
    let codec = Lines::new();
    let mut gateway = gateway_of(&codec, |settings| {
        settings.listeners[0].message_bytes_max = 10_000;
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker.welcome(|_| vec![]).await;
    let jobs = codec.jobs.load(Ordering::SeqCst);
    // It may be closed before it has sent all.
    for _ in 0..1_000 {
        if client.write_all(&[b'x'; 100]).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(closed(&mut worker).await, CloseReason::Protocol);
    let jobs = codec.jobs.load(Ordering::SeqCst) - jobs;
    assert!(jobs < 70, "it was looked at {jobs} times");
}

#[tokio::test]
async fn while_the_codec_is_busy_its_client_is_not_read_and_others_are() {
    let codec = Lines::new();
    let other = Lines::new();
    let mut gateway = gateway_of(&codec, |settings| {
        let mut second = settings.listeners[0].clone();
        second.codec = Some(ListenerCodec {
            name: "other".into(),
            codec: other.clone(),
        });
        settings.listeners.push(second);
    })
    .await;
    let mut worker = gateway.worker().await;
    let mut client = client(&gateway).await;
    worker.welcome(|_| vec![]).await;
    let mut second = TcpStream::connect(gateway.addresses[1]).await.unwrap();
    let id = worker.welcome(|_| vec![]).await;
    codec.open.send_replace(false);
    client.write_all(b"waits\n").await.unwrap();
    codec.begun.notified().await;
    // The kernel takes some; then nobody does.
    let line = [&[b'x'; 1023][..], b"\n"].concat().repeat(1024);
    let mut written = 0;
    let flood = async {
        loop {
            client.write_all(&line).await.unwrap();
            written += line.len();
        }
    };
    let flooding = tokio::time::timeout(Duration::from_millis(500), flood);
    assert!(flooding.await.is_err());
    assert!(written < 64 << 20, "{written} bytes were taken");
    second.write_all(b"quick\n").await.unwrap();
    handle(&mut worker, "quick", vec![say(id, "answer")]).await;
    expect(&mut second, b"answer\n").await;
}

#[tokio::test]
async fn what_waits_for_the_codec_is_under_the_policies_of_the_queue() {
    for policy in [
        QueuePolicy::Close,
        QueuePolicy::DropNew,
        QueuePolicy::DropOld,
    ] {
        let codec = Lines::new();
        let mut gateway = gateway_of(&codec, |settings| {
            settings.listeners[0].queue_bytes_max = 4_096;
            settings.listeners[0].queue_policy = policy;
        })
        .await;
        let mut worker = gateway.worker().await;
        let mut client = client(&gateway).await;
        let id = worker.welcome(|_| vec![]).await;
        codec.open.send_replace(false);
        client.write_all(b"fill\n").await.unwrap();
        // The codec has it, and so nothing that is sent from now on.
        eventually("it is under way", || {
            codec.under_way.load(Ordering::SeqCst) == 1
        })
        .await;
        let other = gateway.client().await;
        let effects = |_| {
            (0..20)
                .map(|number| say(id, format!("{number:01000}")))
                .collect()
        };
        worker.welcome(effects).await;
        if policy == QueuePolicy::Close {
            assert_eq!(closed(&mut worker).await, CloseReason::Slow);
            drop(other);
            continue;
        }
        codec.open.send_replace(true);
        handle(&mut worker, "fill", vec![close(id, "bye")]).await;
        let all = String::from_utf8(rest(&mut client).await.unwrap()).unwrap();
        let numbers: Vec<u32> = all.lines().filter_map(|line| line.parse().ok()).collect();
        let expected = match policy {
            QueuePolicy::DropOld => [16, 17, 18, 19].as_slice(),
            QueuePolicy::Close | QueuePolicy::DropNew => &[0, 1, 2, 3, 4],
        };
        assert_eq!(numbers, expected, "{policy:?}");
        assert!(all.ends_with("\nbye\n"));
        drop(other);
    }
}
