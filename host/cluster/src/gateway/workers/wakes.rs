//! Links to workers whose readers are to be woken. Waking one costs two system calls and a change of
//! threads: it is done once for all clients whose messages can be read at the moment, or once for so
//! many events.

use std::rc::Rc;

use tokio::sync::Notify;

use tidegate_link::LinkSender;

/// So many events wait for no others.
const EVENTS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(in crate::gateway) struct Wakes {
    links: Vec<LinkSender>,
    /// Events that were sent since there were none.
    events: usize,
    /// Rings when there are any, for a task of the shard's own thread: its turn comes behind those of the
    /// clients that can be read now.
    bell: Rc<Notify>,
}

impl Wakes {
    /// An event was queued on this link, whose reader may have to be woken.
    pub(in crate::gateway) fn sent(&mut self, link: &LinkSender, must_wake: bool) {
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

    pub(in crate::gateway) fn wake_all(&mut self) {
        self.events = 0;
        for link in self.links.drain(..) {
            link.wake();
        }
    }

    pub(in crate::gateway) fn bell(&self) -> Rc<Notify> {
        self.bell.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use tidegate_wire::frame::GatewayFrame;
    use tidegate_wire::membership::Role;

    use super::*;
    use crate::gateway::rig::node;
    use tidegate_link::{LinkSettings, pair};

    /// How often a reader was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends so many frames to a reader that sleeps, and says how often it is woken before `then` and
    /// after it.
    fn woken(frames: usize, then: impl FnOnce(&mut Wakes)) -> (usize, usize) {
        let (gateway, worker) = (node(Role::Gateway, 1, None), node(Role::Worker, 2, None));
        let (mine, mut theirs) = pair(gateway, worker, &LinkSettings::default());
        let (woken, mut wakes) = (Arc::new(Woken::default()), Wakes::default());
        let (waker, mut read) = (Waker::from(woken.clone()), Vec::new());
        let mut reading = pin!(theirs.receiver.recv(&mut read));
        let context = &mut Context::from_waker(&waker);
        assert!(reading.as_mut().poll(context).is_pending());
        for _ in 0..frames {
            let must_wake = mine.sender.send_quietly(GatewayFrame::Drained).unwrap();
            wakes.sent(&mine.sender, must_wake);
        }
        let before = woken.0.load(Ordering::Relaxed);
        then(&mut wakes);
        assert!(wakes.links.is_empty() && reading.poll(context).is_ready());
        (before, woken.0.load(Ordering::Relaxed))
    }

    #[test]
    fn a_reader_is_woken_once_for_all_that_was_sent_when_the_turn_of_the_bell_comes() {
        assert_eq!(woken(EVENTS_MAX - 1, Wakes::wake_all), (0, 1));
    }

    #[test]
    fn so_many_events_wait_for_no_others() {
        assert_eq!(woken(EVENTS_MAX, |_| {}), (1, 1));
        // A thousand times more behind a reader that does not come: it is woken once.
        assert_eq!(woken(1_000 * EVENTS_MAX, |_| {}), (1, 1));
    }
}
