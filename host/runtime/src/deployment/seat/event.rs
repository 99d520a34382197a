//! How a seat runs one event: on its instance, and once more on a fresh one if that breaks.

use std::sync::Arc;
use std::time::Instant;

use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::EventKind;

use super::Seat;
use crate::dead_letter::DeadLetter;
use crate::deployment::Job;
use crate::deployment::ticket::{Ticket, payload_bytes};
use crate::instance::{Failure, Instance, Ran};

/// How often an event is tried.
const TRIES_MAX: usize = 2;

impl Seat {
    /// Runs one event to its end.
    pub(super) async fn handle(&mut self, ticket: Ticket) {
        let tally = self.tally.clone().filter(|tally| !tally.is_closed());
        let begun = tally.as_ref().map(|_| Instant::now());
        let outcome = self.try_twice(ticket).await;
        if let (Some(tally), Some(begun), Some(outcome)) = (tally, begun, outcome) {
            tally.ended(begun.elapsed(), outcome != Outcome::Done);
        }
    }

    /// None if it did not end here: it was given back, or set aside for another seat.
    async fn try_twice(&mut self, ticket: Ticket) -> Option<Outcome> {
        let mut reason = String::new();
        for _ in 0..TRIES_MAX {
            if self.aside.is_some() {
                break;
            }
            let Some(instance) = self.instance().await else {
                if self.aside.is_some() {
                    break;
                }
                // Stopping, and no instance can be had: given back.
                return None;
            };
            let ran = instance.handle(ticket.job()).await;
            if self.quarantine {
                self.instance = None;
            }
            match ran {
                Ran::Done(effects) => {
                    ticket.commit(Outcome::Done, effects);
                    return Some(Outcome::Done);
                }
                Ran::Answered(effects, reply) => {
                    ticket.reply(Outcome::Done, effects, Some(Reply::Ok(reply)));
                    return Some(Outcome::Done);
                }
                Ran::Refused(text) => {
                    self.report_refusal(ticket.job(), &text);
                    let reply = self.failed(&ticket, text);
                    ticket.reply(Outcome::Failed, Vec::new(), reply);
                    return Some(Outcome::Failed);
                }
                Ran::Unhandled => {
                    // Nothing of the plugin ran.
                    ticket.reply(Outcome::Failed, Vec::new(), Some(Reply::Unhandled));
                    return None;
                }
                Ran::Broken(failure) => {
                    self.instance = None;
                    self.report_failure(ticket.job(), &failure);
                    self.broke();
                    reason = failure.reason;
                    self.obey_waiting().await;
                }
            }
        }
        if let Some(aside) = &mut self.aside {
            // A version that is given up sets no event aside for good: the other one tries it.
            aside.push(ticket);
            return None;
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
        Some(Outcome::DeadLettered)
    }

    fn broke(&mut self) {
        if let Some(tally) = &self.tally {
            tally.trapped();
        }
        self.delay = self.breaker.failed(Instant::now());
    }

    /// The words for whoever waits for a request, bounded like its reply.
    fn failed(&self, ticket: &Ticket, mut text: String) -> Option<Reply> {
        let bytes_max = self.version.identity.limits.effect_bytes_max;
        text.truncate(text.floor_char_boundary(bytes_max));
        let is_request = matches!(ticket.job().delivery.kind, EventKind::Request { .. });
        is_request.then_some(Reply::Failed(text))
    }

    /// The instance, built anew if there is none; None only when stopping, or given up.
    async fn instance(&mut self) -> Option<&mut Instance> {
        while self.instance.is_none() {
            self.wait_before_rebuild().await;
            if self.aside.is_some() {
                return None;
            }
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
                    self.broke();
                    if self.stopping {
                        return None;
                    }
                }
            }
        }
        self.instance.as_mut()
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
