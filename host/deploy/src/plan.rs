//! The decision for one order: all workers prepare, it is written down, all switch; or none does.
//!
//! Pure: events go in, what is to be done comes out. Guarantees: asks to write at most once, and
//! only when every worker has prepared and none was lost or has refused since; before that any
//! failure makes everybody discard; after that nothing but time ends the switching. `Write` is
//! answered with `Written` or `NotWritten` before any other event.

use std::collections::BTreeMap;

use tidegate_wire::id::Incarnation;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Prepared(Incarnation),
    Refused(Incarnation, String),
    Lost(Incarnation),
    /// The time for this phase is over.
    Expired,
    Written,
    NotWritten(String),
    Switched(Incarnation),
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Prepare(Incarnation),
    /// Write the next generation down and tell everybody.
    Write,
    Discard(Incarnation),
    /// The last: it is not to be.
    Fail(Cause),
    /// The last: it is so, at this many workers.
    Done(u32),
}

/// Why it is not to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Refused(Incarnation, String),
    Lost(Incarnation),
    TooSlow(Incarnation),
    NotWritten(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Writing,
    Switching,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Has not done what the phase asks for.
    Busy,
    Done,
    Lost,
}

/// One order among the workers that were there when it began.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    workers: BTreeMap<Incarnation, At>,
    phase: Phase,
}

impl Plan {
    /// All of `workers` are to prepare.
    pub(super) fn prepare(workers: impl IntoIterator<Item = Incarnation>) -> (Self, Vec<Act>) {
        let mut plan = Self::new(workers, Phase::Preparing);
        let mut acts: Vec<Act> = plan.workers.keys().copied().map(Act::Prepare).collect();
        plan.decide(&mut acts);
        (plan, acts)
    }

    /// There is nothing to prepare: written down at once.
    pub(super) fn at_once(workers: impl IntoIterator<Item = Incarnation>) -> (Self, Vec<Act>) {
        (Self::new(workers, Phase::Writing), vec![Act::Write])
    }

    /// It was written down before: all that is left is that workers switch.
    pub(super) fn decided(workers: impl IntoIterator<Item = Incarnation>) -> (Self, Vec<Act>) {
        let mut plan = Self::new(workers, Phase::Switching);
        let mut acts = Vec::new();
        plan.conclude(&mut acts);
        (plan, acts)
    }

    fn new(workers: impl IntoIterator<Item = Incarnation>, phase: Phase) -> Self {
        let workers = workers.into_iter().map(|it| (it, At::Busy)).collect();
        Self { workers, phase }
    }

    /// Whether nobody has been told to switch.
    pub(super) const fn is_undecided(&self) -> bool {
        matches!(self.phase, Phase::Preparing | Phase::Writing)
    }

    /// Whether workers are preparing or hold what they have prepared.
    pub(super) fn is_preparing(&self) -> bool {
        self.phase == Phase::Preparing
    }

    /// The workers that have not done yet what the phase asks for.
    pub(super) fn awaited(&self) -> Vec<Incarnation> {
        let busy = self.workers.iter().filter(|(_, at)| **at == At::Busy);
        busy.map(|(worker, _)| *worker).collect()
    }

    /// Takes an event; those that mean nothing (any more) are ignored.
    pub(super) fn on(&mut self, event: Event) -> Vec<Act> {
        let mut acts = Vec::new();
        match self.phase {
            Phase::Preparing => self.while_preparing(event, &mut acts),
            Phase::Writing => self.while_writing(event, &mut acts),
            Phase::Switching => self.while_switching(&event, &mut acts),
            Phase::Over => {}
        }
        acts
    }

    fn while_preparing(&mut self, event: Event, acts: &mut Vec<Act>) {
        match event {
            Event::Prepared(worker) => {
                self.mark(worker, At::Done);
                self.decide(acts);
            }
            Event::Refused(worker, reason) => {
                if self.mark(worker, At::Lost) {
                    self.fail(Cause::Refused(worker, reason), acts);
                }
            }
            Event::Lost(worker) => {
                if self.mark(worker, At::Lost) {
                    self.fail(Cause::Lost(worker), acts);
                }
            }
            Event::Expired => {
                if let Some(worker) = self.awaited().first() {
                    self.fail(Cause::TooSlow(*worker), acts);
                }
            }
            Event::Written | Event::NotWritten(_) | Event::Switched(_) => {}
        }
    }

    fn while_writing(&mut self, event: Event, acts: &mut Vec<Act>) {
        match event {
            Event::Written => {
                self.phase = Phase::Switching;
                for at in self.workers.values_mut() {
                    if *at == At::Done {
                        *at = At::Busy;
                    }
                }
                self.conclude(acts);
            }
            Event::NotWritten(reason) => self.fail(Cause::NotWritten(reason), acts),
            Event::Lost(worker) => {
                self.mark(worker, At::Lost);
            }
            Event::Prepared(_) | Event::Refused(..) | Event::Expired | Event::Switched(_) => {}
        }
    }

    fn while_switching(&mut self, event: &Event, acts: &mut Vec<Act>) {
        match event {
            Event::Switched(worker) => {
                self.mark(*worker, At::Done);
                self.conclude(acts);
            }
            Event::Lost(worker) => {
                self.mark(*worker, At::Lost);
                self.conclude(acts);
            }
            Event::Expired => self.finish(acts),
            Event::Prepared(_) | Event::Refused(..) | Event::Written | Event::NotWritten(_) => {}
        }
    }

    /// False if the worker is not part of this, or lost.
    fn mark(&mut self, worker: Incarnation, now: At) -> bool {
        match self.workers.get_mut(&worker) {
            Some(at) if *at != At::Lost => {
                *at = now;
                true
            }
            Some(_) | None => false,
        }
    }

    fn decide(&mut self, acts: &mut Vec<Act>) {
        if self.workers.values().all(|at| *at == At::Done) {
            self.phase = Phase::Writing;
            acts.push(Act::Write);
        }
    }

    fn fail(&mut self, cause: Cause, acts: &mut Vec<Act>) {
        self.phase = Phase::Over;
        let there = self.workers.iter().filter(|(_, at)| **at != At::Lost);
        acts.extend(there.map(|(worker, _)| Act::Discard(*worker)));
        acts.push(Act::Fail(cause));
    }

    fn conclude(&mut self, acts: &mut Vec<Act>) {
        if self.awaited().is_empty() {
            self.finish(acts);
        }
    }

    fn finish(&mut self, acts: &mut Vec<Act>) {
        self.phase = Phase::Over;
        let done = self.workers.values().filter(|at| **at == At::Done);
        acts.push(Act::Done(u32::try_from(done.count()).unwrap_or(u32::MAX)));
    }
}

#[cfg(test)]
mod tests;
