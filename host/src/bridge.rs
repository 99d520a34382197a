//! Joins cluster and runtime: events of the worker's links go to the tenants' deployments, commits
//! and sessions the other way; commands of a gateway go to the tenants' command components, with
//! the hub beside which they run, bytes of its listeners to their codecs, and events that want a worker
//! to their routers. The only place that
//! knows both.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use tidegate_cluster::gateway::codecs;
use tidegate_cluster::gateway::commands::{self, Commands, LocalHub};
use tidegate_cluster::gateway::routers::Routers;
use tidegate_cluster::worker::{Handlers, Lane};
use tidegate_hub::outbound::Plain;
use tidegate_runtime::{
    Asking, Boxed, CodecDeployment, CodecFault, CodecInput, CodecJob, CodecPart, CommandCall,
    CommandDeployment, CommandResult, Deployment, EventContext, HubAccess, Job, RouterDeployment,
};
use tidegate_watchdog::watched;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Outcome};
use tidegate_wire::event::{Arrival, Delivery};
use tidegate_wire::frame::Serving;
use tidegate_wire::id::EventId;
use tidegate_wire::peers::PeerMessage;
use tidegate_wire::query::{Answer, Answered, AskError, CommandError, Query};
use tidegate_wire::routing::{RouteCall, Routed, RouterPassed};
use tidegate_wire::session::Session;
use tidegate_wire::task::Step;
use tokio::sync::watch;

/// The deployments of one worker as what runs its handlers.
pub struct Bridge {
    deployments: RwLock<BTreeMap<Name, Deployment>>,
    serving: watch::Sender<Arc<Vec<Serving>>>,
}

impl Bridge {
    /// Serves nobody yet.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            deployments: RwLock::default(),
            serving: watch::Sender::new(Arc::default()),
        })
    }

    /// Serves a tenant from now on, and follows the version of its deployment as long as it lives.
    /// A tenant that is served already keeps its deployment.
    pub fn add(self: &Arc<Self>, tenant: &Name, deployment: Deployment) {
        let version = deployment.version();
        let first = Serving {
            tenant: tenant.clone(),
            version: version.borrow().clone(),
            http: deployment.takes_http(),
        };
        {
            let deployments = self.deployments.write();
            let mut deployments = deployments.unwrap_or_else(PoisonError::into_inner);
            if deployments.contains_key(tenant) {
                return;
            }
            deployments.insert(tenant.clone(), deployment);
        }
        self.serving.send_modify(|serving| {
            let mut more = Vec::clone(serving);
            more.push(first);
            *serving = Arc::new(more);
        });
        let name = format!("the versions of tenant {tenant}");
        let follow = follow(tenant.clone(), version, Arc::downgrade(self));
        tokio::spawn(watched(name, follow));
    }

    /// Serves a tenant no longer; its deployment is given to whoever stops it.
    pub fn remove(&self, tenant: &Name) -> Option<Deployment> {
        self.serving.send_modify(|serving| {
            let mut fewer = Vec::clone(serving);
            fewer.retain(|entry| entry.tenant != *tenant);
            *serving = Arc::new(fewer);
        });
        let deployments = self.deployments.write();
        deployments
            .unwrap_or_else(PoisonError::into_inner)
            .remove(tenant)
    }

    /// The deployment of a tenant, if it is served.
    #[must_use]
    pub fn deployment(&self, tenant: &Name) -> Option<Deployment> {
        self.read().get(tenant).cloned()
    }

    /// All deployments.
    #[must_use]
    pub fn deployments(&self) -> Vec<(Name, Deployment)> {
        let all = self.read();
        let all = all.iter().map(|(tenant, it)| (tenant.clone(), it.clone()));
        all.collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Name, Deployment>> {
        let deployments = self.deployments.read();
        deployments.unwrap_or_else(PoisonError::into_inner)
    }
}

async fn follow(tenant: Name, mut version: watch::Receiver<Name>, bridge: Weak<Bridge>) {
    loop {
        {
            let Some(bridge) = bridge.upgrade() else {
                return;
            };
            let now = version.borrow_and_update().clone();
            let deployment = bridge.deployment(&tenant);
            let http = deployment.is_some_and(|it| it.takes_http());
            bridge.serving.send_if_modified(|serving| {
                let mut changed = Vec::clone(serving);
                let mut is_changed = false;
                for entry in changed.iter_mut().filter(|entry| entry.tenant == tenant) {
                    is_changed |= entry.version != now || entry.http != http;
                    entry.version = now.clone();
                    entry.http = http;
                }
                *serving = Arc::new(changed);
                is_changed
            });
        }
        if version.changed().await.is_err() {
            return;
        }
    }
}

impl Handlers for Bridge {
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>> {
        self.serving.subscribe()
    }

    fn dispatch(&self, tenant: &Name, delivery: Box<Delivery>, lane: Arc<Lane>) {
        // Held while the event is put into a mailbox, which never waits.
        match self.read().get(tenant) {
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

    fn cancel_task(&self, tenant: &Name, event: EventId, attempt: u8) {
        if let Some(deployment) = self.read().get(tenant) {
            deployment.cancel_task(event, attempt);
        }
    }

    fn tell_peers(&self, tenant: &Name, message: PeerMessage) {
        if let Some(deployment) = self.read().get(tenant) {
            deployment.tell_peers(message);
        }
    }

    fn queued_bytes(&self) -> u64 {
        self.read().values().map(Deployment::queued_bytes).sum()
    }
}

/// A lane, as the runtime sees it.
struct Context(Arc<Lane>);

impl EventContext for Context {
    fn session(&self) -> Arc<Session> {
        self.0.session()
    }

    fn arrival(&self) -> Option<Arc<Arrival>> {
        self.0.arrival()
    }

    fn commit(&self, commit: Commit) {
        self.0.commit(commit);
    }

    fn step(&self, step: Step) -> Boxed<bool> {
        Box::pin(Arc::clone(&self.0).step(step))
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

/// The components of one gateway as what runs its commands and chooses workers.
#[derive(Default)]
pub struct GatewayBridge {
    commands: BTreeMap<Name, CommandDeployment>,
    routers: BTreeMap<Name, RouterDeployment>,
}

impl GatewayBridge {
    /// Joins these deployments; tenants that are not there have no commands, or no router.
    #[must_use]
    pub fn new(
        commands: BTreeMap<Name, CommandDeployment>,
        routers: BTreeMap<Name, RouterDeployment>,
    ) -> Arc<Self> {
        Arc::new(Self { commands, routers })
    }

    /// Those of commands.
    pub fn commands(&self) -> impl Iterator<Item = &CommandDeployment> {
        self.commands.values()
    }

    /// Those that choose workers.
    pub fn routers(&self) -> impl Iterator<Item = &RouterDeployment> {
        self.routers.values()
    }
}

impl Commands for GatewayBridge {
    fn execute(&self, call: commands::CommandCall, hub: Box<dyn LocalHub>) -> Boxed<CommandResult> {
        let Some(deployment) = self.commands.get(&call.tenant) else {
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

impl Routers for GatewayBridge {
    fn route(&self, tenant: &Name, call: RouteCall) -> Boxed<Routed> {
        match self.routers.get(tenant) {
            Some(deployment) => deployment.route(call),
            None => Box::pin(std::future::ready(Err(RouterPassed::Overloaded))),
        }
    }

    fn fault(&self, tenant: &Name) -> Option<String> {
        self.routers.get(tenant)?.fault()
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

/// A codec of one tenant as what runs for its listeners.
pub struct CodecBridge(pub CodecDeployment);

impl codecs::Codec for CodecBridge {
    fn run(&self, job: codecs::CodecJob) -> Boxed<codecs::CodecOutcome> {
        let send = job.send.into_iter().map(|plain| match plain {
            Plain::Raw(bytes) => CodecPart::Raw(bytes),
            Plain::Message(message) => CodecPart::Message(message),
        });
        let run = self.0.run(CodecJob {
            peer: job.peer,
            state: job.state,
            send: send.collect(),
            input: job.input.map(|input| CodecInput {
                bytes: input.bytes,
                ended: input.ended,
            }),
        });
        Box::pin(async move {
            let outcome = run.await;
            codecs::CodecOutcome {
                state: outcome.state,
                bytes: outcome.bytes,
                unsent: outcome.unsent,
                decoded: outcome.decoded.map(|decoded| codecs::Decoded {
                    messages: decoded.messages,
                    rest: decoded.rest,
                    needs: decoded.needs,
                    again: decoded.again,
                }),
                fault: outcome.fault.map(|fault| match fault {
                    CodecFault::Refused(_) => codecs::CodecFault::Client,
                    CodecFault::Broken(_) | CodecFault::Nonsense(_) | CodecFault::Stopped => {
                        codecs::CodecFault::Codec
                    }
                }),
            }
        })
    }

    fn trouble(&self) -> Option<String> {
        self.0.trouble()
    }
}
