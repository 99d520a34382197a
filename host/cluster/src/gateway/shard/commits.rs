//! What commits bring: events end, and effects are applied to the clients of this shard.

use tidegate_hub::custody_updates::Part;
use tidegate_hub::effects::apply;
use tidegate_hub::lanes::WorkerKey;
use tidegate_wire::effect::{Commit, DEAD_LETTERS_MAX, Effect, Outcome};
use tidegate_wire::event::{CloseReason, EventType};
use tidegate_wire::id::{ClientId, CloseId};

use super::State;
use super::deliveries::Deliveries;
use super::tasks;

/// After so many waiting lanes in a row that had nothing to send, the others wait on.
const LOOKS_MAX: usize = 16;

impl State {
    /// One event has ended at a worker.
    pub(super) fn commit(&mut self, worker: WorkerKey, commit: Commit) {
        let number = commit.client.connection;
        let Some(tenant) = self.events.lanes().tenant(number) else {
            return self.metrics.stale();
        };
        if commit.outcome == Outcome::Returned {
            return self.returned(worker, tenant, &commit);
        }
        let committed =
            self.events
                .lanes_mut()
                .commit(number, worker, commit.event.sequence, commit.attempt);
        let Ok(committed) = committed else {
            return self.metrics.stale();
        };
        self.metrics.committed(commit.outcome);
        if committed.kind != EventType::Task {
            self.metrics.took(tenant, committed.took_us);
        }
        let author = committed.of_client.then_some((number, worker));
        if let Some(timer) = committed.id.as_deref()
            && committed.kind == EventType::Timer
        {
            self.timers.committed(tenant, timer);
        }
        self.questions.event_committed(commit.event.sequence);
        let acts = !commit.effects.is_empty();
        match commit.outcome {
            Outcome::Done if committed.kind == EventType::Close => {
                self.own_close(tenant, commit.effects, commit.client);
            }
            Outcome::Done if self.is_unwanted(tenant, &committed) => {}
            Outcome::Done => self.effects(tenant, commit.effects, author),
            // Without its connect a handler does not know the client.
            Outcome::DeadLettered if committed.kind == EventType::Connect => {
                self.close_broken(number)
            }
            Outcome::DeadLettered if self.events.dead_letter(number) => {
                tracing::warn!(client = %commit.client, dead_letters = DEAD_LETTERS_MAX,
                    "a client is closed: so many of its events broke the handler");
                self.close_broken(number);
            }
            Outcome::DeadLettered | Outcome::Failed | Outcome::Returned => {}
        }
        if committed.kind == EventType::Close {
            self.forget(number, tenant, worker, acts);
        }
        match committed.id.as_deref() {
            _ if matches!(
                committed.kind,
                EventType::Request | EventType::Handshake | EventType::Http
            ) =>
            {
                self.events
                    .end_request(number, commit.outcome, commit.reply);
            }
            Some(task) if committed.kind == EventType::Task => {
                self.events.remove(number);
                let outcome = tasks::outcome(commit.outcome, commit.reply);
                self.task_ended(tenant, task, outcome);
            }
            _ if !committed.of_client => _ = self.events.remove(number),
            _ => {}
        }
        self.resume(number);
        if committed.kind == EventType::Connect {
            self.review(number);
        }
        if committed.kind == EventType::BufferDrain {
            self.drain_was_told(number);
        }
        self.workers.returned(worker, tenant, 1, committed.counted);
        self.resume_reading(number, tenant);
        // Those that have waited come before what this lane has next.
        self.pump_waiting(worker, tenant);
        self.pump(number);
    }

    /// Closes a client whose events break the handler.
    fn close_broken(&mut self, number: u32) {
        if let Some(connection) = self.clients.get(number) {
            connection.close(1011, "the handler failed");
            self.clients.close_later(number, CloseReason::Server);
        }
    }

    /// A worker's window may have room: lanes that wait for it get their turn.
    fn pump_waiting(&mut self, worker: WorkerKey, tenant: u16) {
        if self
            .workers
            .is_busy(worker, self.context.settings.link.queue_bytes_max / 2)
        {
            // Sessions that go with their events have no room on the link.
            return;
        }
        let mut in_vain = 0;
        while in_vain < LOOKS_MAX
            && let Some(next) = self.workers.next_waiting(worker, tenant)
        {
            let before = self.events.lanes().under_way(next);
            self.events.lanes_mut().set_queued(next, false);
            self.pump_from(next, true);
            // It may have gone elsewhere, have nothing to send, or as much under way as it may have.
            in_vain += usize::from(self.events.lanes().under_way(next) == before);
        }
    }

    /// Links may have room, of which nothing tells.
    pub(super) fn pump_all_waiting(&mut self) {
        for worker in self.workers.waited_for() {
            let tenants = u16::try_from(self.context.tenants.count()).unwrap_or(u16::MAX);
            for tenant in 0..tenants {
                self.pump_waiting(worker, tenant);
            }
        }
    }

    /// The client's close is committed: its number is free, and the workers that know it may forget
    /// it. The worker that ran the close keeps its effects until it is told that they have arrived.
    fn forget(&mut self, number: u32, tenant: u16, closer: WorkerKey, acts: bool) {
        let client = self.client_id(number);
        let mut workers = self.events.remove(number);
        workers.retain(|worker| *worker != closer || acts);
        self.workers.forget(closer, number);
        let tenant = self.tenant_name(tenant).filter(|_| acts).cloned();
        self.release(client, workers, tenant);
    }

    /// Lets a worker be told what waited for its commits.
    fn resume(&mut self, number: u32) {
        if let Some(worker) = self.events.lanes_mut().may_resume(number) {
            self.workers.resume(worker, number);
        }
    }

    /// A worker gave an event back, and with it those of its lane behind it. They are sent again
    /// at the next turn of the clock, not at once, so that a worker that gives everything back
    /// does not spin.
    fn returned(&mut self, worker: WorkerKey, tenant: u16, commit: &Commit) {
        let number = commit.client.connection;
        let (sequence, attempt) = (commit.event.sequence, commit.attempt);
        let custodian = self.events.lanes().custodian(number);
        let Some((events, counted)) = self
            .events
            .lanes_mut()
            .returned(number, worker, sequence, attempt)
        else {
            return self.metrics.stale();
        };
        if custodian != self.events.lanes().custodian(number) {
            // It may have taken itself for the custodian before its handlers gave the connect back.
            self.release(commit.client, vec![worker], None);
        } else if self.events.lanes().is_unconfirmed(number, worker) {
            // No commit will show that it has heard what came with the event.
            self.workers.mark(worker, number, Part::All);
        }
        self.resume(number);
        self.workers.returned(worker, tenant, events, counted);
        if self.events.lanes().is_idle(number) && !self.drop_unwanted(tenant, number) {
            self.events.wait_for_route(tenant, number);
        }
        // Its lane may go elsewhere, and no commit would tell the others.
        self.pump_waiting(worker, tenant);
    }

    /// Applies effects here and passes on what concerns others.
    pub(super) fn effects(
        &mut self,
        tenant: u16,
        effects: Vec<Effect>,
        author: Option<(u32, WorkerKey)>,
    ) {
        self.apply(tenant, &effects, author);
        // Most commits concern this shard alone.
        if effects
            .iter()
            .all(|effect| self.peers.is_only_here(effect.scope()))
        {
            return;
        }
        let Some(name) = self.tenant_name(tenant).cloned() else {
            return;
        };
        self.pass_on(&name, effects, None);
    }

    /// Effects of a close whose home is here: a custodian may have told it already, if this life was
    /// declared lost and does not know yet.
    fn own_close(&mut self, tenant: u16, effects: Vec<Effect>, client: ClientId) {
        let home = self.context.incarnation();
        let close = CloseId { home, client };
        if !effects.is_empty()
            && let Some(name) = self.tenant_name(tenant).cloned()
        {
            self.adopt(&name, effects, close);
        }
    }

    /// Applies effects to the clients of this shard.
    pub(super) fn apply(
        &mut self,
        tenant: u16,
        effects: &[Effect],
        author: Option<(u32, WorkerKey)>,
    ) {
        let Some((hub, outbound)) = self.clients.hub_and_outbound(tenant) else {
            return;
        };
        self.events.effects_come();
        let gateway = self.context.settings.announced;
        let mut deliveries = Deliveries {
            outbound,
            lanes: self.events.lanes_mut(),
            timers: &mut self.timers,
            tasks: &mut self.tasks,
            workers: &mut self.workers,
            metrics: &self.metrics,
            watchers: &self.watchers,
            watched: self.watchers.watch(tenant),
            tenant,
            gateway,
            context: &self.context,
            author,
        };
        for effect in effects {
            apply(hub, gateway, effect, &mut deliveries);
        }
    }
}
