//! Who would tell a client's close if this gateway were lost: who needs somebody, who it is, and
//! whether it must be told again what it would need.

use tidegate_wire::event::EventKind;

use super::{Lane, Lanes, WorkerKey};

impl Lanes {
    /// The custodian of a client.
    #[must_use]
    pub fn custodian(&self, connection: u32) -> Option<WorkerKey> {
        self.lanes.get(&connection)?.custodian
    }

    /// Who is to become the custodian of a client.
    #[must_use]
    pub fn heir(&self, connection: u32) -> Option<WorkerKey> {
        self.lanes.get(&connection)?.heir
    }

    /// Whether a client's custody may be handed over: its connect is committed, its close is still to
    /// come, and it has no heir yet.
    #[must_use]
    pub fn may_be_handed_over(&self, connection: u32) -> bool {
        self.is_known(connection)
            && self.lanes.get(&connection).is_some_and(|lane| {
                let first = lane.events.front().map(|event| &event.kind);
                lane.heir.is_none() && !matches!(first, Some(EventKind::Connect { .. }))
            })
    }

    /// Names the heir of a client.
    pub fn name_heir(&mut self, connection: u32, heir: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.heir = Some(heir);
        }
    }

    /// The heir knows the client: from now on it is the custodian. False if it is not its heir.
    pub fn inherit(&mut self, connection: u32, heir: WorkerKey) -> bool {
        let lane = self.lanes.get_mut(&connection);
        let Some(lane) = lane.filter(|lane| lane.heir == Some(heir)) else {
            return false;
        };
        lane.heir = None;
        lane.custodian = Some(heir);
        lane.confirmed = true;
        lane.others.retain(|other| *other != heir);
        true
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
                lane.confirmed = false;
                true
            }
            _ => false,
        }
    }

    /// The custodian has heard that it is.
    pub fn confirm(&mut self, connection: u32, custodian: WorkerKey) {
        let lane = self.lanes.get_mut(&connection);
        if let Some(lane) = lane.filter(|lane| lane.custodian == Some(custodian)) {
            lane.confirmed = true;
        }
    }

    /// Clients whose custodian is not this worker and has not confirmed that it is, or who have none.
    /// This worker may be the only one that knows them, from an earlier link.
    pub fn uncertain(&self, but: WorkerKey) -> impl Iterator<Item = u32> {
        let uncertain = move |lane: &Lane| {
            let first = lane.events.front();
            // This worker has not had it: nobody was lost over it.
            let fresh = first
                .is_some_and(|it| matches!(it.kind, EventKind::Connect { .. }) && it.attempt == 0);
            match lane.custodian {
                _ if lane.is_request() || fresh => false,
                Some(custodian) => custodian != but && !lane.confirmed,
                None => true,
            }
        };
        let lanes = self.lanes.iter();
        lanes
            .filter(move |(_, lane)| uncertain(lane))
            .map(|(number, _)| *number)
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
