//! Tenants of one gateway and one worker: whoever is slow waits alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Builder, Client, Cluster, Outcome, Plugin, Transport, eventually};
use tokio::time::timeout;

/// Clients of the slow tenant, and what each sends at once.
const SLOW_CLIENTS: usize = 60;
const MESSAGES: usize = 120;
/// Round trips of the other tenant meanwhile.
const ROUND_TRIPS: usize = 40;
/// Each must be answered within this.
const ANSWERED: Duration = Duration::from_secs(2);

/// Two tenants, whose clients say what their handlers do.
async fn two(builder: Builder) -> Result<Cluster> {
    let plugin = Plugin::Scripted.path()?;
    let cluster = builder.other_plugin_file(&plugin);
    let cluster = cluster
        .tenant("slow", &[Transport::Ws])
        .tenant("quick", &[Transport::Ws]);
    cluster.start().await
}

async fn client(cluster: &Cluster, tenant: &str) -> Result<Client> {
    let address = cluster.gateway(0)?.door(tenant, Transport::Ws)?;
    let mut client = Client::connect(Transport::Ws, address).await?;
    let hello = client.text().await?;
    ensure!(hello.starts_with("hello"), "{hello}");
    Ok(client)
}

async fn echo(client: &mut Client, number: usize) -> Outcome {
    let echo = async {
        client.send(&format!("echo {number}")).await?;
        client.expect(&number.to_string()).await
    };
    timeout(ANSWERED, echo)
        .await
        .with_context(|| format!("round trip {number} took longer than {ANSWERED:?}"))?
}

/// The slow tenant's clients send far more than its handler gets done.
async fn slow_alone(cluster: &Cluster, command: &str) -> Outcome {
    let mut quick = client(cluster, "quick").await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW_CLIENTS {
        slow.push(client(cluster, "slow").await?);
    }
    for _ in 0..MESSAGES {
        for client in &mut slow {
            client.send(command).await?;
        }
    }
    let gateway = cluster.gateway(0)?;
    eventually("the slow tenant waits", async || {
        let waits = gateway.metric(
            "tidegate_gateway_tenant_waits_total",
            "tenant=\"slow\",for=\"worker\"",
        );
        Ok((waits.await? > 0.0).then_some(()))
    })
    .await?;
    for number in 0..ROUND_TRIPS {
        echo(&mut quick, number).await?;
    }
    // One that comes now is served as well: its connect is an event too.
    let mut late = timeout(ANSWERED, client(cluster, "quick"))
        .await
        .context("a client of the quick tenant was not let in")??;
    echo(&mut late, 0).await?;
    let log = eventually("the log names who waits", async || {
        let log = gateway.process()?.log();
        Ok(log.contains("a tenant's events wait").then_some(log))
    })
    .await?;
    let lines = log
        .lines()
        .filter(|it| it.contains("a tenant's events wait"));
    let lines: Vec<&str> = lines.collect();
    ensure!(
        matches!(&lines[..], [line] if line.contains("slow")),
        "one line, about the slow tenant: {lines:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_tenant_whose_handler_sleeps_waits_alone_also_across_processes() -> Outcome {
    slow_alone(&two(Cluster::apart(1, 1)).await?, "sleep 400").await
}

#[tokio::test]
async fn a_tenant_whose_handler_burns_its_time_waits_alone() -> Outcome {
    slow_alone(&two(Cluster::serve()).await?, "burn 400").await
}
