//! Links to workers whose readers are to be woken. Waking one costs two system calls and a change of
//! threads: it is done once for all clients whose messages can be read at the moment, or once for so
//! many events.

use std::rc::Rc;

use tokio::sync::Notify;

use crate::link::LinkSender;

/// So many events wait for no others.
const EVENTS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Wakes {
    links: Vec<LinkSender>,
    /// Events that were sent since there were none.
    events: usize,
    /// Rings when there are any, for a task of the shard's own thread: its turn comes behind those of the
    /// clients that can be read now.
    bell: Rc<Notify>,
}

impl Wakes {
    /// An event was queued on this link, whose reader may have to be woken.
    pub(super) fn sent(&mut self, link: &LinkSender, must_wake: bool) {
        if must_wake {
            self.links.push(link.clone());
            self.bell.notify_one();
        }
        if !self.links.is_empty() {
            self.events += 1;
        }
        if self.events >= EVENTS_MAX {
            self.wake_all();
        }
    }

    pub(super) fn wake_all(&mut self) {
        self.events = 0;
        for link in self.links.drain(..) {
            link.wake();
        }
    }

    pub(super) fn bell(&self) -> Rc<Notify> {
        self.bell.clone()
    }
}
