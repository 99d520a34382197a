//! Routers: which worker has a client, tenant by tenant.

mod components;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use tidegate_tests::{Client, Cluster, Node, Outcome, Plugin, Transport, eventually, http};

use crate::numbered::Numbered;

const GATEWAYS: usize = 2;
const WORKERS: usize = 3;

/// Two clients of each uid, one at each gateway.
struct Pairs(BTreeMap<String, [Client; GATEWAYS]>);

impl Pairs {
    /// Connects them and binds their uids.
    async fn connect(doors: [std::net::SocketAddrV4; GATEWAYS], uids: usize) -> Result<Self> {
        let mut pairs = BTreeMap::new();
        for number in 0..uids {
            let uid = format!("user-{number}");
            let mut pair = Vec::new();
            for door in doors {
                let mut client = Client::connect(Transport::Ws, door).await?;
                client.send(&format!("U:{uid}")).await?;
                // Its next event goes where the uid says.
                client.nothing_else().await?;
                pair.push(client);
            }
            let pair = pair.try_into().ok().context("one client at each gateway")?;
            pairs.insert(uid, pair);
        }
        Ok(Self(pairs))
    }

    /// The worker of each uid, which must be the same for both clients.
    async fn workers(&mut self) -> Result<BTreeMap<String, String>> {
        let mut workers = BTreeMap::new();
        for (uid, [one, other]) in &mut self.0 {
            let (here, there) = (one.worker().await?, other.worker().await?);
            ensure!(here == there, "{uid} is at {here} and at {there}");
            workers.insert(uid.clone(), here);
        }
        Ok(workers)
    }

    /// Waits until the workers of all uids are these in number, and gives them.
    async fn spread_over(&mut self, count: usize) -> Result<BTreeMap<String, String>> {
        eventually(&format!("clients are at {count} workers"), async || {
            let workers = self.workers().await?;
            let used: BTreeSet<&String> = workers.values().collect();
            Ok((used.len() == count).then_some(workers))
        })
        .await
    }
}

fn doors(cluster: &Cluster, tenant: &str) -> Result<[std::net::SocketAddrV4; GATEWAYS]> {
    Ok([
        cluster.gateway(0)?.door(tenant, Transport::Ws)?,
        cluster.gateway(1)?.door(tenant, Transport::Ws)?,
    ])
}

#[tokio::test]
async fn tenants_with_different_routers_share_gateways_and_workers() -> Outcome {
    let cluster = Cluster::apart(GATEWAYS, WORKERS)
        .other_plugin_file(&Plugin::Bench.path()?)
        .tenant("keyed", &[Transport::Ws])
        .tenant("free", &[Transport::Ws])
        .tenant("bound", &[Transport::Ws])
        .settings("[[tenant]]\nname = \"keyed\"\nrouter = \"hash\"")
        .settings("[[tenant]]\nname = \"free\"\nrouter = \"rand\"")
        .start()
        .await?;
    let mut keyed = Pairs::connect(doors(&cluster, "keyed")?, 12).await?;
    let before = keyed.spread_over(WORKERS).await?;
    for gateway in doors(&cluster, "free")? {
        let mut client = Client::connect(Transport::Ws, gateway).await?;
        let mut seen = BTreeSet::new();
        eventually("a client is served by every worker", async || {
            seen.insert(client.worker().await?);
            Ok((seen.len() == WORKERS).then_some(()))
        })
        .await?;
    }
    for gateway in doors(&cluster, "bound")? {
        let mut client = Client::connect(Transport::Ws, gateway).await?;
        let first = client.worker().await?;
        for uid in 0..20 {
            client.send(&format!("U:user-{uid}")).await?;
            let next = client.worker().await?;
            ensure!(next == first, "a client of {first} is at {next}");
        }
    }
    let after = keyed.workers().await?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}

#[tokio::test]
async fn under_hash_only_clients_of_a_killed_worker_move_and_nothing_is_lost() -> Outcome {
    let mut cluster = Cluster::apart(GATEWAYS, WORKERS)
        .gateway_flags(&["--router", "hash"])
        .start()
        .await?;
    let doors = [
        cluster.gateway(0)?.listener(Transport::Ws)?,
        cluster.gateway(1)?.listener(Transport::Ws)?,
    ];
    let mut pairs = Pairs::connect(doors, 16).await?;
    let before = pairs.spread_over(WORKERS).await?;
    let uid = |client, batch| (batch == 0).then(|| format!("U:load-{client}"));
    let mut run = Numbered::start_with(&cluster, 30, 3_000, uid).await?;
    run.reached(30).await?;
    let killed = "worker-1";
    cluster.worker_named(killed)?.kill().await?;
    let without = pairs.spread_over(WORKERS - 1).await?;
    for (uid, worker) in &before {
        let now = without.get(uid).context("a uid is gone")?;
        ensure!(
            if worker == killed {
                now != killed
            } else {
                now == worker
            },
            "{uid} of {worker} is at {now}, and {killed} was killed"
        );
    }
    run.reached(60).await?;
    cluster.worker_named(killed)?.start()?;
    let again = pairs.spread_over(WORKERS).await?;
    for (uid, worker) in &without {
        let now = again.get(uid).context("a uid is gone")?;
        ensure!(
            now == worker || now == killed,
            "{uid} of {worker} is at {now}, and {killed} came"
        );
    }
    run.finish().await
}

#[tokio::test]
async fn answers_stay_in_order_while_keys_change_and_a_worker_is_killed() -> Outcome {
    let mut cluster = Cluster::apart(GATEWAYS, WORKERS)
        .settings("[[tenant]]\nrouter = \"hash\"\nrouter-key = \"session:room\"")
        .start()
        .await?;
    let room = |client, batch| Some(format!("S:room:\"{client}-{batch}\""));
    let mut run = Numbered::start_with(&cluster, 30, 5_000, room).await?;
    // What is asked between says that lanes do move.
    let mut mover = cluster.ws(0).await?;
    let mut seen = BTreeSet::new();
    for number in 0..100 {
        mover.send(&format!("S:room:{number}")).await?;
        mover.send(&format!("S:k:{number}")).await?;
        mover.nothing_else().await?;
        seen.insert(mover.worker().await?);
        let kept = mover.ask("?:k").await?;
        ensure!(kept == number.to_string(), "{kept} was kept of {number}");
    }
    ensure!(seen.len() == WORKERS, "a hundred rooms were at {seen:?}");
    run.reached(40).await?;
    cluster.worker_named("worker-2")?.kill().await?;
    run.finish().await
}

/// Waits until the log of a gateway has a line with all of these words.
async fn logs(gateway: &Node, words: &[&str]) -> Outcome {
    eventually(&format!("the log says {words:?}"), async || {
        let log = gateway.process()?.log();
        let says = |line: &str| words.iter().all(|word| line.contains(word));
        Ok(log.lines().any(says).then_some(()))
    })
    .await
}

#[tokio::test]
async fn only_workers_with_the_tags_of_a_tenant_serve_it_and_until_one_comes_all_say_why() -> Outcome
{
    const WHY: &str =
        "workers run the tenant's plugin, but none has all of its worker-tags: gpu, eu";
    let mut cluster = Cluster::apart(1, 1)
        .other_plugin_file(&Plugin::Bench.path()?)
        .tenant("tagged", &[Transport::Ws])
        .settings("[[tenant]]\nname = \"tagged\"\nworker-tags = [\"gpu\", \"eu\"]")
        .settings("[gateway]\nlate-event-ms = 200")
        .worker_plugin_settings(0, "[worker]\ntags = [\"eu\", \"ssd\", \"gpu\"]\n")
        .worker_plugin_settings(1, "[worker]\ntags = [\"gpu\"]\n")
        .start()
        .await?;
    cluster.add_worker().await?;
    let lacks = ["a worker gets no events of a tenant", "worker-1", "tagged"];
    logs(cluster.gateway(0)?, &lacks).await?;
    let door = cluster.gateway(0)?.door("tagged", Transport::Ws)?;
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(Transport::Ws, door).await?;
        let worker = client.worker().await?;
        ensure!(worker == "worker-0", "{worker} serves without the tags");
        clients.push(client);
    }
    let api = cluster.gateway(0)?.api("tagged")?;
    let status = api.get("/v1/status").await?.ok()?;
    ensure!(status["unserved"].is_null(), "{status}");

    cluster.worker_named("worker-0")?.kill().await?;
    let admin = cluster.gateway(0)?.admin()?;
    eventually("the gateway is not ready and says why", async || {
        let ready = http::get(admin, "/readyz").await?;
        Ok((ready.status == 503 && ready.body.contains(WHY)).then_some(()))
    })
    .await?;
    for client in &mut clients {
        for number in 0..20 {
            client.send(&format!("E:{number}")).await?;
        }
    }
    let late = ["a tenant's oldest event is late", "no-worker", WHY];
    logs(cluster.gateway(0)?, &late).await?;
    let status = api.get("/v1/status").await?.ok()?;
    ensure!(status["unserved"] == WHY, "{status}");

    cluster.worker_named("worker-0")?.start()?;
    for client in &mut clients {
        for number in 0..20 {
            client.expect(&number.to_string()).await?;
        }
        let worker = client.worker().await?;
        ensure!(worker == "worker-0", "{worker} serves without the tags");
    }
    Ok(())
}
