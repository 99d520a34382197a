//! A seat: the task that owns one instance and drains its mailbox, event by event.
//!
//! An instance that breaks is dropped and built again, and its event is tried once more on the
//! fresh one; if that breaks too, the event is set aside and the next one runs. A seat never stops
//! serving: while no instance can be built it waits, and its mailbox with it. Between two events it
//! obeys orders: take over a new version, or finish.
//!
//! The quarantine seat is one of them, with a fresh instance for each event.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::EventKind;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

use super::Job;
use super::breaker::Breaker;
use super::hand_over::Parties;
use super::meters::Meters;
use super::settings::Rollout;
use super::starting::Started;
use super::ticket::{Ticket, payload_bytes};
use crate::dead_letter::{DeadLetter, DeadLetters};
use crate::engine::Runtime;
use crate::host_api::OutputLog;
use crate::instance::{Failure, Instance, Ran};
use crate::version::Version;

/// Events taken from the mailbox at once.
const BATCH_EVENTS_MAX: usize = 64;
/// How long a seat runs before it lets other tasks of its thread run.
const TURN_MAX: Duration = Duration::from_millis(1);
/// How often an event is tried.
const TRIES_MAX: usize = 2;

/// What a seat is told.
pub(super) enum Order {
    /// Serve this version from now on.
    TakeOver {
        version: Arc<Version>,
        /// None for quarantine, which builds its own.
        started: Option<Box<Started>>,
        done: oneshot::Sender<()>,
    },
    /// Finish what waits, run on-stop, end.
    Stop,
}

/// What all seats of a deployment share.
pub(super) struct Common {
    pub(super) runtime: Runtime,
    pub(super) rollout: Rollout,
    pub(super) letters: DeadLetters,
    pub(super) meters: Arc<Meters>,
    pub(super) tasks: TaskTracker,
}

pub(super) struct Seat {
    number: u32,
    common: Arc<Common>,
    version: Arc<Version>,
    output: Arc<OutputLog>,
    instance: Option<Instance>,
    quarantine: bool,
    orders: mpsc::Receiver<Order>,
    stopping: bool,
    breaker: Breaker,
    /// How long to wait before the next instance is built.
    delay: Duration,
}

impl Seat {
    /// A seat that has started; without an instance it is the quarantine.
    pub(super) fn new(
        number: u32,
        common: Arc<Common>,
        version: Arc<Version>,
        started: Option<Started>,
        orders: mpsc::Receiver<Order>,
    ) -> Self {
        let quarantine = started.is_none();
        let (instance, output) = match started {
            Some(started) => (Some(started.instance), started.output),
            None => (None, version.output(number)),
        };
        Self {
            number,
            common,
            version,
            output,
            instance,
            quarantine,
            orders,
            stopping: false,
            breaker: Breaker::default(),
            delay: Duration::ZERO,
        }
    }

    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Ticket>) {
        let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv(), if !self.stopping => match order {
                    Some(order) => self.obey(order).await,
                    // The deployment is gone: what waits is given back as it is dropped.
                    None => return,
                },
                count = mailbox.recv_many(&mut batch, BATCH_EVENTS_MAX) => {
                    if count == 0 {
                        break;
                    }
                    self.handle_batch(&mut batch).await;
                }
            }
            if self.stopping {
                mailbox.close();
            }
        }
        if let Some(instance) = self.instance.take() {
            instance.stop().await;
        }
    }

    async fn handle_batch(&mut self, batch: &mut Vec<Ticket>) {
        let mut turn = Instant::now();
        for ticket in batch.drain(..) {
            while !self.stopping
                && let Ok(order) = self.orders.try_recv()
            {
                self.obey(order).await;
            }
            self.handle(ticket).await;
            if turn.elapsed() > TURN_MAX {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Stop => self.stopping = true,
            Order::TakeOver {
                version,
                started,
                done,
            } => {
                self.take_over(version, started).await;
                // Nobody waits if the swap was given up.
                let _ = done.send(());
            }
        }
    }

    async fn take_over(&mut self, version: Arc<Version>, started: Option<Box<Started>>) {
        let before = std::mem::replace(&mut self.version, version);
        self.output = match &started {
            Some(started) => Arc::clone(&started.output),
            None => self.version.output(self.number),
        };
        self.breaker = Breaker::default();
        self.delay = Duration::ZERO;
        let new = started.map(|started| started.instance);
        let (old, new) = match (self.instance.take(), new) {
            (Some(old), Some(new)) => {
                let parties = Parties {
                    old: &before.identity,
                    new: &self.version.identity,
                    seat: self.number,
                    rollout: &self.common.rollout,
                    meters: &self.common.meters,
                };
                parties.hand_over(old, new).await
            }
            others => others,
        };
        self.instance = new;
        // The old one says goodbye beside the new one's first events.
        if let Some(old) = old {
            self.common.tasks.spawn(old.stop());
        }
    }

    async fn handle(&mut self, ticket: Ticket) {
        let mut reason = String::new();
        for _ in 0..TRIES_MAX {
            let Some(instance) = self.instance().await else {
                // Stopping, and no instance can be had: given back.
                return;
            };
            let ran = instance.handle(ticket.job()).await;
            if self.quarantine {
                self.instance = None;
            }
            match ran {
                Ran::Done(effects) => return ticket.commit(Outcome::Done, effects),
                Ran::Answered(effects, reply) => {
                    return ticket.reply(Outcome::Done, effects, Some(Reply::Ok(reply)));
                }
                Ran::Refused(text) => {
                    self.report_refusal(ticket.job(), &text);
                    let reply = self.failed(&ticket, text);
                    return ticket.reply(Outcome::Failed, Vec::new(), reply);
                }
                Ran::Unhandled => {
                    return ticket.reply(Outcome::Failed, Vec::new(), Some(Reply::Unhandled));
                }
                Ran::Broken(failure) => {
                    self.instance = None;
                    self.report_failure(ticket.job(), &failure);
                    self.delay = self.breaker.failed(Instant::now());
                    reason = failure.reason;
                }
            }
        }
        let delivery = &ticket.job().delivery;
        let letter = DeadLetter {
            event: delivery.event,
            client: delivery.client,
            kind: delivery.kind.name(),
            bytes: payload_bytes(&delivery.kind),
            version: self.version.identity.version.clone(),
            reason,
        };
        self.common
            .letters
            .add(&self.version.identity.tenant, letter);
        ticket.commit(Outcome::DeadLettered, Vec::new());
    }

    /// The words for whoever waits for a request, bounded like its reply.
    fn failed(&self, ticket: &Ticket, mut text: String) -> Option<Reply> {
        let bytes_max = self.version.identity.limits.effect_bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        let is_request = matches!(ticket.job().delivery.kind, EventKind::Request { .. });
        is_request.then_some(Reply::Failed(text))
    }

    /// The instance, built anew if there is none; None only when stopping.
    async fn instance(&mut self) -> Option<&mut Instance> {
        while self.instance.is_none() {
            self.wait_before_rebuild().await;
            if self.instance.is_some() {
                break;
            }
            let version = Arc::clone(&self.version);
            let (plugin, identity) = (&version.plugin, &version.identity);
            let start = Instance::start(
                &self.common.runtime,
                plugin,
                identity,
                self.number,
                &self.output,
            );
            match start.await {
                Ok(instance) => self.instance = Some(instance),
                Err(error) => {
                    tracing::error!(
                        tenant = &*identity.tenant,
                        plugin = &*identity.plugin,
                        version = &*identity.version,
                        instance = self.number,
                        %error,
                        "an instance cannot be built again; its events wait"
                    );
                    self.delay = self.breaker.failed(Instant::now());
                    if self.stopping {
                        return None;
                    }
                }
            }
        }
        self.instance.as_mut()
    }

    /// Waits as long as the breaker said, but obeys: a new version ends the wait.
    async fn wait_before_rebuild(&mut self) {
        let delay = std::mem::take(&mut self.delay);
        if delay.is_zero() || self.stopping {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            order = self.orders.recv() => match order {
                Some(order) => self.obey(order).await,
                None => self.stopping = true,
            },
        }
    }

    fn report_refusal(&self, job: &Job, text: &str) {
        let identity = &self.version.identity;
        tracing::warn!(
            tenant = &*identity.tenant,
            plugin = &*identity.plugin,
            version = &*identity.version,
            instance = self.number,
            client = %job.delivery.client,
            event = %job.delivery.event,
            kind = job.delivery.kind.name(),
            error = text.get(..text.floor_char_boundary(1024)).unwrap_or_default(),
            "the handler returned an error; its effects are dropped"
        );
    }

    fn report_failure(&self, job: &Job, failure: &Failure) {
        let identity = &self.version.identity;
        self.common.meters.trap(failure.kind);
        tracing::error!(
            tenant = &*identity.tenant,
            plugin = &*identity.plugin,
            version = &*identity.version,
            instance = self.number,
            client = %job.delivery.client,
            event = %job.delivery.event,
            kind = job.delivery.kind.name(),
            failure = failure.kind.name(),
            reason = failure.reason,
            stderr = failure.stderr,
            backtrace = failure.backtrace,
            "the handler broke; its instance is built anew"
        );
    }
}
