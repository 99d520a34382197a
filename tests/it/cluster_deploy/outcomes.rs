//! What becomes of an order is always said, in a form that programs read; and looking needs no register.

use std::time::{Duration, Instant};

use tidegate_tests::http;

use super::*;

/// Who only looks is answered within this.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn without_the_register_looking_is_answered_at_once_and_says_so() -> Outcome {
    let mut cluster = recorder(1, 1)?.start().await?;
    let build = Build::new(cluster.folder(), "one")?;
    build.deploy(cluster.gateway(0)?).await?.ok()?;
    all_run(&cluster, &build.version).await?;
    let gateway = cluster.gateway(0)?;
    let history = gateway.run("default", &["history"]).await?;
    ensure!(history.code == 0 && history.error.is_empty(), "{history:?}");
    cluster.register_mut()?.kill().await?;
    let gateway = cluster.gateway(0)?;
    for command in ["history", "status"] {
        let since = Instant::now();
        let ran = gateway.run("default", &[command]).await?;
        let took = since.elapsed();
        ensure!(took < AT_ONCE, "{command} took {took:?}");
        ensure!(ran.code == 3, "it looks whole: {ran:?}");
        ensure!(ran.error.contains("cannot be reached"), "{ran:?}");
        ensure!(ran.out.contains(&build.version[..12]), "{ran:?}");
    }
    let json = gateway.run("default", &["history", "--json"]).await?;
    let json: Value = serde_json::from_str(&json.out)?;
    ensure!(at(&json, "/answered_by") == "gateway", "{json}");
    ensure!(at(&json, "/version") == build.version, "{json}");
    // An order needs it.
    let refused = gateway.run("default", &["rollback", "--json"]).await?;
    ensure!(refused.code == 1, "{refused:?}");
    let told = last(&refused)?;
    ensure!(at(&told, "/event") == "failed", "{told}");
    ensure!(told["status"] == 503 && told["retryable"] == true, "{told}");
    cluster.register_mut()?.start()?;
    eventually("the register answers again", async || {
        let ran = cluster.gateway(0)?.run("default", &["status"]).await?;
        Ok((ran.code == 0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_register_that_has_just_started_does_not_take_the_workers_that_are_back_for_all()
-> Outcome {
    // Long enough for what is asked meanwhile.
    let mut cluster = with_times(1, 2, "[register]\ngrace-ms = 6000")?
        .start()
        .await?;
    let build = Build::new(cluster.folder(), "one")?;
    build.deploy(cluster.gateway(0)?).await?.ok()?;
    all_run(&cluster, &build.version).await?;
    cluster.register_mut()?.kill().await?;
    cluster.worker_named("worker-1")?.kill().await?;
    cluster.register_mut()?.start()?;
    let gateway = cluster.gateway(0)?;
    eventually("one worker is back", async || {
        let state = state(gateway).await?;
        let workers = state["workers"].as_array().map_or(0, Vec::len);
        if at(&state, "/answered_by") != "register" || workers != 1 {
            return Ok(None);
        }
        let left = state["settles_in_ms"].as_u64().unwrap_or_default();
        ensure!((1..=6000).contains(&left), "it looks whole: {state}");
        Ok(Some(()))
    })
    .await?;
    let (status, history, json) = tokio::try_join!(
        gateway.run("default", &["status"]),
        gateway.run("default", &["history"]),
        gateway.run("default", &["status", "--json"]),
    )?;
    for ran in [&status, &history, &json] {
        ensure!(ran.code == 3, "it looks whole: {ran:?}");
        ensure!(ran.error.contains("workers may be missing"), "{ran:?}");
    }
    let seen = status.out.contains("at 1 of 1 workers seen so far");
    ensure!(seen, "{status:?}");
    let told: Value = serde_json::from_str(&json.out)?;
    let left = told["deployment"]["settles_in_ms"].as_u64();
    ensure!(left.is_some_and(|it| it > 0), "{json:?}");
    // Who is not back by then is away.
    eventually("it has settled", async || {
        let ran = gateway.run("default", &["status"]).await?;
        Ok((ran.code == 0 && ran.out.contains("at 1 of 1 workers,")).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_order_right_after_the_registers_start_says_at_once_what_it_waits_for() -> Outcome {
    let mut cluster = with_times(1, 2, "[register]\ngrace-ms = 6000")?
        .start()
        .await?;
    let builds = [
        Build::new(cluster.folder(), "one")?,
        Build::new(cluster.folder(), "two")?,
    ];
    for build in &builds {
        build.deploy(cluster.gateway(0)?).await?.ok()?;
    }
    for args in [&["rollback"][..], &["withdraw", "--json"]] {
        let register = cluster.register_mut()?;
        register.kill().await?;
        register.start()?;
        let gateway = cluster.gateway(0)?;
        eventually("the register is back", async || {
            let state = state(gateway).await?;
            Ok((at(&state, "/answered_by") == "register").then_some(()))
        })
        .await?;
        let since = Instant::now();
        let mut told_after = Duration::MAX;
        let told = async {
            told_after = since.elapsed();
            Ok(())
        };
        let ran = gateway.run_and("default", args, 1, told).await?;
        ensure!(ran.code == 0, "{ran:?}");
        let first = ran.out.lines().next().unwrap_or_default();
        let says = ["waiting up to", "{\"event\":\"waiting\",\"at_most_ms\":"];
        ensure!(says.iter().any(|says| first.contains(says)), "{ran:?}");
        let took = since.elapsed();
        ensure!(
            told_after < took,
            "all at the end: {told_after:?} of {took:?}"
        );
    }
    Ok(())
}

/// The last line of what a command printed.
fn last(ran: &Ran) -> Result<Value> {
    let line = ran.out.lines().last();
    let line = line.with_context(|| format!("nothing on standard output: {ran:?}"))?;
    serde_json::from_str(line).with_context(|| format!("no JSON: {ran:?}"))
}

#[tokio::test]
async fn refusals_are_json_too_and_say_whether_another_try_may_help() -> Outcome {
    let cluster = recorder(1, 1)?
        .plugin_settings("config = { at-start = \"refuse\" }")
        .without_file()
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let scripted = std::fs::read(Plugin::Scripted.path()?)?;
    let bad = Build::of(cluster.folder(), "bad", &scripted)?;
    let mut args = bad.args()?;
    args.push("--json");
    let ran = gateway.run("default", &args).await?;
    let told = last(&ran)?;
    ensure!(ran.code == 1 && at(&told, "/event") == "failed", "{ran:?}");
    ensure!(
        told["status"] == 422 && told["retryable"] == false,
        "{told}"
    );
    ensure!(at(&told, "/detail").contains("told to refuse"), "{told}");
    let failed = ran
        .out
        .lines()
        .filter(|it| it.contains("\"failed\"") && it.contains("status"));
    ensure!(failed.count() == 1, "it is told twice: {ran:?}");
    // Whoever wants one answer gets it with its own status.
    let api = gateway.api("default")?;
    let post = async |accept: &str| {
        let mut request = format!(
            "POST /v1/deployment HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\nContent-Type: application/wasm\r\nAccept: {accept}\r\n\
             Content-Length: {}\r\n\r\n",
            api.token(),
            scripted.len()
        )
        .into_bytes();
        request.extend_from_slice(&scripted);
        http::exchange(api.address(), &request).await
    };
    let answer = post("application/json").await?;
    ensure!(answer.status == 422, "{answer:?}");
    let problem: Value = serde_json::from_str(&answer.body)?;
    ensure!(problem["retryable"] == false, "{problem}");
    let events = post("text/event-stream").await?;
    ensure!(events.status == 200, "{events:?}");
    ensure!(events.body.contains("\"retryable\":false"), "{events:?}");
    // Nothing was sent at all.
    let missing = gateway
        .run("default", &["deploy", "/nowhere.wasm", "--json"])
        .await?;
    ensure!(missing.code == 2, "{missing:?}");
    let told = last(&missing)?;
    ensure!(
        told["error"] == "invalid-argument" && told["retryable"] == false,
        "{told}"
    );
    let nobody = gateway
        .run(
            "default",
            &["status", "--json", "--api", "http://127.0.0.1:9"],
        )
        .await?;
    let told = last(&nobody)?;
    ensure!(nobody.code == 1 && told["retryable"] == true, "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn an_order_that_was_lost_with_the_register_stands_in_the_history() -> Outcome {
    let mut cluster = recorder(1, 2)?
        .worker_flags(&["--set", "worker.cache-dir=off"])
        .start()
        .await?;
    let build = Build::new(cluster.folder(), "lost")?;
    let gateway = cluster.gateways.first().context("no gateway")?;
    settled(gateway).await?;
    let register = cluster.register.as_mut().context("no register")?;
    // The first line names the file, the second says that the register has it.
    let kill = async { register.kill().await.map(drop) };
    let ran = gateway.run_and("default", &build.args()?, 2, kill).await?;
    register.start()?;
    let line = eventually("the history has a line", async || {
        let history = gateway.run("default", &["history"]).await?;
        let line = history.out.lines().find(|it| it.contains("lost.wasm"));
        Ok(line.filter(|_| history.code == 0).map(ToOwned::to_owned))
    })
    .await?;
    // Whichever it was, command and history agree unless the register was lost behind the decision.
    let told = ran.error.contains("history");
    ensure!(
        ran.code == 1 && told || line.contains("active"),
        "{ran:?}: {line}"
    );
    Ok(())
}
