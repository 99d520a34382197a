//! Some clients try a version first: chosen ones, by id or uid, or a share.

use super::*;

use tidegate_tests::Client;

async fn version(client: &mut Client) -> Result<String> {
    client.send("version").await?;
    let said = client.text().await?;
    let version = said.strip_prefix("version:").context("no version")?;
    Ok(version.to_owned())
}

async fn connected(at: &Node) -> Result<(Client, String)> {
    let mut client = at.ws().await?;
    let said = client.text().await?;
    let id = said.strip_prefix("id:").context("no id")?.to_owned();
    Ok((client, id))
}

#[tokio::test]
async fn chosen_clients_try_a_version_until_it_is_promoted_or_given_up() -> Outcome {
    let cluster = recorder(1, 2)?.start().await?;
    let gateway = cluster.gateway(0)?;
    let old = Build::new(cluster.folder(), "old")?;
    old.deploy(gateway).await?.ok()?;
    let (mut chosen, id) = connected(gateway).await?;
    let (mut other, _) = connected(gateway).await?;
    for promoted in [false, true] {
        let new = Build::new(cluster.folder(), &format!("new-{promoted}"))?;
        let mut args = new.args()?;
        args.extend(["--canary-client", &id]);
        gateway.run("default", &args).await?.ok()?;
        ensure!(version(&mut chosen).await? == new.version);
        ensure!(version(&mut other).await? == old.version);
        let history = gateway.run("default", &["history"]).await?.ok()?.out;
        ensure!(history.contains("1 chosen clients"), "{history}");
        let how = if promoted { "promote" } else { "rollback" };
        gateway.run("default", &[how]).await?.ok()?;
        let all = if promoted { &new } else { &old };
        all_run(&cluster, &all.version).await?;
        ensure!(version(&mut chosen).await? == all.version);
        ensure!(version(&mut other).await? == all.version);
    }
    let nothing = gateway.run("default", &["promote"]).await?;
    ensure!(nothing.code == 1, "{nothing:?}");
    Ok(())
}

#[tokio::test]
async fn a_canary_with_a_time_serves_everybody_when_it_is_over() -> Outcome {
    let cluster = recorder(1, 2)?.start().await?;
    let gateway = cluster.gateway(0)?;
    Build::new(cluster.folder(), "old")?
        .deploy(gateway)
        .await?
        .ok()?;
    let talkers = Talkers::start(&doors(&cluster)?, 20, Duration::from_millis(40)).await?;
    let new = Build::new(cluster.folder(), "new")?;
    let mut args = new.args()?;
    args.extend(["--canary-percent", "50", "--canary-seconds", "1"]);
    gateway.run("default", &args).await?.ok()?;
    all_run(&cluster, &new.version).await?;
    talkers.end().await?;
    Ok(())
}

#[tokio::test]
async fn a_canary_of_few_events_that_break_serves_nobody_when_its_time_is_over() -> Outcome {
    let scripted = Plugin::Scripted.path()?;
    let cluster = Cluster::apart(1, 2)
        .other_plugin_file(&scripted)
        .plugin_settings("rollback-seconds = 1\n")
        .settings(TIMES)
        .deploys()
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let bytes = std::fs::read(&scripted)?;
    let good = Build::of(cluster.folder(), "good", &another_build(&bytes, "good")?)?;
    // Until its own trial is over it rescues nobody.
    let mut args = good.args()?;
    args.push("--wait");
    gateway.run("default", &args).await?.ok()?;
    let bad = Build::of(cluster.folder(), "bad", &another_build(&bytes, "bad")?)?;
    let mut args = bad.args()?;
    args.extend(["--canary-percent", "60", "--canary-seconds", "4"]);
    gateway.run("default", &args).await?.ok()?;
    let script = format!("on {} trap now\nversion", bad.version);
    let mut clients = Vec::new();
    for _ in 0..12 {
        let mut client = gateway.ws().await?;
        client.send(&script).await?;
        clients.push(client);
    }
    for client in &mut clients {
        ensure!(client.text().await?.starts_with("hello"));
        client.expect(&good.version).await?;
    }
    let fate = "it is taken back";
    eventually(fate, async || {
        let history = gateway.run("default", &["history"]).await?.ok()?.out;
        Ok(history.contains("rolled-back").then_some(()))
    })
    .await?;
    all_run(&cluster, &good.version).await
}

#[tokio::test]
async fn a_version_that_breaks_at_one_worker_is_rolled_back_at_all() -> Outcome {
    let scripted = Plugin::Scripted.path()?;
    let cluster = Cluster::apart(1, 2)
        .other_plugin_file(&scripted)
        .plugin_settings("rollback-traps = 3\nrollback-seconds = 120\ninstances = 1\n")
        .settings(TIMES)
        .deploys()
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let bytes = std::fs::read(&scripted)?;
    let good = Build::of(cluster.folder(), "good", &another_build(&bytes, "good")?)?;
    good.deploy(gateway).await?.ok()?;
    let bad = Build::of(cluster.folder(), "bad", &another_build(&bytes, "bad")?)?;
    bad.deploy(gateway).await?.ok()?;
    // One client, and so one worker.
    let mut client = gateway.ws().await?;
    for _ in 0..3 {
        client.send("trap now").await?;
    }
    all_run(&cluster, &good.version).await?;
    let history = gateway.run("default", &["history"]).await?.ok()?.out;
    ensure!(
        history.contains("rolled-back") && history.contains("3 is the bound"),
        "{history}"
    );
    Ok(())
}

#[tokio::test]
async fn clients_of_a_uid_are_found_by_the_gateway() -> Outcome {
    let bench = Plugin::Bench.path()?;
    let cluster = Cluster::apart(2, 1)
        .plugin_file(&bench)
        .settings(TIMES)
        .deploys()
        .start()
        .await?;
    let bytes = std::fs::read(&bench)?;
    let mut alice = cluster.ws(1).await?;
    alice.send("U:alice").await?;
    alice.nothing_else().await?;
    let mut other = cluster.ws(0).await?;
    let (old, id) = (alice.who().await?.version, alice.id().await?);
    let new = Build::of(cluster.folder(), "new", &another_build(&bytes, "new")?)?;
    let mut args = new.args()?;
    args.extend(["--canary-uid", "alice"]);
    cluster.gateway(0)?.run("default", &args).await?.ok()?;
    let state = state(cluster.gateway(0)?).await?;
    ensure!(at(&state, "/releases/0/canary/clients/0") == id, "{state}");
    ensure!(alice.who().await?.version != old);
    ensure!(other.who().await?.version == old);
    let mut args = new.args()?;
    args.extend(["--canary-uid", "nobody"]);
    let refused = cluster.gateway(0)?.run("default", &args).await?;
    ensure!(refused.code == 4, "{refused:?}");
    Ok(())
}
