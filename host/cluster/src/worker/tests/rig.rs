//! A worker that runs with handlers that do what a test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tidegate_link::membership::Members;
use tidegate_wire::Name;
use tidegate_wire::effect::{Commit, Effect, Outcome};
use tidegate_wire::event::{Closed, Delivery, EventKind};
use tidegate_wire::frame::Serving;
use tidegate_wire::id::EventId;
use tidegate_wire::membership::Role;
use tidegate_wire::peers::PeerMessage;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::script::{Gateway, eventually, identity, settings, soon};
use crate::worker::{Handlers, Lane, Worker, WorkerSettings};

/// An event that the worker has dispatched and the test has to commit.
pub(super) struct Running {
    pub(super) tenant: Name,
    pub(super) delivery: Delivery,
    pub(super) lane: Arc<Lane>,
}

impl Running {
    pub(super) fn end(&self, outcome: Outcome, effects: Vec<Effect>) {
        self.lane.commit(Commit {
            event: self.delivery.event,
            attempt: self.delivery.attempt,
            client: self.delivery.client,
            outcome,
            effects,
            reply: None,
        });
    }

    pub(super) fn done(&self, effects: Vec<Effect>) {
        self.end(Outcome::Done, effects);
    }

    pub(super) fn session(&self, key: &str) -> Option<String> {
        self.lane.session().get(key).map(str::to_owned)
    }

    pub(super) fn closed(&self) -> &Closed {
        match &self.delivery.kind {
            EventKind::Close(closed) => closed,
            other => panic!("not a close: {}", other.name()),
        }
    }
}

pub(super) struct Script {
    serving: watch::Sender<Arc<Vec<Serving>>>,
    running: Mutex<VecDeque<Running>>,
    arrived: Notify,
    /// Tasks that are to end.
    pub(super) cancelled: Mutex<Vec<(EventId, u8)>>,
    /// What instances of these tenants are told.
    pub(super) told: Mutex<Vec<(Name, PeerMessage)>>,
}

impl Script {
    pub(super) fn serve(&self, tenants: &[(&str, &str)]) {
        self.serving.send_replace(Arc::new(serving(tenants)));
    }

    pub(super) async fn next(&self) -> Running {
        soon("a dispatched event", async {
            loop {
                let arrived = self.arrived.notified();
                if let Some(running) = self.running.lock().unwrap().pop_front() {
                    return running;
                }
                arrived.await;
            }
        })
        .await
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.lock().unwrap().is_empty()
    }
}

pub(super) fn serving(tenants: &[(&str, &str)]) -> Vec<Serving> {
    let one = |(tenant, version): &(&str, &str)| Serving {
        tenant: (*tenant).into(),
        version: (*version).into(),
        http: false,
    };
    tenants.iter().map(one).collect()
}

impl Handlers for Script {
    fn serving(&self) -> watch::Receiver<Arc<Vec<Serving>>> {
        self.serving.subscribe()
    }

    fn dispatch(&self, tenant: &Name, delivery: Box<Delivery>, lane: Arc<Lane>) {
        self.running.lock().unwrap().push_back(Running {
            tenant: tenant.clone(),
            delivery: *delivery,
            lane,
        });
        self.arrived.notify_one();
    }

    fn cancel_task(&self, _tenant: &Name, event: EventId, attempt: u8) {
        self.cancelled.lock().unwrap().push((event, attempt));
    }

    fn tell_peers(&self, tenant: &Name, message: PeerMessage) {
        self.told.lock().unwrap().push((tenant.clone(), message));
    }

    fn queued_bytes(&self) -> u64 {
        0
    }
}

/// A worker that runs, and the view that it is given.
pub(super) struct Rig {
    pub(super) worker: Worker,
    pub(super) script: Arc<Script>,
    members: watch::Sender<Arc<Members>>,
    pub(super) stop: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// Waits until the worker keeps so many lanes, of clients that it serves or whose close may be
    /// left to it.
    pub(super) async fn keeps(&self, lanes: u32) {
        let meters = &self.worker.inner.meters;
        eventually("that number of lanes", || meters.lanes() == lanes).await;
    }

    pub(super) fn start(gateways: &[&Gateway]) -> Self {
        Self::start_with(settings(), gateways)
    }

    pub(super) fn start_with(settings: WorkerSettings, gateways: &[&Gateway]) -> Self {
        let script = Arc::new(Script {
            serving: watch::Sender::new(Arc::new(serving(&[("default", "v1")]))),
            running: Mutex::default(),
            arrived: Notify::new(),
            cancelled: Mutex::default(),
            told: Mutex::default(),
        });
        let worker = Worker::new(identity(Role::Worker, 99, None), settings, script.clone());
        let members = watch::Sender::new(view(gateways, &[]));
        let stop = CancellationToken::new();
        let (running, receiver, token) = (worker.clone(), members.subscribe(), stop.clone());
        let task = tokio::spawn(async move { running.run(receiver, token).await });
        Self {
            worker,
            script,
            members,
            stop,
            task,
        }
    }

    /// A view with these workers too.
    pub(super) fn see_workers(&self, gateways: &[&Gateway], lost: &[&Gateway], workers: &[u64]) {
        let mut members = Members::clone(&view(gateways, lost));
        for worker in workers {
            let node = identity(Role::Worker, *worker, None).node;
            members.nodes.insert(node.incarnation, node);
        }
        self.members.send_replace(Arc::new(members));
    }

    pub(super) fn see(&self, gateways: &[&Gateway], lost: &[&Gateway]) {
        self.members.send_replace(view(gateways, lost));
    }
}

fn view(gateways: &[&Gateway], lost: &[&Gateway]) -> Arc<Members> {
    let mut members = Members {
        nodes: gateways
            .iter()
            .map(|gateway| (gateway.incarnation(), gateway.identity.node.clone()))
            .collect(),
        connected: 1,
        ..Members::default()
    };
    for gateway in lost {
        members.lost.insert(gateway.incarnation());
    }
    Arc::new(members)
}
