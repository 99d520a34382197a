//! Codecs: bytes to messages and back, bounded, and no connection pays for another one's.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_runtime::{
    CodecDeployment, CodecFault, CodecInput, CodecJob, CodecOutcome, CodecPart, CodecSettings,
    CommandDeployment, Deployment, Limits, OnDemandSettings, PluginKind, Watching, watch,
};
use tidegate_wire::deploy::version_of;
use tidegate_wire::event::Message;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    DEADLINE, codec_guest, command_guest, eventually, guest, logged, marked, plugin, runtime,
    settings,
};

fn of(name: &str) -> CodecSettings {
    CodecSettings {
        name: name.into(),
        tenant: "devices".into(),
        gateway_name: "g1".into(),
        limits: Limits {
            cpu_ms: 50,
            wall_ms: 60_000,
            memory_bytes: 16 << 20,
            effects_max: 100,
            effect_bytes_max: 10_000,
            ..Limits::default()
        },
        config: serde_json::Map::new(),
        instances: 1,
        waiting_max: 4,
        state_bytes_max: 64,
    }
}

async fn start(settings: CodecSettings) -> CodecDeployment {
    let plugin = plugin(codec_guest()).await;
    assert_eq!(plugin.kind(), PluginKind::Codec);
    CodecDeployment::start(&runtime(), plugin, settings)
        .await
        .unwrap()
}

/// What the gateway keeps of one connection.
#[derive(Default)]
struct Wire {
    state: Bytes,
    unread: Vec<u8>,
}

impl Wire {
    async fn job(
        &mut self,
        codec: &CodecDeployment,
        send: &[&str],
        input: Option<(&[u8], bool)>,
    ) -> CodecOutcome {
        let text = |text: &&str| CodecPart::Message(Message::Text(text.as_bytes().to_vec().into()));
        let mut unread = std::mem::take(&mut self.unread);
        let outcome = codec
            .run(CodecJob {
                peer: "192.0.2.7:5".into(),
                state: self.state.clone(),
                send: send.iter().map(text).collect(),
                input: input.map(|(bytes, ended)| {
                    unread.extend_from_slice(bytes);
                    CodecInput {
                        bytes: unread,
                        ended,
                    }
                }),
            })
            .await;
        self.state = outcome.state.clone();
        if let Some(decoded) = &outcome.decoded {
            self.unread.clone_from(&decoded.rest);
        }
        outcome
    }

    async fn receive(&mut self, codec: &CodecDeployment, bytes: &str) -> CodecOutcome {
        self.job(codec, &[], Some((bytes.as_bytes(), false))).await
    }

    /// The messages that these bytes complete.
    async fn told(&mut self, codec: &CodecDeployment, bytes: &str) -> Vec<String> {
        let outcome = self.receive(codec, bytes).await;
        assert_eq!(outcome.fault, None);
        texts(&outcome)
    }

    async fn fault(&mut self, codec: &CodecDeployment, bytes: &str) -> CodecFault {
        self.receive(codec, bytes).await.fault.unwrap()
    }
}

fn texts(outcome: &CodecOutcome) -> Vec<String> {
    let messages = &outcome.decoded.as_ref().unwrap().messages;
    let text = |message: &Message| String::from_utf8(message.payload().to_vec()).unwrap();
    messages.iter().map(text).collect()
}

fn sent(outcome: &CodecOutcome) -> Vec<u8> {
    outcome.bytes.concat()
}

#[tokio::test]
async fn bytes_become_messages_however_they_are_cut_and_messages_bytes() {
    let mut settings = of("lines");
    settings.config.insert("key".to_owned(), "value".into());
    let codec = start(settings).await;
    let all = "text one\nbin two\nlines\npeer\nconfig key\nsilent\n";
    let expected = ["one", "two", "3", "192.0.2.7:5", "value"];
    for cut in 0..all.len() {
        let (first, rest) = all.split_at(cut);
        let mut wire = Wire::default();
        let mut told = wire.told(&codec, first).await;
        told.extend(wire.told(&codec, rest).await);
        assert_eq!(told, expected, "cut at {cut}");
        assert!(wire.unread.is_empty() && wire.state == "6");
    }
    let mut wire = Wire::default();
    let outcome = wire
        .job(
            &codec,
            &["a", "!nothing", "b"],
            Some((b"text hi\nhal", false)),
        )
        .await;
    assert_eq!(sent(&outcome), b"a\nb\n");
    assert_eq!(texts(&outcome), ["hi"]);
    // What was sent first does not know of the line that came with it.
    let outcome = wire.job(&codec, &["!lines"], Some((b"f", true))).await;
    assert_eq!(sent(&outcome), b"1\n");
    assert_eq!(texts(&outcome), ["last half"]);
    let raw = CodecJob {
        send: vec![CodecPart::Raw(Bytes::from_static(b"!trap"))],
        ..CodecJob::default()
    };
    assert_eq!(sent(&codec.run(raw).await), b"!trap", "raw bytes pass by");
}

#[tokio::test]
async fn what_a_codec_refuses_is_the_clients_fault_or_one_message() {
    let codec = start(of("refusing")).await;
    let fault = Wire::default()
        .fault(&codec, "text hi\nerr no such device\n")
        .await;
    assert_eq!(fault, CodecFault::Refused("no such device".to_owned()));
    assert_eq!(codec.trouble(), None, "it did its work");
    let mut wire = Wire::default();
    let outcome = wire.job(&codec, &["a", "!err cannot", "b"], None).await;
    assert_eq!((sent(&outcome), outcome.unsent), (b"a\nb\n".to_vec(), 1));
    assert_eq!(outcome.fault, None);
    let outcome = wire
        .job(&codec, &["!large 10000", "!large 10001"], None)
        .await;
    assert_eq!((sent(&outcome).len(), outcome.unsent), (10_000, 1));
    eventually("both are told", || {
        !logged(&["refusing", "the codec refused a message", "cannot"]).is_empty()
            && !logged(&["refusing", "10001 bytes of a message"]).is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_codec_that_breaks_costs_its_own_connection_and_no_state_of_others() {
    let codec = start(of("breaking")).await;
    let (mut other, mut bystander) = (Wire::default(), Wire::default());
    other.told(&codec, "text a\ntext b\ntext unfin").await;
    bystander.told(&codec, "silent\n").await;
    for (line, why) in [
        ("trap\n", "unreachable"),
        ("spin\n", "CPU limit of 50 ms"),
        ("grow\n", "memory limit of"),
        ("exit\n", "exit(1)"),
    ] {
        let fault = Wire::default().fault(&codec, line).await;
        assert!(
            matches!(&fault, CodecFault::Broken(text) if text.contains(why)),
            "{line} {fault:?}"
        );
        let trouble = codec.trouble().unwrap();
        assert!(trouble.contains(why), "{trouble}");
    }
    for (message, why) in [("!trap", "unreachable"), ("!spin", "CPU limit")] {
        let mut wire = Wire::default();
        let outcome = wire.job(&codec, &["before", message, "behind"], None).await;
        assert_eq!(sent(&outcome), b"before\n");
        let fault = outcome.fault.unwrap();
        assert!(fault.to_string().contains(why), "{fault}");
    }
    // Its half line and its count are as they were, in an instance that knows nothing of it.
    assert_eq!(
        other.told(&codec, "ished\nlines\n").await,
        ["unfinished", "4"]
    );
    assert_eq!(bystander.told(&codec, "lines\n").await, ["2"]);
    let report = logged(&["ERROR", "breaking", "the codec broke", "told to trap"]);
    assert!(!report.is_empty(), "with what it wrote to stderr");
}

#[tokio::test]
async fn nonsense_is_refused_and_its_instance_stays() {
    let codec = start(of("nonsense")).await;
    Wire::default().told(&codec, "silent\n").await;
    for (line, why) in [
        ("lie\n", "it takes 4294967295 of 4 bytes"),
        ("many 101\n", "101 messages at once, 100 are allowed"),
        ("large 10001\n", "10001 bytes together, 10000 are allowed"),
        ("state 65\n", "65 bytes of a connection, 64 are allowed"),
    ] {
        let fault = Wire::default().fault(&codec, line).await;
        assert!(
            matches!(&fault, CodecFault::Nonsense(text) if text.contains(why)),
            "{fault:?}"
        );
    }
    assert_eq!(Wire::default().told(&codec, "calls\n").await, ["6"]);
    assert_eq!(Wire::default().told(&codec, "many 100\n").await.len(), 100);
    let trouble = codec.trouble().unwrap();
    assert!(trouble.starts_with("it failed 4 times lately"), "{trouble}");
}

#[tokio::test]
async fn what_one_call_has_used_up_of_an_instance_is_not_the_next_ones_fault() {
    let codec = start(of("leaking")).await;
    assert_eq!(Wire::default().told(&codec, "leak 10\n").await, ["leaked"]);
    let mut wire = Wire::default();
    assert_eq!(
        wire.told(&codec, "need 8\n").await,
        [(8 << 20).to_string()],
        "it is tried again on a fresh instance"
    );
    assert!(codec.trouble().unwrap().contains("memory limit"));
}

#[tokio::test]
async fn what_is_needed_is_passed_on_unless_it_is_there() {
    let codec = start(of("needy")).await;
    let mut wire = Wire::default();
    let decoded = wire
        .receive(&codec, "needs 100\nabc")
        .await
        .decoded
        .unwrap();
    assert_eq!((decoded.needs, decoded.again), (100, false));
    let decoded = Wire::default().receive(&codec, "needs 3\nabc").await;
    let decoded = decoded.decoded.unwrap();
    assert_eq!((decoded.needs, decoded.again), (0, true));
    assert_eq!(decoded.rest, b"abc");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_loop_holds_up_one_instance_and_jobs_wait_in_order_for_the_others() {
    let mut settings = of("busy");
    settings.instances = 2;
    settings.limits.cpu_ms = 2_000;
    let codec = start(settings).await;
    // One more than instances and places: it waits before the queue.
    let mut looping = Wire::default();
    let looping = looping.fault(&codec, "spin\n");
    tokio::pin!(looping);
    let begun = Instant::now();
    let others = async {
        for _ in 0..100 {
            let jobs = (0..7).map(|number| {
                let codec = codec.clone();
                tokio::spawn(async move {
                    let line = format!("text {number}\n");
                    Wire::default().told(&codec, &line).await
                })
            });
            for (number, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(job.await.unwrap(), [number.to_string()]);
            }
        }
    };
    tokio::pin!(others);
    tokio::select! {
        biased;
        () = &mut others => {}
        fault = &mut looping => panic!("others waited for the loop: {fault:?} {:?}", begun.elapsed()),
    }
    let fault = looping.await;
    assert!(
        fault.to_string().contains("CPU limit of 2000 ms"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_swap_goes_on_with_what_was_kept() {
    let codec = start(of("swapped-codec")).await;
    let mut wire = Wire::default();
    wire.told(&codec, "silent\nsilent\ntext ha").await;
    let next = marked(codec_guest(), 3);
    codec.swap(plugin(next.clone()).await).await.unwrap();
    assert_eq!(*codec.version().borrow(), version_of(&next));
    assert_eq!(wire.told(&codec, "lf\nlines\n").await, ["half", "4"]);
    assert_eq!(Wire::default().told(&codec, "calls\n").await, ["2"]);
    let error = codec.swap(plugin(guest()).await).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "scripted.wasm is a handler; a codec is wanted here"
    );
    assert_eq!(wire.told(&codec, "lines\n").await, ["5"], "it serves on");
}

#[tokio::test]
async fn each_kind_is_refused_in_the_place_of_another() {
    let codec = plugin(codec_guest()).await;
    assert_eq!(codec.exports(), ["tidegate:plugin/framing@0.1.0"]);
    let error = Deployment::start(&runtime(), codec.clone(), settings("no-codec")).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "scripted.wasm is a codec; a handler is wanted here");
    let commands = OnDemandSettings {
        tenant: "no-commands".into(),
        gateway_name: "g1".into(),
        limits: Limits::default(),
        config: serde_json::Map::new(),
        instances_max: 1,
        waiting_max: 1,
    };
    let error = CommandDeployment::start(&runtime(), codec, commands).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(
        error,
        "scripted.wasm is a codec; a command component is wanted here"
    );
    let error = CodecDeployment::start(&runtime(), plugin(command_guest()).await, of("none")).await;
    let error = error.unwrap_err().to_string();
    assert_eq!(
        error,
        "scripted.wasm is a command component; a codec is wanted here"
    );
}

#[tokio::test]
async fn a_changed_file_of_a_codec_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("codec.wasm");
    std::fs::write(&path, codec_guest()).unwrap();
    let codec = start(of("watched-codec")).await;
    let stop = CancellationToken::new();
    let follow = watch(
        path.clone(),
        Watching::Told,
        runtime(),
        codec.clone(),
        stop.clone(),
    );
    let task = tokio::spawn(follow);
    let next = marked(codec_guest(), 9);
    replace(&path, &next);
    let expected = version_of(&next);
    let mut version = codec.version();
    tokio::time::timeout(DEADLINE, version.wait_for(|it| *it == expected))
        .await
        .unwrap()
        .unwrap();
    stop.cancel();
    task.await.unwrap();
}

fn replace(path: &Path, bytes: &[u8]) {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, bytes).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

#[tokio::test]
async fn a_stopped_codec_does_nothing_more() {
    let mut settings = of("stopped-codec");
    settings.limits.cpu_ms = 60_000;
    let codec = start(settings).await;
    let looping = tokio::spawn({
        let codec = codec.clone();
        async move { Wire::default().fault(&codec, "spin\n").await }
    });
    let begun = Instant::now();
    // Nothing waits for the loop: it may not even have begun.
    codec.stop(Duration::from_millis(50)).await;
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(looping.await.unwrap(), CodecFault::Stopped);
    let fault = Wire::default().fault(&codec, "silent\n").await;
    assert_eq!(fault, CodecFault::Stopped);
}
