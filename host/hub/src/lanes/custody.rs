//! Who would tell a client's close if this gateway were lost: who needs somebody, who it is, and
//! what each has heard. Each client has a first custodian, and a second one where the caller names
//! it; in either seat the one that is leaving keeps its place until the next has confirmed.

use std::collections::BTreeMap;

use tidegate_wire::event::EventKind;

use super::{Custodian, CustodianSlot, FIRST, Heard, Lane, Lanes, SECOND, WorkerKey};

/// Which of a client's custodians.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that every client has.
    First,
    /// The one on another host.
    Second,
}

impl CustodianSlot {
    pub(super) fn both(&self) -> impl Iterator<Item = Custodian> + use<> {
        self.now.into_iter().chain(self.next)
    }

    fn both_mut(&mut self) -> impl Iterator<Item = &mut Custodian> {
        self.now.iter_mut().chain(&mut self.next)
    }

    /// The custodian, who was told, has said something that shows that it has heard it.
    pub(super) fn heard(&mut self, worker: WorkerKey) {
        if let Some(now) = &mut self.now
            && now.worker == worker
            && now.heard == Heard::Told
        {
            now.heard = Heard::Confirmed;
        }
    }

    /// Whether its custody changes hands.
    const fn is_open(&self) -> bool {
        self.next.is_some()
    }
}

impl Lane {
    const fn seat(&self, which: Which) -> &CustodianSlot {
        let [first, second] = &self.seats;
        match which {
            Which::First => first,
            Which::Second => second,
        }
    }

    const fn seat_mut(&mut self, which: Which) -> &mut CustodianSlot {
        let [first, second] = &mut self.seats;
        match which {
            Which::First => first,
            Which::Second => second,
        }
    }

    pub(super) fn first(&self) -> Option<WorkerKey> {
        self.seats[FIRST].now.map(|it| it.worker)
    }

    /// Whether a worker that gets an event is, or becomes, the first custodian by it.
    pub(super) fn needs_custody(&self, worker: WorkerKey) -> bool {
        let first = self.seats[FIRST].now;
        first.is_none_or(|it| it.worker == worker && it.heard == Heard::Nothing)
    }

    /// A custodian was told.
    fn told(&mut self, worker: WorkerKey) {
        for it in self.seats.iter_mut().flat_map(CustodianSlot::both_mut) {
            if it.worker == worker && it.heard == Heard::Nothing {
                it.heard = Heard::Told;
            }
        }
    }

    /// Whether a worker is or becomes one of its custodians.
    pub(super) fn keeps(&self, worker: WorkerKey) -> bool {
        let mut seats = self.seats.iter().flat_map(CustodianSlot::both);
        seats.any(|it| it.worker == worker)
    }

    /// Whether it is uncertain that somebody knows the client, whom a worker may know from an
    /// earlier link.
    fn is_doubtful(&self) -> bool {
        let first = self.events.front();
        // No worker can have had it.
        let fresh =
            first.is_some_and(|it| matches!(it.kind, EventKind::Connect { .. }) && it.attempt == 0);
        let confirmed = |it: &Custodian| it.heard == Heard::Confirmed;
        let first = &self.seats[FIRST].now;
        let second = &self.seats[SECOND].now;
        let known = first.as_ref().is_some_and(confirmed) && second.as_ref().is_none_or(confirmed);
        !known && !fresh && !self.is_of_nobody()
    }

    /// Whether one worker alone knows the client.
    fn is_single(&self) -> bool {
        let [first, second] = &self.seats;
        first.now.is_some() && second.now.is_none() && !self.is_of_nobody()
    }
}

/// How well the clients of all lanes are known to workers.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Lanes of whom it is not certain that somebody could tell their close, by epoch.
    doubts: BTreeMap<u32, usize>,
    /// Lanes of whom one worker alone could.
    singles: usize,
}

impl Known {
    fn doubt_less(&mut self, epoch: u32) {
        if let Some(count) = self.doubts.get_mut(&epoch) {
            *count -= 1;
            if *count == 0 {
                self.doubts.remove(&epoch);
            }
        }
    }
}

impl Lanes {
    /// Counts a lane among the doubtful and the single ones, or no longer.
    pub(super) fn weigh(known: &mut Known, lane: &mut Lane) {
        let single = lane.is_single();
        if single != lane.single {
            lane.single = single;
            known.singles = known.singles + usize::from(single) - usize::from(!single);
        }
        let doubtful = lane.is_doubtful();
        if doubtful == lane.doubted {
            return;
        }
        lane.doubted = doubtful;
        if doubtful {
            *known.doubts.entry(lane.epoch).or_default() += 1;
        } else {
            known.doubt_less(lane.epoch);
        }
    }

    /// A lane is gone.
    pub(super) fn unweigh(&mut self, lane: &Lane) {
        self.count_handovers(lane, false);
        self.known.singles -= usize::from(lane.single);
        if lane.doubted {
            self.known.doubt_less(lane.epoch);
        }
    }

    fn count_handovers(&mut self, lane: &Lane, more: bool) {
        let open = lane.seats.iter().filter(|seat| seat.is_open());
        for it in open.flat_map(CustodianSlot::both) {
            let count = self.handovers.entry(it.worker).or_default();
            if more {
                *count += 1;
            } else {
                *count -= 1;
            }
            if *count == 0 {
                self.handovers.remove(&it.worker);
            }
        }
    }

    /// Changes who keeps a lane.
    fn seat<T>(&mut self, connection: u32, change: impl FnOnce(&mut Lane) -> T) -> Option<T> {
        // Taken out of the table, so that it can be counted with the others.
        let mut lane = self.lanes.remove(&connection)?;
        self.count_handovers(&lane, false);
        let changed = change(&mut lane);
        self.count_handovers(&lane, true);
        Self::weigh(&mut self.known, &mut lane);
        self.lanes.insert(connection, lane);
        Some(changed)
    }

    /// A worker has linked: what is opened from now on it cannot know from an earlier link.
    pub const fn next_epoch(&mut self) -> u32 {
        self.epoch += 1;
        self.epoch
    }

    /// Whether of each lane that is older than this somebody is known to know the client.
    #[must_use]
    pub fn are_certain(&self, epoch: u32) -> bool {
        self.known.doubts.range(..epoch).next().is_none()
    }

    /// How many lanes there are of whom that is not known.
    #[must_use]
    pub fn doubts(&self) -> usize {
        self.known.doubts.values().sum()
    }

    /// How many lanes there are whose client one worker alone knows.
    #[must_use]
    pub const fn singles(&self) -> usize {
        self.known.singles
    }

    /// How many handovers of custody are open from or to a worker.
    #[must_use]
    pub fn handovers(&self, worker: WorkerKey) -> usize {
        self.handovers.get(&worker).copied().unwrap_or_default()
    }

    /// The first custodian of a client.
    #[must_use]
    pub fn custodian(&self, connection: u32) -> Option<WorkerKey> {
        self.lanes.get(&connection)?.first()
    }

    /// Behind whom a worker is or becomes the second custodian of a client; none if it is the first.
    #[must_use]
    pub fn stands_behind(&self, connection: u32, worker: WorkerKey) -> Option<WorkerKey> {
        let lane = self.lanes.get(&connection)?;
        let mut second = lane.seats[SECOND].both();
        lane.first()
            .filter(|_| second.any(|it| it.worker == worker))
    }

    /// One of the custodians of a client, and who takes its place.
    #[must_use]
    pub fn seated(&self, connection: u32, which: Which) -> (Option<WorkerKey>, Option<WorkerKey>) {
        let lane = self.lanes.get(&connection);
        let seat = lane.map(|lane| lane.seat(which));
        let worker = |it: &Option<Custodian>| it.map(|it| it.worker);
        seat.map_or((None, None), |it| (worker(&it.now), worker(&it.next)))
    }

    /// All who are or become custodians of a client.
    pub fn custodians(&self, connection: u32) -> impl Iterator<Item = WorkerKey> + use<'_> {
        let lane = self.lanes.get(&connection).into_iter();
        let seats = lane.flat_map(|lane| lane.seats.iter().flat_map(CustodianSlot::both));
        seats.map(|it| it.worker)
    }

    /// Whether a custodian waits to be told of a client or has not confirmed it.
    #[must_use]
    pub fn is_unconfirmed(&self, connection: u32, worker: WorkerKey) -> bool {
        self.lanes.get(&connection).is_some_and(|lane| {
            let mut seats = lane.seats.iter().flat_map(CustodianSlot::both);
            seats.any(|it| it.worker == worker && it.heard != Heard::Confirmed)
        })
    }

    /// Whether a worker has the session as it is here, but for what it has under way.
    #[must_use]
    pub fn mirrors(&self, connection: u32, worker: WorkerKey) -> bool {
        let lane = self.lanes.get(&connection);
        lane.is_some_and(|lane| lane.mirror == Some(worker) && lane.worker == Some(worker))
    }

    /// Whether a client's custody may be handed over: its connect is committed and its close is still
    /// to come.
    #[must_use]
    pub fn may_be_handed_over(&self, connection: u32) -> bool {
        self.is_known(connection)
            && self.lanes.get(&connection).is_some_and(|lane| {
                let first = lane.events.front().map(|event| &event.kind);
                !matches!(first, Some(EventKind::Connect { .. }))
            })
    }

    /// Whether a handler has seen, or may have seen, the client's connect, and its close is still
    /// to come: somebody must be able to tell it.
    #[must_use]
    pub fn is_known(&self, connection: u32) -> bool {
        self.lanes.get(&connection).is_some_and(|lane| {
            let next = lane.events.get(lane.under_way).map(|event| &event.kind);
            !lane.is_of_nobody()
                && lane.last_session.is_none()
                && !matches!(next, Some(EventKind::Connect { .. }))
        })
    }

    /// Names a custodian: at once where there is none, or else as the next one.
    pub fn name(&mut self, connection: u32, which: Which, worker: WorkerKey) {
        self.seat(connection, |lane| {
            let seat = lane.seat_mut(which);
            let named = Some(Custodian {
                worker,
                heard: Heard::Nothing,
            });
            if seat.now.is_none() {
                seat.now = named;
            } else {
                seat.next = named;
            }
            lane.others.retain(|other| *other != worker);
        });
    }

    /// The second custodian becomes the next first one: that is leaving. True if it has confirmed
    /// that it knows the client, so that it is the first at once.
    pub fn promote(&mut self, connection: u32) -> bool {
        let promoted = self.seat(connection, |lane| {
            let second = lane.seats[SECOND].now.take();
            lane.seats[SECOND].now = lane.seats[SECOND].next.take();
            lane.seats[FIRST].next = second;
            second.is_some_and(|it| it.heard == Heard::Confirmed)
        });
        promoted.unwrap_or_default()
    }

    /// No second custodian is needed. Says who they were.
    pub fn dismiss_second(&mut self, connection: u32) -> Vec<WorkerKey> {
        let dismissed = self.seat(connection, |lane| {
            let seat = std::mem::take(&mut lane.seats[SECOND]);
            seat.both().map(|it| it.worker).collect()
        });
        dismissed.unwrap_or_default()
    }

    /// A worker was told of a client.
    pub fn told(&mut self, connection: u32, worker: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.told(worker);
            if lane.worker == Some(worker) {
                lane.postponed = (lane.under_way > 0).then_some(worker);
            }
        }
    }

    /// A worker was told of a client just before the event that was sent last. True if others were
    /// under way, so that it must be told again.
    pub fn told_with_event(&mut self, connection: u32, worker: WorkerKey) -> bool {
        let Some(lane) = self.lanes.get_mut(&connection) else {
            return false;
        };
        lane.told(worker);
        let crosses = lane.under_way > 1;
        lane.postponed = crosses.then_some(worker);
        if crosses {
            // Its record lacks what is under way until a snapshot replaces it.
            lane.mirror = None;
        }
        crosses
    }

    /// A worker was told all of a client while events were under way there. As above.
    pub fn told_amid(&mut self, connection: u32, worker: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.told(worker);
            lane.postponed = Some(worker);
            lane.mirror = None;
        }
    }

    /// A worker is told once nothing of the lane is under way there.
    pub fn postpone(&mut self, connection: u32, worker: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection) {
            lane.postponed = Some(worker);
        }
    }

    /// Whether events of a lane are under way at this worker.
    #[must_use]
    pub fn is_at_work(&self, connection: u32, worker: WorkerKey) -> bool {
        let lane = self.lanes.get(&connection);
        lane.is_some_and(|lane| lane.worker == Some(worker) && lane.under_way > 0)
    }

    /// A custodian has confirmed that it knows a client. Says whom it has replaced.
    pub fn confirm(&mut self, connection: u32, worker: WorkerKey) -> Option<WorkerKey> {
        let replaced = self.seat(connection, |lane| {
            let mut replaced = None;
            for seat in &mut lane.seats {
                if let Some(next) = seat.next.filter(|it| it.worker == worker) {
                    replaced = seat.now.map(|it| it.worker);
                    seat.now = Some(next);
                    seat.next = None;
                }
                if let Some(now) = seat.now.as_mut().filter(|it| it.worker == worker) {
                    now.heard = Heard::Confirmed;
                }
            }
            replaced
        });
        replaced.flatten()
    }

    /// A worker is lost: it is nobody's custodian any more. Where another one was named, that takes its
    /// place.
    pub(super) fn unseat(&mut self, connection: u32, worker: WorkerKey) {
        let lane = self.lanes.get_mut(&connection);
        let Some(lane) = lane.filter(|lane| lane.keeps(worker) || !lane.others.is_empty()) else {
            return;
        };
        lane.others.retain(|other| *other != worker);
        self.seat(connection, |lane| {
            for seat in &mut lane.seats {
                seat.next.take_if(|it| it.worker == worker);
                if seat.now.take_if(|it| it.worker == worker).is_some() {
                    seat.now = seat.next.take();
                }
            }
        });
    }

    /// There is no first custodian any more: the second one takes its place. It is told, and does
    /// not count as the first before it has confirmed that.
    pub fn succeed(&mut self, connection: u32) -> Option<WorkerKey> {
        let succeeded = self.seat(connection, |lane| {
            let [first, second] = &mut lane.seats;
            if first.now.is_none() {
                first.now = second.now.take();
                second.now = second.next.take();
                if let Some(now) = &mut first.now
                    && now.heard == Heard::Confirmed
                {
                    now.heard = Heard::Told;
                }
            }
            first.now.map(|it| it.worker)
        });
        succeeded.flatten()
    }

    /// Who was to take a place is not wanted any more. Says who that was.
    pub fn drop_next(&mut self, connection: u32, which: Which) -> Option<WorkerKey> {
        let dropped = self.seat(connection, |lane| lane.seat_mut(which).next.take());
        dropped.flatten().map(|it| it.worker)
    }

    /// Who may be told what was postponed, now that nothing is under way; asked once.
    pub fn may_resume(&mut self, connection: u32) -> Option<WorkerKey> {
        let lane = self.lanes.get_mut(&connection)?;
        lane.postponed.take_if(|_| lane.under_way == 0)
    }

    /// A worker was told that it may forget a client.
    pub fn released(&mut self, connection: u32, worker: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection)
            && lane.mirror == Some(worker)
        {
            lane.mirror = None;
        }
    }
}
