//! Deploys while workers and the register are killed, come back and refuse, at moments that a seed
//! chooses: every order ends, nobody runs what was not decided, and in the end all run the same.
//! `TIDEGATE_SEED` plays one again.

use std::collections::BTreeSet;
use std::fs;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidegate_deploy::{CanaryPlan, DeployOrder, Fate, Progress};
use tidegate_wire::Name;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fake::Fake;
use super::rig::{Gateway, PATIENCE, Rig, Running, Worker, component, order, until_async};

const WORKERS: usize = 3;
const ORDERS: usize = 12;

struct Chaos {
    rig: Rig,
    random: SmallRng,
    registers: Vec<Option<Running>>,
    workers: Vec<Option<Worker>>,
    /// Of all lives of all workers.
    fakes: Vec<Fake>,
    gateway: Gateway,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let mut rig = Rig::new(2).await;
        rig.settings.grace = std::time::Duration::from_millis(50);
        let gateway = rig.gateway("g").await;
        let mut chaos = Self {
            registers: vec![None, None],
            rig,
            random: SmallRng::seed_from_u64(seed),
            workers: (0..WORKERS).map(|_| None).collect(),
            fakes: Vec::new(),
            gateway,
        };
        chaos.mend().await;
        chaos
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// Everybody is there and refuses nothing.
    async fn mend(&mut self) {
        for place in 0..self.registers.len() {
            if self.registers[place].is_none() {
                self.registers[place] = Some(self.rig.register(place).await);
            }
        }
        for place in 0..WORKERS {
            if self.workers[place].is_none() {
                self.start(place).await;
            }
        }
        for worker in self.workers.iter().flatten() {
            worker.fake.refuse(None);
            worker.fake.stick(None);
        }
    }

    async fn start(&mut self, place: usize) {
        let fake = Fake::new(&["t"]);
        self.fakes.push(fake.clone());
        let worker = self.rig.worker(&format!("w{place}"), fake).await;
        self.workers[place] = Some(worker);
    }

    /// One thing goes wrong, or is mended.
    async fn fault(&mut self) {
        let place = self.random.random_range(0..WORKERS);
        match self.random.random_range(0..7) {
            0 | 1 => match self.workers[place].take() {
                Some(worker) => {
                    worker.running.stop().await;
                    if self.chance(20) {
                        // With a new disk.
                        drop(self.rig.store(&format!("w{place}")).await);
                        fs::remove_dir_all(self.rig.folder(&format!("w{place}"))).unwrap();
                    }
                }
                None => self.start(place).await,
            },
            2 => {
                let place = self.random.random_range(0..2);
                match self.registers[place].take() {
                    Some(register) => register.stop().await,
                    None => self.registers[place] = Some(self.rig.register(place).await),
                }
            }
            3 | 4 => {
                let refuse = self.chance(50).then_some("it does not start");
                if let Some(worker) = &self.workers[place] {
                    worker.fake.refuse(refuse);
                }
            }
            5 => {
                let stick = self.chance(30).then_some("it does not switch");
                if let Some(worker) = &self.workers[place] {
                    worker.fake.stick(stick);
                }
            }
            _ => self.mend().await,
        }
    }

    fn order(&mut self) -> mpsc::Receiver<Progress> {
        let deploys = self.gateway.deploys.clone();
        let (tenant, by) = (Name::from("t"), Name::from("alice"));
        match self.random.random_range(0..10) {
            0 | 1 => deploys.rollback(tenant, None, by),
            2 => deploys.promote(tenant, by),
            it => {
                let name = format!("c{}", self.random.random_range(0..6));
                let canary = (it == 3).then(|| CanaryPlan {
                    percent: 10,
                    clients: Vec::new(),
                    seconds: 0,
                });
                let order = DeployOrder {
                    canary,
                    ..order(&name)
                };
                deploys.deploy(order, component(&name))
            }
        }
    }

    async fn round(&mut self) {
        let mut progress = self.order();
        let faults_after = self.random.random_range(0..12);
        for step in 0.. {
            if step == faults_after {
                self.fault().await;
            }
            let next = timeout(PATIENCE, progress.recv()).await;
            if next
                .expect("an order never ended")
                .expect("no last")
                .is_last()
            {
                return;
            }
        }
    }

    /// All that is there ends up with what is desired.
    async fn settles(&mut self) {
        self.mend().await;
        until_async("all workers run what is desired", async || {
            let Ok(overview) = self.gateway.deploys.overview().await else {
                return false;
            };
            let Some(deployed) = overview.desired.tenants.get("t") else {
                return true;
            };
            let current = deployed.current().map(|it| &it.version);
            let canary = deployed.canary().map(|(it, _)| &it.version);
            overview.workers.len() == WORKERS
                && overview.workers.iter().all(|worker| {
                    let running = &worker.running[0];
                    let canary_runs = running.canary.as_ref() == canary;
                    worker.generation == overview.desired.generation
                        && canary_runs
                        && (current.is_none() || running.serving.as_ref() == current)
                })
        })
        .await;
    }

    async fn nobody_ran_what_was_not_decided(&self) {
        let desired = self.gateway.deploys.desired().await.unwrap();
        let Some(deployed) = desired.tenants.get("t") else {
            return;
        };
        let served = deployed.releases.iter().filter(|it| it.has_served());
        let served: BTreeSet<&Name> = served.map(|it| &it.version).collect();
        for version in self.fakes.iter().flat_map(Fake::switched) {
            assert!(served.contains(&version), "{version} was never decided");
        }
        let active = deployed
            .releases
            .iter()
            .filter(|it| it.fate == Fate::Active);
        assert!(active.count() <= 1);
    }
}

#[tokio::test]
async fn whatever_is_lost_nobody_runs_what_was_not_decided_and_all_end_up_the_same() {
    let seed = std::env::var("TIDEGATE_SEED").ok();
    let seed = seed.map_or_else(rand::random, |it| it.parse().unwrap());
    eprintln!("TIDEGATE_SEED={seed}");
    let mut chaos = Chaos::new(seed).await;
    for _ in 0..ORDERS {
        chaos.round().await;
        if chaos.chance(30) {
            chaos.settles().await;
        }
    }
    chaos.settles().await;
    chaos.nobody_ran_what_was_not_decided().await;
}
