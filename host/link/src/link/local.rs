//! The receiving end of a link inside one process; it ends as a link over TCP does.

use std::sync::Arc;

use tidegate_wire::frame::Frame;

use super::LinkEnd;
use super::queue::Queue;

#[derive(Debug)]
pub(super) struct LocalReceiver {
    queue: Arc<Queue>,
    /// The peer's last words, told once the frames before them are handed out.
    goodbye: Option<LinkEnd>,
}

impl LocalReceiver {
    pub(super) const fn new(queue: Arc<Queue>) -> Self {
        Self {
            queue,
            goodbye: None,
        }
    }

    pub(super) async fn recv(
        &mut self,
        frames: &mut Vec<Frame>,
        outgoing: &Queue,
    ) -> Result<(), LinkEnd> {
        let before = frames.len();
        loop {
            if let Some(end) = self.goodbye.take() {
                return Err(end);
            }
            tokio::select! {
                biased;
                end = outgoing.finished_here() => return Err(end),
                // Whatever ended the peer's queue, this end sees what it would see of a socket.
                taken = self.queue.take(frames) => taken.map_err(|_| LinkEnd::Closed)?,
            }
            let goodbye = |frame: &Frame| matches!(frame, Frame::Goodbye(_));
            if let Some(place) = frames.iter().skip(before).position(goodbye)
                && let Some(Frame::Goodbye(reason)) = frames.drain(before + place..).next()
            {
                self.goodbye = Some(LinkEnd::Goodbye(reason));
            }
            if frames.len() > before {
                return Ok(());
            }
        }
    }

    /// The receiver is gone: the peer may send no more.
    pub(super) fn close(&self) {
        self.queue.finish(LinkEnd::Closed);
    }
}
