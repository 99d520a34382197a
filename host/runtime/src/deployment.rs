//! One plugin version for one tenant on N instances: start, dispatch, swap, stop.
//!
//! Each instance sits on a seat: a task with a bounded mailbox. A client's events all go to one
//! seat, in order. A swap starts a whole new set of instances beside the old ones and then gives
//! each seat its new instance between two events, so that mailboxes and their order survive; if any
//! of them does not start, nothing changes. Every job is committed exactly once, whatever happens.

mod breaker;
mod hand_over;
mod job;
mod meters;
mod rollout;
mod seat;
mod settings;
mod starting;
mod ticket;
mod versions;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_wire::Name;
use tidegate_wire::id::ClientId;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::engine::Runtime;
use crate::plugin::{Plugin, PluginError};
use crate::version::Version;

use meters::Meters;
use rollout::stopped;
use seat::{Common, Order, Seat};
use starting::{Started, start_instances};
use ticket::{Load, Ticket};
use versions::Versions;

pub use job::{Asking, Boxed, EventContext, Job};
pub use settings::{DeploymentSettings, Rollout};
pub use versions::{VersionRecord, VersionState};

/// Worker losses after which an event runs alone.
const LOSSES_MAX: u8 = 2;
/// One take-over and one stop can be under way.
const ORDERS_MAX: usize = 4;

/// A running deployment. Clones are handles to the same; when the last one goes without
/// [`Deployment::stop`], waiting events are given back and on-stop does not run.
#[derive(Clone)]
pub struct Deployment {
    shared: Arc<Shared>,
}

struct Shared {
    common: Arc<Common>,
    settings: DeploymentSettings,
    seats: Vec<SeatHandle>,
    quarantine: SeatHandle,
    load: Arc<Load>,
    version: watch::Sender<Name>,
    versions: Mutex<Versions>,
    /// One swap at a time; closed once the deployment stops.
    swaps: Semaphore,
}

struct SeatHandle {
    mailbox: mpsc::Sender<Ticket>,
    orders: mpsc::Sender<Order>,
    task: AbortHandle,
}

impl SeatHandle {
    fn spawn(
        common: &Arc<Common>,
        version: &Arc<Version>,
        started: Option<Started>,
        number: usize,
        mailbox_events: usize,
    ) -> Self {
        let (mailbox, jobs) = mpsc::channel(mailbox_events);
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let (common, version) = (Arc::clone(common), Arc::clone(version));
        let tasks = common.tasks.clone();
        let seat = Seat::new(number, common, version, started, received);
        let task = tasks.spawn(seat.run(jobs)).abort_handle();
        Self {
            mailbox,
            orders,
            task,
        }
    }
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
        mut settings: DeploymentSettings,
    ) -> Result<Self, PluginError> {
        plugin.handler()?;
        settings.instances = settings.instances.clamp(1, u16::MAX.into());
        settings.mailbox_events = settings.mailbox_events.max(1);
        // The pool admits no more; reports name the limit that holds.
        let memory_bytes = &mut settings.limits.memory_bytes;
        *memory_bytes = (*memory_bytes).min(runtime.memory_bytes_max());
        let version = Version::new(plugin, &settings.whose());
        let instances = start_instances(runtime, &version, settings.instances).await?;
        let common = Arc::new(Common {
            runtime: runtime.clone(),
            rollout: settings.rollout,
            letters: DeadLetters::default(),
            meters: Arc::new(Meters::new(&settings.tenant)),
            tasks: TaskTracker::new(),
        });
        let seat = |started: Option<Started>, number: usize| {
            SeatHandle::spawn(&common, &version, started, number, settings.mailbox_events)
        };
        let seats: Vec<SeatHandle> = instances
            .into_iter()
            .enumerate()
            .map(|(number, started)| seat(Some(started), number))
            .collect();
        let quarantine = seat(None, settings.instances);
        let plugin = &version.plugin;
        let versions = Versions::new(plugin, settings.rollout.versions_kept);
        let (version, _) = watch::channel(plugin.version().clone());
        Ok(Self {
            shared: Arc::new(Shared {
                common,
                seats,
                quarantine,
                load: Arc::new(Load::default()),
                version,
                versions: Mutex::new(versions),
                swaps: Semaphore::new(1),
                settings,
            }),
        })
    }

    /// Hands an event to its client's instance. Never waits: if the mailbox is full the event is
    /// given back at once.
    pub fn dispatch(&self, job: Job) {
        let shared = &self.shared;
        let client = job.delivery.client;
        // Later events of a client whose event is in quarantine wait behind it.
        let alone = job.delivery.losses >= LOSSES_MAX || shared.load.is_quarantined(client);
        let seat = if alone {
            Some(&shared.quarantine)
        } else {
            shared.seats.get(seat_of(client, shared.seats.len()))
        };
        let ticket = Ticket::new(
            job,
            Arc::clone(&shared.load),
            Arc::clone(&shared.common.meters),
            alone,
        );
        if let Some(seat) = seat {
            // A ticket that is refused is dropped, and so given back.
            let _ = seat.mailbox.try_send(ticket);
        }
    }

    /// Goes over to another version. Goes on to its end even if the caller stops waiting.
    ///
    /// # Errors
    /// If any instance of the new version does not start: the old one serves on.
    pub async fn swap(&self, plugin: Plugin) -> Result<(), PluginError> {
        let name = plugin.source().to_string();
        let swap = Arc::clone(&self.shared).swap(plugin);
        on_its_own(name, swap).await
    }

    /// Goes back to a version that is still compiled; without `to` the one that served before.
    ///
    /// # Errors
    /// If it is not kept or does not start any more: the version that serves goes on.
    pub async fn rollback(&self, to: Option<&str>) -> Result<(), PluginError> {
        let name = self.shared.settings.tenant.to_string();
        let to = to.map(ToOwned::to_owned);
        let back = Arc::clone(&self.shared).roll_back(to, "told to");
        on_its_own(name, back).await
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

    /// The version that serves; changes once all instances have changed.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<Name> {
        self.shared.version.subscribe()
    }

    /// Takes no more events, finishes those that wait, runs on-stop. What is not done by the
    /// deadline is given back.
    pub async fn stop(&self, deadline: Duration) {
        let shared = &self.shared;
        shared.swaps.close();
        for seat in shared.all_seats() {
            // Full only if a stop is under way already.
            let _ = seat.orders.try_send(Order::Stop);
        }
        shared.common.tasks.close();
        if tokio::time::timeout(deadline, shared.common.tasks.wait())
            .await
            .is_err()
        {
            for seat in shared.all_seats() {
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
async fn on_its_own(
    name: String,
    change: impl Future<Output = Result<(), PluginError>> + Send + 'static,
) -> Result<(), PluginError> {
    match tokio::spawn(change).await {
        Ok(result) => result,
        Err(_) => Err(stopped(&name)),
    }
}

impl Shared {
    fn versions(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all_seats(&self) -> impl Iterator<Item = &SeatHandle> {
        self.seats.iter().chain(std::iter::once(&self.quarantine))
    }
}

/// A client stays with its instance. Multiplied so that neighbours among connection numbers, whose
/// low bits are the shard, spread evenly.
fn seat_of(client: ClientId, seats: usize) -> usize {
    let bits = (u64::from(client.ip) << 32)
        ^ (u64::from(client.port) << 24)
        ^ u64::from(client.connection);
    let hash = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The high half, scaled down to the number of seats.
    let scaled = (u128::from(hash) * seats as u128) >> 64;
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_spread_over_all_seats_and_each_stays_on_its_own() {
        let client = |connection| ClientId {
            ip: 0x7f00_0001,
            port: 7272,
            connection,
        };
        let mut counts = [0_u32; 4];
        for connection in 0..4000 {
            let seat = seat_of(client(connection), 4);
            assert_eq!(seat, seat_of(client(connection), 4));
            counts[seat] += 1;
        }
        assert!(counts.iter().all(|count| *count > 800), "{counts:?}");
    }
}
