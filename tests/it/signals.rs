//! What a process does when it is sent a signal, and how long its end takes.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tidegate_tests::plugins::{another_build, replace};
use tidegate_tests::{Alone, Client, Outcome, Plugin, Signal, eventually, http, ports, within};

async fn version(client: &mut Client) -> anyhow::Result<String> {
    Ok(client.who().await?.version)
}

/// Ends in order: the client is told, and the exit code is 0.
async fn ends_in_order(mut alone: Alone, signals: &[Signal]) -> Outcome {
    let mut client = alone.client().await?;
    client.nothing_else().await?;
    for signal in signals {
        alone.process.signal(*signal)?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let code = client.closed().await?;
    ensure!(code == Some(1001), "closed with {code:?}");
    let status = alone.process.ended().await?;
    ensure!(status.success(), "{status}");
    let log = alone.process.log();
    ensure!(!log.contains("ending at once"), "{log}");
    Ok(())
}

#[tokio::test]
async fn the_same_signal_twice_in_a_moment_is_one_signal() -> Outcome {
    let alone = Alone::named("twice").start().await?;
    ends_in_order(
        alone,
        &[Signal::Interrupt, Signal::Interrupt, Signal::Terminate],
    )
    .await
}

#[tokio::test]
async fn sigquit_ends_in_order() -> Outcome {
    ends_in_order(Alone::named("quit").start().await?, &[Signal::Quit]).await
}

#[tokio::test]
async fn another_signal_after_a_second_ends_at_once() -> Outcome {
    let (mut alone, _client) = busy("impatient", 60_000).await?;
    alone.process.signal(Signal::Terminate)?;
    let begun = Instant::now();
    let (process, mut again) = (&mut alone.process, begun);
    let status = eventually("it ends at once", async || {
        if again.elapsed() > Duration::from_millis(1_100) {
            again = Instant::now();
            process.signal(Signal::Terminate)?;
        }
        Ok(process.status())
    })
    .await?;
    ensure!(status.code() == Some(1), "{status}");
    Ok(())
}

/// Its handler runs for minutes, for this client.
async fn busy(name: &str, shutdown_ms: u64) -> anyhow::Result<(Alone, Client)> {
    let alone = Alone::named(name)
        .set("plugin.0.cpu-ms=600000")
        .set("plugin.0.wall-ms=600000")
        .set(&format!("gateway.shutdown-ms={shutdown_ms}"))
        .set(&format!("worker.shutdown-ms={shutdown_ms}"))
        .start()
        .await?;
    let mut client = alone.client().await?;
    client.nothing_else().await?;
    let before = alone.metric("tidegate_gateway_messages_in_total").await?;
    client.send("X:spin").await?;
    eventually("the message has come", async || {
        let now = alone.metric("tidegate_gateway_messages_in_total").await?;
        Ok((now > before).then_some(()))
    })
    .await?;
    Ok((alone, client))
}

#[tokio::test]
async fn the_end_of_a_busy_process_takes_no_longer_than_it_may() -> Outcome {
    let (mut alone, _client) = busy("busy", 4_000).await?;
    let begun = Instant::now();
    alone.process.signal(Signal::Terminate)?;
    alone.process.ended().await?;
    // The gateway's time, the worker's and the instances' one after the other would be 13 s.
    ensure!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn the_admin_port_answers_until_the_process_has_ended() -> Outcome {
    let (mut alone, _client) = busy("draining", 4_000).await?;
    let admin = alone.admin;
    ensure!(
        http::get(admin, "/readyz").await?.status == 200,
        "not ready"
    );
    alone.process.signal(Signal::Terminate)?;
    eventually("it says that it stops", async || {
        let ready = http::get(admin, "/readyz").await?;
        let says = ready.body.contains("stop: the process is stopping");
        Ok((ready.status == 503 && says).then_some(()))
    })
    .await?;
    ensure!(
        http::get(admin, "/healthz").await?.status == 200,
        "not alive"
    );
    ensure!(
        http::get(admin, "/metrics").await?.status == 200,
        "no metrics"
    );
    ensure!(alone.process.status().is_none(), "it had ended by then");
    alone.process.ended().await?;
    Ok(())
}

#[tokio::test]
async fn signals_for_reloads_and_upgrades_do_not_kill() -> Outcome {
    let mut alone = Alone::named("reloads").start().await?;
    let mut client = alone.client().await?;
    for signal in [Signal::HangUp, Signal::User1, Signal::User2] {
        alone.process.signal(signal)?;
    }
    eventually("each is told", async || {
        let log = alone.process.log();
        let told = ["SIGHUP:", "SIGUSR1:", "SIGUSR2 is kept"];
        Ok(told.iter().all(|it| log.contains(it)).then_some(()))
    })
    .await?;
    client.nothing_else().await?;
    ends_in_order(alone, &[Signal::Terminate]).await
}

/// The head of the answer to a call with this token.
async fn call(api: SocketAddrV4, token: &str) -> anyhow::Result<u16> {
    let request = format!(
        "GET /v1/gateways HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    );
    Ok(http::exchange(api, request.as_bytes()).await?.status)
}

#[tokio::test]
async fn sighup_reads_token_files_again_and_a_bad_one_changes_nothing() -> Outcome {
    const OLD: &str = "old-token-of-the-tenant";
    const NEW: &str = "new-token-of-the-tenant";
    let folder = tempfile::tempdir()?;
    let (token, config) = (folder.path().join("token"), folder.path().join("config"));
    std::fs::write(&token, OLD)?;
    let api = ports::free()?;
    let text = format!(
        "[api]\nlisten = \"{api}\"\n[[api-token]]\ntoken-file = \"{}\"\n",
        token.display()
    );
    std::fs::write(&config, text)?;
    // Where the file is named: in the fourth line.
    let place = format!("{}:4:", config.display());
    let flags = ["--config", &config.to_string_lossy()];
    let mut alone = Alone::named("tokens").args(&flags).start().await?;
    ensure!(call(api, OLD).await? == 200, "the first token");
    let request = format!(
        "GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OLD}\r\n\
         Connection: close\r\n\r\n"
    );
    let feed = tokio::spawn(async move { http::exchange(api, request.as_bytes()).await });

    for (bad, says) in [(Some("short"), "can be guessed"), (None, "cannot be read")] {
        match bad {
            Some(bad) => std::fs::write(&token, bad)?,
            None => std::fs::remove_file(&token)?,
        }
        alone.process.signal(Signal::HangUp)?;
        eventually("the file is refused by name", async || {
            let log = alone.process.log();
            let line = log.lines().find(|line| line.contains(says));
            Ok(line
                .filter(|line| line.contains(&*place) && line.contains("stay in force"))
                .map(drop))
        })
        .await?;
        ensure!(call(api, OLD).await? == 200, "the old token after {bad:?}");
    }
    ensure!(!feed.is_finished(), "the feed ended");

    std::fs::write(&token, format!("{NEW}\n"))?;
    alone.process.signal(Signal::HangUp)?;
    eventually("the new token is good", async || {
        Ok((call(api, NEW).await? == 200).then_some(()))
    })
    .await?;
    ensure!(call(api, OLD).await? == 401, "the old token is still good");
    let feed = within("the feed of the old token ends", async { Ok(feed.await?) });
    ensure!(feed.await??.status == 200, "there was no feed");
    let log = alone.process.log();
    ensure!(!log.contains(OLD) && !log.contains(NEW), "{log}");
    ends_in_order(alone, &[Signal::Terminate]).await
}

#[tokio::test]
async fn sighup_takes_up_tokens_that_came_changed_or_went() -> Outcome {
    const STAYS: &str = "token-that-stays-in-the-file";
    const GOES: &str = "token-that-goes-from-the-file";
    const COMES: &str = "token-that-comes-to-the-file";
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidegate.toml");
    let api = ports::free()?;
    let write = |deploy: bool, other: &str, more: &str| {
        let text = format!(
            "[api]\nlisten = \"{api}\"\n[[api-token]]\ntoken = \"{STAYS}\"\nname = \"stays\"\n\
             deploy = {deploy}\n[[api-token]]\ntoken = \"{other}\"\nname = \"{other}\"\n{more}"
        );
        std::fs::write(&file, text)
    };
    // More of them than the log takes lines of one kind.
    let keys = [
        "connections-max",
        "groups-per-client-max",
        "late-event-ms",
        "close-ms",
    ];
    let more_keys = [
        "shutdown-ms",
        "hold-bytes-max",
        "session-bytes-max",
        "forward-bytes-max",
    ];
    let keys = keys.into_iter().chain(more_keys);
    let gateway: String = keys.clone().map(|key| format!("{key} = 7777\n")).collect();
    write(true, GOES, &format!("[gateway]\n{gateway}"))?;
    let flags = ["--config", &file.to_string_lossy()];
    let mut alone = Alone::named("tokens-of-the-file")
        .args(&flags)
        .start()
        .await?;
    ensure!(call(api, GOES).await? == 200, "the token of the start");
    let withdraw = format!(
        "DELETE /v1/deployment HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {STAYS}\r\n\
         Connection: close\r\n\r\n"
    );
    let may_deploy = async || -> anyhow::Result<bool> {
        let answer = http::exchange(api, withdraw.as_bytes()).await?;
        Ok(answer.status != 403)
    };
    ensure!(may_deploy().await?, "deploy = true was not in force");
    // A file that cannot be used changes nothing.
    write(true, "short", "")?;
    alone.process.signal(Signal::HangUp)?;
    eventually("the short token is refused", async || {
        let log = alone.process.log();
        Ok(log.contains("can be guessed").then_some(()))
    })
    .await?;
    ensure!(call(api, GOES).await? == 200, "the old one stays in force");

    write(false, COMES, "")?;
    alone.process.signal(Signal::HangUp)?;
    eventually("the new token is good", async || {
        Ok((call(api, COMES).await? == 200).then_some(()))
    })
    .await?;
    ensure!(
        call(api, GOES).await? == 401,
        "a token that is gone is good"
    );
    ensure!(call(api, STAYS).await? == 200, "a token that stayed is not");
    ensure!(!may_deploy().await?, "deploy = true is still in force");
    let log = alone.process.log();
    for says in ["deploy = false (was true)", "is gone", "is new"] {
        ensure!(log.contains(says), "{says} is not told: {log}");
    }
    for key in keys {
        let told = log.contains(&format!("[gateway] {key} = ")) && log.contains("(was 7_777)");
        ensure!(told, "{key} is not told: {log}");
    }
    ends_in_order(alone, &[Signal::Terminate]).await
}

#[tokio::test]
async fn sigusr1_takes_up_a_plugin_that_is_not_watched() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Bench.copy_to(folder.path())?;
    let component = std::fs::read(&file)?;
    let start = Alone::named("asked").args(&["--no-watch"]);
    let mut alone = start.start_with(&file).await?;
    let mut client = alone.client().await?;
    let old = version(&mut client).await?;
    for (signal, build) in [(Signal::User1, "one"), (Signal::HangUp, "two")] {
        let before = version(&mut client).await?;
        replace(&file, &another_build(&component, build)?)?;
        alone.process.signal(signal)?;
        eventually("another version serves", async || {
            Ok((version(&mut client).await? != before).then_some(()))
        })
        .await?;
    }
    ensure!(
        version(&mut client).await? != old,
        "the first version is back"
    );
    Ok(())
}

#[tokio::test]
async fn sighup_takes_the_level_of_the_log_and_names_what_waits_for_a_restart() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, "[log]\nlevel = \"info\"\n")?;
    let path = file.to_str().context("a path")?;
    let mut alone = Alone::named("config")
        .args(&["--config", path])
        .start()
        .await?;
    std::fs::write(
        &file,
        "[log]\nlevel = \"debug\"\n[gateway]\nconnections-max = 77\n",
    )?;
    alone.process.signal(Signal::HangUp)?;
    eventually("the new level and the other key are told", async || {
        // Something that is worth a line at `debug` only.
        drop(http::exchange(alone.admin, b"\0\r\n\r\n").await);
        let log = alone.process.log();
        let level = log.contains("the log's level is new") && log.contains("DEBUG");
        Ok((level && log.contains("connections-max = 77")).then_some(()))
    })
    .await?;
    std::fs::write(&file, "[gateway]\nconnections-maximum = 1\n")?;
    alone.process.signal(Signal::HangUp)?;
    eventually("a mistake is told with its place", async || {
        let log = alone.process.log();
        let told = log.contains("unknown key `connections-maximum`");
        Ok((told && log.contains("tidegate.toml:2:1")).then_some(()))
    })
    .await?;
    alone.client().await?.nothing_else().await
}
