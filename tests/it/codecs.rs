//! Codecs: protocols of devices over `tcp`, in a component that the gateway runs. Whatever a codec
//! does costs the connection that made it do so, and nobody else.

use std::net::SocketAddrV4;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{
    Builder, Client, Cluster, Outcome, Plugin, Transport, eventually, ports, tools, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// A device speaks in lines: `text E:hi` is the message `E:hi`, and what it is sent is a line.
const DEVICE: Transport = Transport::Text;

/// More of a cluster: a listener with this codec, for the tenant.
fn with_codec(builder: Builder, codec: &Path, more: &str) -> Result<(Builder, SocketAddrV4)> {
    let address = ports::free()?;
    let builder = builder
        .settings(&format!(
            "[[gateway.listener]]\nlisten = \"tcp://{address}\"\ncodec = \"lines\"\n{more}\n\
             [[codec]]\nname = \"lines\"\nfile = {codec:?}\n"
        ))
        // So that listeners stand in the file too.
        .listener("tenant = \"default\"");
    Ok((builder, address))
}

async fn serve(more: &str) -> Result<(Cluster, SocketAddrV4)> {
    let codec = Plugin::ScriptedCodec.path()?;
    let (builder, door) = with_codec(Cluster::serve(), &codec, more)?;
    Ok((builder.start().await?, door))
}

async fn device(door: SocketAddrV4) -> Result<Client> {
    Client::connect(DEVICE, door).await
}

/// Says something that the bench answers with the same.
async fn echo(device: &mut Client, word: &str) -> Outcome {
    device.send(&format!("text E:{word}")).await?;
    device.expect(word).await
}

/// Sends bytes as they are and reads all until the end.
async fn exchange(door: SocketAddrV4, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(door).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    let read = async {
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer).await;
        Ok(())
    };
    within("the gateway closes the connection", read).await?;
    Ok(answer)
}

#[tokio::test]
async fn devices_and_others_talk_to_each_other_and_bytes_are_cut_anywhere() -> Outcome {
    let (cluster, door) = serve("").await?;
    let mut web_socket = cluster.ws(0).await?;
    let mut device = device(door).await?;
    device.send("text I:").await?;
    let id = device.text().await?;
    web_socket.send(&format!("C:{id}:to you")).await?;
    device.expect("to you").await?;
    let other = web_socket.id().await?;
    device
        .send(&format!("text C:{other}:from a device"))
        .await?;
    web_socket.expect("from a device").await?;
    // Its kind is the codec's to say, and its state outlives messages.
    device.send("bin E:bytes").await?;
    device.expect("bytes").await?;
    web_socket.send(&format!("C:{id}:!lines")).await?;
    device.expect("3").await?;

    let all = b"text E:one\ntext E:two\nbin E:three\n";
    for cut in 0..all.len() {
        let (first, rest) = all.split_at(cut);
        let mut stream = TcpStream::connect(door).await?;
        stream.set_nodelay(true)?;
        stream.write_all(first).await?;
        tokio::task::yield_now().await;
        stream.write_all(rest).await?;
        let mut answer = [0; 14];
        let read = async { Ok(stream.read_exact(&mut answer).await?) };
        within("the answers", read).await?;
        ensure!(&answer == b"one\ntwo\nthree\n", "cut at {cut}: {answer:?}");
    }
    // Many in one write, and the last one ends with the connection.
    let mut many: String = (0..2_000)
        .map(|number| format!("text E:{number}\n"))
        .collect();
    let expected: String = (0..2_000).map(|number| format!("{number}\n")).collect();
    many.push_str("unfinished");
    let mut stream = TcpStream::connect(door).await?;
    stream.write_all(many.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    let read = async { Ok(stream.read_to_string(&mut answer).await?) };
    within("all answers and the end", read).await?;
    ensure!(answer == expected, "{} bytes of answers", answer.len());
    Ok(())
}

#[tokio::test]
async fn a_thousand_devices_have_each_its_own_state() -> Outcome {
    let (cluster, door) = serve("").await?;
    let mut devices = JoinSet::new();
    for number in 0..1_000 {
        devices.spawn(async move {
            let mut device = device(door).await?;
            for round in 0..3 {
                echo(&mut device, &format!("{number} {round}")).await?;
            }
            device.send("silent").await?;
            echo(&mut device, "still here").await?;
            Ok::<_, anyhow::Error>(device)
        });
    }
    let mut all = Vec::new();
    while let Some(device) = devices.join_next().await {
        all.push(device??);
    }
    let clients = cluster.gateway(0)?.metric("tidegate_gateway_clients", "");
    ensure!(clients.await? == 1_000.0);
    let mut web_socket = cluster.ws(0).await?;
    web_socket.send("B:!lines").await?;
    for device in &mut all {
        device.expect("5").await?;
    }
    Ok(())
}

/// What a client can make the scripted codec do wrong, and its kind of fault.
const FAULTS: [(&[u8], &str); 8] = [
    (b"trap\n", "trap"),
    (b"exit\n", "exit"),
    (b"spin\n", "cpu"),
    (b"grow\n", "memory"),
    (b"lie\n", "nonsense"),
    (b"many 2000\n", "nonsense"),
    (b"large 200000\n", "nonsense"),
    (b"state 100000\n", "nonsense"),
];

#[tokio::test]
async fn a_codec_that_loops_traps_lies_or_grows_costs_only_who_made_it_do_so() -> Outcome {
    let codec = Plugin::ScriptedCodec.path()?;
    let builder = Cluster::apart(1, 1)
        .tenant("default", &[Transport::Ws])
        .settings("[watchdog]\nstuck-ms = 2000\n");
    let (builder, door) = with_codec(builder, &codec, "")?;
    let limits = "memory-mib = 8\ncpu-ms = 200\noutput-bytes-max = 100000";
    // They stand in the last table, which is the codec's.
    let cluster = builder.settings(limits).start().await?;
    let node = cluster.gateway(0)?;
    let mut web_socket =
        Client::connect(Transport::Ws, node.door("default", Transport::Ws)?).await?;
    let mut good = device(door).await?;
    echo(&mut good, "before").await?;
    // Half a message, which must not be lost with any instance.
    let mut half = TcpStream::connect(door).await?;
    half.write_all(b"silent\ntext E:ha").await?;

    let bad = tokio::spawn(async move {
        for round in 0..4 {
            let mut all = JoinSet::new();
            for (bytes, _) in FAULTS {
                // Good messages before the bad one are handled or not, but answered in order.
                all.spawn(exchange(door, bytes));
            }
            all.spawn(exchange(door, b"err no such line\n"));
            all.spawn(exchange(door, b"\x00\xff garbage\n"));
            while let Some(answer) = all.join_next().await {
                let answer = answer??;
                ensure!(answer.is_empty(), "round {round}: {answer:?}");
            }
        }
        Ok(())
    });
    let mut rounds = 0_u32;
    while !bad.is_finished() {
        echo(&mut good, &rounds.to_string()).await?;
        web_socket.send(&format!("E:{rounds}")).await?;
        web_socket.expect(&rounds.to_string()).await?;
        rounds += 1;
    }
    bad.await??;
    ensure!(rounds > 2, "{rounds} rounds of others while codecs failed");
    half.write_all(b"lf\n").await?;
    let mut answer = [0; 5];
    let read = async { Ok(half.read_exact(&mut answer).await?) };
    within("the half message", read).await?;
    ensure!(&answer == b"half\n", "{answer:?}");

    for (_, kind) in FAULTS {
        let labels = format!("codec=\"lines\",tenant=\"default\",kind=\"{kind}\"");
        let faults = node.metric("tidegate_gateway_codec_faults_total", &labels);
        ensure!(faults.await? >= 4.0, "{kind} is not counted");
    }
    let refused = "codec=\"lines\",tenant=\"default\",what=\"bytes\"";
    let refused = node.metric("tidegate_gateway_codec_refusals_total", refused);
    ensure!(refused.await? == 8.0, "two in each round are refused");
    for (reason, count) in [("server", 32.0), ("protocol", 8.0)] {
        let labels = format!("reason=\"{reason}\"");
        let closes = node.metric("tidegate_gateway_closes_total", &labels);
        ensure!(closes.await? == count, "closes for {reason}");
    }
    let status = node.api("default")?.get("/v1/status").await?.ok()?;
    let failing = status["failing"][0].as_str().context("nothing fails")?;
    ensure!(failing.contains("the codec lines: it failed"), "{failing}");
    // It may say as well that the register has just started.
    let shown = node.run("default", &["status"]).await?;
    ensure!(shown.error.contains("the codec lines"), "{shown:?}");
    let log = node.process()?.log();
    let lines = log.lines().filter(|line| line.contains("the codec broke"));
    ensure!((1..=30).contains(&lines.count()), "the log is not bounded");
    ensure!(!log.contains("stuck"), "a shard was held up:\n{log}");
    Ok(())
}

#[tokio::test]
async fn a_message_that_cannot_be_encoded_is_dropped_alone() -> Outcome {
    let (cluster, door) = serve("").await?;
    let mut web_socket = cluster.ws(0).await?;
    let mut devices = [device(door).await?, device(door).await?];
    let [id, other] = {
        let mut ids = Vec::new();
        for device in &mut devices {
            device.send("text I:").await?;
            ids.push(device.text().await?);
        }
        <[String; 2]>::try_from(ids).map_err(|_| anyhow::anyhow!("two ids"))?
    };
    for message in ["first", "!err cannot", "!large 3000000", "!nothing", "last"] {
        web_socket.send(&format!("C:{id}:{message}")).await?;
    }
    let [device, bad] = &mut devices;
    device.expect("first").await?;
    device.expect("last").await?;
    web_socket.send(&format!("C:{other}:before")).await?;
    web_socket.send(&format!("C:{other}:!trap")).await?;
    bad.expect("before").await?;
    bad.closed().await?;
    echo(device, "alive").await
}

#[tokio::test]
async fn the_first_decoded_message_signs_a_device_in() -> Outcome {
    let codec = Plugin::ScriptedCodec.path()?;
    let builder = Cluster::serve().other_plugin_file(&Plugin::Scripted.path()?);
    let more = "sign-in = \"reject\"\nsign-in-ms = 2000";
    let (builder, door) = with_codec(builder, &codec, more)?;
    let _cluster = builder.start().await?;
    let mut one = device(door).await?;
    one.send("silent\ntext uid=ann&key=7\ntext get key\ntext echo last")
        .await?;
    let hello = one.text().await?;
    ensure!(hello.starts_with("hello"), "{hello}");
    one.expect("7").await?;
    one.expect("last").await?;
    // The reason for a rejection is a message like any other.
    let answer = exchange(door, b"text reject=1\n").await?;
    ensure!(answer == b"not you\n", "{answer:?}");
    // Who breaks the protocol never was a client.
    ensure!(exchange(door, b"err what\n").await?.is_empty());
    let answer = exchange(door, b"silent\n").await?;
    ensure!(answer == b"Sign in with the first message.\n", "{answer:?}");
    Ok(())
}

/// Sends numbers to the recorder until it is enough, whether answers have come or not; each must be
/// answered once and in order, by the same count.
async fn numbers(
    door: SocketAddrV4,
    enough: Arc<AtomicBool>,
    going: tokio::sync::watch::Sender<u32>,
) -> Outcome {
    let mut device = device(door).await?;
    let hello = device.text().await?;
    ensure!(hello.starts_with("id:"), "{hello}");
    let (mut sent, mut answered) = (0_u32, 0);
    loop {
        while !enough.load(Ordering::Relaxed) && sent < answered + 8 {
            sent += 1;
            device.send(&format!("text {sent}")).await?;
        }
        if answered == sent {
            return Ok(());
        }
        answered += 1;
        device.expect(&format!("{answered}:{answered}")).await?;
        going.send_modify(|all| *all += 1);
    }
}

/// Many devices at once, before, during and after `then`.
async fn under_load(door: SocketAddrV4, then: impl AsyncFnOnce() -> Outcome) -> Outcome {
    let (going, mut seen) = tokio::sync::watch::channel(0);
    let enough = Arc::new(AtomicBool::new(false));
    let mut devices = JoinSet::new();
    for _ in 0..40 {
        devices.spawn(numbers(door, enough.clone(), going.clone()));
    }
    let some = async { Ok(*seen.wait_for(|all| *all >= 2_000).await?) };
    within("devices are under way", some).await?;
    then().await?;
    let before = *seen.borrow();
    let more = async { Ok(*seen.wait_for(|all| *all >= before + 2_000).await?) };
    within("devices go on", more).await?;
    enough.store(true, Ordering::Relaxed);
    while let Some(ended) = devices.join_next().await {
        ended??;
    }
    Ok(())
}

#[tokio::test]
async fn a_swap_under_load_loses_no_connection_and_nothing_unfinished() -> Outcome {
    let folder = tempfile::tempdir()?;
    let codec = Plugin::ScriptedCodec.copy_to(folder.path())?;
    let builder = Cluster::serve().other_plugin_file(&Plugin::Recorder.path()?);
    let (builder, door) = with_codec(builder, &codec, "")?;
    let cluster = builder.start().await?;
    let node = cluster.gateway(0)?;
    let bytes = std::fs::read(&codec)?;
    let mut half = TcpStream::connect(door).await?;
    half.write_all(b"silent\nsilent\ntext 1").await?;
    under_load(door, async || {
        for version in 1..=3 {
            replace(&codec, &another_build(&bytes, &version.to_string())?)?;
            eventually("the new version serves", async || {
                let labels = "codec=\"lines\",tenant=\"default\",result=\"ok\"";
                let name = "tidegate_gateway_codec_reloads_total";
                let reloads = node.metric(name, labels).await?;
                Ok((reloads >= f64::from(version)).then_some(()))
            })
            .await?;
        }
        // What is no codec changes nothing.
        replace(&codec, &std::fs::read(Plugin::Bench.path()?)?)?;
        eventually("the handler is refused", async || {
            let log = node.process()?.log();
            Ok(log
                .contains("is a handler; a codec is wanted here")
                .then_some(()))
        })
        .await
    })
    .await?;
    half.write_all(b"\n").await?;
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\n1:1\n") {
            answer.push(half.read_u8().await?);
        }
        Ok(())
    };
    within("the message that began under the first version", read).await?;
    let closes = node.metric("tidegate_gateway_closes_total", "reason=\"server\"");
    ensure!(closes.await? == 0.0, "a device was closed");
    Ok(())
}

#[tokio::test]
async fn promise_3_a_killed_worker_loses_and_doubles_nothing_of_devices() -> Outcome {
    let codec = Plugin::ScriptedCodec.path()?;
    let builder = Cluster::apart(1, 2)
        .settings("[link]\nheartbeat-ms = 200\nlease-ms = 1500")
        .other_plugin_file(&Plugin::Recorder.path()?);
    let (builder, door) = with_codec(builder, &codec, "")?;
    let mut cluster = builder.start().await?;
    under_load(door, async || {
        // Meanwhile others break the codec.
        let bad = tokio::spawn(async move {
            for _ in 0..10 {
                exchange(door, b"trap\n").await?;
                exchange(door, b"lie\n").await?;
            }
            Ok::<_, anyhow::Error>(())
        });
        cluster.worker_named("worker-0")?.kill().await?;
        bad.await?
    })
    .await
}

#[tokio::test]
async fn the_example_for_trackers_speaks_gt06() -> Outcome {
    const LOGIN: &[u8] =
        b"\x78\x78\x0d\x01\x01\x23\x45\x67\x89\x01\x23\x45\x00\x01\x8c\xdd\x0d\x0a";
    const ACK: &[u8] = b"\x78\x78\x05\x01\x00\x01\xd9\xdc\x0d\x0a";
    let (builder, door) = with_codec(Cluster::serve(), &Plugin::Tracker.path()?, "")?;
    let cluster = builder.start().await?;
    let node = cluster.gateway(0)?;
    let mut web_socket = cluster.ws(0).await?;
    let mut tracker = TcpStream::connect(door).await?;
    for byte in LOGIN {
        tracker.write_u8(*byte).await?;
    }
    let before = node
        .metric("tidegate_gateway_messages_in_total", "")
        .await?;
    eventually("the login is one message", async || {
        let name = "tidegate_gateway_messages_in_total";
        Ok((node.metric(name, "").await? >= before.max(1.0)).then_some(()))
    })
    .await?;
    web_socket.send(r#"B:{"ack":"login","serial":1}"#).await?;
    let mut answer = vec![0; ACK.len()];
    let read = async { Ok(tracker.read_exact(&mut answer).await?) };
    within("the acknowledgement", read).await?;
    ensure!(answer == ACK, "{answer:02x?}");
    let mut damaged = LOGIN.to_vec();
    damaged[5] ^= 1;
    ensure!(exchange(door, &damaged).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_codec_in_the_wrong_place_is_refused_before_anything_listens() -> Outcome {
    let bench = Plugin::Bench.path()?;
    let codec = Plugin::ScriptedCodec.path()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("t.toml");
    let listener = format!(
        "[[gateway.listener]]\nlisten = \"tcp://{}\"\n",
        ports::free()?
    );
    for (text, word) in [
        (
            format!(
                "{listener}codec = \"c\"\n[[codec]]\nname = \"c\"\nfile = {bench:?}\n\
                 [[plugin]]\nfile = {bench:?}\n"
            ),
            "bench.wasm is a handler; a codec is wanted here",
        ),
        (
            format!("{listener}[[plugin]]\nfile = {codec:?}\n"),
            "scripted-codec.wasm is a codec; a handler is wanted here",
        ),
        (
            format!("{listener}codec = \"lines\"\n[[plugin]]\nfile = {bench:?}\n"),
            "no [[codec]] has the name `lines`, give a [[codec]]",
        ),
    ] {
        std::fs::write(&config, text)?;
        let mut command = tokio::process::Command::new(tools::tidegate()?);
        command.args(["serve", "--config"]).arg(&config);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = async { Ok(command.output().await?) };
        let output = within("it ends", output).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "it runs: {word}");
        ensure!(said.contains(word), "no {word:?} in: {said}");
        ensure!(output.stdout.is_empty(), "it served before");
    }
    Ok(())
}
