//! How a seat runs one event: on its instance, and once more on a fresh one if that breaks.

use std::sync::Arc;
use std::time::Instant;

use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::EventKind;
use tidegate_wire::id::ClientId;

use super::lanes::Waiting;
use super::{Kind, Seat, Standing};
use crate::dead_letter::DeadLetter;
use crate::deployment::Job;
use crate::deployment::ticket::{Ticket, payload_bytes};
use crate::instance::{Failure, Instance, Ran};

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
        } else if let Some(broken) = self.try_once(waiting).await {
            return self.tried(broken).await;
        }
        self.lanes.gone(number);
    }

    /// Runs an event; gives it back if it broke the instance.
    async fn try_once(&mut self, waiting: Waiting) -> Option<Waiting> {
        let Some(instance) = &mut self.instance else {
            return Some(waiting);
        };
        let tally = self.tally.clone().filter(|tally| !tally.is_closed());
        let begun = tally.as_ref().map(|_| Instant::now());
        let ticket = &waiting.ticket;
        let ran = instance.handle(ticket.job()).await;
        if matches!(self.kind, Kind::Quarantine) {
            self.instance = None;
        }
        let client = ticket.client();
        let is_last = is_last(ticket);
        let failed = match ran {
            Ran::Done(effects) => {
                waiting.ticket.commit(Outcome::Done, effects);
                false
            }
            Ran::Answered(effects, reply) => {
                let reply = Some(Reply::Ok(reply));
                waiting.ticket.reply(Outcome::Done, effects, reply);
                false
            }
            Ran::Refused(text) => {
                self.report_refusal(ticket.job(), &text);
                let reply = self.failed(ticket, text);
                waiting.ticket.reply(Outcome::Failed, Vec::new(), reply);
                true
            }
            Ran::Unhandled => {
                // Nothing of the plugin ran.
                let reply = Some(Reply::Unhandled);
                waiting.ticket.reply(Outcome::Failed, Vec::new(), reply);
                return None;
            }
            Ran::Broken(failure) => {
                self.instance = None;
                self.report_failure(ticket.job(), &failure);
                self.broke(client);
                return Some(Waiting {
                    tries: waiting.tries + 1,
                    reason: failure.reason,
                    ..waiting
                });
            }
        };
        if is_last {
            self.common.suspects.forget(client);
        }
        if let (Some(tally), Some(begun)) = (tally, begun) {
            tally.ended(client, begun.elapsed(), failed);
        }
        None
    }

    /// An event broke its instance: it has another try when its client has its next turn, or is set
    /// aside, and its client's events with it.
    async fn tried(&mut self, waiting: Waiting) {
        let (client, tries, number) = (waiting.ticket.client(), waiting.tries, waiting.number);
        self.lanes.put_back(waiting);
        // A version that is given up sets no event aside for good: the other one tries it.
        self.obey_waiting().await;
        if tries < self.tries_max(client) || self.aside.is_some() {
            return;
        }
        let Some(waiting) = self.lanes.take_of(client) else {
            return;
        };
        if let Some(tally) = &self.tally
            && !tally.is_closed()
        {
            tally.failed(client);
        }
        self.common.suspects.dead_letter(client, Instant::now());
        self.set_aside(waiting);
        self.lanes.gone(number);
        if matches!(self.kind, Kind::Own { .. }) {
            for ticket in self.lanes.take_all(client) {
                self.send_into_quarantine(ticket);
            }
        }
    }

    /// In quarantine the first try is on a fresh instance.
    fn tries_max(&self, client: ClientId) -> usize {
        match self.kind {
            Kind::Quarantine if self.standing(client) != Standing::Good => 1,
            Kind::Quarantine | Kind::Canary { .. } | Kind::Own { .. } => TRIES_MAX,
        }
    }

    /// Whether it is a message of a client that is being closed since its events break.
    fn is_unheard(&self, ticket: &Ticket) -> bool {
        matches!(ticket.job().delivery.kind, EventKind::Message(_))
            && self.standing(ticket.client()) == Standing::Closing
    }

    fn set_aside(&self, waiting: Waiting) {
        let Waiting {
            ticket,
            tries,
            reason,
            ..
        } = waiting;
        let delivery = &ticket.job().delivery;
        let letter = DeadLetter {
            event: delivery.event,
            client: delivery.client,
            kind: delivery.kind.name(),
            bytes: payload_bytes(&delivery.kind),
            version: self.version.identity.version.clone(),
            reason,
        };
        let tenant = &self.version.identity.tenant;
        if tries == 0 {
            self.common.letters.add_unheard(letter);
        } else {
            self.common.letters.add(tenant, letter);
        }
        if is_last(&ticket) {
            self.common.suspects.forget(ticket.client());
        }
        ticket.commit(Outcome::DeadLettered, Vec::new());
    }

    fn broke(&mut self, client: ClientId) {
        if let Some(tally) = &self.tally {
            tally.trapped(client);
        }
        let now = Instant::now();
        if self.common.suspects.broke(client, now) {
            self.pause_before_rebuild(now);
        }
    }

    fn pause_before_rebuild(&mut self, now: Instant) {
        self.pause = Some(now + self.breaker.failed(now));
        self.guarded |= self.breaker.guards();
    }

    /// The words for whoever waits for a request, bounded like its reply.
    fn failed(&self, ticket: &Ticket, mut text: String) -> Option<Reply> {
        let bytes_max = self.version.identity.limits.effect_bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        let is_request = matches!(ticket.job().delivery.kind, EventKind::Request { .. });
        is_request.then_some(Reply::Failed(text))
    }

    /// Builds the instance if there is none; false if it could not be built.
    pub(super) async fn have_instance(&mut self) -> bool {
        if self.instance.is_some() {
            return true;
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
            Ok(instance) => {
                self.instance = Some(instance);
                self.pause = None;
                return true;
            }
            Err(error) => tracing::error!(
                tenant = &*identity.tenant,
                plugin = &*identity.plugin,
                version = &*identity.version,
                instance = self.number,
                %error,
                "an instance cannot be built again; its events wait"
            ),
        }
        if let Some(tally) = &self.tally {
            tally.not_built();
        }
        self.pause_before_rebuild(Instant::now());
        if self.stopping {
            // Given back as they are dropped.
            drop(self.lanes.drain());
        }
        false
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

/// Whether nothing of its client comes behind it.
fn is_last(ticket: &Ticket) -> bool {
    match ticket.job().delivery.kind {
        EventKind::Close(_) | EventKind::Request { .. } => true,
        EventKind::Connect { .. } | EventKind::Message(_) => false,
    }
}
