//! The outgoing queue of a link: frames in order, bounded in bytes, drained in batches by one
//! reader. What the reader has in hand counts until it comes for more. What answers, because it
//! answers what the peer itself has sent within a window, does not count against the bound: its sender
//! sees to it that the peer's window is not used further while much of it waits.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_wire::Name;
use tidegate_wire::frame::Frame;
use tidegate_wire::weight::weight;
use tokio::sync::Notify;

use super::LinkEnd;
use super::portions::Portions;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    /// Told when the queue stops being empty, and at the end. One reader waits, so that a permit
    /// is enough.
    filled: Notify,
    /// Told when the link ends, when the reader is done with what was queued, and when it has taken
    /// something that somebody waits for.
    changed: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct QueueState {
    frames: Vec<Frame>,
    /// Of `frames` and of what the reader has in hand.
    bytes: usize,
    in_hand: usize,
    /// Of `bytes` and of `in_hand`, what answers.
    answers: usize,
    answers_in_hand: usize,
    /// All bytes that were ever queued.
    queued: u64,
    portions: Option<Portions>,
    end: Option<LinkEnd>,
    done: bool,
    /// Somebody waits for less to be queued.
    awaited: bool,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            changed: Notify::new(),
            bytes_max,
        }
    }

    /// The state is plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, frame: Frame) -> Result<(), LinkEnd> {
        self.add(frame, false, None).map(|news| self.tell(news))
    }

    /// The same, but the reader is not told. Says whether it must be, before long.
    pub(super) fn push_quietly(&self, frame: Frame) -> Result<bool, LinkEnd> {
        self.add(frame, false, None)
    }

    /// Tells the reader, if there is something new for it.
    pub(super) fn tell(&self, news: bool) {
        if news {
            self.filled.notify_one();
        }
    }

    /// The same for a frame that is an answer.
    pub(super) fn push_answer(&self, frame: Frame) -> Result<(), LinkEnd> {
        self.add(frame, true, None).map(|news| self.tell(news))
    }

    /// The same for a frame that counts as this tenant's; see [`Self::has_room_for`].
    pub(super) fn push_for(&self, tenant: &Name, frame: Frame) -> Result<(), LinkEnd> {
        let added = self.add(frame, false, Some(tenant));
        added.map(|news| self.tell(news))
    }

    /// Whether this tenant may have more in the queue, of which so many tenants share so many
    /// bytes.
    pub(super) fn has_room_for(&self, tenant: &Name, bytes_max: usize, tenants: usize) -> bool {
        let mut state = self.state();
        let written = state.queued.saturating_sub(state.bytes as u64);
        let portions = &mut state.portions;
        let portions = portions.get_or_insert_with(|| Portions::new(bytes_max, tenants));
        portions.has_room(tenant, written)
    }

    /// Says whether there was nothing to be read before.
    fn add(&self, frame: Frame, is_answer: bool, tenant: Option<&Name>) -> Result<bool, LinkEnd> {
        let bytes = weight(&frame);
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        // One frame of any size is taken by an empty queue.
        let counted = state.bytes.saturating_sub(state.answers);
        if !is_answer && counted > 0 && counted.saturating_add(bytes) > self.bytes_max {
            let end = LinkEnd::Overflow(state.bytes);
            // Set under the same lock, so that no other sender slips in behind the lost frames.
            state.end = Some(end.clone());
            state.bytes = state.in_hand;
            state.answers = state.answers_in_hand;
            let lost = std::mem::take(&mut state.frames);
            drop(state);
            drop(lost);
            self.tell_end();
            return Err(end);
        }
        let was_empty = state.frames.is_empty();
        state.frames.push(frame);
        state.bytes = state.bytes.saturating_add(bytes);
        state.queued = state.queued.saturating_add(bytes as u64);
        let queued = state.queued;
        if let Some((tenant, portions)) = tenant.zip(state.portions.as_mut()) {
            portions.add(tenant, bytes, queued);
        }
        if is_answer {
            state.answers = state.answers.saturating_add(bytes);
        }
        drop(state);
        Ok(was_empty)
    }

    /// Appends all that waits to `frames`; waits for at least one. Cancel safe.
    pub(super) async fn take(&self, frames: &mut Vec<Frame>) -> Result<(), LinkEnd> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state();
                state.bytes = state.bytes.saturating_sub(state.in_hand);
                state.in_hand = 0;
                state.answers = state.answers.saturating_sub(state.answers_in_hand);
                state.answers_in_hand = 0;
                if std::mem::take(&mut state.awaited) {
                    self.changed.notify_waiters();
                }
                if !state.frames.is_empty() {
                    frames.append(&mut state.frames);
                    state.in_hand = state.bytes;
                    state.answers_in_hand = state.answers;
                    return Ok(());
                }
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
            }
            filled.await;
        }
    }

    /// Takes no more frames. What is queued is still handed out.
    pub(super) fn finish(&self, end: LinkEnd) {
        self.state().end.get_or_insert(end);
        self.tell_end();
    }

    fn tell_end(&self) {
        self.filled.notify_one();
        self.changed.notify_waiters();
    }

    /// The reader will not come again.
    pub(super) fn done(&self) {
        self.state().done = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state().end.is_some()
    }

    pub(super) fn end(&self) -> Option<LinkEnd> {
        self.state().end.clone()
    }

    pub(super) async fn finished(&self) {
        self.wait(|state| state.end.is_some()).await;
    }

    /// Waits until the link has ended and nothing is left to write.
    pub(super) async fn flushed(&self) {
        self.wait(|state| state.end.is_some() && state.done).await;
    }

    /// Waits until at most so many bytes are queued, or the link has ended.
    pub(super) async fn at_most(&self, bytes: usize) {
        self.wait(|state| {
            let is_less = state.bytes <= bytes || state.end.is_some();
            state.awaited |= !is_less;
            is_less
        })
        .await;
    }

    /// Waits until this end has ended the link, as opposed to the peer or the socket: what the
    /// peer sent before it went is still read.
    pub(super) async fn finished_here(&self) -> LinkEnd {
        self.finished().await;
        match self.end() {
            Some(end) if end.is_ours() => end,
            _ => std::future::pending().await,
        }
    }

    async fn wait(&self, condition: impl Fn(&mut QueueState) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before the check, so that an end in between is not missed.
            changed.as_mut().enable();
            if condition(&mut self.state()) {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }
}
