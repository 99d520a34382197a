//! The events that a seat has, by client. Clients take turns, so that one with much to do does not
//! keep the others waiting; each client's events keep their order.
//!
//! A mark stands behind the events that came before it: it is passed when they are gone.

use std::collections::VecDeque;

use tidegate_fair::Turns;
use tidegate_wire::id::ClientId;
use tokio::sync::oneshot;

use crate::deployment::ticket::Ticket;

/// An event that waits for its turn.
pub(super) struct WaitingCall {
    pub(super) ticket: Ticket,
    /// Its number among all that came.
    pub(super) number: u64,
    /// What it went through; almost always nothing, and then it is small.
    past: Option<Box<Past>>,
}

/// What an event went through.
#[derive(Default)]
pub(super) struct Past {
    /// How often it broke, and why the last time.
    pub(super) tries: usize,
    pub(super) reason: String,
    /// It broke under the version on trial.
    pub(super) broke_own: bool,
    /// It broke under the version before.
    pub(super) broke_before: bool,
    /// The version on trial refused it with these words.
    pub(super) refused: Option<String>,
    /// Its tries count as long as this is that of the lanes.
    epoch: u32,
}

impl WaitingCall {
    /// What it went through, if anything.
    pub(super) fn past(&self) -> Option<&Past> {
        self.past.as_deref()
    }

    /// The same, to add to it; tries count in this epoch.
    pub(super) fn past_mut(&mut self, epoch: u32) -> &mut Past {
        self.past.get_or_insert_with(|| {
            Box::new(Past {
                epoch,
                ..Past::default()
            })
        })
    }

    /// Its handler was called before.
    pub(super) fn was_tried(&self) -> bool {
        let tried = |past: &Past| past.tries > 0 || past.refused.is_some();
        self.past().is_some_and(tried)
    }

    /// The words with which the version on trial refused it.
    pub(super) fn take_refused(&mut self) -> Option<String> {
        self.past.as_mut()?.refused.take()
    }
}

struct Mark {
    /// The number of the first event behind it.
    next: u64,
    /// Events before it that are not gone.
    left: usize,
    passed: oneshot::Sender<()>,
}

#[derive(Default)]
pub(super) struct Lanes {
    turns: Turns<ClientId, WaitingCall>,
    next: u64,
    epoch: u32,
    /// The event that was taken last and is not gone.
    running: usize,
    marks: VecDeque<Mark>,
}

impl Lanes {
    pub(super) const fn len(&self) -> usize {
        self.turns.len()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    pub(super) fn push(&mut self, ticket: Ticket) {
        let number = self.next;
        self.next += 1;
        self.turns.push(
            ticket.client(),
            WaitingCall {
                ticket,
                number,
                past: None,
            },
        );
    }

    /// The event whose turn it is. It is not gone before [`Self::gone`] says so.
    pub(super) fn take(&mut self) -> Option<WaitingCall> {
        let (_, waiting) = self.turns.next(|_, _| true)?;
        self.running = 1;
        Some(self.as_now(waiting))
    }

    /// The event that was taken is tried again when its client has its next turn.
    pub(super) fn put_back(&mut self, waiting: WaitingCall) {
        self.running = 0;
        self.turns.push_front(waiting.ticket.client(), waiting);
    }

    /// Changes when tries are forgotten.
    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whatever was tried is tried from the beginning.
    pub(super) const fn forgive(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The first event of this client.
    pub(super) fn take_of(&mut self, client: ClientId) -> Option<WaitingCall> {
        let waiting = self.turns.next_of(&client)?;
        self.running = 1;
        Some(self.as_now(waiting))
    }

    fn as_now(&self, mut waiting: WaitingCall) -> WaitingCall {
        if let Some(past) = &mut waiting.past
            && past.epoch != self.epoch
        {
            **past = Past {
                reason: std::mem::take(&mut past.reason),
                epoch: self.epoch,
                ..Past::default()
            };
        }
        waiting
    }

    /// The event that was taken, of this number, is over.
    pub(super) fn gone(&mut self, number: u64) {
        self.running = 0;
        self.pass(number);
    }

    /// All events of one client, in order: they are gone from here.
    pub(super) fn take_all(&mut self, client: ClientId) -> Vec<Ticket> {
        let all = self.turns.take_all(&client);
        let gone = |waiting: WaitingCall| {
            self.pass(waiting.number);
            waiting.ticket
        };
        all.into_iter().map(gone).collect()
    }

    /// Everything, in the order of each client. Nobody waits for marks here any more.
    pub(super) fn drain(&mut self) -> Vec<Ticket> {
        let all = self.turns.drain().into_iter();
        all.map(|waiting| waiting.ticket).collect()
    }

    /// Tells when everything that came before is gone.
    pub(super) fn mark(&mut self, passed: oneshot::Sender<()>) {
        let left = self.turns.len() + self.running;
        if left == 0 {
            // Nobody waits if whoever set the mark is gone.
            let _ = passed.send(());
        } else {
            self.marks.push_back(Mark {
                next: self.next,
                left,
                passed,
            });
        }
    }

    fn pass(&mut self, number: u64) {
        if self.marks.is_empty() {
            return;
        }
        for mark in &mut self.marks {
            mark.left -= usize::from(number < mark.next);
        }
        // They are passed in order: who is before the first is before all.
        while self.marks.front().is_some_and(|mark| mark.left == 0)
            && let Some(mark) = self.marks.pop_front()
        {
            // As above.
            let _ = mark.passed.send(());
        }
    }
}
