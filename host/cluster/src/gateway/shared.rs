//! What all shards of a gateway share, and what they send each other. Knows none of the rooms that
//! use it.

pub(in crate::gateway) mod announced;
pub(in crate::gateway) mod gather;
pub(in crate::gateway) mod inbox;
pub(in crate::gateway) mod life;
pub(in crate::gateway) mod metrics;
pub(in crate::gateway) mod named;
pub(in crate::gateway) mod queue;
pub(in crate::gateway) mod request;
pub(in crate::gateway) mod slowness;
pub(in crate::gateway) mod socket;
pub(in crate::gateway) mod tick;
pub(in crate::gateway) mod watcher;
pub(in crate::gateway) mod worker_link;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tidegate_hub::closes::Closes;
use tidegate_hub::routing::{Routing, Standing};
use tidegate_hub::streams::Received;
use tidegate_hub::tenants::Tenants;
use tidegate_link::Identity;
use tidegate_link::net::admission::{AdmissionLimits, Admissions};
use tidegate_wire::Name;
use tidegate_wire::id::Incarnation;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::settings::GatewaySettings;
use announced::Announced;
use inbox::{Inbox, Parcel};
use named::Named;
use slowness::Slowness;

/// How many of one gateway are answered at a time.
pub(in crate::gateway) const ANSWERS_MAX: usize = 16;

/// What all shards of a gateway share. Nothing here is on the way of a message.
pub(in crate::gateway) struct Context {
    pub(in crate::gateway) settings: GatewaySettings,
    pub(in crate::gateway) identity: Identity,
    /// The tenants of the listeners; a shard has one hub for each.
    pub(in crate::gateway) tenants: Tenants,
    /// How the events of each of them find their workers, by its number.
    routings: Vec<Routing>,
    pub(in crate::gateway) inboxes: Vec<Inbox>,
    pub(in crate::gateway) statuses: Vec<Status>,
    pub(in crate::gateway) received: Mutex<Received>,
    pub(in crate::gateway) closes: Closes<Name>,
    /// This life was declared lost.
    pub(in crate::gateway) lost: CancellationToken,
    /// Of whoever started the gateway: what is not a shard's own work runs there.
    pub(in crate::gateway) runtime: Handle,
    /// A shard is nearer to its end than before. Told once somebody waits for that.
    pub(in crate::gateway) nearer_the_end: Notify,
    /// The gateway has been told to end.
    pub(in crate::gateway) ending: AtomicBool,
    /// The shards have ended: nobody is waited for.
    pub(in crate::gateway) ended: CancellationToken,
    pub(in crate::gateway) waiting_named: Named,
    pub(in crate::gateway) late_named: Named,
    pub(in crate::gateway) slowness: Slowness,
    pub(in crate::gateway) next_worker: AtomicU32,
    /// Nodes that have connected and are not yet authenticated.
    pub(in crate::gateway) nodes: Admissions,
    /// Connections of each listener, over all shards.
    pub(in crate::gateway) connections: Vec<AtomicUsize>,
    /// Requests by HTTP of each listener that wait for their handler's answer, over all shards.
    pub(in crate::gateway) http_requests: Vec<AtomicUsize>,
    /// Those of them whose handshake is not over, of each listener.
    pub(in crate::gateway) strangers: Vec<Admissions>,
    /// The workers that have said what they serve.
    pub(in crate::gateway) announced: Announced,
    /// Places for clients that are told that there is no room for them.
    pub(in crate::gateway) answers: Arc<Semaphore>,
}

impl Context {
    /// Of a gateway that has just started.
    ///
    /// # Errors
    /// Outside a runtime.
    pub(in crate::gateway) fn new(
        identity: Identity,
        settings: GatewaySettings,
    ) -> io::Result<Arc<Self>> {
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let tenants = settings.listeners.iter().map(|l| l.tenant.clone());
        let tenants = Tenants::new(tenants.collect());
        let shards = usize::from(settings.shards.max(1));
        let number = tenants.count();
        let routings = tenants.all().map(|name| settings.routings.of(name).clone());
        let routings = routings.collect();
        let slowness = Slowness::new(&tenants, shards);
        let none_of_each = || {
            let listeners = settings.listeners.iter();
            listeners.map(|_| AtomicUsize::new(0)).collect()
        };
        Ok(Arc::new(Self {
            identity,
            tenants,
            routings,
            inboxes: (0..shards).map(|_| Inbox::default()).collect(),
            statuses: (0..shards).map(|_| Status::default()).collect(),
            received: Mutex::default(),
            closes: Closes::new(number),
            lost: CancellationToken::new(),
            runtime,
            nearer_the_end: Notify::new(),
            ending: AtomicBool::new(false),
            ended: CancellationToken::new(),
            waiting_named: Named::default(),
            late_named: Named::default(),
            slowness,
            next_worker: AtomicU32::new(0),
            nodes: Admissions::new(AdmissionLimits {
                connections_max: settings.handshakes_max,
                strangers_per_address_max: settings.handshakes_per_address_max,
                idle_per_address_max: 0,
            }),
            connections: none_of_each(),
            http_requests: none_of_each(),
            strangers: settings
                .listeners
                .iter()
                .map(|listener| {
                    Admissions::new(AdmissionLimits {
                        connections_max: listener.connections_max,
                        strangers_per_address_max: listener.handshakes_per_address_max,
                        idle_per_address_max: listener.handshakes_per_address_max,
                    })
                })
                .collect(),
            announced: Announced::default(),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            settings: GatewaySettings {
                shards: settings.shards.max(1),
                ..settings
            },
        }))
    }

    /// What a worker with these tags that runs these is to each tenant.
    pub(in crate::gateway) fn standings(&self, runs: &[bool], tags: &[Name]) -> Vec<Standing> {
        let routings = self.routings.iter().zip(runs);
        let standings = routings.map(|(routing, runs)| routing.standing(*runs, tags));
        standings.collect()
    }

    /// Why no worker gets the events of a tenant, if none does: a part of a sentence.
    pub(in crate::gateway) fn unserved(&self, tenant: u16) -> Option<String> {
        match self.announced.standing(tenant) {
            Standing::Serves => None,
            Standing::RunsNothing => Some("no worker serves the tenant".to_owned()),
            Standing::LacksTags => Some(format!(
                "workers run the tenant's plugin, but none has all of its worker-tags: {}",
                self.routing(tenant).worker_tags.join(", ")
            )),
        }
    }

    /// What of the tenant's listeners here fails for a reason of its own: sentences.
    pub(in crate::gateway) fn failing(&self, tenant: &Name) -> Vec<String> {
        let own = self.settings.listeners.iter();
        let codecs = own.filter(|it| it.tenant == *tenant);
        let mut failing: Vec<String> = codecs
            .filter_map(|listener| {
                let codec = listener.codec.as_ref()?;
                let trouble = codec.codec.trouble()?;
                Some(format!("the codec {}: {trouble}", codec.name))
            })
            .collect();
        // Listeners may share a codec.
        failing.sort();
        failing.dedup();
        failing
    }

    /// How the events of a tenant find their workers.
    pub(in crate::gateway) fn routing(&self, tenant: u16) -> &Routing {
        let known = self.routings.get(usize::from(tenant));
        known.unwrap_or(&self.settings.routings.others)
    }

    pub(in crate::gateway) fn incarnation(&self) -> Incarnation {
        self.identity.node.incarnation
    }

    /// A shard has done something for which its end may wait.
    pub(in crate::gateway) fn tell_nearer_the_end(&self) {
        if self.ending.load(Ordering::Acquire) {
            self.nearer_the_end.notify_one();
        }
    }

    /// The shard of a connection number.
    pub(in crate::gateway) fn shard_of(&self, connection: u32) -> usize {
        (connection & self.shard_mask()) as usize
    }

    /// The low bits of a connection number that hold the shard.
    pub(in crate::gateway) fn shard_mask(&self) -> u32 {
        u32::from(self.settings.shards).next_power_of_two() - 1
    }

    /// This life was declared lost.
    pub(in crate::gateway) fn lose(&self) {
        self.lost.cancel();
        self.all(|| Parcel::Lost);
    }

    pub(in crate::gateway) fn all(&self, parcel: impl Fn() -> Parcel) {
        for inbox in &self.inboxes {
            inbox.push(parcel());
        }
    }
}

/// What a shard tells about itself after each turn.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Status {
    /// How often it was told to end, and did what that says.
    pub(in crate::gateway) told: AtomicUsize,
    /// Clients whose close is not yet committed.
    pub(in crate::gateway) lanes: AtomicUsize,
    /// Clients whose custodians are not all known to know them.
    pub(in crate::gateway) unguarded: AtomicUsize,
    /// Events that wait or are under way, beside tasks.
    pub(in crate::gateway) events: AtomicUsize,
    /// Tasks that have begun.
    pub(in crate::gateway) tasks: AtomicUsize,
    /// Other gateways that have not acknowledged everything.
    pub(in crate::gateway) forwards: AtomicUsize,
    /// Watchers that are told.
    pub(in crate::gateway) watchers: AtomicUsize,
    /// What clients make it keep, in bytes.
    pub(in crate::gateway) kept: AtomicUsize,
    /// Clients whose connection is not over, those too that are ending.
    pub(in crate::gateway) sockets: AtomicUsize,
}
