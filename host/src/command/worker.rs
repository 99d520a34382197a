//! `tidegate worker`: runs plugins for the gateways of a cluster.

use std::sync::Arc;
use std::time::Duration;

use tidegate_cluster::worker::Worker;
use tidegate_deploy::Agent;
use tidegate_link::membership;
use tidegate_wire::hello::Refusal;
use tidegate_wire::membership::Role;
use tokio_util::sync::CancellationToken;

use crate::bridge::Bridge;
use crate::config::{Authority, Config};
use crate::deployables::Plugins;
use crate::{deploys, ending, operations, settings, tenants};

/// How long a worker waits at its start to hear from a register what the cluster runs, before it
/// begins with its own files.
const HEARD: Duration = Duration::from_secs(5);

/// So long may registers take to hear that this node is gone.
const PART: Duration = Duration::from_secs(2);

/// Runs until `stop`.
///
/// # Errors
/// When it cannot start, or when the registers will not have it again.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let kept = deploys::open(&config).await?;
    tenants::look_at_files(&config, &kept.store.desired()).await?;
    let readiness = operations::start(&config, &stop).await?;
    readiness.set("plugins", false, "the plugins are being loaded");
    let runtime = tenants::runtime(&config)?;
    let bridge = Bridge::new();
    let plugins = Plugins::new(&config, &runtime, &bridge)?;

    let it = &config.worker;
    let identity = settings::identity(&config, Role::Worker, it.name.clone(), &it.tags, None);
    let agent = Agent::start(
        deploys::coordinators(&it.registers),
        identity.clone(),
        kept.store.clone(),
        Arc::new(plugins.clone()),
        settings::deploy(&config),
        stop.clone(),
    );
    agent.heard(HEARD).await;
    plugins.start(&kept.store.desired()).await?;
    agent.changed().await;
    agent.settled().await;
    readiness.set("plugins", true, "loaded");
    let registers = it.registers.iter().map(Authority::to_string).collect();
    // The membership outlives `stop`: the worker is a member until it has given its lanes away.
    let ended = CancellationToken::new();
    let membership = membership::join(
        registers,
        identity.clone(),
        settings::membership(&config),
        ended.clone(),
    );
    let worker = Worker::new(
        identity,
        settings::worker(&config),
        Arc::clone(&bridge) as _,
    );
    operations::ready_as_worker(
        &readiness,
        worker.links(),
        agent.lags(),
        Some(membership.joined.clone()),
    );
    readiness.set("start", true, "done");

    let mut refused = membership.refused.clone();
    let serve = worker.run(membership.members.clone(), stop);
    let lost = refused.wait_for(|refused| *refused == Some(Refusal::Lost));
    tokio::select! {
        () = serve => {}
        // The reference into the channel must not live on.
        lost = lost => if lost.map(drop).is_ok() {
            anyhow::bail!("{}", Refusal::Lost);
        },
    }
    let within = ending::for_step(ending::limit(&config), PART);
    membership.leave_within(within).await;
    ended.cancel();
    plugins.end();
    tenants::stop(&bridge, ending::limit(&config)).await;
    Ok(())
}
