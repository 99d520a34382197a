//! `tidegate gateway`: owns client connections.

use std::net::{SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_cluster::gateway::Gateway;
use tidegate_deploy::DeployClient;
use tidegate_link::{membership, net};
use tidegate_wire::hello::Refusal;
use tidegate_wire::membership::Role;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::api::{self, Api};
use crate::config::{Authority, Config};
use crate::{deploys, ending, operations, settings, tenants};

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
    readiness.set("commands", false, "the command components are being loaded");
    let commands = tenants::commands::start(&config, None, &stop).await?;
    readiness.set("commands", true, "loaded");
    readiness.set("codecs", false, "the codecs are being loaded");
    let codecs = tenants::codecs::start(&config, None, &stop).await?;
    readiness.set("codecs", true, "loaded");
    let (lan, announced) = bind_lan(&config).await?;
    let listeners = bind_listeners(&config, &readiness).await?;
    let api = Api::bind(&config, &readiness).await?;

    let it = &config.gateway;
    let (name, tags) = (it.name.clone(), &it.tags);
    let identity = settings::identity(&config, Role::Gateway, name, tags, Some(announced));
    tracing::info!(%announced, incarnation = %identity.node.incarnation, "gateway");
    let registers = it.registers.iter().map(Authority::to_string).collect();
    let deploys = DeployClient::start(
        deploys::coordinators(&it.registers),
        identity.clone(),
        kept.store.clone(),
        settings::deploy(&config),
        stop.clone(),
    );
    // The membership outlives `stop`: others must reach this gateway until its clients are told.
    let ended = CancellationToken::new();
    let membership = membership::join(
        registers,
        identity.clone(),
        settings::membership(&config),
        ended.clone(),
    );
    let gateway = Gateway::start_with(
        identity,
        codecs.settle(&config, settings::gateway(&config, announced)),
        Arc::clone(&commands) as _,
        Arc::clone(&commands) as _,
    )?;
    operations::ready_as_gateway(
        &readiness,
        gateway.health(),
        Some(membership.joined.clone()),
    );
    readiness.set("start", true, "done");

    let ending = stop.child_token();
    let behind = api::Behind {
        access: gateway.access(),
        deploys,
        announced,
        apart: operations::apart_until_joined(membership.joined.clone()),
    };
    let api = api.map(|api| api.serve(behind, &readiness, ending.clone()));
    let serve = gateway.run(
        listeners,
        Some(lan),
        membership.members.clone(),
        ending.clone(),
    );
    tokio::pin!(serve);
    let mut refused = membership.refused.clone();
    let mut failure = None;
    tokio::select! {
        () = &mut serve => failure = gateway.is_lost().then_some(Refusal::Lost),
        lost = refused.wait_for(|refused| *refused == Some(Refusal::Lost)) => {
            // The reference into the channel must not live on.
            if lost.map(drop).is_ok() {
                failure = Some(Refusal::Lost);
            }
            // Its clients are closed before it may join again.
            gateway.lose();
            ending.cancel();
            serve.await;
        }
    }
    // Also when the gateway has ended by itself.
    ending.cancel();
    api::ended(api).await;
    let within = ending::for_step(ending::limit(&config), PART);
    membership.leave_within(within).await;
    ended.cancel();
    tenants::commands::stop(&commands, ending::limit(&config)).await;
    codecs.stop(ending::limit(&config)).await;
    failure.map_or(Ok(()), |refusal| Err(refusal.into()))
}

/// The listener for nodes, and what is announced: with port 0 the port that was bound.
pub(crate) async fn bind_lan(config: &Config) -> anyhow::Result<(TcpListener, SocketAddrV4)> {
    let mut announced = config.gateway.lan;
    let (address, key) = match config.gateway.lan_bind {
        Some(address) => (address, "`gateway.lan-bind`"),
        None => (SocketAddr::V4(announced), "`gateway.lan`"),
    };
    let lan = net::bind(address).await.context(key)?;
    if announced.port() == 0 {
        announced.set_port(lan.local_addr()?.port());
    }
    Ok((lan, announced))
}

/// The listeners for clients, all of them or an error.
pub(crate) async fn bind_listeners(
    config: &Config,
    readiness: &Readiness,
) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for it in &config.listeners {
        let listener = net::bind(it.listen.address)
            .await
            .with_context(|| format!("the listener {}", it.listen))?;
        let address = listener.local_addr()?;
        tracing::info!(listener = %it.label(), %address, tenant = %it.tenant, "listening");
        listeners.push(listener);
    }
    readiness.set("listening", true, format!("{} listeners", listeners.len()));
    Ok(listeners)
}
