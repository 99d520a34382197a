//! Limits of the system. Open files: clients never take the last ones from health, the Client API and
//! other nodes. Address space: with little of it plugins run, only slower.

use anyhow::ensure;
use tidegate_tests::{Alone, Cluster, Outcome, Plugin, Signal, Transport, eventually, http};
use tokio::net::TcpStream;

#[tokio::test]
async fn at_the_limit_of_open_files_health_api_and_new_workers_are_served() -> Outcome {
    let mut cluster = Cluster::apart(1, 1)
        .gateway_limits("ulimit -n 256")
        // Nobody asks through clients who serves: there will be no room for them.
        .other_plugin_file(&Plugin::Bench.path()?)
        .tenant("t", &[Transport::Tcp])
        .start()
        .await?;
    let gateway = cluster.gateway(0)?;
    let log = gateway.process()?.log();
    ensure!(
        log.contains("key=\"gateway.connections-max\"") && log.contains("limit=256"),
        "{log}"
    );
    let door = gateway.door("t", Transport::Tcp)?;
    let mut clients = Vec::new();
    for _ in 0..400 {
        clients.push(TcpStream::connect(door).await?);
    }
    eventually("some are refused", async || {
        let refused = "tidegate_gateway_refused_connections_total";
        let refused = gateway.metric(refused, "").await?;
        Ok((refused > 0.0).then_some(()))
    })
    .await?;
    let health = http::get(gateway.admin()?, "/healthz").await?;
    ensure!(health.status == 200, "{health:?}");
    let status = gateway.run("t", &["status"]).await?;
    // 3: the register has only just started, and may lack workers.
    ensure!(matches!(status.code, 0 | 3), "{status:?}");
    ensure!(!status.out.is_empty(), "{status:?}");
    // Ready only with a link to the gateway.
    cluster.add_worker().await?;
    let gateway = cluster.gateway(0)?;
    let log = gateway.process()?.log();
    ensure!(!log.contains("cannot accept"), "{log}");

    // What was lowered to fit is no change of the configuration.
    cluster.gateway_mut(0)?.signal(Signal::HangUp)?;
    let log = eventually("the configuration was looked at", async || {
        let log = cluster.gateway(0)?.process()?.log();
        Ok(log.contains("in force were read again").then_some(log))
    })
    .await?;
    ensure!(!log.contains("have changed"), "{log}");
    Ok(())
}

#[tokio::test]
async fn with_little_address_space_plugins_run_without_a_pool() -> Outcome {
    // A pool for the smallest process takes 137 GB of address space, a memory of its own 4.
    let alone = Alone::named("narrow")
        .limits("ulimit -v 3000000")
        .start()
        .await?;
    let log = alone.process.log();
    ensure!(log.contains("no room for a pool"), "{log}");
    let mut client = alone.client().await?;
    client.send("E:hi").await?;
    ensure!(client.text().await? == "hi", "no echo");
    // Traps are still traps, and memory is still limited.
    for bad in ["X:trap", "X:grow", "X:spin"] {
        client.send(bad).await?;
        client.nothing_else().await?;
    }
    Ok(())
}
