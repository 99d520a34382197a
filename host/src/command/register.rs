//! `tidegate register`: tells gateways and workers about each other.

use anyhow::Context;
use tidegate_cluster::register::Register;
use tidegate_deploy::Coordinator;
use tidegate_link::net;
use tidegate_wire::membership::Role;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::{deploys, operations, settings};

/// Runs until `stop`.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let kept = deploys::open(&config).await?;
    let readiness = operations::start(&config, &stop).await?;
    let listener = net::bind(config.register.listen)
        .await
        .context("`register.listen`")?;
    let address = listener.local_addr()?;
    let name = format!("register-{address}");
    let identity = settings::identity(&config, Role::Register, name.into(), &[], None);
    let coordinator = Coordinator::start(
        identity.node.clone(),
        kept.store.clone(),
        settings::deploy(&config),
        stop.clone(),
    );
    operations::ready_while_writable(&readiness, kept.store.clone(), stop.clone());
    tracing::info!(%address, "register listens");
    readiness.set("listening", true, address.to_string());
    readiness.set("start", true, "done");
    let settings = settings::register(&config);
    Register::run_with(listener, identity, settings, coordinator, stop).await;
    Ok(())
}
