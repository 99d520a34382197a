//! What was deployed is served by workers that come later, and after everything was killed.

use super::*;

#[tokio::test]
async fn a_worker_that_joins_later_serves_what_was_deployed() -> Outcome {
    let mut cluster = recorder(1, 1)?.start().await?;
    let build = Build::new(cluster.folder(), "early")?;
    build.deploy(cluster.gateway(0)?).await?.ok()?;
    cluster.add_worker().await?;
    let log = cluster.worker(1)?.process()?.log();
    ensure!(!log.contains("plugin runs"), "it began with its own file");
    all_run(&cluster, &build.version).await?;
    all_meet(&cluster, 0, 12, &build.version).await?;
    Ok(())
}

#[tokio::test]
async fn workers_without_a_file_serve_from_the_first_deploy_on() -> Outcome {
    let cluster = recorder(1, 2)?.without_file().start().await?;
    let gateway = cluster.gateway(0)?;
    // It waits for somebody who serves it.
    let mut early = gateway.ws().await?;
    let build = Build::new(cluster.folder(), "first")?;
    let mut canary = build.args()?;
    canary.extend(["--canary-percent", "10"]);
    let refused = gateway.run("default", &canary).await?;
    ensure!(
        refused.code == 1 && refused.error.contains("nothing serves the tenant"),
        "{refused:?}"
    );
    build.deploy(gateway).await?.ok()?;
    ensure!(early.text().await?.starts_with("id:"));
    all_meet(&cluster, 0, 8, &build.version).await?;
    Ok(())
}

#[tokio::test]
async fn after_all_nodes_were_killed_the_last_deploy_serves() -> Outcome {
    let mut cluster = recorder(2, 3)?.start().await?;
    let first = Build::new(cluster.folder(), "first")?;
    first.deploy(cluster.gateway(0)?).await?.ok()?;
    // One worker misses the second deploy: its disk is older than the others'.
    cluster.worker_named("worker-2")?.kill().await?;
    let second = Build::new(cluster.folder(), "second")?;
    eventually("the register has seen that it is gone", async || {
        let ran = second.deploy(cluster.gateway(0)?).await?;
        Ok((ran.code == 0).then_some(()))
    })
    .await?;
    for node in cluster.nodes_mut() {
        if node.name() != "worker-2" {
            node.kill().await?;
        }
    }
    for node in cluster.nodes_mut() {
        node.start()?;
    }
    for node in cluster.nodes_mut() {
        node.ready().await?;
    }
    all_run(&cluster, &second.version).await?;
    for gateway in 0..2 {
        all_meet(&cluster, gateway, 12, &second.version).await?;
    }
    let back = cluster.gateway(1)?.run("default", &["rollback"]).await?;
    back.ok()?;
    all_run(&cluster, &first.version).await
}

#[tokio::test]
async fn a_register_with_an_empty_disk_learns_what_is_deployed_and_can_go_back() -> Outcome {
    let mut cluster = recorder(1, 2)?.start().await?;
    let first = Build::new(cluster.folder(), "first")?;
    first.deploy(cluster.gateway(0)?).await?.ok()?;
    let second = Build::new(cluster.folder(), "second")?;
    second.deploy(cluster.gateway(0)?).await?.ok()?;
    let disk = cluster.folder().join("register.state");
    let register = cluster.register_mut()?;
    register.kill().await?;
    std::fs::remove_dir_all(disk)?;
    register.start()?;
    register.ready().await?;
    all_run(&cluster, &second.version).await?;
    eventually("the register has everything for going back", async || {
        let ran = cluster.gateway(0)?.run("default", &["rollback"]).await?;
        ensure!(ran.code == 0, "{ran:?}");
        Ok(Some(()))
    })
    .await?;
    all_run(&cluster, &first.version).await
}

#[tokio::test]
async fn without_the_register_a_deploy_says_whom_it_misses_and_clients_go_on() -> Outcome {
    let mut cluster = recorder(1, 1)?.start().await?;
    let talkers = Talkers::start(&doors(&cluster)?, 10, Duration::from_millis(40)).await?;
    cluster.register_mut()?.kill().await?;
    let build = Build::new(cluster.folder(), "unheard")?;
    let ran = build.deploy(cluster.gateway(0)?).await?;
    ensure!(ran.code == 1 && ran.error.contains("register"), "{ran:?}");
    talkers.go_on(50).await?;
    talkers.end().await?;
    Ok(())
}

#[tokio::test]
async fn a_component_that_was_lost_at_all_nodes_is_asked_for_and_runs_again_once_it_is_given()
-> Outcome {
    let mut cluster = recorder(1, 2)?
        .plugin_settings("rollback-seconds = 2\n")
        .without_file()
        .start()
        .await?;
    let build = Build::new(cluster.folder(), "lost")?;
    build.deploy(cluster.gateway(0)?).await?.ok()?;
    all_run(&cluster, &build.version).await?;
    let folder = cluster.folder().to_owned();
    cluster.register_mut()?.kill().await?;
    for worker in ["worker-0", "worker-1"] {
        cluster.worker_named(worker)?.kill().await?;
    }
    for (node, command) in [
        ("register", "register"),
        ("worker-0", "worker"),
        ("worker-1", "worker"),
    ] {
        let own = folder.join(node).with_extension("state").join(command);
        std::fs::remove_dir_all(own.join("components"))?;
    }
    cluster.register_mut()?.start()?;
    for worker in ["worker-0", "worker-1"] {
        cluster.worker_named(worker)?.start()?;
    }
    let gateway = cluster.gateway(0)?;
    eventually(
        "both workers say that they have nothing to run",
        async || {
            let state = state(gateway).await?;
            let workers = state["workers"].as_array().cloned().unwrap_or_default();
            let troubled = workers.iter().filter(|it| it["trouble"].is_string());
            Ok((troubled.count() == 2).then_some(()))
        },
    )
    .await?;
    let named = gateway
        .run("default", &["rollback", "--to", &build.version])
        .await?;
    let says = named.error.contains("give its file again");
    ensure!(named.code == 1 && says, "{named:?}");
    let mut args = build.args()?;
    args.push("--wait");
    let ran = gateway.run("default", &args).await?.ok()?;
    let done = format!("done: {} at 2 workers", build.version);
    ensure!(
        ran.out.contains(&done) && ran.out.contains("it stays"),
        "{ran:?}"
    );
    all_run(&cluster, &build.version).await?;
    all_meet(&cluster, 0, 8, &build.version).await
}
