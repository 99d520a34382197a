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
use tidegate_wire::payload::Carry;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Events;
use crate::gateway::access::RequestError;
use crate::gateway::shard::State;
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

impl Events {
    /// Whether a request of so many bytes is taken.
    pub(in crate::gateway::shard) fn admits_request(
        &self,
        tenant: u16,
        bytes: usize,
    ) -> Result<(), RequestError> {
        if self.requests.ending {
            return Err(RequestError::Ending);
        }
        let shares = self.lanes.shares();
        let (waiting, room) = (shares.used(&tenant), shares.room(&tenant));
        if waiting > 0 && bytes > room {
            let why = format!(
                "events of {waiting} bytes wait on this shard, the tenant's share: try again later"
            );
            return Err(RequestError::Overloaded(why));
        }
        Ok(())
    }

    /// A call from outside becomes an event.
    pub(in crate::gateway::shard) fn open_request(
        &mut self,
        number: u32,
        tenant: u16,
        request: Request,
    ) {
        let waiting = WaitingRequest {
            reply: Some(request.reply),
            deadline: request.deadline,
            kept: request.kept,
            _place: request.place,
        };
        let deadline = (request.deadline, number);
        self.requests.taken.increment(1);
        self.requests.waiting.insert(number, waiting);
        self.requests.deadlines.insert(deadline);
        self.open(number, tenant, request.kind);
    }

    /// A request's event is over and its effects are applied: its caller learns the reply.
    pub(in crate::gateway::shard) fn end_request(
        &mut self,
        number: u32,
        outcome: Outcome,
        reply: Option<Box<Reply>>,
    ) {
        self.remove(number);
        if let Some(waiting) = self.requests.remove(number)
            && let Some(to) = waiting.reply
        {
            // The caller may be gone; the event has happened all the same.
            let _ = to.send(replied(outcome, reply));
        }
    }

    /// Whether requests are refused.
    pub(in crate::gateway::shard) const fn is_ending(&self) -> bool {
        self.requests.ending
    }

    /// Takes off what no worker can have run by its deadline, and frees callers of the rest. Gives
    /// the tenants of those that were taken off.
    pub(in crate::gateway::shard) fn expire_requests(&mut self) -> Vec<u16> {
        let now = Instant::now();
        let mut tenants = Vec::new();
        while let Some(&(deadline, number)) = self.requests.deadlines.first()
            && deadline <= now
        {
            self.requests.deadlines.remove(&(deadline, number));
            if self.lanes.is_untouched(number) {
                self.requests.timed_out.increment(1);
                tenants.extend(self.take_off(number, RequestError::Timeout));
            } else if let Some(waiting) = self.requests.waiting.get_mut(&number)
                && !waiting.kept
                && let Some(to) = waiting.reply.take()
            {
                // The caller's own clock may have told it already.
                let _ = to.send(Err(RequestError::Timeout));
            }
        }
        tenants
    }

    /// The gateway is ending: requests that no worker has are answered, the others may finish. Gives
    /// the tenants of those that were taken off.
    pub(in crate::gateway::shard) fn end_requests(&mut self) -> Vec<u16> {
        self.requests.ending = true;
        let waiting: Vec<u32> = self.requests.waiting.keys().copied().collect();
        let mut tenants = Vec::new();
        for number in waiting {
            if self.lanes.is_untouched(number) {
                tenants.extend(self.take_off(number, RequestError::Ending));
            }
        }
        tenants
    }

    fn take_off(&mut self, number: u32, why: RequestError) -> Option<u16> {
        let tenant = self.lanes.tenant(number);
        self.take_off_lane(number);
        if let Some(waiting) = self.requests.remove(number)
            && let Some(to) = waiting.reply
        {
            // The caller's own clock may have told it already.
            let _ = to.send(Err(why));
        }
        tenant
    }
}

impl State {
    /// A call from outside becomes an event.
    pub(in crate::gateway::shard) fn request(&mut self, request: Request) {
        let tenant = self.tenant_index(&request.tenant);
        let tenant = tenant.ok_or(RequestError::Unhandled).and_then(|tenant| {
            let mut bytes = 0;
            request.kind.carry(&mut |payload| bytes += payload.len());
            let admitted = self.events.admits_request(tenant, bytes);
            admitted.map(|()| tenant)
        });
        let tenant = match tenant {
            Ok(tenant) => tenant,
            // Whoever is refused has either waited for it or is gone.
            Err(why) => return drop(request.reply.send(Err(why))),
        };
        let number = self.take_number();
        self.events.open_request(number, tenant, request);
        self.pump(number);
    }

    /// Takes off requests that no worker can have run by their deadline, and frees callers of the
    /// rest.
    pub(in crate::gateway::shard) fn expire_requests(&mut self) {
        if self.events.is_ending() {
            // What a worker gave back meanwhile is refused too.
            self.end_requests();
        }
        let tenants = self.events.expire_requests();
        self.taken_off(tenants);
    }

    /// The gateway is ending.
    pub(in crate::gateway::shard) fn end_requests(&mut self) {
        let tenants = self.events.end_requests();
        self.taken_off(tenants);
    }

    /// Requests of these tenants were taken off: there may be room for others. Their lanes leave the
    /// queues of lanes that wait.
    fn taken_off(&mut self, tenants: Vec<u16>) {
        for tenant in tenants {
            self.resume_reading_of_tenant(tenant);
        }
        if self.events.sweep(self.workers.waiting()) {
            let lanes = self.events.lanes();
            self.workers.retain_waiting(|number| lanes.contains(number));
        }
    }
}

/// What who waits learns of a commit.
fn replied(outcome: Outcome, reply: Option<Box<Reply>>) -> Replied {
    match (outcome, reply.map(|reply| *reply)) {
        (Outcome::DeadLettered, _) => Err(RequestError::DeadLettered),
        (_, Some(Reply::Unhandled)) => Err(RequestError::Unhandled),
        (_, Some(Reply::Failed(text))) => Err(RequestError::Failed(text)),
        (
            Outcome::Done,
            Some(reply @ (Reply::Ok(_) | Reply::Accepted(_) | Reply::Rejected(_) | Reply::Http(_))),
        ) => Ok(reply),
        (
            Outcome::Failed | Outcome::Returned,
            Some(Reply::Ok(_) | Reply::Accepted(_) | Reply::Rejected(_) | Reply::Http(_)) | None,
        ) => Err(RequestError::Failed("the handler failed".to_owned())),
        (Outcome::Done, None) => Err(RequestError::Failed(
            "the worker sent a commit without a reply".to_owned(),
        )),
    }
}
