//! From the configuration to the settings of the services.

use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_cluster::gateway::settings::{
    self as gateway, GatewaySettings, ListenerSettings, SignInPolicy,
};
use tidegate_cluster::register::RegisterSettings;
use tidegate_cluster::worker::WorkerSettings;
use tidegate_deploy::DeploySettings;
use tidegate_hub::hub::HubLimits;
use tidegate_hub::outbound;
use tidegate_hub::routing::{self, Routing, RoutingKey, Routings};
use tidegate_link::membership::MembershipSettings;
use tidegate_link::net::{HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX};
use tidegate_link::{Identity, LinkSettings, Secret};
use tidegate_schedule::timetable::Timetable;
use tidegate_wire::Name;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};

use crate::config::{
    Choice, Config, Listener, Missed, Newlines, NoWorker, QueuePolicy, Router, RouterKey, Schedule,
    SignIn, Tenant,
};
use crate::ending;
use crate::tenants::cores;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One life of one service of this process.
#[must_use]
pub fn identity(
    config: &Config,
    role: Role,
    name: Name,
    tags: &[Name],
    address: Option<SocketAddrV4>,
) -> Identity {
    let node = Node {
        role,
        incarnation: Incarnation(rand::random()),
        address,
        name,
        tags: tags.to_vec(),
    };
    Identity {
        node,
        secret: Secret::new(config.secret.expose()).or_also(config.also_secret.expose()),
        net: tidegate_link::net::stream::tcp(),
    }
}

/// Links between nodes.
#[must_use]
pub const fn link(config: &Config) -> LinkSettings {
    LinkSettings {
        heartbeat: ms(config.link.heartbeat_ms),
        lease: ms(config.link.lease_ms),
        handshake: ms(config.link.handshake_timeout_ms),
        queue_bytes_max: config.link.queue_bytes_max,
    }
}

/// A node's place in the cluster.
#[must_use]
pub const fn membership(config: &Config) -> MembershipSettings {
    MembershipSettings {
        link: link(config),
        lease: ms(config.register.lease_ms),
        reconnect_min: ms(config.link.reconnect_ms_min),
        reconnect_max: ms(config.link.reconnect_ms_max),
    }
}

/// Deploys, at any node.
#[must_use]
pub fn deploy(config: &Config) -> DeploySettings {
    DeploySettings {
        link: link(config),
        reconnect_min: ms(config.link.reconnect_ms_min),
        reconnect_max: ms(config.link.reconnect_ms_max),
        grace: ms(config.register.grace_ms),
        ..DeploySettings::default()
    }
}

/// A register.
#[must_use]
pub fn register(config: &Config) -> RegisterSettings {
    RegisterSettings {
        lease_max: ms(config.register.lease_ms),
        grace: ms(config.register.grace_ms),
        nodes_max: u32::try_from(config.register.nodes_max).unwrap_or(u32::MAX),
        link: LinkSettings {
            handshake: ms(config.register.handshake_timeout_ms),
            ..link(config)
        },
    }
}

/// A worker.
#[must_use]
pub fn worker(config: &Config) -> WorkerSettings {
    WorkerSettings {
        window_events: config.worker.window_events,
        window_bytes: config.worker.window_bytes,
        load_interval: ms(config.link.heartbeat_ms),
        reconnect_min: ms(config.link.reconnect_ms_min),
        reconnect_max: ms(config.link.reconnect_ms_max),
        shutdown: ending::for_work(ms(config.worker.shutdown_ms)),
        link: link(config),
    }
}

/// A gateway that is announced as `announced`.
#[must_use]
pub fn gateway(config: &Config, announced: SocketAddrV4) -> GatewaySettings {
    let it = &config.gateway;
    let shards = if it.shards > 0 { it.shards } else { cores() };
    GatewaySettings {
        announced,
        shards: u16::try_from(shards).unwrap_or(u16::MAX),
        routings: routings(config),
        no_worker: match it.no_worker {
            NoWorker::Hold => gateway::NoWorker::Hold,
            NoWorker::Drop => gateway::NoWorker::Drop,
            NoWorker::Close => gateway::NoWorker::Close,
        },
        hold_bytes_max: it.hold_bytes_max,
        pending_bytes_max: it.pending_bytes_max,
        timer_bytes_max: it.timer_bytes_max,
        task_bytes_max: it.task_bytes_max,
        tasks_under_way_max: it.tasks_under_way_max,
        clients_bytes_max: it.clients_bytes_max,
        forward_bytes_max: it.forward_bytes_max,
        connections_max: it.connections_max,
        handshakes_max: HANDSHAKES_MAX,
        close: ms(it.close_ms),
        handshakes_per_address_max: HANDSHAKES_PER_ADDRESS_MAX,
        shutdown: ending::for_work(ms(it.shutdown_ms)),
        reconnect: (
            ms(config.link.reconnect_ms_min),
            ms(config.link.reconnect_ms_max),
        ),
        late_event: ms(it.late_event_ms),
        second_custodian: it.second_custodian,
        hub: HubLimits {
            groups_per_client_max: it.groups_per_client_max,
            session_bytes_max: it.session_bytes_max,
        },
        link: link(config),
        listeners: config.listeners.iter().map(listener).collect(),
        schedules: config.schedules.iter().filter_map(schedule).collect(),
        schedules_file: schedules_file(config),
    }
}

/// None if it has no timetable, which the check of the configuration has refused.
fn schedule(it: &Schedule) -> Option<tidegate_schedule::Schedule> {
    Some(tidegate_schedule::Schedule {
        tenant: it.tenant.clone(),
        name: it.name.clone()?,
        timetable: Timetable::new(it.cron.as_str(), it.time_zone.as_str()).ok()?,
        payload: it.payload.clone(),
        missed: match it.missed {
            Missed::Skip => tidegate_schedule::Missed::Skip,
            Missed::Once => tidegate_schedule::Missed::Once,
            Missed::All => tidegate_schedule::Missed::All,
        },
        late_s: it.late_seconds,
    })
}

/// Beside what is kept of deploys.
fn schedules_file(config: &Config) -> Option<PathBuf> {
    let folder = config.deploy.state_dir.as_ref()?;
    (!config.schedules.is_empty()).then(|| folder.join("schedules.json"))
}

/// How the events of each tenant find their workers.
fn routings(config: &Config) -> Routings {
    let named = config.tenants.iter();
    let named = named.map(|it| (it.name.clone(), routing(config, it)));
    let mut routings = Routings {
        others: routing(config, &Tenant::default()),
        named: named.collect(),
    };
    for router in &config.routers {
        let others = routings.of(&router.tenant).clone();
        let own = Routing {
            // What it is passed over for.
            router: match config.gateway.choice {
                Choice::Load => routing::Router::Bind,
                Choice::Random => routing::Router::BindRandom,
            },
            key: None,
            worker_tags: others.worker_tags,
            component: Some(router.session_keys.clone()),
        };
        routings.named.retain(|(name, _)| *name != router.tenant);
        routings.named.push((router.tenant.clone(), own));
    }
    routings
}

fn routing(config: &Config, tenant: &Tenant) -> Routing {
    let router = tenant.router.unwrap_or(config.gateway.router);
    Routing {
        router: match (router, config.gateway.choice) {
            (Router::Bind | Router::Hash, Choice::Load) => routing::Router::Bind,
            (Router::Bind | Router::Hash, Choice::Random) => routing::Router::BindRandom,
            (Router::Rand, _) => routing::Router::Rand,
        },
        key: (router == Router::Hash).then(|| match &tenant.router_key {
            RouterKey::Uid => RoutingKey::Uid,
            RouterKey::Session(key) => RoutingKey::Session(key.clone()),
        }),
        worker_tags: tenant.worker_tags.clone(),
        component: None,
    }
}

fn listener(it: &Listener) -> ListenerSettings {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    ListenerSettings {
        name: it.label(),
        tenant: it.tenant.clone(),
        address: it.listen.address,
        transport: it.listen.transport,
        static_folder: it.static_dir.clone(),
        health_path: filled(&it.health_path),
        path: it.path.clone(),
        origins: it.origins.clone(),
        subprotocols: it.subprotocols.clone(),
        ping_interval: ms(it.ping_interval_ms),
        ping_not_response_limit: u16::try_from(it.ping_not_response_limit).unwrap_or(u16::MAX),
        ping_data: filled(&it.ping_data),
        web_socket_ping: it.websocket_ping,
        pong_counts: it.pong_counts,
        message_bytes_max: it.message_bytes_max,
        handshake: ms(it.handshake_ms),
        handshakes_per_address_max: it.handshakes_per_address_max,
        handshake_bytes_max: it.handshake_bytes_max,
        connections_max: it.connections_max.unwrap_or(usize::MAX),
        queue_bytes_max: it.queue_bytes_max,
        sign_in: match it.sign_in {
            SignIn::Off => SignInPolicy::Off,
            SignIn::Reject => SignInPolicy::Reject,
            SignIn::Accept => SignInPolicy::Accept,
        },
        sign_in_time: ms(it.sign_in_ms),
        http_body_bytes_max: it.http_body_bytes_max,
        http_time: ms(it.http_ms),
        http_requests_max: it.http_requests_max,
        queue_policy: match it.queue_policy {
            QueuePolicy::Close => outbound::QueuePolicy::Close,
            QueuePolicy::DropNew => outbound::QueuePolicy::DropNew,
            QueuePolicy::DropOld => outbound::QueuePolicy::DropOld,
        },
        newlines: match it.newlines {
            Newlines::Refuse => outbound::Newlines::Refuse,
            Newlines::Split => outbound::Newlines::Split,
            Newlines::Escape => outbound::Newlines::Escape,
        },
        // `tenants::codecs` has what runs.
        codec: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, Purpose};

    #[test]
    fn the_defaults_of_services_are_those_of_the_configuration() {
        let nothing = Overrides {
            purpose: Purpose::Check,
            flags: Vec::new(),
        };
        let config = Config::load(None, std::iter::empty(), &nothing).unwrap();
        let announced = config.gateway.lan;
        let own = GatewaySettings::new(announced);
        let theirs = GatewaySettings {
            // A part of it is kept for parting.
            shutdown: own.shutdown,
            ..gateway(&config, announced)
        };
        assert_eq!(format!("{theirs:?}"), format!("{own:?}"));
        let it = Listener::default();
        let own = ListenerSettings::new(
            &it.label(),
            it.tenant.clone(),
            it.listen.address,
            it.listen.transport,
        );
        let theirs = ListenerSettings {
            health_path: None,
            ping_interval: own.ping_interval,
            ping_not_response_limit: own.ping_not_response_limit,
            web_socket_ping: own.web_socket_ping,
            ..listener(&it)
        };
        assert_eq!(format!("{theirs:?}"), format!("{own:?}"));
    }
}
