//! Requests at their home: each is the one event of a lane of its own, which no client has.
//!
//! Guarantees: attempts, losses and dead letters are those of any event, and the effects of a
//! request that is done happen once; no worker is its custodian and no hub knows it. A request that
//! no worker can have run when its deadline passes is taken off; any other runs to its commit,
//! whether somebody waits for the reply or not.

use std::collections::BTreeSet;

use metrics::{Counter, counter};
use rustc_hash::FxHashMap;
use tidegate_wire::effect::{Outcome, Reply};
use tidegate_wire::event::EventKind;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::State;
use crate::gateway::access::RequestError;
use crate::gateway::shared::request::{Replied, Request, RequestPlace};

/// The requests whose home is this shard.
pub(super) struct Requests {
    waiting: FxHashMap<u32, WaitingRequest>,
    deadlines: BTreeSet<(Instant, u32)>,
    /// The gateway is ending: nothing new is taken.
    ending: bool,
    taken: Counter,
    timed_out: Counter,
}

struct WaitingRequest {
    /// None once the deadline has passed, unless the reply is kept.
    reply: Option<oneshot::Sender<Replied>>,
    deadline: Instant,
    /// Whether the reply is told also after the deadline.
    kept: bool,
    _place: RequestPlace,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            waiting: FxHashMap::default(),
            deadlines: BTreeSet::new(),
            ending: false,
            taken: counter!("tidegate_gateway_requests_total"),
            timed_out: counter!("tidegate_gateway_dropped_total", "reason" => "request-timeout"),
        }
    }
}

impl Requests {
    fn remove(&mut self, number: u32) -> Option<WaitingRequest> {
        let waiting = self.waiting.remove(&number)?;
        self.deadlines.remove(&(waiting.deadline, number));
        Some(waiting)
    }
}

impl State {
    /// A call from outside becomes an event.
    pub(super) fn request(&mut self, request: Request) {
        let Request {
            tenant,
            name,
            payload,
            deadline,
            reply,
            kept,
            place,
        } = request;
        // Whoever is refused has either waited for it or is gone.
        let refuse = |reply: oneshot::Sender<Replied>, why| drop(reply.send(Err(why)));
        let Some(tenant) = self.tenant_index(&tenant) else {
            return refuse(reply, RequestError::Unhandled);
        };
        if self.events.requests.ending {
            return refuse(reply, RequestError::Ending);
        }
        let shares = self.events.lanes.shares();
        let (waiting, room) = (shares.used(&tenant), shares.room(&tenant));
        if waiting > 0 && payload.len() > room {
            let why = format!(
                "events of {waiting} bytes wait on this shard, the tenant's share: try again later"
            );
            return refuse(reply, RequestError::Overloaded(why));
        }
        let number = self.take_number();
        let waiting = WaitingRequest {
            reply: Some(reply),
            deadline,
            kept,
            _place: place,
        };
        self.events.requests.taken.increment(1);
        self.events.requests.waiting.insert(number, waiting);
        self.events.requests.deadlines.insert((deadline, number));
        self.events.lanes.open(number, tenant);
        let payload = payload.into();
        self.events
            .lanes
            .push(number, EventKind::Request { name, payload });
        self.pump(number);
    }

    /// A request's event is over and its effects are applied: its caller learns the reply.
    pub(super) fn request_ended(
        &mut self,
        number: u32,
        outcome: Outcome,
        reply: Option<Box<Reply>>,
    ) {
        self.events.strikes.forget(number);
        self.events.lanes.remove(number);
        if let Some(waiting) = self.events.requests.remove(number)
            && let Some(to) = waiting.reply
        {
            // The caller may be gone; the event has happened all the same.
            let _ = to.send(replied(outcome, reply));
        }
    }

    /// Takes off what no worker can have run by its deadline, and frees callers of the rest.
    pub(super) fn expire_requests(&mut self) {
        if self.events.requests.ending {
            // What a worker gave back meanwhile is refused too.
            self.end_requests();
        }
        let now = Instant::now();
        while let Some(&(deadline, number)) = self.events.requests.deadlines.first()
            && deadline <= now
        {
            self.events.requests.deadlines.remove(&(deadline, number));
            if self.events.lanes.is_untouched(number) {
                self.events.requests.timed_out.increment(1);
                self.take_off(number, RequestError::Timeout);
            } else if let Some(waiting) = self.events.requests.waiting.get_mut(&number)
                && !waiting.kept
                && let Some(to) = waiting.reply.take()
            {
                // The caller's own clock may have told it already.
                let _ = to.send(Err(RequestError::Timeout));
            }
        }
        self.sweep_queues();
    }

    /// The gateway is ending: requests that no worker has are answered, the others may finish.
    pub(super) fn end_requests(&mut self) {
        self.events.requests.ending = true;
        let waiting: Vec<u32> = self.events.requests.waiting.keys().copied().collect();
        for number in waiting {
            if self.events.lanes.is_untouched(number) {
                self.take_off(number, RequestError::Ending);
            }
        }
        self.sweep_queues();
    }

    fn take_off(&mut self, number: u32, why: RequestError) {
        let tenant = self.events.lanes.tenant(number);
        self.events.lanes.remove(number);
        self.events.gone_while_queued += 1;
        if let Some(tenant) = tenant {
            self.resume_reading(number, tenant);
        }
        if let Some(waiting) = self.events.requests.remove(number)
            && let Some(to) = waiting.reply
        {
            // The caller's own clock may have told it already.
            let _ = to.send(Err(why));
        }
    }

    /// Lanes that are gone leave the queues of lanes that wait, which would grow otherwise. Not before
    /// they are half of them: so a request that is taken off costs no look at all that wait.
    fn sweep_queues(&mut self) {
        let queued = self.events.unrouted.count() + self.workers.waiting();
        if self.events.gone_while_queued == 0 || self.events.gone_while_queued * 2 < queued {
            return;
        }
        self.events.gone_while_queued = 0;
        let lanes = &self.events.lanes;
        self.events.unrouted.retain(|number| lanes.contains(number));
        self.workers.retain_waiting(|number| lanes.contains(number));
    }
}

/// What the caller learns of a commit.
fn replied(outcome: Outcome, reply: Option<Box<Reply>>) -> Replied {
    let reply = reply.map(|reply| *reply);
    match (outcome, reply) {
        (Outcome::DeadLettered, _) => Err(RequestError::DeadLettered),
        (_, Some(Reply::Unhandled)) => Err(RequestError::Unhandled),
        (_, Some(Reply::Failed(text))) => Err(RequestError::Failed(text)),
        (Outcome::Done, Some(Reply::Ok(payload))) => Ok(payload.into_bytes()),
        (Outcome::Failed | Outcome::Returned, Some(Reply::Ok(_)) | None) => {
            Err(RequestError::Failed("the handler failed".to_owned()))
        }
        (Outcome::Done, None) => Err(RequestError::Failed(
            "the worker sent a commit without a reply".to_owned(),
        )),
    }
}
