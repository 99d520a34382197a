//! What a node may say, and what comes of a node that says something else.

use std::fs;

use tidegate_deploy::{DeployOrder, Desired, version_of};
use tidegate_link::{Identity, Link};
use tidegate_wire::deploy::{Deploy, DeployError, Order, Progress, Running};
use tidegate_wire::frame::Frame;
use tidegate_wire::membership::Role;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::rig::{PATIENCE, Rig, component, identity, order, serve, until};

struct Raw {
    link: Link,
    frames: Vec<Frame>,
}

impl Raw {
    async fn dial(rig: &Rig, role: Role) -> Self {
        Self::dial_as(rig, &identity(role, "raw")).await
    }

    async fn dial_as(rig: &Rig, identity: &Identity) -> Self {
        let link = tidegate_link::dial(rig.registers[0], identity, &rig.settings.link);
        let raw = Self {
            link: link.await.unwrap(),
            frames: Vec::new(),
        };
        raw.send(Deploy::Enrol {
            node: identity.node.clone(),
            first: true,
            desired: Desired::default(),
        });
        raw
    }

    /// As a worker: nothing serves tenant `t`.
    fn tell_status(&self) {
        let running = vec![Running {
            tenant: "t".into(),
            serving: None,
            canary: None,
            trial: false,
            trouble: None,
            failing: None,
        }];
        let generation = 0;
        self.send(Deploy::Status {
            generation,
            running,
        });
    }

    /// The number of the order that this worker is asked to prepare for.
    async fn asked_to_prepare(&mut self) -> u64 {
        self.find(|frame| {
            let Deploy::Prepare { order, .. } = frame else {
                return None;
            };
            Some(order)
        })
        .await
    }

    fn tell_prepared(&self, order: u64) {
        let outcome = Ok(());
        self.send(Deploy::Prepared { order, outcome });
    }

    fn send(&self, frame: Deploy) {
        self.link.sender.send(frame).unwrap();
    }

    /// The next frame, none at the end of the link.
    async fn next(&mut self) -> Option<Deploy> {
        while self.frames.is_empty() {
            let received = self.link.receiver.recv(&mut self.frames);
            timeout(PATIENCE, received).await.unwrap().ok()?;
        }
        let Frame::Deploy(frame) = self.frames.remove(0) else {
            panic!("a frame that is not for deploys");
        };
        Some(*frame)
    }

    /// The next that is wanted.
    async fn find<T>(&mut self, wanted: impl Fn(Deploy) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await.expect("the link has ended")) {
                return found;
            }
        }
    }

    async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }

    fn order(&self, version: &str, bytes: u64) {
        let order = Order::Deploy {
            order: DeployOrder { ..order("one") },
            version: version.into(),
            bytes,
        };
        self.send(Deploy::Order { number: 1, order });
    }

    async fn failed(&mut self) -> DeployError {
        self.find(|frame| {
            let Deploy::Progress { progress, .. } = frame else {
                return None;
            };
            let Progress::Failed { reason } = progress else {
                return None;
            };
            Some(reason)
        })
        .await
    }
}

fn files(rig: &Rig) -> usize {
    let folder = rig.folder("register-0/components");
    fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn an_upload_cut_short_leaves_no_file_and_the_next_order_is_taken() {
    let rig = Rig::new(1).await;
    let (_register, [a], gateway) = rig.start(["a"]).await;
    let bytes = component("one");
    let version = version_of(&bytes);
    let mut raw = Raw::dial(&rig, Role::Gateway).await;
    raw.order(&version, bytes.len() as u64);
    let fetch = |frame| matches!(frame, Deploy::Fetch { .. }).then_some(());
    raw.find(fetch).await;
    raw.send(Deploy::Chunk {
        version,
        offset: 0,
        bytes: bytes.slice(..256 << 10).into(),
    });
    drop(raw);
    until("no file", || files(&rig) == 0).await;
    gateway.sees(1).await;
    // The end of the link may be told a moment later than the order.
    loop {
        let overview = gateway.deploys.overview().await.unwrap();
        if overview.under_way.is_none() {
            break;
        }
    }
    gateway.deploy("one").await;
    serve(&[&a], "one").await;
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_version_are_not_kept() {
    let rig = Rig::new(1).await;
    let (_register, [_a], _gateway) = rig.start(["a"]).await;
    let mut raw = Raw::dial(&rig, Role::Gateway).await;
    let version = version_of(b"something");
    raw.order(&version, 5);
    let fetch = |frame| matches!(frame, Deploy::Fetch { .. }).then_some(());
    raw.find(fetch).await;
    raw.send(Deploy::Chunk {
        version,
        offset: 0,
        bytes: b"other".to_vec().into(),
    });
    let error = raw.failed().await;
    assert!(matches!(error, DeployError::Upload(_)), "{error}");
    assert_eq!(files(&rig), 0);
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_at_once() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let mut raw = Raw::dial(&rig, Role::Gateway).await;
    raw.order("../../etc/passwd", 5);
    assert!(matches!(raw.failed().await, DeployError::Invalid(_)));
    raw.order(&version_of(b"x"), 0);
    assert!(matches!(raw.failed().await, DeployError::Invalid(_)));
    raw.order(&version_of(b"x"), 1 << 40);
    assert!(matches!(raw.failed().await, DeployError::TooLarge { .. }));
    let version = "../desired".into();
    raw.send(Deploy::Fetch { version, offset: 0 });
    let missing = |frame| matches!(frame, Deploy::Missing { .. }).then_some(());
    raw.find(missing).await;
}

#[tokio::test]
async fn a_node_speaks_for_its_own_role_only() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let mut worker = Raw::dial(&rig, Role::Worker).await;
    worker.order(&version_of(b"x"), 1);
    worker.ended().await;
    let mut gateway = Raw::dial(&rig, Role::Gateway).await;
    gateway.send(Deploy::TakenBack {
        tenant: "t".into(),
        version: version_of(b"x"),
        reason: String::new(),
    });
    gateway.ended().await;
    let mut register = Raw::dial(&rig, Role::Register).await;
    assert_eq!(register.next().await, None);
    // Its hello says gateway.
    let mut liar = Raw::dial(&rig, Role::Gateway).await;
    liar.find(|frame| matches!(frame, Deploy::State(_)).then_some(()))
        .await;
    liar.send(Deploy::Enrol {
        node: identity(Role::Worker, "raw").node,
        first: true,
        desired: Desired::default(),
    });
    liar.ended().await;
}

#[tokio::test]
async fn an_impossible_state_is_refused() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let gateway = rig.gateway("g").await;
    let mut raw = Raw::dial(&rig, Role::Gateway).await;
    let tenants = (0..1000).map(|number| (format!("t{number}").into(), Default::default()));
    raw.send(Deploy::State(Desired {
        generation: 9,
        tenants: tenants.collect(),
        ..Desired::default()
    }));
    raw.ended().await;
    assert_eq!(gateway.deploys.desired().await.unwrap().generation, 0);
}

#[tokio::test]
async fn a_worker_that_reconnects_over_a_half_open_link_is_asked_over_the_newer_one() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let gateway = rig.gateway("g").await;
    let worker = identity(Role::Worker, "raw");
    let mut half_open = Raw::dial_as(&rig, &worker).await;
    half_open.tell_status();
    gateway.sees(1).await;
    let mut newer = Raw::dial_as(&rig, &worker).await;
    // One worker, whatever number of links it has.
    newer.tell_status();
    half_open.ended().await;
    gateway.sees(1).await;
    let mut progress = gateway.deploys.deploy(order("one"), component("one"));
    let asked = newer.asked_to_prepare().await;
    newer.tell_prepared(asked);
    decided(&mut progress).await;
}

#[tokio::test]
async fn a_worker_that_reconnects_while_it_prepares_is_asked_again_and_not_lost() {
    let rig = Rig::new(1).await;
    let _register = rig.register(0).await;
    let gateway = rig.gateway("g").await;
    let worker = identity(Role::Worker, "raw");
    let mut half_open = Raw::dial_as(&rig, &worker).await;
    half_open.tell_status();
    gateway.sees(1).await;
    let mut progress = gateway.deploys.deploy(order("one"), component("one"));
    let first = half_open.asked_to_prepare().await;
    let mut newer = Raw::dial_as(&rig, &worker).await;
    let again = newer.asked_to_prepare().await;
    assert_eq!(again, first);
    newer.tell_prepared(again);
    decided(&mut progress).await;
}

/// Waits for the decision; a failure before it fails the test.
async fn decided(progress: &mut mpsc::Receiver<Progress>) {
    loop {
        let next = timeout(PATIENCE, progress.recv()).await.unwrap();
        match next.expect("it ended without a decision") {
            Progress::Decided { .. } => return,
            Progress::Failed { reason } => panic!("{reason}"),
            Progress::Uploaded { .. }
            | Progress::Worker { .. }
            | Progress::Waiting { .. }
            | Progress::Done { .. } => {}
        }
    }
}
