//! A worker's components without Wasm: they "run" by being noted down.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tidegate_deploy::{
    Boxed, CanaryPlan, Coming, Component, Deployables, Serving, Step, TakenBack, version_of,
};
use tidegate_wire::Name;
use tokio::sync::{mpsc, watch};

#[derive(Debug, Default)]
struct Slot {
    /// What serves, and before it what it took the place of.
    serving: Vec<Name>,
    canary: Option<Name>,
    prepared: Option<(Name, bool)>,
}

#[derive(Debug)]
struct State {
    slots: BTreeMap<Name, Slot>,
    /// Why the next versions cannot be started.
    refuse: Option<String>,
    /// Why what is prepared cannot be switched to.
    stuck: Option<String>,
    /// What a canary does badly.
    failing: Option<String>,
    /// Cannot be switched to.
    unfit: Option<Name>,
    log: Vec<String>,
    /// Every version that ever served here, to all or some.
    switched: Vec<Name>,
    taken_back: Option<mpsc::Receiver<TakenBack>>,
}

/// Clones are one worker's.
#[derive(Clone, Debug)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    take_back: mpsc::Sender<TakenBack>,
    /// Whether a version may finish starting.
    gate: Arc<watch::Sender<bool>>,
}

impl Fake {
    /// Has settings for these tenants; nothing serves.
    pub(crate) fn new(tenants: &[&str]) -> Self {
        let (take_back, taken_back) = mpsc::channel(4);
        let slots = tenants.iter().map(|it| (Name::from(*it), Slot::default()));
        let state = State {
            slots: slots.collect(),
            refuse: None,
            stuck: None,
            failing: None,
            unfit: None,
            log: Vec::new(),
            switched: Vec::new(),
            taken_back: Some(taken_back),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            take_back,
            gate: Arc::new(watch::Sender::new(true)),
        }
    }

    /// Serves what its configuration names.
    pub(crate) fn with_file(self, tenant: &str, version: &str) -> Self {
        let slot = |state: &mut State| {
            let slot = state.slots.get_mut(tenant).unwrap();
            slot.serving.push(version.into());
        };
        slot(&mut self.state.lock().unwrap());
        self
    }

    pub(crate) fn refuse(&self, why: Option<&str>) {
        self.state.lock().unwrap().refuse = why.map(str::to_owned);
    }

    pub(crate) fn stick(&self, why: Option<&str>) {
        self.state.lock().unwrap().stuck = why.map(str::to_owned);
    }

    /// Its canaries do so badly.
    pub(crate) fn fails(&self, why: &str) {
        self.state.lock().unwrap().failing = Some(why.to_owned());
    }

    /// Prepares this version and cannot go over to it.
    pub(crate) fn is_unfit_for(&self, component: &[u8]) {
        self.state.lock().unwrap().unfit = Some(version_of(component));
    }

    /// While shut, versions that are started do not get ready.
    pub(crate) fn gate(&self, open: bool) {
        self.gate.send_replace(open);
    }

    pub(crate) fn serving(&self, tenant: &str) -> Option<Name> {
        let state = self.state.lock().unwrap();
        state.slots.get(tenant)?.serving.last().cloned()
    }

    pub(crate) fn serves(&self, tenant: &str, component: &[u8]) -> bool {
        self.serving(tenant) == Some(version_of(component))
    }

    pub(crate) fn canary(&self, tenant: &str) -> Option<Name> {
        let state = self.state.lock().unwrap();
        state.slots.get(tenant)?.canary.clone()
    }

    pub(crate) fn has_prepared(&self, tenant: &str) -> bool {
        self.state.lock().unwrap().slots[tenant].prepared.is_some()
    }

    pub(crate) fn switched(&self) -> Vec<Name> {
        self.state.lock().unwrap().switched.clone()
    }

    /// What was done, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().unwrap().log.clone()
    }

    /// As the runtime does when a version fails too often.
    pub(crate) async fn take_back(&self, tenant: &str, component: &[u8], reason: &str) {
        let version = version_of(component);
        {
            let mut state = self.state.lock().unwrap();
            let slot = state.slots.get_mut(tenant).unwrap();
            if slot.canary.as_ref() == Some(&version) {
                slot.canary = None;
            } else {
                assert_eq!(slot.serving.pop(), Some(version.clone()));
            }
        }
        let taken_back = TakenBack {
            tenant: tenant.into(),
            version,
            reason: reason.to_owned(),
        };
        self.take_back.send(taken_back).await.unwrap();
    }

    fn go(
        &self,
        what: &str,
        tenant: Name,
        work: impl FnOnce(&mut Slot) -> Result<(), String>,
    ) -> Boxed<Result<(), String>> {
        let mut state = self.state.lock().unwrap();
        let stuck = state.stuck.clone();
        state.log.push(format!("{what} {tenant}"));
        let slot = state.slots.get_mut(&tenant).unwrap();
        let result = stuck.map_or_else(|| work(slot), Err);
        Box::pin(async move { result })
    }
}

impl Deployables for Fake {
    fn tenants(&self) -> Vec<Serving> {
        let state = self.state.lock().unwrap();
        let slots = state.slots.iter().map(|(tenant, slot)| Serving {
            tenant: tenant.clone(),
            serving: slot.serving.last().cloned(),
            canary: slot.canary.clone(),
            trial: false,
            failing: state.failing.clone().filter(|_| slot.canary.is_some()),
        });
        slots.collect()
    }

    fn prepare(
        &self,
        tenant: Name,
        component: Component,
        canary: Option<CanaryPlan>,
        steps: mpsc::Sender<Step>,
    ) -> Boxed<Result<(), String>> {
        assert_eq!(component.version, version_of(&component.bytes));
        let fake = self.clone();
        Box::pin(async move {
            let refuse = {
                let mut state = fake.state.lock().unwrap();
                state.log.push(format!("prepare {tenant}"));
                state.refuse.clone()
            };
            steps.send(Step::Compiled).await.unwrap();
            fake.gate.subscribe().wait_for(|open| *open).await.unwrap();
            if let Some(why) = refuse {
                return Err(why);
            }
            {
                let mut state = fake.state.lock().unwrap();
                let slot = state.slots.get_mut(&tenant).unwrap();
                slot.prepared = Some((component.version, canary.is_some()));
            }
            steps.send(Step::Started).await.unwrap();
            Ok(())
        })
    }

    fn activate(&self, tenant: Name, version: Name, _: Coming) -> Boxed<Result<(), String>> {
        let is_unfit = {
            let mut state = self.state.lock().unwrap();
            state.switched.push(version.clone());
            state.unfit.as_ref() == Some(&version)
        };
        if is_unfit {
            return Box::pin(async { Err("unfit".to_owned()) });
        }
        self.go("activate", tenant, |slot| match slot.prepared.take() {
            Some((prepared, true)) if prepared == version => {
                slot.canary = Some(version);
                Ok(())
            }
            Some((prepared, false)) if prepared == version => {
                slot.serving.push(version);
                Ok(())
            }
            other => Err(format!("{other:?} is prepared, not {version}")),
        })
    }

    fn discard(&self, tenant: Name, version: Name) {
        let discard = self.go("discard", tenant, |slot| {
            slot.prepared.take_if(|(prepared, _)| *prepared == version);
            Ok(())
        });
        drop(discard);
    }

    fn promote(&self, tenant: Name, version: Name) -> Boxed<Result<(), String>> {
        self.go("promote", tenant, |slot| {
            if slot.canary.take().as_ref() != Some(&version) {
                return Err(format!("{version} is no canary"));
            }
            slot.serving.push(version);
            Ok(())
        })
    }

    fn give_up(&self, tenant: Name, version: Name, _: String) -> Boxed<Result<(), String>> {
        self.go("give up", tenant, |slot| {
            if slot.canary.as_ref() == Some(&version) {
                slot.canary = None;
            } else if slot.serving.last() == Some(&version) {
                slot.serving.pop();
            } else {
                return Err(format!("{version} does not serve"));
            }
            Ok(())
        })
    }

    fn unnamed(&self, _tenant: Name) {}

    fn taken_back(&self) -> mpsc::Receiver<TakenBack> {
        self.state.lock().unwrap().taken_back.take().unwrap()
    }
}
