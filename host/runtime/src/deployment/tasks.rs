//! Tasks: work beside the seats, each on a fresh instance of its own.
//!
//! Guarantees: no more than so many run at a time, and those beyond are given back at once, so that they may go
//! to another worker, and none is taken for one that was running; a task that breaks its
//! instance is tried once more, while its version is on trial under the version before; each is committed
//! once, whatever happens. A swap lets those that run go on under their version, and begins the next ones
//! under the new one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tidegate_watchdog::watched;
use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::id::{ClientId, EventId};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::DeploymentShared;
use super::probation::Probation;
use super::seat::Common;
use super::ticket::{Ticket, payload_bytes};
use crate::dead_letter::DeadLetter;
use crate::host_api::Identity;
use crate::instance::{Failure, Instance, Ran};
use crate::version::Version;

/// How often a task is tried.
const TRIES_MAX: usize = 2;
/// How long until an instance that could not be built is built again; each time twice as long.
const BUILD_AGAIN: Duration = Duration::from_millis(100);
/// How often; then the task is given back.
const BUILDS_MAX: u32 = 6;

/// The tasks of a deployment.
pub(super) struct Tasks {
    slots: Arc<Semaphore>,
    /// Those that run, to be ended.
    all: Arc<Mutex<HashMap<(EventId, u8), CancellationToken>>>,
    /// The version that new ones run under.
    serving: Mutex<Served>,
    /// None begins any more.
    stopping: CancellationToken,
    /// Those that run are given back, also if the deployment is dropped.
    ended: CancellationToken,
    _end: DropGuard,
}

/// A version, and how it does if it is on trial.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) version: Arc<Version>,
    pub(super) probation: Option<Arc<Probation>>,
}

impl Tasks {
    pub(super) fn new(instances: usize, serving: Served) -> Self {
        let ended = CancellationToken::new();
        Self {
            slots: Arc::new(Semaphore::new(instances.max(1))),
            all: Arc::default(),
            serving: Mutex::new(serving),
            stopping: CancellationToken::new(),
            _end: ended.clone().drop_guard(),
            ended,
        }
    }

    /// From now on they run under this version.
    pub(super) fn serve(&self, serving: Served) {
        *self.serving.lock().unwrap_or_else(PoisonError::into_inner) = serving;
    }

    /// Ends this attempt at a task, if it runs.
    pub(super) fn cancel(&self, event: EventId, attempt: u8) {
        if let Some(task) = table(&self.all).get(&(event, attempt)) {
            task.cancel();
        }
    }

    /// None begins any more.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// None goes on.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

type Table = Mutex<HashMap<(EventId, u8), CancellationToken>>;

/// Plain data: whoever panicked while holding the lock left it usable.
fn table(table: &Table) -> MutexGuard<'_, HashMap<(EventId, u8), CancellationToken>> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DeploymentShared {
    /// Runs a task, if there is room for one more; else it is given back.
    pub(super) fn run_task(self: &Arc<Self>, ticket: Ticket) {
        let slot = Arc::clone(&self.tasks.slots).try_acquire_owned();
        let Some(slot) = slot.ok().filter(|_| !self.tasks.stopping.is_cancelled()) else {
            return;
        };
        let delivery = &ticket.job().delivery;
        let key = (delivery.event, delivery.attempt);
        let cancelled = CancellationToken::new();
        table(&self.tasks.all).insert(key, cancelled.clone());
        let all = Arc::clone(&self.tasks.all);
        let ended = self.tasks.ended.clone();
        let mut runner = TaskRunner {
            deployment: Arc::downgrade(self),
            common: Arc::clone(&self.common),
            ticket: Some(ticket),
        };
        let run = async move {
            let _slot = slot;
            tokio::select! {
                biased;
                // Given back as it is dropped.
                () = ended.cancelled() => {}
                () = cancelled.cancelled() => runner.cancelled(),
                () = runner.run() => {}
            }
            table(&all).remove(&key);
        };
        let name = format!("a task of tenant {}", self.settings.tenant);
        self.common.tasks.spawn(watched(name, run));
    }

    /// The version that runs the tasks of this client now.
    fn served_to(&self, client: ClientId) -> Served {
        let canary = self.routes().canary.clone();
        if let Some(canary) = canary.filter(|canary| canary.share.takes(client)) {
            return canary.served.clone();
        }
        let serving = self.tasks.serving.lock();
        serving.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One task on its way to its commit.
struct TaskRunner {
    /// Not held while it runs.
    deployment: Weak<DeploymentShared>,
    common: Arc<Common>,
    /// None once it is committed.
    ticket: Option<Ticket>,
}

/// What has become of a try.
enum Tried {
    Over,
    /// It broke its instance, or was refused where that counts: it has another try, if there is one.
    Again {
        reason: String,
        refused: bool,
    },
}

impl TaskRunner {
    fn cancelled(mut self) {
        self.commit(Outcome::Failed, Some(Reply::Failed("cancelled".to_owned())));
    }

    fn commit(&mut self, outcome: Outcome, reply: Option<Reply>) {
        if let Some(ticket) = self.ticket.take() {
            ticket.reply(outcome, Vec::new(), reply);
        }
    }

    async fn run(&mut self) {
        let mut tries = 0;
        while let Some(ticket) = &self.ticket {
            let whose = ticket.task_client();
            let Some(deployment) = self.deployment.upgrade() else {
                return;
            };
            let Served { version, probation } = deployment.served_to(whose);
            drop(deployment);
            let probation = probation.filter(|it| !it.is_over());
            let before = probation.as_ref().and_then(|it| it.before.clone());
            // The version before runs what the one on trial could not.
            let rescuer = before.as_ref().filter(|_| tries > 0);
            let counted = probation.as_ref().filter(|_| rescuer.is_none());
            let running = rescuer.unwrap_or(&version);
            let Some(instance) = self.build(running).await else {
                return;
            };
            let tried = self
                .try_once(running, instance, counted, before.is_some())
                .await;
            match tried {
                Tried::Over => {
                    if rescuer.is_some()
                        && let Some(probation) = &probation
                    {
                        self.common.meters.rescued();
                        probation.moved.rescued(whose, Instant::now());
                    }
                    return;
                }
                Tried::Again { .. } if tries + 1 < TRIES_MAX => tries += 1,
                Tried::Again {
                    reason,
                    refused: true,
                } => return self.commit(Outcome::Failed, Some(Reply::Failed(reason))),
                Tried::Again { reason, .. } => return self.set_aside(running, reason),
            }
        }
    }

    /// An instance for one task; none if it cannot be built: then the task is given back.
    async fn build(&self, version: &Arc<Version>) -> Option<Instance> {
        let identity = &version.of_tasks;
        let output = version.output_of_tasks();
        let mut wait = BUILD_AGAIN;
        for _ in 0..BUILDS_MAX {
            let (runtime, plugin) = (&self.common.runtime, &version.plugin);
            let built = Instance::start(runtime, plugin, identity, u32::MAX, &output).await;
            let error = match built {
                Ok(instance) => return Some(instance),
                Err(error) => error,
            };
            tracing::error!(
                tenant = &*identity.tenant,
                plugin = &*identity.plugin,
                version = &*identity.version,
                %error,
                "no instance can be built for a task; it waits"
            );
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        None
    }

    async fn try_once(
        &mut self,
        version: &Arc<Version>,
        mut instance: Instance,
        counted: Option<&Arc<Probation>>,
        has_before: bool,
    ) -> Tried {
        let identity = &version.of_tasks;
        let Some(ticket) = &mut self.ticket else {
            return Tried::Over;
        };
        let whose = ticket.task_client();
        let ran = instance
            .handle(ticket.job(), tokio::time::Instant::now())
            .await;
        if let Some(steps) = instance.steps() {
            // Should it be tried again, what is committed is known.
            ticket.set_committed_steps(steps.committed);
            if steps.is_void {
                // Whatever came of it is the fault of nobody here. Given back as it is dropped.
                self.ticket = None;
                return Tried::Over;
            }
        }
        let ended = |failed| {
            if let Some(probation) = counted {
                // However long: tasks may take their time.
                probation.tally.ended(whose, Duration::ZERO, failed);
            }
        };
        let (effects, reply) = match ran {
            Ran::Answered(effects, reply) => (effects, Some(reply)),
            Ran::Done(effects) => (effects, None),
            Ran::Unhandled => {
                report_unhandled(identity, ticket);
                self.commit(Outcome::Failed, Some(Reply::Unhandled));
                return Tried::Over;
            }
            Ran::Refused(mut reason) => {
                let bytes_max = identity.limits.effect_bytes_max;
                reason.truncate(reason.floor_char_boundary(bytes_max));
                report_refusal(identity, ticket, &reason);
                ended(true);
                let counts = counted.is_some_and(|it| it.tally.counts_errors());
                if has_before && counts {
                    let refused = true;
                    return Tried::Again { reason, refused };
                }
                self.commit(Outcome::Failed, Some(Reply::Failed(reason)));
                return Tried::Over;
            }
            Ran::Broken(failure) => {
                self.common.meters.trap(failure.kind);
                report_failure(identity, ticket, &failure);
                if let Some(probation) = counted {
                    probation.tally.trapped(whose);
                    probation.tally.failed(whose);
                }
                return Tried::Again {
                    reason: failure.reason,
                    refused: false,
                };
            }
        };
        ended(false);
        if let Some(ticket) = self.ticket.take() {
            ticket.reply(Outcome::Done, effects, reply);
        }
        // Its on-stop is no part of the task.
        self.common.tasks.spawn(instance.stop());
        Tried::Over
    }

    fn set_aside(&mut self, version: &Arc<Version>, reason: String) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        let delivery = &ticket.job().delivery;
        let identity = &version.of_tasks;
        let letter = DeadLetter {
            event: delivery.event,
            client: ticket.task_client(),
            kind: delivery.kind.name(),
            bytes: payload_bytes(&delivery.kind),
            version: identity.version.clone(),
            reason: reason.clone(),
        };
        self.common.letters.add(&identity.tenant, letter);
        let reply = Reply::Failed(format!("it broke its instance at each try: {reason}"));
        ticket.reply(Outcome::DeadLettered, Vec::new(), Some(reply));
    }
}

fn report_unhandled(identity: &Identity, ticket: &Ticket) {
    tracing::warn!(
        tenant = &*identity.tenant,
        plugin = &*identity.plugin,
        version = &*identity.version,
        event = %ticket.job().delivery.event,
        "a task was submitted, and the plugin exports no task-events"
    );
}

fn report_refusal(identity: &Identity, ticket: &Ticket, text: &str) {
    tracing::warn!(
        tenant = &*identity.tenant,
        plugin = &*identity.plugin,
        version = &*identity.version,
        event = %ticket.job().delivery.event,
        error = text.get(..text.floor_char_boundary(1024)).unwrap_or_default(),
        "a task returned an error; its effects since its last step are dropped"
    );
}

fn report_failure(identity: &Identity, ticket: &Ticket, failure: &Failure) {
    tracing::error!(
        tenant = &*identity.tenant,
        plugin = &*identity.plugin,
        version = &*identity.version,
        event = %ticket.job().delivery.event,
        failure = failure.kind.name(),
        reason = failure.reason,
        stderr = failure.stderr,
        backtrace = failure.backtrace,
        "a task broke its instance"
    );
}
