//! Deploys to the whole cluster: all workers prepare a version, then all switch, or none does.
//!
//! A [`Coordinator`] at the first register takes orders of [`DeployClient`]s (gateways), has the [`Agent`]s
//! (workers) prepare, decides, and writes the next generation of the desired state down. From then
//! on every node that learns of it follows it, whatever was lost meanwhile. Does not know what a
//! component is: that is behind [`Deployables`].

mod agent;
mod change;
mod client;
mod converge;
mod coordinator;
mod keeping;
mod plan;
mod store;
mod transfer;
mod uplink;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tidegate_wire::Name;
pub use tidegate_wire::deploy::{
    COMPONENT_BYTES_MAX, CanaryPlan, DeployError, DeployOrder, Deployed, Desired, Fate, Overview,
    Progress, Release, Running, Step, WorkerState, version_of,
};
use tokio::sync::mpsc;

pub use agent::Agent;
pub use client::{DeployClient, Teller};
pub use coordinator::Coordinator;
pub use store::{Store, StoreError};
use tidegate_link::LinkSettings;

/// What is going to be.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A component, checked against its hash.
#[derive(Clone, Debug)]
pub struct Component {
    /// The content hash, as [`version_of`] gives it.
    pub version: Name,
    /// The name of the file it came from.
    pub source: Name,
    /// The bytes.
    pub bytes: Bytes,
}

/// What runs for a tenant at this worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// A tenant that this worker has settings for.
    pub tenant: Name,
    /// The version that serves, wherever it came from; none if none does.
    pub serving: Option<Name>,
    /// The version that some clients get.
    pub canary: Option<Name>,
    /// A version is on trial: it has just come, or some clients try it.
    pub trial: bool,
    /// What the version that some clients get does too badly to become everybody's.
    pub failing: Option<String>,
}

/// How a version comes to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coming {
    /// For the first time, so long after the decision: it is on trial as long as it is new.
    New(Duration),
    /// Again, in the place of one that was taken back for this reason: it is not.
    Again(String),
}

/// A version that this worker took back by itself, since it failed too often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBack {
    /// Whose.
    pub tenant: Name,
    /// Which.
    pub version: Name,
    /// What went wrong.
    pub reason: String,
}

/// What a worker does with components. The calls for one tenant never overlap, and none is dropped
/// half done.
pub trait Deployables: Send + Sync + 'static {
    /// All tenants that this worker has settings for, and what runs for each now. A deploy for
    /// another tenant is refused naming the worker.
    fn tenants(&self) -> Vec<Serving>;
    /// Compiles, links, checks and starts the version beside what serves. Ready instances are held
    /// until `activate` or `discard`. A second prepare for a tenant discards the first. `steps` is
    /// told [`Step::Compiled`], then [`Step::Started`].
    fn prepare(
        &self,
        tenant: Name,
        component: Component,
        canary: Option<CanaryPlan>,
        steps: mpsc::Sender<Step>,
    ) -> Boxed<Result<(), String>>;
    /// Switches to what was prepared. With a canary: begins it; the cluster promotes it when its
    /// time is over.
    fn activate(&self, tenant: Name, version: Name, coming: Coming) -> Boxed<Result<(), String>>;
    /// What was prepared is not to be.
    fn discard(&self, tenant: Name, version: Name);
    /// The canary under way serves everybody.
    fn promote(&self, tenant: Name, version: Name) -> Boxed<Result<(), String>>;
    /// The version, a canary under way or one that serves everybody, is no longer wanted: what
    /// served before it serves again (for the latter: what the configuration names, if anything).
    fn give_up(&self, tenant: Name, version: Name, reason: String) -> Boxed<Result<(), String>>;
    /// The cluster names no version any more: where what the configuration names serves, it may follow
    /// its file again. Told more than once.
    fn unnamed(&self, tenant: Name);
    /// The versions that this worker takes back by itself from now on: told before `tenants` shows
    /// it, so that what failed is not started again. Asked for once.
    fn taken_back(&self) -> mpsc::Receiver<TakenBack>;
}

/// Where a node finds registers.
#[derive(Clone, Debug)]
pub enum Coordinators {
    /// `"host:port"` of each, as configured: the first takes the orders.
    Registers(Vec<String>),
    /// In this process.
    Here(Coordinator),
}

/// Times and bounds of deploys.
#[derive(Clone, Copy, Debug)]
pub struct DeploySettings {
    /// Of the links.
    pub link: LinkSettings,
    /// The shortest wait before connecting again, and before trying again what did not work.
    pub reconnect_min: Duration,
    /// The longest.
    pub reconnect_max: Duration,
    /// How long a coordinator to which no node had a link waits, from the first link on, before it takes
    /// who is missing for away, and carries an order out: longer than the longest wait of a node before
    /// it connects again. Nothing where all is one process.
    pub grace: Duration,
    /// How long workers may take to prepare.
    pub prepare_max: Duration,
    /// How long is waited for workers to switch before the order is told done without them.
    pub switch_max: Duration,
    /// How long a worker holds what it has prepared without a word from the coordinator.
    pub hold_max: Duration,
}

impl Default for DeploySettings {
    fn default() -> Self {
        Self {
            link: LinkSettings::default(),
            reconnect_min: Duration::from_millis(100),
            reconnect_max: Duration::from_secs(3),
            grace: Duration::from_secs(5),
            prepare_max: Duration::from_secs(300),
            switch_max: Duration::from_secs(30),
            hold_max: Duration::from_secs(60),
        }
    }
}

/// By the clock of this machine.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 is no clock.
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Shared by the services of one process.
type Shared<T> = Arc<T>;
