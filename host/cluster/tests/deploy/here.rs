//! Register, gateway and worker in one process, with one folder.

use std::sync::Arc;
use std::time::Duration;

use tidegate_deploy::{
    Agent, Coordinator, Coordinators, DeployClient, DeploySettings, Fate, Store, version_of,
};
use tidegate_wire::membership::Role;
use tokio_util::sync::CancellationToken;

use super::fake::Fake;
use super::rig::{Rig, component, done, failed, identity, order, settings, until, until_async};

struct Here {
    deploys: DeployClient,
    agent: Agent,
    fake: Fake,
    stop: CancellationToken,
}

fn serve(store: Store) -> Here {
    let settings = DeploySettings {
        grace: Duration::ZERO,
        ..settings()
    };
    let stop = CancellationToken::new();
    let node = identity(Role::Register, "here").node;
    let coordinator = Coordinator::start(node, store.clone(), settings, stop.clone());
    let fake = Fake::new(&["t"]);
    let coordinators = Coordinators::Here(coordinator);
    let worker = identity(Role::Worker, "w");
    let deployables = Arc::new(fake.clone());
    let agent = Agent::start(
        coordinators.clone(),
        worker,
        store.clone(),
        deployables,
        settings,
        stop.clone(),
    );
    let gateway = identity(Role::Gateway, "g");
    let deploys = DeployClient::start(coordinators, gateway, store, settings, stop.clone());
    Here {
        deploys,
        agent,
        fake,
        stop,
    }
}

impl Here {
    async fn deploy(&self, name: &str) {
        self.sees_the_worker().await;
        let progress = self.deploys.deploy(order(name), component(name));
        assert_eq!(done(progress).await.1, version_of(&component(name)));
    }

    async fn sees_the_worker(&self) {
        until_async("the worker is there", async || {
            !self.deploys.overview().await.unwrap().workers.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn one_process_deploys_to_itself_and_restarts_with_it() {
    let rig = Rig::new(0).await;
    let here = serve(rig.store("all").await);
    here.deploy("one").await;
    here.deploy("two").await;
    assert!(here.fake.serves("t", &component("two")));
    here.fake.refuse(Some("no"));
    failed(here.deploys.deploy(order("bad"), component("bad"))).await;
    here.fake.refuse(None);
    here.stop.cancel();
    drop(here);

    let here = serve(rig.store("all").await);
    here.agent.settled().await;
    assert!(here.fake.serves("t", &component("two")));
    here.sees_the_worker().await;
    done(here.deploys.rollback("t".into(), None, "bob".into())).await;
    assert!(here.fake.serves("t", &component("one")));
    here.fake.take_back("t", &component("one"), "3 traps").await;
    until_async("what stood beside it serves again", async || {
        let desired = here.deploys.desired().await.unwrap();
        let releases = &desired.tenants["t"].releases;
        let fates = (&releases[0].fate, &releases[1].fate);
        releases[0].version == version_of(&component("two"))
            && matches!(fates, (Fate::Active, Fate::RolledBack(_)))
    })
    .await;
    until("all of it", || here.fake.serves("t", &component("two"))).await;
}

#[tokio::test]
async fn memory_alone_is_enough_until_the_process_ends() {
    let here = serve(Store::in_memory());
    here.deploy("one").await;
    here.deploy("two").await;
    done(here.deploys.rollback("t".into(), None, "bob".into())).await;
    until("one serves again", || {
        here.fake.serves("t", &component("one"))
    })
    .await;
}
