//! Tasks whose home is this shard: commits submit and cancel them; each becomes the one event of a lane of its
//! own when its turn comes, and its end an event of its client, or of nobody.
//!
//! Guarantees: each step happens once, whatever attempts it takes; the effects of the end once. A task whose
//! workers are lost again and again without a step between them ends as one that has failed.

use std::collections::BTreeSet;

use metrics::{Counter, counter};
use rustc_hash::FxHashMap;
use tidegate_hub::lanes::{Committed, WorkerKey};
use tidegate_hub::tasks::{self, Cancelled};
use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::{EventKind, EventType};
use tidegate_wire::id::ClientId;
use tidegate_wire::payload::Payload;
use tidegate_wire::query::Answer;
use tidegate_wire::task::{PAYLOAD_BYTES_MAX, Step, TaskId};
use tokio::sync::oneshot;

use super::State;
use crate::gateway::shared::Context;
use crate::gateway::shared::metrics::Metrics;
use crate::gateway::shared::tick::{BeginTick, TickEnd};

/// So much the tasks of a shard may keep in any case: more than the largest of them.
const BYTES_MIN: usize = 2 * PAYLOAD_BYTES_MAX;
/// After so many losses of workers in a row a task has failed.
const LOSSES_MAX: u8 = 8;

/// The tasks of a shard.
pub(super) struct Tasks {
    all: tasks::Tasks,
    /// Tenants of whom one may begin.
    due: BTreeSet<u16>,
    /// Lanes of tasks that nobody wants any more.
    unwanted: Vec<(u16, u32)>,
    /// Those of schedules, which wait for their end.
    ticks: FxHashMap<TaskId, (u16, oneshot::Sender<TickEnd>)>,
    /// The gateway ends: none is taken.
    ended: bool,
    ends: Ends,
}

/// How tasks have ended.
struct Ends {
    done: Counter,
    failed: Counter,
    cancelled: Counter,
    lost: Counter,
}

impl Ends {
    fn new() -> Self {
        let ends = |outcome| counter!("tidegate_gateway_tasks_total", "outcome" => outcome);
        Self {
            done: ends("done"),
            failed: ends("failed"),
            cancelled: ends("cancelled"),
            lost: ends("lost"),
        }
    }
}

impl Tasks {
    pub(super) fn new(context: &Context) -> Self {
        let settings = &context.settings;
        let shards = usize::from(settings.shards);
        let under_way_max = settings.tasks_under_way_max.div_ceil(shards);
        let bytes_max = (settings.task_bytes_max / shards).max(BYTES_MIN);
        Self {
            all: tasks::Tasks::new(bytes_max, under_way_max, context.tenants.count()),
            due: BTreeSet::new(),
            unwanted: Vec::new(),
            ticks: FxHashMap::default(),
            ended: false,
            ends: Ends::new(),
        }
    }

    /// A task waits for its turn, or is counted as refused.
    pub(super) fn submit(
        &mut self,
        tenant: u16,
        task: TaskId,
        payload: Payload,
        metrics: &Metrics,
    ) {
        if self.ended {
            metrics.refused();
            return;
        }
        match self.all.submit(tenant, task, payload) {
            Ok(()) => _ = self.due.insert(tenant),
            Err(why) => {
                metrics.refused();
                tracing::debug!(%task, ?why, "a task was refused by a limit");
            }
        }
    }

    /// The same for the tick of a schedule, which learns its end.
    pub(super) fn submit_tick(&mut self, tick: BeginTick, metrics: &Metrics) {
        let (tenant, task) = (tick.tenant, tick.task);
        self.submit(tenant, task, tick.payload, metrics);
        if self.all.is_there(tenant, &task) {
            self.ticks.insert(task, (tenant, tick.ended));
        }
    }

    /// The task of a tick is over, if it is one.
    fn tick_ended(&mut self, task: &TaskId, end: TickEnd) {
        if let Some((_, ended)) = self.ticks.remove(task) {
            // The gateway may have ended.
            let _ = ended.send(end);
        }
    }

    pub(super) fn cancel(&mut self, tenant: u16, task: &TaskId) {
        match self.all.cancel(tenant, task) {
            Cancelled::Unknown => {}
            Cancelled::Waiting => {
                self.ends.cancelled.increment(1);
                self.tick_ended(task, Ok(()));
            }
            Cancelled::UnderWay(lane) => self.unwanted.push((tenant, lane)),
        }
    }

    /// A client is gone: its tasks go on without it.
    pub(super) fn end_client(&mut self, tenant: u16, client: ClientId) {
        self.all.end_client(tenant, client);
    }

    /// What time it is.
    pub(super) fn tick(&mut self, now_us: u64) {
        self.all.tick(now_us);
    }

    /// How many have begun, of all tenants.
    pub(super) const fn begun(&self) -> usize {
        self.all.count_begun()
    }

    /// How many of a tenant wait, and how many are under way.
    pub(super) fn count(&self, tenant: u16) -> [usize; 2] {
        [self.all.waiting(tenant), self.all.under_way(tenant)]
    }
}

impl State {
    /// Begins those whose turn has come, and has those ended that nobody wants any more.
    pub(super) fn begin_tasks(&mut self) {
        while let Some(tenant) = self.tasks.due.pop_first() {
            while self.tasks.all.may_begin(tenant) {
                let number = self.take_number();
                let Some((task, payload)) = self.tasks.all.begin(tenant, number) else {
                    break;
                };
                let kind = EventKind::Task {
                    task: Box::new(task),
                    payload,
                    committed: 0,
                };
                self.events.open(number, tenant, kind);
                self.pump(number);
            }
        }
        while let Some((tenant, number)) = self.tasks.unwanted.pop() {
            if self.drop_unwanted(tenant, number) {
                continue;
            }
            if let Some((worker, sequence, attempt)) = self.events.lanes().under_way_at(number) {
                let event = self.event_id(sequence);
                self.workers.cancel_task(worker, tenant, event, attempt);
            }
        }
    }

    /// Drops a task that nobody wants any more, or whose gateway ends, unless it is under way. Says
    /// whether it did.
    pub(super) fn drop_unwanted(&mut self, tenant: u16, number: u32) -> bool {
        let lanes = self.events.lanes();
        let Some(task) = lanes.task(number).copied() else {
            return false;
        };
        let cancelled = self.tasks.all.is_cancelled(tenant, &task);
        if !lanes.is_idle(number) || !(cancelled || self.tasks.ended) {
            return false;
        }
        self.events.take_off_lane(number);
        self.tasks.all.remove(tenant, &task);
        if cancelled {
            self.tasks.due.insert(tenant);
            self.tasks.ends.cancelled.increment(1);
            self.tasks.tick_ended(&task, Ok(()));
        } else {
            self.tasks.ends.lost.increment(1);
            self.tasks.ticks.remove(&task);
        }
        true
    }

    /// Whether nobody wants what this event has asked for.
    pub(super) fn is_unwanted(&self, tenant: u16, committed: &Committed) -> bool {
        let task = committed.id.as_deref();
        committed.kind == EventType::Task
            && task.is_some_and(|task| self.tasks.all.is_cancelled(tenant, task))
    }

    /// Tasks of a tenant that wait or are under way here.
    pub(super) fn tasks_of(
        &mut self,
        tenant: Option<u16>,
        after: Option<&TaskId>,
        limit: u32,
    ) -> Answer {
        self.clock();
        let tasks = &self.tasks.all;
        let lanes = self.events.lanes();
        let page = |tenant| tasks.page(tenant, after, limit, |lane| lanes.progress(lane));
        let (page, more) = tenant.map(page).unwrap_or_default();
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Answer::Tasks {
            waiting: tenant.map_or(0, |it| count(tasks.waiting(it))),
            under_way: tenant.map_or(0, |it| count(tasks.under_way(it))),
            oldest_ms: tenant.map_or(0, |it| tasks.oldest_ms(it)),
            page,
            more,
        }
    }

    /// A part of a task is to happen, and the task goes on.
    pub(super) fn step(&mut self, worker: WorkerKey, step: Step) {
        let number = step.client.connection;
        let lanes = self.events.lanes_mut();
        let (tenant, task) = (lanes.tenant(number), lanes.task(number).copied());
        match (lanes.step(worker, &step), tenant, task) {
            (Ok(true), Some(tenant), Some(task)) => {
                if !self.tasks.all.is_cancelled(tenant, &task) {
                    self.effects(tenant, step.effects, None);
                }
            }
            _ => self.metrics.stale(),
        }
    }

    /// Tasks that have rested after a loss go on, unless there were too many losses.
    pub(super) fn resume_tasks(&mut self) {
        while let Some(number) = self.events.lanes_mut().take_rested() {
            let lanes = self.events.lanes();
            let (Some(task), Some(tenant)) = (lanes.task(number).copied(), lanes.tenant(number))
            else {
                continue;
            };
            if self.drop_unwanted(tenant, number) {
                continue;
            }
            if self.events.lanes().losses(number) < LOSSES_MAX {
                self.pump(number);
                continue;
            }
            tracing::error!(%task, losses = LOSSES_MAX,
                "a task has failed: one worker after the other was lost while it ran");
            self.events.take_off_lane(number);
            let why = format!("{LOSSES_MAX} workers were lost while it ran");
            self.task_ended(tenant, &task, Err(why));
        }
    }

    /// A task is over: its client hears of it, or nobody does.
    pub(super) fn task_ended(
        &mut self,
        tenant: u16,
        task: &TaskId,
        outcome: Result<Payload, String>,
    ) {
        let Some(over) = self.tasks.all.remove(tenant, task) else {
            return;
        };
        self.tasks.due.insert(tenant);
        let end = outcome.as_ref().map(drop).map_err(Clone::clone);
        self.tasks.tick_ended(task, end);
        let ends = &self.tasks.ends;
        match &outcome {
            _ if over.cancelled => return ends.cancelled.increment(1),
            Ok(_) => ends.done.increment(1),
            Err(_) => ends.failed.increment(1),
        }
        let client = task.client.filter(|_| over.has_client);
        let kind = EventKind::TaskFinished {
            task: Box::new(*task),
            of_client: client.is_some(),
            outcome,
        };
        let number = match client {
            Some(client) => {
                self.events.lanes_mut().push(client.connection, kind);
                client.connection
            }
            None => {
                let number = self.take_number();
                self.events.open(number, tenant, kind);
                number
            }
        };
        self.pump(number);
    }

    /// The gateway ends: those that wait are lost, and those that no worker has; the others may finish.
    pub(super) fn end_tasks(&mut self) {
        if std::mem::replace(&mut self.tasks.ended, true) {
            return;
        }
        let mut lost = self.tasks.all.clear_waiting();
        let Tasks { all, ticks, .. } = &mut self.tasks;
        ticks.retain(|task, (tenant, _)| all.is_there(*tenant, task));
        self.tasks.ends.lost.increment(lost as u64);
        let begun: Vec<_> = self.tasks.all.begun().collect();
        for (tenant, lane) in begun {
            lost += usize::from(self.drop_unwanted(tenant, lane));
        }
        if lost > 0 {
            tracing::warn!(
                tasks = lost,
                "tasks that no worker was running end with this gateway"
            );
        }
    }
}

/// What a task gave, as its worker has committed it.
pub(super) fn outcome(outcome: Outcome, reply: Option<Box<Reply>>) -> Result<Payload, String> {
    match (outcome, reply.map(|reply| *reply)) {
        (Outcome::Done, Some(Reply::Ok(result))) => Ok(result),
        (_, Some(Reply::Failed(text))) => Err(text),
        (_, Some(Reply::Unhandled)) => Err("the plugin exports no task-events".to_owned()),
        (Outcome::DeadLettered, _) => Err("it broke the handler at each try".to_owned()),
        (_, _) => Err("the handler failed".to_owned()),
    }
}
