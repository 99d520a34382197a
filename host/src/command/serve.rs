//! `tidegate serve`: register, gateway and worker in one process.
//!
//! The worker and the gateway hand each other values. The register and the gateway's port for
//! nodes are opened only when `register.listen` is given: then other nodes can join.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tidegate_api::Apart;
use tidegate_cluster::gateway::Gateway;
use tidegate_cluster::register::Register;
use tidegate_cluster::worker::Worker;
use tidegate_deploy::{Agent, Coordinator, Coordinators, DeployClient};
use tidegate_link::membership::{self, Membership};
use tidegate_link::net;
use tidegate_link::{Identity, pair};
use tidegate_watchdog::{vital, watched};
use tidegate_wire::event::Transport;
use tidegate_wire::membership::Role;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::gateway::{bind_lan, bind_listeners};
use crate::admin::Readiness;
use crate::api::{self, Api};
use crate::bridge::{Bridge, GatewayBridge};
use crate::config::Config;
use crate::deployables::Plugins;
use crate::tenants::codecs::Codecs;
use crate::{deploys, ending, operations, settings, tenants};

/// So long may registers take to hear that this node is gone.
const PART: Duration = Duration::from_secs(2);

/// Runs until `stop`.
///
/// # Errors
/// When it cannot start.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let kept = deploys::open(&config).await?;
    tenants::look_at_files(&config, &kept.store.desired()).await?;
    let readiness = operations::start(&config, &stop).await?;
    readiness.set("plugins", false, "the plugins are being loaded");
    let ended = CancellationToken::new();
    let limit = ending::limit(&config);
    let runtime = tenants::runtime(&config)?;
    let bridge = Bridge::new();
    let plugins = Plugins::new(&config, &runtime, &bridge)?;
    plugins.start(&kept.store.desired()).await?;
    let commands = tenants::commands::start(&config, Some(&runtime), &stop).await?;
    let codecs = tenants::codecs::start(&config, Some(&runtime), &stop).await?;
    // Nothing that others reach is opened for plugins that do not start.
    let bound = match Bound::open(&config, &readiness).await {
        Ok(bound) => bound,
        Err(error) => {
            end(&commands, &codecs, &plugins, &bridge, limit).await;
            return Err(error);
        }
    };
    let (announced, listeners) = (bound.announced, bound.listeners);
    let [gateway_identity, worker_identity, register_identity] = identities(&config, announced);
    let mut deploying = settings::deploy(&config);
    if bound.register.is_none() {
        // Nobody else can be on the way back.
        deploying.grace = Duration::ZERO;
    }
    let (node, store) = (register_identity.node.clone(), kept.store.clone());
    let coordinator = Coordinator::start(node, store, deploying, ended.clone());
    let agent = Agent::start(
        Coordinators::Here(coordinator.clone()),
        worker_identity.clone(),
        kept.store.clone(),
        Arc::new(plugins.clone()),
        deploying,
        stop.clone(),
    );
    let deploys = DeployClient::start(
        Coordinators::Here(coordinator.clone()),
        gateway_identity.clone(),
        kept.store.clone(),
        deploying,
        stop.clone(),
    );
    agent.settled().await;
    operations::ready_unless_it_lags(&readiness, agent.lags());
    readiness.set("plugins", true, "loaded");
    let register = bound
        .register
        .map(|listener| (listener, register_identity, coordinator));
    let membership = join(&config, register, &gateway_identity, &ended)?;
    let members = membership.members.clone();

    let own = codecs.settle(&config, settings::gateway(&config, announced));
    let gateway = Gateway::start_with(
        gateway_identity.clone(),
        own,
        Arc::clone(&commands) as _,
        Arc::clone(&commands) as _,
    )?;
    let worker = Worker::new(
        worker_identity.clone(),
        settings::worker(&config),
        Arc::clone(&bridge) as _,
    );
    operations::ready_as_gateway(&readiness, gateway.health(), None);
    readiness.set("start", true, "done");
    let (to_worker, to_gateway) = pair(
        gateway_identity.node,
        worker_identity.node,
        &settings::link(&config),
    );
    gateway.attach(to_worker);
    worker.attach(to_gateway);
    // In a cluster the worker serves the other gateways as well, until its own is done.
    let done = CancellationToken::new();
    let working = tokio::spawn({
        let (worker, members, done) = (worker.clone(), members.clone(), done.clone());
        async move { watched("the worker", worker.run(members, done)).await }
    });
    let behind = api::Behind {
        access: gateway.access(),
        deploys,
        announced,
        apart: Apart::never(),
    };
    let api = bound
        .api
        .map(|api| api.serve(behind, &readiness, stop.clone()));
    announce(&config, &listeners)?;

    gateway.run(listeners, bound.lan, members, stop).await;
    api::ended(api).await;
    worker.limit_drain(ending::left_of(limit));
    done.cancel();
    working.await.context("the worker's task")?;
    let within = ending::for_step(limit, PART);
    membership.leave_within(within).await;
    ended.cancel();
    end(&commands, &codecs, &plugins, &bridge, limit).await;
    Ok(())
}

/// Those of the gateway, the worker and the register of one process.
fn identities(config: &Config, announced: SocketAddrV4) -> [Identity; 3] {
    let (name, tags) = (config.gateway.name.clone(), &config.gateway.tags);
    let gateway = settings::identity(config, Role::Gateway, name, tags, Some(announced));
    let (name, tags) = (config.worker.name.clone(), &config.worker.tags);
    let worker = settings::identity(config, Role::Worker, name, tags, None);
    let register = settings::identity(config, Role::Register, "register".into(), &[], None);
    [gateway, worker, register]
}

/// Ends what runs for tenants.
async fn end(
    commands: &GatewayBridge,
    codecs: &Codecs,
    plugins: &Plugins,
    bridge: &Bridge,
    limit: Duration,
) {
    tenants::commands::stop(commands, limit).await;
    codecs.stop(limit).await;
    plugins.end();
    tenants::stop(bridge, limit).await;
}

/// What others reach.
struct Bound {
    register: Option<TcpListener>,
    lan: Option<TcpListener>,
    announced: SocketAddrV4,
    listeners: Vec<TcpListener>,
    api: Option<Api>,
}

impl Bound {
    async fn open(config: &Config, readiness: &Readiness) -> anyhow::Result<Self> {
        let (register, lan, announced) = if config.is_given("register.listen") {
            let register = net::bind(config.register.listen)
                .await
                .context("`register.listen`")?;
            let (lan, announced) = bind_lan(config).await?;
            (Some(register), Some(lan), announced)
        } else {
            (None, None, config.gateway.lan)
        };
        let listeners = bind_listeners(config, readiness).await?;
        let api = Api::bind(config, readiness).await?;
        Ok(Self {
            register,
            lan,
            announced,
            listeners,
            api,
        })
    }
}

/// With a register this process is a member like any other; without one it is alone.
fn join(
    config: &Config,
    register: Option<(TcpListener, Identity, Coordinator)>,
    gateway: &Identity,
    ended: &CancellationToken,
) -> anyhow::Result<Membership> {
    let Some((register, identity, coordinator)) = register else {
        // Nobody is to be dialled: worker and gateway have their link.
        return Ok(membership::fixed(Vec::new()));
    };
    let address = register.local_addr()?;
    tracing::info!(%address, "register listens");
    let serve = Register::run_with(
        register,
        identity,
        settings::register(config),
        coordinator,
        ended.clone(),
    );
    tokio::spawn(vital("the register", ended.clone(), serve));
    Ok(membership::join(
        vec![address.to_string()],
        gateway.clone(),
        settings::membership(config),
        ended.clone(),
    ))
}

/// Tells a person where to go. Nothing waits for standard output, which may be a pipe that nobody
/// reads or whose reader is gone.
fn announce(config: &Config, listeners: &[TcpListener]) -> anyhow::Result<()> {
    use std::fmt::Write;
    let mut out = String::new();
    for (it, listener) in config.listeners.iter().zip(listeners) {
        let address = listener.local_addr()?;
        let scheme = it.listen.scheme();
        if it.listen.transport == Transport::WebSocket && it.static_dir.is_some() {
            writeln!(out, "open http://{address}/")?;
        } else {
            writeln!(out, "serving {scheme}://{address}")?;
        }
    }
    let say = move || {
        use std::io::Write;
        let _ = std::io::stdout().write_all(out.as_bytes());
    };
    std::thread::Builder::new()
        .name("announce".to_owned())
        .spawn(say)
        .context("the thread that says where to go")?;
    Ok(())
}
