//! Registers, workers and gateways of a deploy over loopback TCP, each with a folder of its own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidegate_cluster::register::{Register, RegisterSettings};
use tidegate_deploy::{
    Agent, Coordinator, Coordinators, DeployClient, DeployError, DeployOrder, DeploySettings,
    Progress, Store, StoreError, version_of,
};
use tidegate_link::net;
use tidegate_link::net::stream::tcp;
use tidegate_link::{Identity, LinkSettings, Secret};
use tidegate_wire::Name;
use tidegate_wire::id::Incarnation;
use tidegate_wire::membership::{Node, Role};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::fake::Fake;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn settings() -> DeploySettings {
    DeploySettings {
        link: LinkSettings {
            heartbeat: Duration::from_millis(100),
            lease: Duration::from_secs(5),
            ..LinkSettings::default()
        },
        reconnect_min: Duration::from_millis(10),
        reconnect_max: Duration::from_millis(100),
        grace: Duration::from_millis(300),
        switch_max: Duration::from_secs(5),
        ..DeploySettings::default()
    }
}

pub(crate) fn identity(role: Role, name: &str) -> Identity {
    let node = Node {
        role,
        incarnation: Incarnation(NEXT.fetch_add(1, Ordering::Relaxed)),
        address: (role == Role::Gateway).then(|| "127.0.0.1:1".parse().unwrap()),
        name: name.into(),
        tags: Vec::new(),
    };
    Identity {
        node,
        secret: Secret::new(b"secret"),
        net: tcp(),
    }
}

/// Folders of nodes, and where the registers are.
pub(crate) struct Rig {
    folder: TempDir,
    pub(crate) registers: Vec<SocketAddr>,
    pub(crate) settings: DeploySettings,
}

pub(crate) struct Running {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// As a process ends.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }
}

pub(crate) struct Worker {
    pub(crate) running: Running,
    pub(crate) fake: Fake,
    pub(crate) agent: Agent,
}

pub(crate) struct Gateway {
    pub(crate) running: Running,
    pub(crate) deploys: DeployClient,
}

impl Rig {
    /// Addresses for so many registers, which are not started.
    pub(crate) async fn new(registers: usize) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..registers {
            sockets.push(net::bind("127.0.0.1:0".parse().unwrap()).await.unwrap());
        }
        let registers = sockets.iter().map(|it| it.local_addr().unwrap());
        Self {
            registers: registers.collect(),
            folder: tempfile::tempdir().unwrap(),
            settings: settings(),
        }
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The process before may still be ending.
    pub(crate) async fn store(&self, name: &str) -> Store {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Store::open(Some(self.folder(name))) {
                Ok(store) => return store,
                Err(StoreError::InUse(_)) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn coordinators(&self) -> Coordinators {
        Coordinators::Registers(self.registers.iter().map(ToString::to_string).collect())
    }

    pub(crate) async fn register(&self, place: usize) -> Running {
        let name = format!("register-{place}");
        let store = self.store(&name).await;
        let identity = identity(Role::Register, &name);
        let listener = net::bind(self.registers[place]).await.unwrap();
        let stop = CancellationToken::new();
        let coordinator =
            Coordinator::start(identity.node.clone(), store, self.settings, stop.clone());
        let settings = RegisterSettings {
            lease_max: Duration::from_secs(10),
            grace: self.settings.grace,
            nodes_max: 100,
            link: self.settings.link,
        };
        let run = Register::run_with(listener, identity, settings, coordinator, stop.clone());
        let task = Some(tokio::spawn(run));
        Running { stop, task }
    }

    pub(crate) async fn worker(&self, name: &str, fake: Fake) -> Worker {
        let store = self.store(name).await;
        let stop = CancellationToken::new();
        let agent = Agent::start(
            self.coordinators(),
            identity(Role::Worker, name),
            store,
            Arc::new(fake.clone()),
            self.settings,
            stop.clone(),
        );
        let running = Running { stop, task: None };
        Worker {
            running,
            fake,
            agent,
        }
    }

    /// Has settings for tenant `t`.
    pub(crate) async fn plain_worker(&self, name: &str) -> Worker {
        self.worker(name, Fake::new(&["t"])).await
    }

    pub(crate) async fn gateway(&self, name: &str) -> Gateway {
        let store = self.store(name).await;
        let stop = CancellationToken::new();
        let deploys = DeployClient::start(
            self.coordinators(),
            identity(Role::Gateway, name),
            store,
            self.settings,
            stop.clone(),
        );
        let running = Running { stop, task: None };
        Gateway { running, deploys }
    }

    /// The first register, plain workers of these names, and a gateway once it sees them.
    pub(crate) async fn start<const N: usize>(
        &self,
        names: [&str; N],
    ) -> (Running, [Worker; N], Gateway) {
        let register = self.register(0).await;
        let mut workers = Vec::new();
        for name in names {
            workers.push(self.plain_worker(name).await);
        }
        let gateway = self.gateway("g").await;
        gateway.sees(N).await;
        let Ok(workers) = workers.try_into() else {
            unreachable!("one worker for each name");
        };
        (register, workers, gateway)
    }
}

/// Some chunks and a bit.
pub(crate) const LENGTH: usize = 600_000;

/// What a component of a test is: its own bytes, more than a few chunks.
pub(crate) fn component(name: &str) -> Bytes {
    let bytes = name.bytes().cycle().take(LENGTH).collect::<Vec<u8>>();
    bytes.into()
}

pub(crate) fn order(source: &str) -> DeployOrder {
    DeployOrder {
        tenant: "t".into(),
        source: source.into(),
        by: "alice".into(),
        canary: None,
    }
}

/// All of it, until the last.
pub(crate) async fn all(mut progress: mpsc::Receiver<Progress>) -> Vec<Progress> {
    let mut seen = Vec::new();
    let collect = async {
        while let Some(it) = progress.recv().await {
            let last = it.is_last();
            seen.push(it);
            if last {
                return;
            }
        }
        panic!("no last progress");
    };
    timeout(PATIENCE, collect).await.unwrap();
    seen
}

/// Until the last, which must be `Done`: generation, version, workers.
pub(crate) async fn done(progress: mpsc::Receiver<Progress>) -> (u64, Name, u32) {
    match all(progress).await.pop() {
        Some(Progress::Done {
            generation,
            version,
            workers,
            ..
        }) => (generation, version, workers),
        other => panic!("{other:?}"),
    }
}

/// Until the last, which must be `Failed`.
pub(crate) async fn failed(progress: mpsc::Receiver<Progress>) -> DeployError {
    match all(progress).await.pop() {
        Some(Progress::Failed { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

impl Gateway {
    /// As a process ends.
    pub(crate) async fn stop(self) {
        drop(self.deploys);
        self.running.stop().await;
    }

    /// Deploys for tenant `t` until it is done.
    pub(crate) async fn deploy(&self, name: &str) -> (u64, Name, u32) {
        done(self.deploys.deploy(order(name), component(name))).await
    }

    /// Waits until so many workers have told what they run.
    pub(crate) async fn sees(&self, workers: usize) {
        let what = format!("{workers} workers");
        until_async(&what, async || {
            let overview = self.deploys.overview().await;
            overview.is_ok_and(|it| it.workers.len() == workers)
        })
        .await;
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    until_async(what, async || condition()).await;
}

pub(crate) async fn until_async(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until these workers serve the component to tenant `t`.
pub(crate) async fn serve(workers: &[&Worker], name: &str) {
    let bytes = component(name);
    for worker in workers {
        until(&format!("a worker serves {name}"), || {
            worker.fake.serves("t", &bytes)
        })
        .await;
    }
    assert_eq!(workers[0].fake.serving("t"), Some(version_of(&bytes)));
}
