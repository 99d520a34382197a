//! Lanes of tasks: each has one event, whose steps are committed one after the other, and which rests after
//! a loss, and after a worker has had no room for it, before it is sent again.

use std::collections::BTreeSet;

use tidegate_wire::event::EventKind;
use tidegate_wire::task::{Step, TaskId};

use super::{Lane, Lanes, Stale, WorkerKey};

/// Lanes that rest, by the time until which.
pub(super) type Resting = BTreeSet<(u64, u32)>;

/// After the first loss; twice as long after each further one.
const REST_FIRST_US: u64 = 100_000;
const REST_MAX_US: u64 = 30_000_000;

/// How long a task rests that no worker has had room for.
pub(super) const REST_WITHOUT_ROOM_US: u64 = 200_000;

/// How long a task rests after so many losses without a step between them.
pub(super) fn rest_us(losses: u8) -> u64 {
    let doubled = REST_FIRST_US.checked_shl(u32::from(losses.saturating_sub(1)));
    doubled.unwrap_or(REST_MAX_US).min(REST_MAX_US)
}

impl Lanes {
    /// Takes a step of a task. True if it is the next one: then its effects are to happen. One that was
    /// committed in an earlier attempt changes nothing.
    ///
    /// # Errors
    /// [`Stale`] unless it is the task's current attempt, from its worker.
    pub fn step(&mut self, worker: WorkerKey, step: &Step) -> Result<bool, Stale> {
        let lane = self.lanes.get_mut(&step.client.connection).ok_or(Stale)?;
        if !lane.is_current(worker, step.event.sequence, step.attempt) {
            return Err(Stale);
        }
        let event = lane.events.front_mut().ok_or(Stale)?;
        let EventKind::Task { committed, .. } = &mut event.kind else {
            return Err(Stale);
        };
        if step.number != *committed {
            return Ok(false);
        }
        *committed = committed.saturating_add(1);
        // Whoever was lost before, it goes on.
        event.losses = 0;
        Ok(true)
    }

    /// The task whose lane it is.
    #[must_use]
    pub fn task(&self, connection: u32) -> Option<&TaskId> {
        let first = self.lanes.get(&connection)?.events.front()?;
        if let EventKind::Task { task, .. } = &first.kind {
            return Some(task);
        }
        None
    }

    /// Where the lane's oldest event is under way: its worker, its number and the attempt.
    #[must_use]
    pub fn under_way_at(&self, connection: u32) -> Option<(WorkerKey, u64, u8)> {
        let lane = self.lanes.get(&connection)?;
        let worker = lane.worker.filter(|_| lane.under_way > 0)?;
        let event = lane.events.front()?;
        Some((worker, event.sequence, event.attempt))
    }

    /// How many attempts at the lane's task there were before this one, and how many of its steps are
    /// committed.
    #[must_use]
    pub fn progress(&self, connection: u32) -> (u8, u32) {
        let first = self.lanes.get(&connection).and_then(|it| it.events.front());
        match first.map(|event| (&event.kind, event.attempt)) {
            Some((EventKind::Task { committed, .. }, attempt)) => (attempt, *committed),
            Some(_) | None => (0, 0),
        }
    }

    /// How many workers in a row were lost over the lane's event.
    #[must_use]
    pub fn losses(&self, connection: u32) -> u8 {
        let first = |lane: &Lane| lane.events.front().map(|event| event.losses);
        self.lanes.get(&connection).and_then(first).unwrap_or(0)
    }

    /// The next lane that has rested by now. It may be gone.
    pub fn take_rested(&mut self) -> Option<u32> {
        let (until_us, number) = *self.resting.first()?;
        if until_us > self.now_us {
            return None;
        }
        self.resting.pop_first();
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::super::Sending;
    use super::*;
    use tidegate_wire::id::{ClientId, EventId, Incarnation};

    fn task() -> EventKind {
        EventKind::Task {
            task: Box::new(TaskId {
                client: None,
                event: EventId {
                    gateway: Incarnation(1),
                    shard: 0,
                    sequence: 1,
                },
                nth: 0,
            }),
            payload: b"x".to_vec().into(),
            committed: 0,
        }
    }

    fn step(sending: &Sending, number: u32) -> Step {
        Step {
            event: EventId {
                gateway: Incarnation(1),
                shard: 0,
                sequence: sending.sequence,
            },
            attempt: sending.attempt,
            client: ClientId::new(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2000), 1),
            number,
            effects: vec![],
        }
    }

    #[test]
    fn each_step_of_a_task_counts_once_whatever_attempt_sends_it() {
        let mut lanes = Lanes::default();
        lanes.open(1, 0, None);
        lanes.push(1, task());
        let first = lanes.send(1, 7).unwrap();
        assert_eq!(lanes.step(7, &step(&first, 0)), Ok(true));
        assert_eq!(lanes.step(7, &step(&first, 0)), Ok(false), "again");
        assert_eq!(lanes.step(7, &step(&first, 2)), Ok(false), "not the next");
        assert_eq!(
            lanes.step(8, &step(&first, 1)),
            Err(Stale),
            "not its worker"
        );
        lanes.take_back(1, 7, true);
        assert_eq!(lanes.step(7, &step(&first, 1)), Err(Stale), "lost");
        lanes.tick(REST_FIRST_US);
        let second = lanes.send(1, 8).unwrap();
        assert!(matches!(second.kind, EventKind::Task { committed: 1, .. }));
        assert_eq!(lanes.step(8, &step(&second, 0)), Ok(false));
        assert_eq!(lanes.losses(1), 1);
        assert_eq!(lanes.step(8, &step(&second, 1)), Ok(true));
        assert_eq!(lanes.losses(1), 0, "it goes on");
        assert!(lanes.commit(1, 8, second.sequence, second.attempt).is_ok());
    }

    #[test]
    fn a_task_that_no_worker_has_room_for_rests_and_that_is_no_loss() {
        let mut lanes = Lanes::default();
        lanes.open(1, 0, None);
        lanes.push(1, task());
        for _ in 0..3 {
            let sending = lanes.send(1, 7).unwrap();
            let returned = lanes.returned(1, 7, sending.sequence, sending.attempt);
            assert!(returned.is_some());
            assert_eq!(lanes.next(1, |_| true), None);
            lanes.tick(lanes.now_us() + REST_WITHOUT_ROOM_US);
            assert_eq!(lanes.take_rested(), Some(1));
            assert!(lanes.next(1, |_| true).is_some_and(|next| next.is_task));
        }
        assert_eq!(lanes.losses(1), 0);
    }

    #[test]
    fn a_task_rests_after_each_loss_twice_as_long_and_never_for_ever() {
        let mut lanes = Lanes::default();
        lanes.open(1, 0, None);
        lanes.push(1, task());
        let mut now_us = 0;
        for loss in 0_u32..20 {
            lanes.tick(now_us);
            assert!(lanes.next(1, |_| true).is_some());
            assert!(lanes.send(1, 7).is_some());
            lanes.take_back(1, 7, true);
            assert_eq!(lanes.next(1, |_| true), None);
            let rest = (REST_FIRST_US << loss.min(16)).min(REST_MAX_US);
            lanes.tick(now_us + rest - 1);
            assert_eq!((lanes.next(1, |_| true), lanes.take_rested()), (None, None));
            now_us += rest;
            lanes.tick(now_us);
            assert_eq!(lanes.take_rested(), Some(1));
        }
        assert_eq!(lanes.take_rested(), None);
    }
}
