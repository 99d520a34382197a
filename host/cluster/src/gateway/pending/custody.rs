//! Who would tell a client's close if this gateway were lost: who needs somebody, who it is, and
//! whether it must be told again what it would need.

use tidegate_wire::event::EventKind;

use super::{Lanes, WorkerKey};

impl Lanes {
    /// The custodian of a client.
    #[must_use]
    pub fn custodian(&self, connection: u32) -> Option<WorkerKey> {
        self.lanes.get(&connection)?.custodian
    }

    /// Whether a handler has seen, or may have seen, the client's connect, and its close is still
    /// to come: somebody must be able to tell it.
    #[must_use]
    pub fn is_known(&self, connection: u32) -> bool {
        self.lanes.get(&connection).is_some_and(|lane| {
            let next = lane.events.get(lane.under_way).map(|event| &event.kind);
            !lane.is_request()
                && lane.last_session.is_none()
                && !matches!(next, Some(EventKind::Connect { .. }))
        })
    }

    /// Names a custodian where there is none. True if it was named.
    pub fn entrust(&mut self, connection: u32, worker: WorkerKey) -> bool {
        match self.lanes.get_mut(&connection) {
            Some(lane) if lane.custodian.is_none() => {
                lane.custodian = Some(worker);
                true
            }
            _ => false,
        }
    }

    /// Notes that the custodian was told of a change.
    pub fn custody_told(&mut self, connection: u32) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.retell = lane.under_way > 0;
        }
    }

    /// Whether the custodian must be told again, now that nothing is under way; asked once.
    pub fn must_retell(&mut self, connection: u32) -> bool {
        match self.lanes.get_mut(&connection) {
            Some(lane) if lane.retell && lane.under_way == 0 => {
                lane.retell = false;
                true
            }
            _ => false,
        }
    }
}
