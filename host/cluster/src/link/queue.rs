//! The outgoing queue of a link: frames in order, bounded in bytes, drained in batches.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_wire::frame::Frame;
use tidegate_wire::payload::Carry;
use tokio::sync::Notify;

use super::LinkEnd;

/// What a frame counts besides its payloads.
const FRAME_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Told when the queue stops being empty, and at the end.
    filled: Notify,
    finished: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    end: Option<LinkEnd>,
}

impl Queue {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Notify::new(),
            finished: Notify::new(),
            bytes_max,
        }
    }

    /// The state is plain data: whoever panicked while holding the lock left it usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, frame: Frame) -> Result<(), LinkEnd> {
        let bytes = weight(&frame);
        let mut state = self.state();
        if let Some(end) = &state.end {
            return Err(end.clone());
        }
        // One frame of any size is taken by an empty queue.
        if state.bytes > 0 && state.bytes + bytes > self.bytes_max {
            let end = LinkEnd::Overflow(state.bytes);
            state.frames.clear();
            drop(state);
            self.finish(end.clone());
            return Err(end);
        }
        let was_empty = state.frames.is_empty();
        state.frames.push(frame);
        state.bytes += bytes;
        drop(state);
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Appends all that waits to `frames`; waits for at least one.
    pub(super) async fn take(&self, frames: &mut Vec<Frame>) -> Result<(), LinkEnd> {
        loop {
            let filled = self.filled.notified();
            {
                let mut state = self.state();
                if !state.frames.is_empty() {
                    frames.append(&mut state.frames);
                    state.bytes = 0;
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
        self.filled.notify_one();
        self.finished.notify_waiters();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state().end.is_some()
    }

    pub(super) fn end(&self) -> Option<LinkEnd> {
        self.state().end.clone()
    }

    pub(super) async fn finished(&self) {
        loop {
            let finished = self.finished.notified();
            tokio::pin!(finished);
            // Registered before the check, so that an end in between is not missed.
            finished.as_mut().enable();
            if self.is_finished() {
                return;
            }
            finished.await;
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.state().bytes
    }
}

fn weight(frame: &Frame) -> usize {
    let mut bytes = FRAME_BYTES;
    frame.carry(&mut |payload| bytes += payload.len());
    bytes
}
