//! What lanes look like from outside: who is there, what waits, how old it is. Nothing here changes them.

use tidegate_fair::Shares;

use super::{Ages, Lane, Lanes, Oldest, WorkerKey, is_task};

impl Lanes {
    /// Whether this client's number is still taken.
    #[must_use]
    pub fn contains(&self, connection: u32) -> bool {
        self.lanes.contains_key(&connection)
    }

    /// All lanes.
    pub fn connections(&self) -> impl Iterator<Item = u32> {
        self.lanes.keys().copied()
    }

    /// Lanes that a worker has something to do with.
    #[must_use]
    pub fn of_worker(&self, worker: WorkerKey) -> Vec<u32> {
        let concerned = |lane: &Lane| {
            lane.worker == Some(worker)
                || lane.mirror == Some(worker)
                || lane.keeps(worker)
                || lane.others.contains(&worker)
        };
        let lanes = self.lanes.iter().filter(|(_, lane)| concerned(lane));
        lanes.map(|(number, _)| *number).collect()
    }

    /// How many lanes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Bytes of all events that wait or are under way.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes.total()
    }

    /// How many bytes of events each tenant has and may have.
    #[must_use]
    pub const fn shares(&self) -> &Shares<u16> {
        &self.bytes
    }

    /// How many events wait or are under way.
    #[must_use]
    pub const fn events(&self) -> usize {
        self.events
    }

    /// How many events of a tenant wait or are under way, beside tasks.
    #[must_use]
    pub fn events_of(&self, tenant: u16) -> usize {
        let ages = self.ages.get(usize::from(tenant));
        ages.map_or(0, Ages::events)
    }

    /// The age of a tenant's oldest event; none if it has none. Tasks take their time, and are not looked
    /// at. Costs nothing.
    #[must_use]
    pub fn oldest_age_us(&self, tenant: u16) -> Option<u64> {
        self.ages.get(usize::from(tenant))?.oldest_us(self.now_us)
    }

    /// A tenant's oldest event. Looks at every lane.
    #[must_use]
    pub fn oldest(&self, tenant: u16) -> Option<Oldest> {
        let lanes = self.lanes.iter().filter(|(_, lane)| lane.tenant == tenant);
        let first = lanes.filter_map(|(number, lane)| Some((number, lane, lane.events.front()?)));
        let first = first.filter(|(.., event)| !is_task(&event.kind));
        let (number, lane, event) = first.min_by_key(|(.., event)| event.sequence)?;
        let under_way = lane.worker.filter(|_| lane.under_way > 0);
        Some(Oldest {
            connection: *number,
            kind: event.kind.event_type(),
            under_way: under_way.map(|it| (it, self.now_us.saturating_sub(event.sent_us))),
            age_us: self.now_us.saturating_sub(event.at_us),
        })
    }

    /// Bytes of one lane's events.
    #[must_use]
    pub fn lane_bytes(&self, connection: u32) -> usize {
        self.lanes.get(&connection).map_or(0, |lane| lane.bytes)
    }

    /// The tenant of a lane.
    #[must_use]
    pub fn tenant(&self, connection: u32) -> Option<u16> {
        self.lanes.get(&connection).map(|lane| lane.tenant)
    }

    /// The worker that a lane stays with.
    #[must_use]
    pub fn worker(&self, connection: u32) -> Option<WorkerKey> {
        self.lanes.get(&connection)?.worker
    }

    /// How many events of a lane are under way.
    #[must_use]
    pub fn under_way(&self, connection: u32) -> usize {
        let lane = self.lanes.get(&connection);
        lane.map_or(0, |lane| lane.under_way)
    }

    /// Whether nothing of a lane is under way.
    #[must_use]
    pub fn is_idle(&self, connection: u32) -> bool {
        self.lanes
            .get(&connection)
            .is_none_or(|lane| lane.under_way == 0)
    }

    /// Whether every event of a lane is committed.
    #[must_use]
    pub fn is_settled(&self, connection: u32) -> bool {
        self.lanes
            .get(&connection)
            .is_none_or(|lane| lane.events.is_empty())
    }

    /// Whether no worker can have run the lane's oldest event: it was not sent, or every worker
    /// that had it gave it back.
    #[must_use]
    pub fn is_untouched(&self, connection: u32) -> bool {
        self.lanes.get(&connection).is_some_and(|lane| {
            lane.under_way == 0 && lane.events.front().is_some_and(|event| event.losses == 0)
        })
    }
}
