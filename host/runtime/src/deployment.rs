//! One plugin version for one tenant on N instances: start, dispatch, swap, stop.
//!
//! Each instance sits on a seat: a task with a bounded mailbox. A client's events all go to one
//! seat, in order. A swap starts a whole new set of instances beside the old ones and then gives
//! each seat its new instance between two events, so that mailboxes and their order survive; if any
//! of them does not start, nothing changes. Every job is committed exactly once, whatever happens.

mod breaker;
mod canary;
mod hand_over;
mod job;
mod messages;
mod meters;
mod peers;
mod prepared;
mod probation;
mod rollout;
mod routes;
mod seat;
mod settings;
mod starting;
mod suspects;
mod tally;
mod tasks;
mod ticket;
mod trial;
mod versions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::event::EventKind;
use tidegate_wire::id::EventId;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::task::TaskTracker;

use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::engine::Runtime;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

use messages::SeatMessage;
use meters::Meters;
use probation::Probation;
use rollout::stopped;
use routes::{RouteKind, RoutePlace, Routes, SeatHandle, seat_of};
use seat::{Common, Order};
use starting::{Started, start_instances};
use suspects::Suspects;
use tasks::{Served, Tasks};
use ticket::{Load, Ticket};
use trial::Trials;
use versions::Versions;

pub use job::{Asking, Boxed, EventContext, Job};
pub use prepared::{Prepared, Tried};
pub use rollout::Condemned;
pub use settings::{Bounds, DeploymentSettings, Rollout};
pub use versions::{VersionRecord, VersionState};

/// Versions that crossed a bound and were not heard of yet.
const CONDEMNED_MAX: usize = 16;

/// A running deployment. Clones are handles to the same; when the last one goes without
/// [`Deployment::stop`], waiting events are given back and on-stop does not run.
#[derive(Clone)]
pub struct Deployment {
    shared: Arc<DeploymentShared>,
}

struct DeploymentShared {
    common: Arc<Common>,
    settings: DeploymentSettings,
    seats: Vec<SeatHandle>,
    quarantine: SeatHandle,
    tasks: Tasks,
    routes: RwLock<Routes>,
    load: Arc<Load>,
    version: watch::Sender<Name>,
    condemned: broadcast::Sender<Condemned>,
    versions: Mutex<Versions>,
    trials: Mutex<Trials>,
    /// Until it serves.
    first: Mutex<Option<Arc<Probation>>>,
    /// One change at a time; closed once the deployment stops.
    changes: Semaphore,
}

impl std::fmt::Debug for Deployment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployment")
            .field("tenant", &self.shared.settings.tenant)
            .field("version", &*self.shared.version.borrow())
            .finish_non_exhaustive()
    }
}

impl Deployment {
    /// Starts all instances; ready when each one's on-start returned ok.
    ///
    /// # Errors
    /// If an instance does not start; nothing is left running.
    pub async fn start(
        runtime: &Runtime,
        plugin: Plugin,
        settings: DeploymentSettings,
    ) -> Result<Self, PluginError> {
        let deployment = Self::start_first(runtime, plugin, settings).await?;
        deployment.serve_first(None);
        Ok(deployment)
    }

    /// The same with a version that nothing stands before and that may be on trial once it serves:
    /// what that means is said to [`Deployment::serve_first`].
    ///
    /// # Errors
    /// If an instance does not start; nothing is left running.
    pub async fn start_first(
        runtime: &Runtime,
        plugin: Plugin,
        mut settings: DeploymentSettings,
    ) -> Result<Self, PluginError> {
        plugin.handler()?;
        settings.instances = settings.instances.clamp(1, u16::MAX.into());
        settings.mailbox_events = settings.mailbox_events.max(1);
        // The pool admits no more; reports name the limit that holds.
        let memory_bytes = &mut settings.limits.memory_bytes;
        *memory_bytes = (*memory_bytes).min(runtime.memory_bytes_max());
        let version = Version::new(plugin, &settings.whose());
        let instances = start_instances(runtime, &version, 0, settings.instances).await?;
        let common = Arc::new(Common {
            runtime: runtime.clone(),
            rollout: settings.rollout,
            seats: settings.instances,
            mailbox_events: settings.mailbox_events,
            letters: DeadLetters::default(),
            suspects: Suspects::default(),
            meters: Arc::new(Meters::new(&settings.tenant)),
            tasks: TaskTracker::new(),
        });
        let bounds = settings.rollout.bounds;
        let first =
            (bounds.window_ms > 0).then(|| Probation::new(version.plugin.version(), bounds, None));
        let seat = |started: Option<Started>, number: usize, kind: RouteKind| {
            let place = RoutePlace {
                common: &common,
                version: &version,
                number,
                mailbox_events: settings.mailbox_events,
                kind,
                after: Vec::new(),
                probation: first.clone(),
            };
            SeatHandle::spawn(place, started)
        };
        let quarantine = seat(None, settings.instances, RouteKind::Quarantine);
        let own = || RouteKind::Own {
            quarantine: quarantine.mailbox.clone(),
        };
        let seats: Vec<SeatHandle> = instances
            .into_iter()
            .enumerate()
            .map(|(number, started)| seat(Some(started), number, own()))
            .collect();
        let served = Served {
            version: Arc::clone(&version),
            probation: first.clone(),
        };
        let plugin = &version.plugin;
        let versions = Versions::new(plugin, settings.rollout.versions_kept);
        let (version, _) = watch::channel(plugin.version().clone());
        Ok(Self {
            shared: Arc::new(DeploymentShared {
                load: Arc::new(Load::new(Arc::clone(&common.meters))),
                common,
                seats,
                quarantine,
                tasks: Tasks::new(settings.task_instances, served),
                routes: RwLock::default(),
                version,
                condemned: broadcast::Sender::new(CONDEMNED_MAX),
                versions: Mutex::new(versions),
                trials: Mutex::default(),
                first: Mutex::new(first),
                changes: Semaphore::new(1),
                settings,
            }),
        })
    }

    /// A version that nothing stands before serves from now on: on trial for so long, or not at all.
    /// Crosses it a bound, [`Deployment::condemned`] tells, and it serves on.
    pub fn serve_first(&self, within: Option<Duration>) {
        let first = self.shared.first.lock();
        let first = first.unwrap_or_else(PoisonError::into_inner).take();
        match (first, within.filter(|it| !it.is_zero())) {
            (Some(first), Some(within)) => self.shared.watch_serving(Some((first, within))),
            (Some(first), None) => first.tally.close(),
            (None, _) => {}
        }
    }

    /// Whether a version is on trial: one that some clients try, or that has just come.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.shared.has_trial()
    }

    /// What the version that some clients try does too badly to serve all, if it does.
    #[must_use]
    pub fn canary_failing(&self) -> Option<String> {
        let violation = self.shared.canary_trial()?.tally.violation_at_end()?;
        Some(violation.to_string())
    }

    /// Hands an event to its client's instance. Never waits: if the mailbox is full the event is
    /// given back at once.
    pub fn dispatch(&self, job: Job) {
        let shared = &self.shared;
        let client = job.delivery.client;
        let ticket = Ticket::new(job, Arc::clone(&shared.load));
        if matches!(ticket.job().delivery.kind, EventKind::Task { .. }) {
            return shared.run_task(ticket);
        }
        let number = seat_of(client, shared.seats.len());
        // Held while the event is sent: no mark comes between the choice of a seat and its mailbox.
        let routes = shared.routes();
        let canary = routes.canary.as_deref();
        let seat = match canary.filter(|canary| canary.share.takes(client)) {
            Some(canary) => canary.seat_of(number, shared.seats.len()),
            None => shared.seats.get(number),
        };
        let refused = match seat {
            Some(seat) => seat.mailbox.try_send(SeatMessage::Event(ticket)).err(),
            None => None,
        };
        drop(routes);
        // A ticket that is refused is dropped, and so given back.
        drop(refused);
    }

    /// Ends this attempt at a task, if it waits or runs here.
    pub fn cancel_task(&self, event: EventId, attempt: u8) {
        self.shared.tasks.cancel(event, attempt);
    }

    /// Goes over to another version: at once, or on the clients of a canary first. Goes on to its
    /// end even if the caller stops waiting. A canary that is under way gives place to the new one.
    ///
    /// # Errors
    /// If any instance of the new version does not start: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let name = plugin.source().to_string();
        let swap = Arc::clone(&self.shared).swap(plugin);
        on_its_own(name, swap).await
    }

    /// Lets all clients follow those that try a version.
    ///
    /// # Errors
    /// If none is tried, or it does not start on all instances: then it is given up.
    pub async fn promote(&self) -> Result<(), PluginError> {
        let name = self.shared.settings.tenant.to_string();
        on_its_own(name, Arc::clone(&self.shared).promote(None)).await
    }

    /// Goes back to a version that is still compiled. Without `to`: gives up the one that is tried,
    /// or goes back to the one that served before.
    ///
    /// # Errors
    /// If it is not kept or does not start any more: the version that serves goes on.
    pub async fn rollback(&self, to: Option<&str>) -> Result<(), PluginError> {
        let name = self.shared.settings.tenant.to_string();
        let to = to.map(ToOwned::to_owned);
        on_its_own(name, Arc::clone(&self.shared).roll_back(to)).await
    }

    /// Gives up this version if some clients try it; false if they do not.
    ///
    /// # Errors
    /// If the deployment has stopped.
    pub async fn abandon(&self, version: &Name, reason: String) -> Result<bool, PluginError> {
        let name = self.shared.settings.tenant.to_string();
        let abandon = Arc::clone(&self.shared).abandon(version.clone(), reason);
        on_its_own(name, abandon).await
    }

    /// Versions that cross a bound from now on.
    #[must_use]
    pub fn condemned(&self) -> broadcast::Receiver<Condemned> {
        self.shared.condemned.subscribe()
    }

    /// The version that some clients try.
    #[must_use]
    pub fn canary(&self) -> Option<Name> {
        let routes = self.shared.routes();
        let canary = routes.canary.as_ref();
        canary.map(|canary| canary.plugin().version().clone())
    }

    /// What became of the versions of this deployment, oldest first; the last hundred.
    #[must_use]
    pub fn history(&self) -> Vec<VersionRecord> {
        self.shared.versions().history()
    }

    /// A version that needs no compilation.
    #[must_use]
    pub fn kept(&self, version: &str) -> Option<Plugin> {
        self.shared.versions().kept(version)
    }

    /// Whether the version that serves takes requests by HTTP; changes with [`version`](Self::version).
    #[must_use]
    pub fn takes_http(&self) -> bool {
        self.shared.versions().serving().takes_http()
    }

    /// The version that serves; changes once all instances have changed.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<Name> {
        self.shared.version.subscribe()
    }

    /// Takes no more events, finishes those that wait, runs on-stop. What is not done by the
    /// deadline is given back.
    pub async fn stop(&self, deadline: Duration) {
        let shared = &self.shared;
        shared.changes.close();
        shared.tasks.stop();
        let canaries = {
            let mut routes = shared.routes_mut();
            routes.stopped = true;
            [routes.canary.clone(), routes.leaving.clone()]
        };
        let tried = || canaries.iter().flatten().flat_map(|canary| &canary.seats);
        for seat in shared.all_seats().chain(tried()) {
            // Full only if a stop is under way already.
            let _ = seat.orders.try_send(Order::Stop);
        }
        // No last mail will come; without it they end when they are done.
        for canary in canaries.iter().flatten() {
            drop(canary.take_leave());
        }
        shared.common.tasks.close();
        if tokio::time::timeout(deadline, shared.common.tasks.wait())
            .await
            .is_err()
        {
            shared.tasks.end();
            for seat in shared.all_seats().chain(tried()) {
                seat.task.abort();
            }
            // An aborted task ends at its guest's next tick; an on-stop under way has its limits.
            shared.common.tasks.wait().await;
        }
    }

    /// Bytes of the events that wait or run.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.shared.load.bytes()
    }

    /// Events that wait or run.
    #[must_use]
    pub fn queued_events(&self) -> u64 {
        self.shared.load.events()
    }

    /// The last events that were set aside, oldest first.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.shared.common.letters.list()
    }
}

/// Runs a change that must not end half-way when its caller does.
async fn on_its_own<T: Send + 'static>(
    name: String,
    change: impl Future<Output = Result<T, PluginError>> + Send + 'static,
) -> Result<T, PluginError> {
    match tokio::spawn(change).await {
        Ok(result) => result,
        Err(_) => Err(stopped(&name)),
    }
}

impl DeploymentShared {
    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trials(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> RwLockReadGuard<'_, Routes> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes_mut(&self) -> RwLockWriteGuard<'_, Routes> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_seats(&self) -> impl Iterator<Item = &SeatHandle> {
        self.seats.iter().chain(std::iter::once(&self.quarantine))
    }
}
