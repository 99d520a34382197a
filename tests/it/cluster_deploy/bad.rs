//! Bad versions: taken back without losing anything, to what ran before, or to nothing.

use super::*;

use tidegate_tests::deploys::{self, Plan};
use tidegate_tests::{Client, http, within};

/// Few traps are enough, and a trial is short enough to wait for, long enough for a busy machine.
const BOUNDS: &str = "rollback-traps = 3\ninstances = 1\n";

fn scripted(workers: usize, seconds: u32) -> Result<Builder> {
    Ok(Cluster::apart(1, workers)
        .other_plugin_file(&Plugin::Scripted.path()?)
        .plugin_settings(BOUNDS)
        .plugin_settings(&format!("rollback-seconds = {seconds}\n"))
        .settings(TIMES)
        .deploys())
}

fn build(cluster: &Cluster, label: &str) -> Result<Build> {
    let bytes = std::fs::read(Plugin::Scripted.path()?)?;
    Build::of(cluster.folder(), label, &another_build(&bytes, label)?)
}

/// Says so often `script` as another client each.
async fn say(gateway: &Node, times: usize, script: &str) -> Result<Vec<Client>> {
    let mut clients = Vec::new();
    for _ in 0..times {
        let mut client = gateway.ws().await?;
        client.send(script).await?;
        clients.push(client);
    }
    Ok(clients)
}

async fn hello(client: &mut Client) -> Outcome {
    let said = client.text().await?;
    ensure!(said.starts_with("hello"), "{said}");
    Ok(())
}

/// Waits until both workers serve this version, which the cluster does not name.
async fn serve_unnamed(gateway: &Node, version: &str) -> Outcome {
    eventually(&format!("both workers serve {version}"), async || {
        let state = super::state(gateway).await?;
        let workers = state.pointer("/workers").and_then(Value::as_array);
        let workers = workers.context("no workers")?;
        let serves = |it: &&Value| at(it, "/version") == version && !is_behind(it);
        Ok((workers.iter().filter(serves).count() == 2).then_some(()))
    })
    .await
}

/// Waits until the newest release of this version has this fate, and gives the state.
async fn fate(gateway: &Node, version: &str, fate: &str) -> Result<Value> {
    eventually(&format!("{version} is {fate}"), async || {
        let state = state(gateway).await?;
        let releases = state.pointer("/releases").and_then(Value::as_array);
        let of_it = |it: &&Value| at(it, "/version") == version;
        let found = releases.and_then(|all| all.iter().find(of_it));
        let is_so = found.is_some_and(|it| at(it, "/fate") == fate);
        Ok(is_so.then_some(state))
    })
    .await
}

#[tokio::test]
async fn a_deploy_that_waits_ends_with_what_came_of_the_trial() -> Outcome {
    let cluster = scripted(2, 4)?.start().await?;
    let gateway = cluster.gateway(0)?;
    let good = build(&cluster, "good")?;
    let said = good.deploy(gateway).await?.ok()?.out;
    ensure!(said.contains("it is on trial"), "{said}");
    let good = build(&cluster, "better")?;
    let mut args = good.args()?;
    args.push("--wait");
    let said = gateway.run("default", &args).await?.ok()?.out;
    ensure!(said.ends_with("its trial is over: it stays\n"), "{said}");
    ensure!(!said.contains("it is on trial"), "{said}");

    let bad = build(&cluster, "bad")?;
    let script = format!("on {} trap now\nversion", bad.version);
    let mut args = bad.args()?;
    args.extend(["--wait", "--json"]);
    let mut clients = Vec::new();
    let breaking = async {
        clients = say(gateway, 8, &script).await?;
        Ok(())
    };
    // Up to `done`: four steps of each worker, and three more lines.
    let ran = gateway.run_and("default", &args, 11, breaking).await?;
    for client in &mut clients {
        hello(client).await?;
        client.expect(&good.version).await?;
    }
    ensure!(
        ran.code == 1 && ran.error.contains("was taken back"),
        "{ran:?}"
    );
    all_run(&cluster, &good.version).await
}

#[tokio::test]
async fn a_first_deploy_that_crosses_a_bound_serves_nothing_and_says_so() -> Outcome {
    let cluster = scripted(2, 120)?.without_file().start().await?;
    let gateway = cluster.gateway(0)?;
    let bad = build(&cluster, "bad")?;
    bad.deploy(gateway).await?.ok()?;
    let script = format!("on {} trap now", bad.version);
    let _breaking = say(gateway, 8, &script).await?;
    let state = fate(gateway, &bad.version, "rolled-back").await?;
    ensure!(
        at(&state, "/releases/0/reason").contains("3 is the bound"),
        "{state}"
    );
    eventually("nothing serves at any worker", async || {
        let state = super::state(gateway).await?;
        let workers = state.pointer("/workers").and_then(Value::as_array);
        let workers = workers.context("no workers")?;
        let nothing = |it: &Value| it.pointer("/version").is_none_or(Value::is_null);
        Ok(workers.iter().all(nothing).then_some(()))
    })
    .await?;
    let logs = [0, 1].map(|worker| anyhow::Ok(cluster.worker(worker)?.process()?.log()));
    for log in logs {
        ensure!(log?.contains("NOTHING SERVES"), "it is not said");
    }
    let status = gateway.run("default", &["status"]).await?.ok()?.out;
    ensure!(
        status.contains("nothing serves at 2 of 2 workers"),
        "{status}"
    );
    // Whoever withdraws it says that there is nothing to be missed.
    let worker = cluster.worker(0)?.admin()?;
    let ready = async || anyhow::Ok(http::get(worker, "/readyz").await?.status);
    eventually("the worker misses it", async || {
        Ok((ready().await? == 503).then_some(()))
    })
    .await?;
    gateway.run("default", &["withdraw"]).await?.ok()?;
    eventually("the worker misses nothing", async || {
        Ok((ready().await? == 200).then_some(()))
    })
    .await?;
    // What comes meanwhile waits.
    let mut later = say(gateway, 3, "echo later").await?;
    build(&cluster, "good")?.deploy(gateway).await?.ok()?;
    for client in &mut later {
        hello(client).await?;
        within("what waited is run", client.expect("later")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn after_a_first_deploy_that_is_taken_back_every_worker_follows_its_file_again() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = Plugin::Scripted.copy_to(folder.path())?;
    let cluster = Cluster::apart(1, 2)
        .other_plugin_file(&file)
        .plugin_settings(BOUNDS)
        .plugin_settings("rollback-seconds = 120\n")
        .settings(TIMES)
        .deploys()
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let bad = build(&cluster, "bad")?;
    bad.deploy(gateway).await?.ok()?;
    // One of them crosses the bound itself; the other one is told.
    let _breaking = say(gateway, 8, &format!("on {} trap now", bad.version)).await?;
    fate(gateway, &bad.version, "rolled-back").await?;
    let next = another_build(&std::fs::read(&file)?, "next")?;
    let unfinished = folder.path().join("unfinished");
    std::fs::write(&unfinished, &next)?;
    std::fs::rename(&unfinished, &file)?;
    let version = blake3::hash(&next).to_hex();
    serve_unnamed(gateway, version.as_str()).await
}

#[tokio::test]
async fn after_a_withdrawal_a_bad_version_goes_back_to_what_really_ran() -> Outcome {
    let mut cluster = scripted(2, 120)?.start().await?;
    let old = build(&cluster, "old")?;
    let new = build(&cluster, "new")?;
    let bad = build(&cluster, "bad")?;
    let own = blake3::hash(&std::fs::read(Plugin::Scripted.path()?)?);
    let own = own.to_hex().to_string();
    {
        let gateway = cluster.gateway(0)?;
        old.deploy(gateway).await?.ok()?;
        new.deploy(gateway).await?.ok()?;
        for _ in 0..2 {
            let ran = gateway.run("default", &["withdraw"]).await?.ok()?;
            ensure!(ran.out.contains("names no version"), "{ran:?}");
        }
        let status = gateway.run("default", &["status"]).await?.ok()?.out;
        let short: String = new.version.chars().take(12).collect();
        let words = format!("{short}, withdrawn, at 2 of 2 workers");
        ensure!(status.contains(&words), "{status}");
        bad.deploy(gateway).await?.ok()?;
        let script = format!("on {} trap now\nversion", bad.version);
        let mut clients = say(gateway, 8, &script).await?;
        fate(gateway, &bad.version, "rolled-back").await?;
        // Neither of the two before it had passed its trial: what rescues is the file of the workers.
        for client in &mut clients {
            hello(client).await?;
            let by = client.text().await?;
            ensure!(by == own || by == new.version, "{by}");
        }
        all_run(&cluster, &new.version).await?;
        // By hand it is the same: not what was taken back, but what ran before.
        gateway.run("default", &["rollback"]).await?.ok()?;
        all_run(&cluster, &old.version).await?;
        gateway.run("default", &["withdraw"]).await?.ok()?;
    }
    // Once all run their own file, that is what a bad version goes back to.
    for worker in 0..2 {
        let node = cluster.worker_named(&format!("worker-{worker}"))?;
        node.kill().await?;
        node.start()?;
        node.ready().await?;
    }
    let gateway = cluster.gateway(0)?;
    eventually("they run their own file", async || {
        let status = gateway.run("default", &["status"]).await?.ok()?.out;
        Ok(status.contains("their own file, at 2 of 2").then_some(()))
    })
    .await?;
    let worse = build(&cluster, "worse")?;
    worse.deploy(gateway).await?.ok()?;
    let script = format!("on {} trap now\nversion", worse.version);
    let mut clients = say(gateway, 8, &script).await?;
    fate(gateway, &worse.version, "rolled-back").await?;
    for client in &mut clients {
        hello(client).await?;
        client.expect(&own).await?;
    }
    // The withdrawal can be taken back.
    gateway.run("default", &["rollback"]).await?.ok()?;
    all_run(&cluster, &old.version).await
}

#[tokio::test]
async fn a_canary_that_was_given_up_touches_no_file_after_a_withdrawal() -> Outcome {
    let mut cluster = scripted(2, 120)?.start().await?;
    let old = build(&cluster, "old")?;
    // What the file of each worker has.
    let own = std::fs::read(Plugin::Scripted.path()?)?;
    let own = Build::of(cluster.folder(), "own", &own)?;
    {
        let gateway = cluster.gateway(0)?;
        old.deploy(gateway).await?.ok()?;
        let mut args = own.args()?;
        args.extend(["--canary-percent", "10"]);
        gateway.run("default", &args).await?.ok()?;
        gateway.run("default", &["rollback"]).await?.ok()?;
        gateway.run("default", &["withdraw"]).await?.ok()?;
    }
    for worker in 0..2 {
        let node = cluster.worker_named(&format!("worker-{worker}"))?;
        node.kill().await?;
        node.start()?;
        node.ready().await?;
    }
    let gateway = cluster.gateway(0)?;
    serve_unnamed(gateway, &own.version).await?;
    let mut client = gateway.ws().await?;
    client.send("version").await?;
    hello(&mut client).await?;
    client.expect(&own.version).await?;
    // An order that changes nothing, and one that does.
    let command = std::fs::read(Plugin::ProbeCommand.path()?)?;
    let refused = Build::of(cluster.folder(), "refused", &command)?;
    ensure!(refused.deploy(gateway).await?.code == 1);
    serve_unnamed(gateway, &own.version).await?;
    let bad = build(&cluster, "bad")?;
    bad.deploy(gateway).await?.ok()?;
    let script = format!("on {} trap now\nversion", bad.version);
    let mut clients = say(gateway, 8, &script).await?;
    fate(gateway, &bad.version, "rolled-back").await?;
    for client in &mut clients {
        hello(client).await?;
        client.expect(&own.version).await?;
    }
    client.send("version").await?;
    client.expect(&own.version).await
}

#[tokio::test]
async fn what_was_left_by_hand_is_back_when_what_was_chosen_instead_fails() -> Outcome {
    let cluster = scripted(2, 120)?.without_file().start().await?;
    let gateway = cluster.gateway(0)?;
    let old = build(&cluster, "old")?;
    let new = build(&cluster, "new")?;
    let bad = build(&cluster, "bad")?;
    let script = format!("on {} trap now\nversion", bad.version);
    old.deploy(gateway).await?.ok()?;
    new.deploy(gateway).await?.ok()?;
    bad.deploy(gateway).await?.ok()?;
    let _breaking = say(gateway, 8, &script).await?;
    all_run(&cluster, &new.version).await?;
    gateway.run("default", &["rollback"]).await?.ok()?;
    all_run(&cluster, &old.version).await?;
    let to_bad = ["rollback", "--to", &bad.version];
    gateway.run("default", &to_bad).await?.ok()?;
    all_run(&cluster, &bad.version).await?;
    let mut clients = say(gateway, 8, &script).await?;
    all_run(&cluster, &old.version).await?;
    for client in &mut clients {
        hello(client).await?;
        client.expect(&old.version).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_version_that_comes_in_the_trial_of_another_one_brings_neither_back() -> Outcome {
    let cluster = scripted(2, 6)?.without_file().start().await?;
    let gateway = cluster.gateway(0)?;
    let good = build(&cluster, "good")?;
    let mut args = good.args()?;
    args.push("--wait");
    gateway.run("default", &args).await?.ok()?;
    let (first, second) = (build(&cluster, "first")?, build(&cluster, "second")?);
    first.deploy(gateway).await?.ok()?;
    second.deploy(gateway).await?.ok()?;
    let traps = |bad: &Build| format!("on {} trap now", bad.version);
    let script = format!("{}\n{}\nversion", traps(&first), traps(&second));
    eventually("both are taken back", async || {
        for mut client in say(gateway, 4, &script).await? {
            hello(&mut client).await?;
            // Neither of the two loses a message.
            client.expect(&good.version).await?;
        }
        let state = super::state(gateway).await?;
        let releases = state.pointer("/releases").and_then(Value::as_array);
        let fate_of = |bad: &Build| {
            let of_it = |it: &&Value| at(it, "/version") == bad.version;
            releases?.iter().find(of_it).map(|it| at(it, "/fate"))
        };
        let taken_back = |bad| fate_of(bad).is_some_and(|it| it == "rolled-back");
        Ok((taken_back(&first) && taken_back(&second)).then_some(()))
    })
    .await?;
    all_run(&cluster, &good.version).await
}

#[tokio::test]
async fn bad_deploys_in_a_row_lose_repeat_and_reorder_nothing() -> Outcome {
    for (first, file) in [(0, true), (7, false)] {
        let found = deploys::run(Plan {
            deploys: 7,
            first,
            percent: 40,
            clients: 30,
            every: Duration::from_millis(50),
            normal: Duration::from_secs(1),
            file,
        })
        .await?;
        eprintln!("{found}");
    }
    Ok(())
}
