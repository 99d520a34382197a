//! Who belongs to the cluster: secrets, the register's restart, nodes that come and go.

use anyhow::{Context, ensure};
use tidegate_tests::{Cluster, Outcome, Signal, eventually};

use crate::behaviour::Named;
use crate::watcher::Watcher;

const QUICK: &str = "[link]\nheartbeat-ms = 200\nlease-ms = 1000\n\
                     [register]\nlease-ms = 1000\ngrace-ms = 500";

#[tokio::test]
async fn a_node_with_a_wrong_secret_stays_outside_and_says_why() -> Outcome {
    const WRONG: &str = "another secret, also long enough";
    let cluster = Cluster::apart(1, 1).start().await?;
    let mut stranger = cluster.stranger("stranger", WRONG)?;
    stranger.start()?;
    eventually("the stranger says that the secret is wrong", async || {
        let log = stranger.process()?.log();
        Ok(log.contains("secret").then_some(()))
    })
    .await?;
    let ready = tidegate_tests::http::get(stranger.admin()?, "/readyz").await?;
    ensure!(ready.status == 503, "a stranger is ready: {ready:?}");
    let mut client = cluster.ws(0).await?;
    ensure!(client.worker().await? == "worker-0", "a stranger serves");
    for node in cluster.nodes() {
        let log = node.process()?.log();
        ensure!(
            !log.contains(&node.secret()[..12]),
            "{} prints its secret",
            node.name()
        );
    }
    ensure!(
        !stranger.process()?.log().contains(WRONG),
        "it prints its secret"
    );
    Ok(())
}

#[tokio::test]
async fn traffic_goes_on_without_the_register_and_joins_wait_for_it() -> Outcome {
    let mut cluster = Cluster::apart(2, 1).settings(QUICK).start().await?;
    let mut a = Named::connect(&cluster, 0).await?;
    let mut b = Named::connect(&cluster, 1).await?;
    cluster.register_mut()?.kill().await?;
    for _ in 0..20 {
        b.heard_nothing_from(&mut a).await?;
    }
    let mut later = cluster.ws(0).await?;
    later.nothing_else().await?;
    cluster.register_mut()?.start()?;
    cluster.add_worker().await?;
    b.heard_nothing_from(&mut a).await
}

#[tokio::test]
async fn a_register_that_restarts_makes_nobody_lost() -> Outcome {
    let mut cluster = Cluster::apart(2, 1).settings(QUICK).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut here = Named::connect(&cluster, 0).await?;
    let mut there = Named::connect(&cluster, 1).await?;
    for _ in 0..3 {
        let register = cluster.register_mut()?;
        register.kill().await?;
        register.start()?;
        register.ready().await?;
        there.heard_nothing_from(&mut here).await?;
    }
    // A node that comes now is told of everybody who is there, and the grace time is over.
    cluster.add_worker().await?;
    there.heard_nothing_from(&mut here).await?;
    watcher.quiet_about("gateway-lost").await
}

#[tokio::test]
async fn a_register_that_was_frozen_makes_nobody_lost() -> Outcome {
    let settings = "[link]\nheartbeat-ms = 200\nlease-ms = 1500\n\
                    [register]\nlease-ms = 1500\ngrace-ms = 4000";
    let mut cluster = Cluster::apart(3, 1).settings(settings).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    let mut here = Named::connect(&cluster, 1).await?;
    let mut there = Named::connect(&cluster, 2).await?;
    let joins = |cluster: &Cluster, text: &str| -> anyhow::Result<Vec<usize>> {
        let logs = (0..3).map(|nth| Ok(cluster.gateway(nth)?.process()?.log()));
        logs.map(|log: anyhow::Result<String>| Ok(log?.matches(text).count()))
            .collect()
    };
    for round in 1..=2 {
        cluster.register_mut()?.signal(Signal::Stop)?;
        eventually("all gateways miss the register", async || {
            let missed = joins(&cluster, "not joined; trying again")?;
            Ok(missed.iter().all(|it| *it >= round).then_some(()))
        })
        .await?;
        cluster.register_mut()?.signal(Signal::Continue)?;
        eventually("all gateways are back", async || {
            let joined = joins(&cluster, "joined register=")?;
            Ok(joined.iter().all(|it| *it > round).then_some(()))
        })
        .await?;
    }
    for nth in 0..3 {
        let gateway = cluster.gateway_mut(nth)?;
        let ended = gateway.process_mut()?.status();
        ensure!(ended.is_none(), "{} has ended: {ended:?}", gateway.name());
    }
    there.heard_nothing_from(&mut here).await?;
    watcher.quiet_about("gateway-lost").await
}

#[tokio::test]
async fn gateways_join_and_leave() -> Outcome {
    let mut cluster = Cluster::apart(1, 1).settings(QUICK).start().await?;
    let mut watcher = Watcher::join(&cluster, 0).await?;
    cluster.add_gateway().await?;
    let mut leaving = Named::connect(&cluster, 1).await?;
    leaving.does("U:b").await?;
    cluster.gateway_mut(1)?.terminate().await?;
    watcher.expect(&leaving.id, "going-away:b::null").await?;
    let mut again = cluster.ws(0).await?;
    again.nothing_else().await
}

#[tokio::test]
async fn a_second_gateway_with_the_same_address_is_refused() -> Outcome {
    let cluster = Cluster::apart(1, 1).start().await?;
    let mut twin = cluster.twin_of_gateway(0)?;
    twin.start()?;
    eventually("the twin says that its address is taken", async || {
        let log = twin.process()?.log();
        Ok(log.contains("taken").then_some(()))
    })
    .await?;
    cluster
        .ws(0)
        .await?
        .nothing_else()
        .await
        .context("the first gateway is disturbed")
}
