//! Attempts: an event is sent to a worker, and is committed by it, given back, or taken back from it when
//! it is lost.

use super::{
    Committed, Custodian, EVENTS_KEPT, EventKind, FIRST, Heard, Lanes, Sending, Stale, VecDeque,
    WorkerKey, is_task, tasks,
};

impl Lanes {
    /// Takes the lane's next event for `worker`. Call [`Lanes::next`] first.
    pub fn send(&mut self, connection: u32, worker: WorkerKey) -> Option<Sending> {
        let lane = self.lanes.get_mut(&connection)?;
        let next = lane.events.get(lane.under_way)?;
        let with_session = lane.mirror != Some(worker);
        // What happened to no client has nobody whose close could be told.
        let of_nobody = lane.is_of_nobody();
        let with_custody = lane.needs_custody(worker) && !of_nobody;
        let sending = Sending {
            sequence: next.sequence,
            attempt: next.attempt,
            losses: next.losses,
            kind: next.kind.clone(),
            with_session,
            with_custody,
            bytes: next.bytes as usize,
            waited_us: (next.attempt == 0).then(|| self.now_us.saturating_sub(next.at_us)),
        };
        lane.under_way += 1;
        lane.worker = Some(worker);
        lane.mirror = Some(worker);
        if with_custody {
            lane.seats[FIRST].now = Some(Custodian {
                worker,
                heard: Heard::Told,
            });
            Self::weigh(&mut self.known, lane);
        } else if !of_nobody && !lane.others.contains(&worker) && !lane.keeps(worker) {
            lane.others.push(worker);
        }
        Some(sending)
    }

    /// Notes what the event that was sent last, now, counts in its worker's window.
    pub fn counted(&mut self, connection: u32, counted: usize) {
        let lane = self.lanes.get_mut(&connection);
        let last = lane.and_then(|lane| lane.events.get_mut(lane.under_way.checked_sub(1)?));
        if let Some(last) = last {
            last.counted = u32::try_from(counted).unwrap_or(u32::MAX);
            last.sent_us = self.now_us;
        }
    }

    /// Takes a committed event off its lane.
    ///
    /// # Errors
    /// [`Stale`] unless it is the lane's oldest event, at its current attempt, from its worker.
    pub fn commit(
        &mut self,
        connection: u32,
        worker: WorkerKey,
        sequence: u64,
        attempt: u8,
    ) -> Result<Committed, Stale> {
        let lane = self.lanes.get_mut(&connection).ok_or(Stale)?;
        if !lane.is_current(worker, sequence, attempt) {
            return Err(Stale);
        }
        let event = lane.events.pop_front().ok_or(Stale)?;
        lane.under_way -= 1;
        if lane.postponed != Some(worker) {
            lane.seats[FIRST].heard(worker);
        }
        if lane.events.is_empty() && lane.events.capacity() > EVENTS_KEPT {
            lane.events = VecDeque::new();
        }
        let bytes = event.bytes as usize;
        lane.bytes -= bytes;
        self.bytes.give(&lane.tenant, bytes);
        self.events -= 1;
        if let Some(ages) = self.ages.get_mut(usize::from(lane.tenant))
            && !is_task(&event.kind)
        {
            ages.take(event.at_us);
        }
        Self::weigh(&mut self.known, lane);
        Ok(Committed {
            counted: event.counted as usize,
            kind: event.kind.event_type(),
            of_client: event.kind.is_of_client(),
            took_us: self.now_us.saturating_sub(event.at_us),
            id: event.kind.into_id(),
        })
    }

    /// Whether an event, the oldest or one behind it, is under way at this worker at this attempt.
    #[must_use]
    pub fn is_under_way(
        &self,
        connection: u32,
        worker: WorkerKey,
        sequence: u64,
        attempt: u8,
    ) -> bool {
        self.lanes.get(&connection).is_some_and(|lane| {
            lane.worker == Some(worker)
                && lane
                    .events
                    .iter()
                    .take(lane.under_way)
                    .any(|event| event.sequence == sequence && event.attempt == attempt)
        })
    }

    /// Takes back the events that `worker` has of a lane: it returned one, or it is lost. They
    /// are sent again with the next attempt. Says how many events came back, and what they counted.
    pub fn take_back(
        &mut self,
        connection: u32,
        worker: WorkerKey,
        lost: bool,
    ) -> Option<(usize, usize)> {
        if lost {
            self.unseat(connection, worker);
        }
        let lane = self.lanes.get_mut(&connection)?;
        if lane.mirror == Some(worker) {
            lane.mirror = None;
        }
        if lane.worker != Some(worker) {
            return Some((0, 0));
        }
        lane.worker = None;
        let under_way = std::mem::take(&mut lane.under_way);
        let mut counted = 0;
        for (place, event) in lane.events.iter_mut().take(under_way).enumerate() {
            counted += event.take_back();
            // Only the oldest can have been running; the others merely waited behind it.
            if lost && place == 0 {
                event.losses = event.losses.saturating_add(1);
                if is_task(&event.kind) {
                    lane.rests_until_us = self.now_us + tasks::rest_us(event.losses);
                    self.resting.insert((lane.rests_until_us, connection));
                }
            }
        }
        Self::weigh(&mut self.known, lane);
        Some((under_way, counted))
    }

    /// Takes back an event that `worker` returned, with those behind it; none if this attempt is not
    /// under way there. One that overtook others of its lane leaves them under way: the rest follows
    /// with a new session once they are committed.
    pub fn returned(
        &mut self,
        connection: u32,
        worker: WorkerKey,
        sequence: u64,
        attempt: u8,
    ) -> Option<(usize, usize)> {
        let lane = self.lanes.get_mut(&connection)?;
        if lane.worker != Some(worker) {
            return None;
        }
        let mut under_way = lane.events.iter().take(lane.under_way);
        let place = under_way.position(|it| it.sequence == sequence && it.attempt == attempt)?;
        if place == 0 {
            // Who has not run the connect does not know that it is the custodian.
            let connect = matches!(lane.events.front(), Some(it) if matches!(it.kind, EventKind::Connect { .. }));
            if connect && lane.first() == Some(worker) {
                lane.seats[FIRST].now = None;
            }
            if lane
                .events
                .front()
                .is_some_and(|event| is_task(&event.kind))
            {
                lane.rests_until_us = self.now_us + tasks::REST_WITHOUT_ROOM_US;
                self.resting.insert((lane.rests_until_us, connection));
            }
            return self.take_back(connection, worker, false);
        }
        lane.mirror = None;
        let count = lane.under_way - place;
        lane.under_way = place;
        let mut counted = 0;
        for event in lane.events.iter_mut().skip(place).take(count) {
            counted += event.take_back();
        }
        Some((count, counted))
    }

    /// Frees an idle lane from a worker that is leaving, so that it may choose another one.
    pub fn unbind(&mut self, connection: u32, worker: WorkerKey) {
        if let Some(lane) = self.lanes.get_mut(&connection)
            && lane.worker == Some(worker)
            && lane.under_way == 0
        {
            lane.worker = None;
        }
    }
}
