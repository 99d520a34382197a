//! How a seat runs one event: on its instance, and once more if that breaks: on a fresh one, or while
//! its version is on trial under the version before.

use std::sync::Arc;
use std::time::Instant;

use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::EventKind;
use tidegate_wire::id::ClientId;

use super::lanes::{Past, WaitingCall};
use super::runner::{Runner, Side};
use super::{Probation, RouteKind, Seat, Treatment};
use crate::dead_letter::DeadLetter;
use crate::deployment::Job;
use crate::deployment::ticket::{Ticket, payload_bytes};
use crate::host_api::Identity;
use crate::instance::{Failure, Ran};

/// How often an event is tried.
const TRIES_MAX: usize = 2;

impl Seat {
    /// Runs the event whose turn it is, once.
    pub(super) async fn run_next(&mut self) {
        let Some(waiting) = self.lanes.take() else {
            return;
        };
        let number = waiting.number;
        if self.is_unheard(&waiting.ticket) {
            self.set_aside(waiting);
        } else {
            let side = self.side_of(&waiting);
            if !self.have_instance(side).await {
                self.lanes.put_back(waiting);
                if self.stopping {
                    // Given back as they are dropped.
                    drop(self.lanes.drain());
                }
                return;
            }
            if let Some(broken) = self.try_once(waiting, side).await {
                return self.tried(broken).await;
            }
        }
        self.lanes.gone(number);
    }

    /// Which version runs an event: the one before where the one on trial has failed it, or its
    /// client before, or cannot run now.
    fn side_of(&self, waiting: &WaitingCall) -> Side {
        let (Some(_), Some(probation)) = (&self.before, &self.probation) else {
            return Side::Own;
        };
        if waiting.past().is_some_and(is_failed_by_own) {
            return Side::Before;
        }
        let is_back = || probation.moved.is_back(waiting.ticket.client());
        let is_paused = || {
            self.own
                .paused()
                .is_some_and(|until| until > Instant::now())
        };
        let broke_before = waiting.past().is_some_and(|past| past.broke_before);
        if !broke_before && (is_paused() || is_back()) {
            return Side::Before;
        }
        Side::Own
    }

    pub(super) fn runner(&mut self, side: Side) -> &mut Runner {
        match (side, &mut self.before) {
            (Side::Before, Some(before)) => before,
            (Side::Before, None) | (Side::Own, _) => &mut self.own,
        }
    }

    pub(super) fn identity(&self, side: Side) -> &Identity {
        let before = self.before.as_ref().filter(|_| side == Side::Before);
        &before.unwrap_or(&self.own).version.identity
    }

    /// How the version on trial does, if that is the one that runs an event.
    pub(super) fn counted(&self, side: Side) -> Option<Arc<Probation>> {
        let probation = self.probation.as_ref().filter(|_| side == Side::Own);
        probation.filter(|it| !it.is_over()).cloned()
    }

    /// Runs an event; gives it back if it broke the instance, or is to be run by the version before.
    async fn try_once(&mut self, mut waiting: WaitingCall, side: Side) -> Option<WaitingCall> {
        let counted = self.counted(side);
        let begun = self.now;
        if !waiting.was_tried() {
            let wait = begun.saturating_duration_since(waiting.ticket.came());
            self.common.meters.waited(wait);
        }
        let is_quarantine = matches!(self.kind, RouteKind::Quarantine);
        let runner = self.runner(side);
        let Some(instance) = &mut runner.instance else {
            return Some(waiting);
        };
        let ran = instance.handle(waiting.ticket.job(), begun.into()).await;
        let ended = Instant::now();
        if is_quarantine {
            runner.instance = None;
        }
        self.now = ended;
        let took = ended.saturating_duration_since(begun);
        let ticket = &waiting.ticket;
        let client = ticket.client();
        self.common.meters.ran(took);
        let is_last = is_last(ticket);
        let mut failed = false;
        match ran {
            Ran::Done(effects) => {
                self.rescued(&waiting, side);
                waiting.ticket.commit(Outcome::Done, effects);
            }
            Ran::Answered(effects, reply) => {
                self.rescued(&waiting, side);
                waiting.ticket.reply(Outcome::Done, effects, Some(reply));
            }
            Ran::Refused(text) => {
                self.report_refusal(side, ticket.job(), &text);
                if let Some(probation) = &counted
                    && self.before.is_some()
                    && probation.tally.counts_errors()
                {
                    probation.tally.ended(client, took, true);
                    let epoch = self.lanes.epoch();
                    waiting.past_mut(epoch).refused = Some(text);
                    return Some(waiting);
                }
                let reply = self.failed(ticket, text);
                waiting.ticket.reply(Outcome::Failed, Vec::new(), reply);
                failed = true;
            }
            Ran::Unhandled => {
                self.unhandled(waiting);
                return None;
            }
            Ran::Broken(failure) => {
                self.runner(side).instance = None;
                self.report_failure(side, ticket.job(), &failure);
                self.broke(side, client);
                return self.after_break(waiting, side, failure.reason);
            }
        };
        if is_last {
            self.forget(client);
        }
        if let Some(probation) = counted {
            probation.tally.ended(client, took, failed);
        }
        None
    }

    /// The plugin does not take events of this kind, and nothing of it ran: who asked is told, and for
    /// other events there is nothing to do.
    fn unhandled(&self, mut waiting: WaitingCall) {
        let is_awaited = is_awaited(&waiting.ticket);
        let reply = match waiting.take_refused() {
            Some(text) => self.failed(&waiting.ticket, text),
            None => is_awaited.then_some(Reply::Unhandled),
        };
        let outcome = if is_awaited {
            Outcome::Failed
        } else {
            Outcome::Done
        };
        waiting.ticket.reply(outcome, Vec::new(), reply);
    }

    /// The version before ran what the one on trial could not.
    fn rescued(&self, waiting: &WaitingCall, side: Side) {
        if let Some(probation) = &self.probation
            && side == Side::Before
            && waiting.past().is_some_and(is_failed_by_own)
        {
            self.common.meters.rescued();
            let client = waiting.ticket.client();
            probation.moved.rescued(client, Instant::now());
        }
    }

    /// An event that broke has another try, unless the version on trial has refused it already: then
    /// it has failed.
    fn after_break(
        &self,
        mut waiting: WaitingCall,
        side: Side,
        reason: String,
    ) -> Option<WaitingCall> {
        if let Some(text) = waiting.take_refused() {
            let client = waiting.ticket.client();
            let is_last = is_last(&waiting.ticket);
            let reply = self.failed(&waiting.ticket, text);
            waiting.ticket.reply(Outcome::Failed, Vec::new(), reply);
            if is_last {
                self.forget(client);
            }
            return None;
        }
        let past = waiting.past_mut(self.lanes.epoch());
        match side {
            Side::Own => past.broke_own = true,
            Side::Before => past.broke_before = true,
        }
        past.tries += 1;
        past.reason = reason;
        Some(waiting)
    }

    /// An event broke its instance: it has another try when its client has its next turn, or is set
    /// aside, and its client's events with it.
    async fn tried(&mut self, waiting: WaitingCall) {
        let (client, number) = (waiting.ticket.client(), waiting.number);
        let is_dead = self.is_dead(&waiting);
        let epoch = self.lanes.epoch();
        self.lanes.put_back(waiting);
        // A version that is given up sets no event aside for good: the other one tries it.
        self.obey_waiting().await;
        if self.aside.is_some() || self.lanes.epoch() != epoch {
            return;
        }
        if !is_dead {
            return self.rescue(client).await;
        }
        let Some(waiting) = self.lanes.take_of(client) else {
            return;
        };
        if let Some(probation) = self.counted(Side::Own).filter(|_| self.before.is_none()) {
            probation.tally.failed(client);
        }
        self.common.suspects.dead_letter(client, Instant::now());
        self.set_aside(waiting);
        self.lanes.gone(number);
        if matches!(self.kind, RouteKind::Own { .. }) {
            for ticket in self.lanes.take_all(client) {
                self.send_into_quarantine(ticket);
            }
        }
    }

    /// What the version on trial has failed the one before runs at once: each of the others may take as
    /// long to break as this one did.
    async fn rescue(&mut self, client: ClientId) {
        let is_paused = self.paused().is_some_and(|until| until > self.now);
        if self.before.is_none() || is_paused {
            return;
        }
        let Some(waiting) = self.lanes.take_of(client) else {
            return;
        };
        let number = waiting.number;
        if self.side_of(&waiting) == Side::Own || !self.have_instance(Side::Before).await {
            return self.lanes.put_back(waiting);
        }
        match self.try_once(waiting, Side::Before).await {
            Some(broken) => Box::pin(self.tried(broken)).await,
            None => self.lanes.gone(number),
        }
    }

    /// Whether an event has had all of its tries: while a version is on trial, under both.
    fn is_dead(&self, waiting: &WaitingCall) -> bool {
        let Some(past) = waiting.past() else {
            return false;
        };
        match self.before {
            Some(_) => past.broke_own && past.broke_before,
            None => past.tries >= self.tries_max(waiting.ticket.client()),
        }
    }

    /// In quarantine the first try is on a fresh instance.
    fn tries_max(&self, client: ClientId) -> usize {
        match self.kind {
            RouteKind::Quarantine if self.treatment(client) != Treatment::Good => 1,
            RouteKind::Quarantine | RouteKind::Canary { .. } | RouteKind::Own { .. } => TRIES_MAX,
        }
    }

    /// Whether it is an event, other than its connect and its close, of a client that is being closed
    /// since its events break.
    fn is_unheard(&self, ticket: &Ticket) -> bool {
        let is_between = match &ticket.job().delivery.kind {
            EventKind::Connect { .. }
            | EventKind::Close(_)
            | EventKind::Request { .. }
            | EventKind::Handshake { .. }
            | EventKind::Http { .. }
            | EventKind::Task { .. } => false,
            EventKind::TaskFinished { of_client, .. } => *of_client,
            EventKind::Timer { timer, .. } => timer.client.is_some(),
            EventKind::Message(_) | EventKind::BufferFull { .. } | EventKind::BufferDrain => true,
        };
        is_between && self.treatment(ticket.client()) == Treatment::Closing
    }

    fn set_aside(&self, waiting: WaitingCall) {
        let (tries, reason) = waiting.past().map_or((0, ""), |it| (it.tries, &it.reason));
        let ticket = &waiting.ticket;
        let delivery = &ticket.job().delivery;
        let identity = &self.own.version.identity;
        let letter = DeadLetter {
            event: delivery.event,
            client: delivery.client,
            kind: delivery.kind.name(),
            bytes: payload_bytes(&delivery.kind),
            version: identity.version.clone(),
            reason: reason.to_owned(),
        };
        if tries == 0 {
            self.common.letters.add_unheard(letter);
        } else {
            self.common.letters.add(&identity.tenant, letter);
        }
        if is_last(ticket) {
            self.forget(ticket.client());
        }
        waiting.ticket.commit(Outcome::DeadLettered, Vec::new());
    }

    /// The client is gone.
    fn forget(&self, client: ClientId) {
        self.common.suspects.forget(client);
        if let Some(probation) = &self.probation {
            probation.moved.forget(client);
        }
    }

    fn broke(&mut self, side: Side, client: ClientId) {
        if let Some(probation) = self.counted(side) {
            probation.tally.trapped(client);
            if self.before.is_some() {
                probation.tally.failed(client);
            }
        }
        let now = Instant::now();
        if self.common.suspects.broke(client, now) {
            self.pause_before_rebuild(side, now);
        }
    }

    /// What breaks a version on trial is rather that version than who comes anew.
    pub(super) fn pause_before_rebuild(&mut self, side: Side, now: Instant) {
        let is_tried = side == Side::Own && self.before.is_some();
        let runner = self.runner(side);
        runner.failed(now);
        let guards = runner.guards() && !is_tried;
        self.guarded |= guards;
    }

    /// The words for whoever waits for a request, bounded like its reply.
    fn failed(&self, ticket: &Ticket, mut text: String) -> Option<Reply> {
        let bytes_max = self.own.version.identity.limits.effect_bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        is_awaited(ticket).then_some(Reply::Failed(text))
    }

    /// Builds the instance if there is none; false if it could not be built.
    async fn have_instance(&mut self, side: Side) -> bool {
        if self.runner(side).instance.is_some() {
            return true;
        }
        let (common, number) = (Arc::clone(&self.common), self.number);
        let built = self.runner(side).build(&common.runtime, number).await;
        self.now = Instant::now();
        let Err(error) = built else {
            return true;
        };
        let runner = self.runner(side);
        let identity = &runner.version.identity;
        tracing::error!(
            tenant = &*identity.tenant,
            plugin = &*identity.plugin,
            version = &*identity.version,
            instance = number,
            %error,
            "an instance cannot be built again; its events wait"
        );
        if let Some(probation) = self.counted(side) {
            probation.tally.not_built();
        }
        self.pause_before_rebuild(side, self.now);
        false
    }

    fn report_refusal(&self, side: Side, job: &Job, text: &str) {
        let identity = self.identity(side);
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

    fn report_failure(&self, side: Side, job: &Job, failure: &Failure) {
        let identity = self.identity(side);
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

/// Whether the version on trial has failed an event.
const fn is_failed_by_own(past: &Past) -> bool {
    past.broke_own || past.refused.is_some()
}

/// Whether somebody waits for its reply.
fn is_awaited(ticket: &Ticket) -> bool {
    matches!(
        ticket.job().delivery.kind,
        EventKind::Request { .. } | EventKind::Handshake { .. } | EventKind::Http { .. }
    )
}

/// Whether nothing of its client comes behind it.
fn is_last(ticket: &Ticket) -> bool {
    let kind = &ticket.job().delivery.kind;
    matches!(kind, EventKind::Close(_)) || !kind.is_of_client()
}
