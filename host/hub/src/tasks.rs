//! Tasks of one shard: those that wait for their turn and those that are under way. Pure.
//!
//! Guarantees: of a tenant no more than so many are under way at a time, so that a long row of them takes no
//! room from clients' events; the others follow in the order in which they came. What all of them keep is
//! bounded in bytes, shared among the tenants; what one client has, in number.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use rustc_hash::FxHashMap;
use tidegate_fair::Shares;
use tidegate_wire::id::{ClientId, EventId, Incarnation};
use tidegate_wire::payload::Payload;
use tidegate_wire::query::TaskInfo;
use tidegate_wire::task::TaskId;

use crate::answer::PART_MAX;
use crate::give_back::give_back;
use crate::lanes::ages::Ages;

/// What a task counts besides its payload: about what the tables keep of it.
pub const TASK_BYTES: usize = 512;
/// How many tasks a client may have at a time.
pub const TASKS_OF_CLIENT_MAX: usize = 100;
/// No id is less.
const LEAST: TaskId = TaskId {
    client: None,
    event: EventId {
        gateway: Incarnation(0),
        shard: 0,
        sequence: 0,
    },
    nth: 0,
};
/// So many that are cancelled may stand in a row.
const ROW_KEPT: usize = 64;

/// Why a task is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRefused {
    /// The client has as many as it may have.
    TooMany,
    /// Those of the tenant keep as many bytes as they may keep.
    NoRoom,
}

/// What became of a task that was to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// There is none of this id, or it was cancelled before.
    Unknown,
    /// It waited, and is gone.
    Waiting,
    /// It is under way in this lane: what comes of it is not wanted.
    UnderWay(u32),
}

/// What was a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Over {
    /// Its client is there, to hear of it.
    pub has_client: bool,
    /// Nobody wants what came of it.
    pub cancelled: bool,
}

#[derive(Debug)]
struct Task {
    stage: Stage,
    /// When it was submitted.
    at_us: u64,
    bytes: usize,
    /// Its client is there.
    has_client: bool,
}

#[derive(Debug)]
enum Stage {
    Waiting(Payload),
    UnderWay { lane: u32, cancelled: bool },
}

/// Those of one tenant.
#[derive(Debug, Default)]
struct Row {
    /// In their order; some may be cancelled.
    waiting: VecDeque<TaskId>,
    count_waiting: usize,
    under_way: usize,
    /// When they were submitted, those under way too.
    ages: Ages,
}

/// The tasks of one shard.
#[derive(Debug)]
pub struct Tasks {
    /// By tenant, then by id: a client's stand together.
    tasks: BTreeMap<(u16, TaskId), Task>,
    rows: Vec<Row>,
    under_way_max: usize,
    begun: usize,
    /// How many each client has that has any.
    of_client: FxHashMap<u32, usize>,
    bytes: Shares<u16>,
    now_us: u64,
}

impl Tasks {
    /// No tasks; so many tenants share so many bytes, and each has so many under way at a time.
    #[must_use]
    pub fn new(bytes_max: usize, under_way_max: usize, tenants: usize) -> Self {
        Self {
            tasks: BTreeMap::new(),
            rows: (0..tenants).map(|_| Row::default()).collect(),
            under_way_max: under_way_max.max(1),
            begun: 0,
            of_client: FxHashMap::default(),
            bytes: Shares::new(bytes_max, tenants),
            now_us: 0,
        }
    }

    /// What time it is, in microseconds since a moment of one's own.
    pub fn tick(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// A task waits for its turn. One that is there already stays as it is.
    ///
    /// # Errors
    /// A limit.
    pub fn submit(
        &mut self,
        tenant: u16,
        task: TaskId,
        payload: Payload,
    ) -> Result<(), TaskRefused> {
        if self.tasks.contains_key(&(tenant, task)) {
            return Ok(());
        }
        let Some(row) = self.rows.get_mut(usize::from(tenant)) else {
            return Ok(());
        };
        let bytes = TASK_BYTES + payload.len();
        if bytes > self.bytes.room(&tenant) {
            return Err(TaskRefused::NoRoom);
        }
        if let Some(client) = task.client {
            let count = self.of_client.entry(client.connection).or_default();
            if *count >= TASKS_OF_CLIENT_MAX {
                return Err(TaskRefused::TooMany);
            }
            *count += 1;
        }
        self.bytes.take(&tenant, bytes);
        row.waiting.push_back(task);
        row.count_waiting += 1;
        row.ages.add(self.now_us);
        let stage = Stage::Waiting(payload);
        let submitted = Task {
            stage,
            at_us: self.now_us,
            bytes,
            has_client: task.client.is_some(),
        };
        self.tasks.insert((tenant, task), submitted);
        Ok(())
    }

    /// The next one of a tenant, if it may begin, in this lane.
    pub fn begin(&mut self, tenant: u16, lane: u32) -> Option<(TaskId, Payload)> {
        let row = self.rows.get_mut(usize::from(tenant))?;
        if row.under_way >= self.under_way_max {
            return None;
        }
        while let Some(task) = row.waiting.pop_front() {
            let found = self.tasks.get_mut(&(tenant, task));
            if let Some(found) = found
                && let Stage::Waiting(payload) = &mut found.stage
            {
                let payload = std::mem::take(payload);
                found.stage = Stage::UnderWay {
                    lane,
                    cancelled: false,
                };
                row.count_waiting -= 1;
                row.under_way += 1;
                self.begun += 1;
                return Some((task, payload));
            }
        }
        row.waiting = VecDeque::new();
        None
    }

    /// Whether one of this tenant may begin.
    #[must_use]
    pub fn may_begin(&self, tenant: u16) -> bool {
        let row = self.rows.get(usize::from(tenant));
        row.is_some_and(|row| row.count_waiting > 0 && row.under_way < self.under_way_max)
    }

    /// Nobody wants what comes of this task.
    pub fn cancel(&mut self, tenant: u16, task: &TaskId) -> Cancelled {
        match self.tasks.get_mut(&(tenant, *task)).map(|it| &mut it.stage) {
            Some(Stage::UnderWay { lane, cancelled }) if !*cancelled => {
                *cancelled = true;
                Cancelled::UnderWay(*lane)
            }
            Some(Stage::UnderWay { .. }) | None => Cancelled::Unknown,
            Some(Stage::Waiting(_)) => {
                self.remove(tenant, task);
                self.forget_cancelled(tenant);
                Cancelled::Waiting
            }
        }
    }

    /// Those that were cancelled leave the row once they are most of it.
    fn forget_cancelled(&mut self, tenant: u16) {
        if let Some(row) = self.rows.get_mut(usize::from(tenant))
            && row.waiting.len() > 2 * row.count_waiting + ROW_KEPT
        {
            let tasks = &self.tasks;
            row.waiting
                .retain(|task| tasks.contains_key(&(tenant, *task)));
            row.waiting.shrink_to_fit();
        }
    }

    /// Whether it waits or is under way.
    #[must_use]
    pub fn is_there(&self, tenant: u16, task: &TaskId) -> bool {
        self.tasks.contains_key(&(tenant, *task))
    }

    /// Whether it is under way and was cancelled.
    #[must_use]
    pub fn is_cancelled(&self, tenant: u16, task: &TaskId) -> bool {
        let task = self.tasks.get(&(tenant, *task)).map(|it| &it.stage);
        matches!(
            task,
            Some(Stage::UnderWay {
                cancelled: true,
                ..
            })
        )
    }

    /// A task is over.
    pub fn remove(&mut self, tenant: u16, task: &TaskId) -> Option<Over> {
        let gone = self.tasks.remove(&(tenant, *task))?;
        self.bytes.give(&tenant, gone.bytes);
        let row = self.rows.get_mut(usize::from(tenant))?;
        row.ages.take(gone.at_us);
        let cancelled = match gone.stage {
            Stage::Waiting(_) => {
                row.count_waiting -= 1;
                false
            }
            Stage::UnderWay { cancelled, .. } => {
                row.under_way -= 1;
                self.begun -= 1;
                cancelled
            }
        };
        if let Some(client) = task.client.filter(|_| gone.has_client)
            && let Some(count) = self.of_client.get_mut(&client.connection)
        {
            *count -= 1;
            if *count == 0 {
                self.of_client.remove(&client.connection);
                give_back(&mut self.of_client);
            }
        }
        Some(Over {
            has_client: gone.has_client,
            cancelled,
        })
    }

    /// A client is gone: its tasks go on without it.
    pub fn end_client(&mut self, tenant: u16, client: ClientId) {
        if self.of_client.remove(&client.connection).is_none() {
            return;
        }
        give_back(&mut self.of_client);
        let first = TaskId {
            client: Some(client),
            ..LEAST
        };
        let own = self.tasks.range_mut((tenant, first)..);
        let own = own.take_while(|((of, id), _)| *of == tenant && id.client == Some(client));
        own.for_each(|(_, task)| task.has_client = false);
    }

    /// How many of a tenant wait.
    #[must_use]
    pub fn waiting(&self, tenant: u16) -> usize {
        let row = self.rows.get(usize::from(tenant));
        row.map_or(0, |row| row.count_waiting)
    }

    /// How many of a tenant are under way.
    #[must_use]
    pub fn under_way(&self, tenant: u16) -> usize {
        let row = self.rows.get(usize::from(tenant));
        row.map_or(0, |row| row.under_way)
    }

    /// How many have begun, of all tenants.
    #[must_use]
    pub const fn count_begun(&self) -> usize {
        self.begun
    }

    /// The lanes of those that have begun, with their tenants.
    pub fn begun(&self) -> impl Iterator<Item = (u16, u32)> {
        self.tasks.iter().filter_map(|((tenant, _), task)| {
            let Stage::UnderWay { lane, .. } = task.stage else {
                return None;
            };
            Some((*tenant, lane))
        })
    }

    /// Tasks of a tenant behind one of them, in order, at most so many, and whether there are more.
    /// `progress` says of a lane how many attempts and committed steps its task has.
    #[must_use]
    pub fn page(
        &self,
        tenant: u16,
        after: Option<&TaskId>,
        limit: u32,
        progress: impl Fn(u32) -> (u8, u32),
    ) -> (Vec<TaskInfo>, bool) {
        let limit = limit.clamp(1, PART_MAX) as usize;
        let mut found = self.of_tenant(tenant, after).take(limit + 1);
        let info = |(task, it): (&TaskId, &Task)| {
            let (under_way, (attempt, steps)) = match it.stage {
                Stage::Waiting(_) => (false, (0, 0)),
                Stage::UnderWay { lane, .. } => (true, progress(lane)),
            };
            TaskInfo {
                task: *task,
                under_way,
                attempt,
                steps,
                age_ms: self.now_us.saturating_sub(it.at_us) / 1_000,
            }
        };
        let page: Vec<TaskInfo> = found.by_ref().take(limit).map(info).collect();
        let more = found.next().is_some();
        (page, more)
    }

    /// How long ago the oldest task of a tenant was submitted, to a tenth of a second; 0 if there is none.
    #[must_use]
    pub fn oldest_ms(&self, tenant: u16) -> u64 {
        let row = self.rows.get(usize::from(tenant));
        let oldest_us = row.and_then(|row| row.ages.oldest_us(self.now_us));
        oldest_us.unwrap_or(0) / 1_000
    }

    fn of_tenant(
        &self,
        tenant: u16,
        after: Option<&TaskId>,
    ) -> impl Iterator<Item = (&TaskId, &Task)> {
        let from = match after {
            Some(after) => Bound::Excluded((tenant, *after)),
            None => Bound::Included((tenant, LEAST)),
        };
        let own = self.tasks.range((from, Bound::Unbounded));
        let own = own.take_while(move |((of, _), _)| *of == tenant);
        own.map(|((_, task), it)| (task, it))
    }

    /// Ends all that wait. Says how many they were.
    pub fn clear_waiting(&mut self) -> usize {
        let waiting = |(_, task): &(_, &Task)| matches!(task.stage, Stage::Waiting(_));
        let waiting: Vec<_> = self
            .tasks
            .iter()
            .filter(waiting)
            .map(|(id, _)| *id)
            .collect();
        for (tenant, task) in &waiting {
            self.remove(*tenant, task);
        }
        waiting.len()
    }
}

#[cfg(test)]
mod tests;
