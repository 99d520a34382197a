//! A job on its way through a deployment: it is committed exactly once, even if the task that holds
//! it is dropped, and what it adds to the load is taken off again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tidegate_wire::effect::{Commit, Effect, Outcome, Reply};
use tidegate_wire::event::EventKind;
use tidegate_wire::id::ClientId;

use super::Job;
use super::meters::Meters;

/// What an event weighs beside its payload.
const EVENT_BYTES: u64 = 128;

/// What waits or runs in one deployment, and what comes of it.
pub(super) struct Load {
    meters: Arc<Meters>,
    events: AtomicU64,
    bytes: AtomicU64,
    /// Events in quarantine; almost always none, and then the map is not looked at.
    quarantined: AtomicUsize,
    quarantined_clients: Mutex<HashMap<ClientId, usize>>,
}

impl Load {
    pub(super) fn new(meters: Arc<Meters>) -> Self {
        Self {
            meters,
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            quarantined: AtomicUsize::new(0),
            quarantined_clients: Mutex::default(),
        }
    }

    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether an event of this client waits or runs in quarantine.
    pub(super) fn is_quarantined(&self, client: ClientId) -> bool {
        self.quarantined.load(Ordering::Acquire) > 0
            && self
                .quarantined_clients
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(&client)
    }

    fn quarantine(&self, client: ClientId) {
        self.quarantined.fetch_add(1, Ordering::AcqRel);
        let mut clients = self
            .quarantined_clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *clients.entry(client).or_default() += 1;
    }

    fn leave_quarantine(&self, client: ClientId) {
        let mut clients = self
            .quarantined_clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&client);
            }
        }
        drop(clients);
        self.quarantined.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A job that is not yet committed. Dropped without an outcome it is given back.
pub(super) struct Ticket {
    job: Job,
    load: Arc<Load>,
    came: Instant,
    /// It runs in quarantine.
    alone: bool,
    committed: bool,
}

impl Ticket {
    pub(super) fn new(job: Job, load: Arc<Load>) -> Self {
        load.events.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(weight(&job), Ordering::Relaxed);
        Self {
            job,
            load,
            came: Instant::now(),
            alone: false,
            committed: false,
        }
    }

    /// Whether another event of its client is in quarantine: it must not overtake that.
    pub(super) fn follows_into_quarantine(&self) -> bool {
        self.load.is_quarantined(self.client())
    }

    /// From now on it is in quarantine.
    pub(super) fn quarantine(&mut self) {
        if !self.alone {
            self.alone = true;
            self.load.quarantine(self.client());
        }
    }

    /// When it came.
    pub(super) const fn came(&self) -> Instant {
        self.came
    }

    pub(super) const fn job(&self) -> &Job {
        &self.job
    }

    pub(super) const fn client(&self) -> ClientId {
        self.job.delivery.client
    }

    /// Of a task: its client, or its lane if it is no client's.
    pub(super) fn task_client(&self) -> ClientId {
        if let EventKind::Task { task, .. } = &self.job.delivery.kind {
            return task.client.unwrap_or(self.client());
        }
        self.client()
    }

    /// So many steps of the task are committed.
    pub(super) fn set_committed_steps(&mut self, steps: u32) {
        if let EventKind::Task { committed, .. } = &mut self.job.delivery.kind {
            *committed = steps.max(*committed);
        }
    }

    /// Ends the job.
    pub(super) fn commit(self, outcome: Outcome, effects: Vec<Effect>) {
        self.reply(outcome, effects, None);
    }

    /// Ends the job of a request.
    pub(super) fn reply(mut self, outcome: Outcome, effects: Vec<Effect>, reply: Option<Reply>) {
        self.finish(outcome, effects, reply);
    }

    fn finish(&mut self, outcome: Outcome, effects: Vec<Effect>, reply: Option<Reply>) {
        if self.committed {
            return;
        }
        self.committed = true;
        self.load.meters.outcome(outcome);
        let delivery = &self.job.delivery;
        self.job.context.commit(Commit {
            event: delivery.event,
            attempt: delivery.attempt,
            client: delivery.client,
            outcome,
            effects,
            reply: reply.map(Box::new),
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.finish(Outcome::Returned, Vec::new(), None);
        self.load.events.fetch_sub(1, Ordering::Relaxed);
        self.load
            .bytes
            .fetch_sub(weight(&self.job), Ordering::Relaxed);
        if self.alone {
            self.load.leave_quarantine(self.job.delivery.client);
        }
    }
}

/// Bytes of an event's payload.
pub(super) fn payload_bytes(kind: &EventKind) -> usize {
    match kind {
        EventKind::Message(message) => message.payload().len(),
        EventKind::Request { payload, .. }
        | EventKind::Timer { payload, .. }
        | EventKind::Task { payload, .. } => payload.len(),
        EventKind::TaskFinished { outcome, .. } => outcome.as_ref().map_or(0, |it| it.len()),
        EventKind::Http { call, .. } => call.body.len(),
        EventKind::Connect { .. }
        | EventKind::Close(_)
        | EventKind::BufferFull { .. }
        | EventKind::BufferDrain
        | EventKind::Handshake { .. } => 0,
    }
}

fn weight(job: &Job) -> u64 {
    EVENT_BYTES + payload_bytes(&job.delivery.kind) as u64
}
