//! The log: it holds up nobody, whatever becomes of what it is written to, and nobody outside fills
//! it, forges a line of it, or is shown in it.

use std::io::{PipeReader, Write, pipe};
use std::net::SocketAddrV4;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_tests::{Alone, Outcome, Signal, eventually, http, ports, tools};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Serves clients, is healthy, and ends in order.
async fn goes_on(mut alone: Alone) -> Outcome {
    let mut client = alone.client().await?;
    for _ in 0..100 {
        client.send("X:err").await?;
    }
    let mut other = alone.client().await?;
    other.nothing_else().await?;
    let healthy = http::get(alone.admin, "/healthz").await?;
    ensure!(healthy.status == 200, "{healthy:?}");
    alone.process.signal(Signal::Terminate)?;
    let status = alone.process.ended().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

async fn loses_lines(alone: &Alone) -> Outcome {
    eventually("lines that cannot be written are counted", async || {
        let lost = alone.metric("tidegate_log_lines_lost_total").await?;
        Ok((lost > 0.0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_standard_error_whose_reader_is_gone_stops_nothing() -> Outcome {
    let (reader, writer) = pipe()?;
    drop(reader);
    let alone = Alone::named("gone").stderr(writer).start().await?;
    loses_lines(&alone).await?;
    goes_on(alone).await
}

#[tokio::test]
async fn a_standard_error_on_a_full_disk_stops_nothing() -> Outcome {
    let full = std::fs::File::options().write(true).open("/dev/full")?;
    let alone = Alone::named("full").stderr(full).start().await?;
    loses_lines(&alone).await?;
    goes_on(alone).await
}

/// A pipe that takes no byte more.
fn full_pipe(nonblocking: bool) -> anyhow::Result<(PipeReader, Stdio)> {
    let (reader, writer) = pipe()?;
    let socket = std::os::fd::OwnedFd::from(writer);
    let mut writer = std::fs::File::from(socket.try_clone()?);
    set_nonblocking(&socket, true)?;
    while writer.write(&[b'x'; 4096]).is_ok() {}
    set_nonblocking(&socket, nonblocking)?;
    Ok((reader, socket.into()))
}

fn set_nonblocking(file: &std::os::fd::OwnedFd, on: bool) -> Outcome {
    use std::os::fd::AsRawFd;
    let flags = if on { libc::O_NONBLOCK } else { 0 };
    #[allow(
        unsafe_code,
        reason = "fcntl with F_SETFL takes numbers only; the descriptor is open as long as its owner"
    )]
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags) };
    ensure!(set == 0, "fcntl: {}", std::io::Error::last_os_error());
    Ok(())
}

#[tokio::test]
async fn a_standard_error_that_answers_try_again_stops_nothing() -> Outcome {
    let (_reader, stderr) = full_pipe(true)?;
    let alone = Alone::named("again").stderr(stderr).start().await?;
    loses_lines(&alone).await?;
    goes_on(alone).await
}

#[tokio::test]
async fn a_standard_error_that_nobody_reads_stops_nothing() -> Outcome {
    let (_reader, stderr) = full_pipe(false)?;
    let alone = Alone::named("unread").stderr(stderr).start().await?;
    goes_on(alone).await
}

#[test]
fn a_command_whose_output_nobody_reads_ends_quietly() -> Outcome {
    let (reader, writer) = pipe()?;
    drop(reader);
    let mut command = Command::new(tools::tidegate()?);
    command.args(["config", "--default"]).stdout(writer);
    let ran = command.stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    ensure!(
        ran.status.success() && said.is_empty(),
        "{}: {said}",
        ran.status
    );
    Ok(())
}

#[tokio::test]
async fn one_client_whose_handler_returns_errors_does_not_fill_the_log() -> Outcome {
    let alone = Alone::named("errors").start().await?;
    let mut client = alone.client().await?;
    let mut count = 0_usize;
    for _ in 0..20 {
        for _ in 0..100 {
            client.send("X:err").await?;
        }
        client.nothing_else().await?;
    }
    let log = eventually("what was left out is counted", async || {
        let log = alone.process.log();
        let told = log
            .lines()
            .filter(|line| line.contains("lines were left out"));
        count = told.filter_map(left_out).sum();
        Ok((count >= 1_000).then_some(log))
    })
    .await?;
    let lines = log.lines().filter(|it| it.contains("returned an error"));
    let lines = lines.filter(|it| !it.contains("left out")).count();
    ensure!((1..200).contains(&lines), "{lines} lines");
    ensure!(log.len() < 200_000, "{} bytes", log.len());
    Ok(())
}

/// The count in a line that tells what was left out.
fn left_out(line: &str) -> Option<usize> {
    let (_, count) = line.split_once(" lines=")?;
    count.split(' ').next()?.parse().ok()
}

async fn stranger(address: SocketAddrV4) -> Outcome {
    let mut socket = TcpStream::connect(address).await?;
    // It may be closed by the other side before all was written.
    let _ = socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
    Ok(())
}

#[tokio::test]
async fn strangers_at_a_port_for_nodes_are_told_with_their_address_and_then_counted() -> Outcome {
    let (register, lan) = (ports::free()?, ports::free()?);
    let alone = Alone::named("strangers")
        .env(
            "TIDEGATE_SECRET",
            "the secret of a test cluster, long enough",
        )
        .set(&format!("register.listen={register}"))
        .set(&format!("gateway.lan={lan}"))
        .start()
        .await?;
    for address in [lan, register] {
        let before = alone.process.log().len();
        for _ in 0..500 {
            stranger(address).await?;
        }
        let log = eventually("strangers are counted", async || {
            let log = alone.process.log().split_off(before);
            Ok(log.contains("lines were left out").then_some(log))
        })
        .await?;
        let told = log.lines().filter(|it| it.contains("was not admitted"));
        let told: Vec<&str> = told.filter(|it| !it.contains("left out")).collect();
        ensure!((1..100).contains(&told.len()), "{} lines", told.len());
        let has_address = |it: &&str| it.contains("address=127.0.0.1:");
        ensure!(told.iter().all(has_address), "{told:?}");
    }
    Ok(())
}

#[tokio::test]
async fn no_filter_makes_the_log_show_what_clients_say() -> Outcome {
    let alone = Alone::named("trace").set("log.level=trace").start().await?;
    let mut client = alone.client().await?;
    let secret = "xyzzy-nobody-shall-read-this";
    client.send(&format!("E:{secret}")).await?;
    ensure!(client.text().await? == secret, "no echo");
    client.nothing_else().await?;
    let mut alone = alone;
    alone.process.signal(Signal::Terminate)?;
    alone.process.ended().await?;
    let log = alone.process.log();
    let line = log.lines().find(|line| line.contains(secret));
    ensure!(line.is_none(), "{line:?}");
    Ok(())
}

#[tokio::test]
async fn a_log_file_is_written_and_opened_anew_at_sighup() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (file, old) = (folder.path().join("log"), folder.path().join("log.1"));
    let set = format!("log.file={}", file.display());
    let mut alone = Alone::named("file").set(&set).start().await?;
    ensure!(
        std::fs::read_to_string(&file)?.contains("listening"),
        "no line"
    );
    std::fs::rename(&file, &old)?;
    alone.process.signal(Signal::HangUp)?;
    eventually("the file is opened anew", async || {
        let log = std::fs::read_to_string(&file).context("no new file")?;
        Ok(log.contains("SIGHUP").then_some(()))
    })
    .await?;
    alone.process.signal(Signal::Terminate)?;
    let status = alone.process.ended().await?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// How long a line may take from its cause into the file.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_log_that_is_read_again_goes_on_and_tells_what_it_lost() -> Outcome {
    let (reader, stderr) = full_pipe(true)?;
    let alone = Alone::named("back").stderr(stderr).start().await?;
    loses_lines(&alone).await?;
    let read = tokio::task::spawn_blocking(move || {
        use std::io::{BufRead, BufReader};
        let mut lines = BufReader::new(reader).split(b'\n');
        lines.any(|it| {
            it.is_ok_and(|it| String::from_utf8_lossy(&it).contains("could not be written"))
        })
    });
    let mut client = alone.client().await?;
    let told = tokio::time::timeout(SOON, read);
    tokio::pin!(told);
    loop {
        tokio::select! {
            told = &mut told => {
                ensure!(told.context("nothing was told")??, "the log has ended");
                return Ok(());
            }
            sent = client.send("X:err") => sent?,
        }
        client.nothing_else().await?;
    }
}
