//! Joins cluster and runtime: events of the worker's links go to the tenants' deployments, commits
//! and sessions the other way; commands of a gateway go to the tenants' command components, with
//! the hub beside which they run. The only place that knows both.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::Arc;

use tidegate_cluster::gateway::commands::{self, Commands, LocalHub};
use tidegate_cluster::worker::{Handlers, Lane};
use tidegate_runtime::{
    Asking, Boxed, CommandCall, CommandDeployment, CommandResult, Deployment, EventContext,
    HubAccess, Job,
};
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Outcome};
use tidegate_wire::event::Delivery;
use tidegate_wire::frame::Serving;
use tidegate_wire::query::{Answer, Answered, AskError, CommandError, Query};
use tidegate_wire::session::Session;
use tokio::sync::watch;

/// The deployments of one worker as what runs its handlers.
pub struct Bridge {
    deployments: BTreeMap<Name, Deployment>,
    serving: watch::Sender<Arc<Vec<Serving>>>,
}

impl Bridge {
    /// Joins these deployments, and follows their versions as long as they live.
    #[must_use]
    pub fn new(deployments: BTreeMap<Name, Deployment>) -> Arc<Self> {
        let versions: Vec<_> = deployments
            .iter()
            .map(|(tenant, it)| (tenant.clone(), it.version()))
            .collect();
        let serving = watch::Sender::new(Arc::new(serving(&versions)));
        let bridge = Arc::new(Self {
            deployments,
            serving,
        });
        for (tenant, version) in versions {
            tokio::spawn(follow(tenant, version, Arc::downgrade(&bridge)));
        }
        bridge
    }

    /// The deployments.
    pub fn deployments(&self) -> impl Iterator<Item = &Deployment> {
        self.deployments.values()
    }
}

fn serving(versions: &[(Name, watch::Receiver<Name>)]) -> Vec<Serving> {
    let one = |(tenant, version): &(Name, watch::Receiver<Name>)| Serving {
        tenant: tenant.clone(),
        version: version.borrow().clone(),
    };
    versions.iter().map(one).collect()
}

async fn follow(tenant: Name, mut version: watch::Receiver<Name>, bridge: std::sync::Weak<Bridge>) {
    while version.changed().await.is_ok() {
        let Some(bridge) = bridge.upgrade() else {
            return;
        };
        let now = version.borrow_and_update().clone();
        bridge.serving.send_modify(|serving| {
            let mut changed = Vec::clone(serving);
            for entry in changed.iter_mut().filter(|entry| entry.tenant == tenant) {
                entry.version = now.clone();
            }
            *serving = Arc::new(changed);
        });
    }
}

impl Handlers for Bridge {
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>> {
        self.serving.subscribe()
    }

    fn dispatch(&self, tenant: &Name, delivery: Delivery, lane: Arc<Lane>) {
        match self.deployments.get(tenant) {
            Some(deployment) => {
                deployment.dispatch(Job {
                    delivery,
                    context: Arc::new(Context(lane)),
                });
            }
            // Only announced tenants get here; a gateway that errs gets its event back.
            None => lane.commit(Commit {
                event: delivery.event,
                attempt: delivery.attempt,
                client: delivery.client,
                outcome: Outcome::Returned,
                effects: Vec::new(),
                reply: None,
            }),
        }
    }

    fn queued_bytes(&self) -> u64 {
        self.deployments
            .values()
            .map(Deployment::queued_bytes)
            .sum()
    }
}

/// A lane, as the runtime sees it.
struct Context(Arc<Lane>);

impl EventContext for Context {
    fn session(&self) -> Arc<Session> {
        self.0.session()
    }

    fn commit(&self, commit: Commit) {
        self.0.commit(commit);
    }

    fn ask(&self, asking: Asking) -> Boxed<Result<Answered, AskError>> {
        let lane = Arc::clone(&self.0);
        Box::pin(lane.ask(
            asking.event,
            asking.attempt,
            asking.effects,
            asking.query,
            asking.within,
        ))
    }
}

/// The command components of one gateway as what runs its commands.
pub struct CommandBridge {
    deployments: BTreeMap<Name, CommandDeployment>,
}

impl CommandBridge {
    /// Joins these deployments; without any, no tenant has commands.
    #[must_use]
    pub fn new(deployments: BTreeMap<Name, CommandDeployment>) -> Arc<Self> {
        Arc::new(Self { deployments })
    }

    /// The deployments.
    pub fn deployments(&self) -> impl Iterator<Item = &CommandDeployment> {
        self.deployments.values()
    }
}

impl Commands for CommandBridge {
    fn execute(&self, call: commands::CommandCall, hub: Box<dyn LocalHub>) -> Boxed<CommandResult> {
        let Some(deployment) = self.deployments.get(&call.tenant) else {
            return Box::pin(std::future::ready(Err(CommandError::Absent)));
        };
        let own = CommandCall {
            name: call.name,
            payload: call.payload,
            within: call.within,
        };
        deployment.execute(own, Arc::new(Hub(hub)))
    }
}

/// A gateway's hub, as the runtime sees it.
struct Hub(Box<dyn LocalHub>);

impl HubAccess for Hub {
    fn address(&self) -> SocketAddrV4 {
        self.0.address()
    }

    fn ask(&self, query: Query) -> Boxed<Result<Answer, AskError>> {
        self.0.ask(query)
    }
}
