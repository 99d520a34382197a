//! What other instances say, on its way to one seat: beside the mailbox of events, whose room it does not
//! take, and bounded in number and bytes. What there is no room for is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tidegate_wire::payload::Payload;
use tidegate_wire::peers::PeerMessage;
use tokio::sync::mpsc;

use super::Deployment;

/// Messages that may wait at one seat.
const MESSAGES_MAX: usize = 1024;
/// Bytes of them.
const BYTES_MAX: usize = 4 << 20;
/// What a message counts beside its texts.
const MESSAGE_BYTES: usize = 128;

impl Deployment {
    /// Gives a message of one instance to all others that take such messages, those of a canary too.
    /// Never waits: where too much waits for an instance the message is dropped and counted.
    pub fn tell_peers(&self, message: PeerMessage) {
        let shared = &self.shared;
        let routes = shared.routes();
        let tried = routes.canary.iter().flat_map(|canary| &canary.seats);
        let seats = shared.seats.iter().chain(tried);
        let mut heard = seats.filter(|seat| seat.peers.is_heard()).peekable();
        if heard.peek().is_none() {
            return;
        }
        // In memory of its own: what came over a link is a slice of all that was read there.
        let payload = Payload::from(message.payload.bytes().to_vec());
        let message = Arc::new(PeerMessage { payload, ..message });
        for seat in heard {
            let Given::Dropped { first } = seat.peers.give(&message) else {
                continue;
            };
            shared.common.meters.dropped_peer_message();
            if first {
                tracing::warn!(
                    tenant = &*shared.settings.tenant,
                    topic = &*message.topic,
                    "an instance does not keep up with what others say: messages to it are dropped"
                );
            }
        }
    }
}

/// What becomes of a message at a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Given {
    /// It waits there.
    Taken,
    /// Nobody there takes such messages.
    Unheard,
    /// Too much waits there: it is dropped. `first`: nothing was, since all that waited was taken.
    Dropped {
        /// See there.
        first: bool,
    },
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    listens: AtomicBool,
    dropped: AtomicBool,
}

/// The way to a seat.
#[derive(Debug)]
pub(super) struct PeerSender {
    queue: mpsc::Sender<Arc<PeerMessage>>,
    waiting: Arc<Waiting>,
}

/// The seat's end of it.
#[derive(Debug)]
pub(super) struct PeerReceiver {
    queue: mpsc::Receiver<Arc<PeerMessage>>,
    waiting: Arc<Waiting>,
}

/// A way that nobody listens at yet.
pub(super) fn channel() -> (PeerSender, PeerReceiver) {
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let waiting = Arc::new(Waiting::default());
    let sender = PeerSender {
        queue: sender,
        waiting: Arc::clone(&waiting),
    };
    let queue = receiver;
    (sender, PeerReceiver { queue, waiting })
}

impl PeerSender {
    /// Whether anybody there takes messages.
    pub(super) fn is_heard(&self) -> bool {
        self.waiting.listens.load(Ordering::Relaxed)
    }

    /// Gives a message to the seat. Never waits.
    pub(super) fn give(&self, message: &Arc<PeerMessage>) -> Given {
        if !self.is_heard() {
            return Given::Unheard;
        }
        let bytes = weight(message);
        let before = self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= BYTES_MAX;
        if fits && self.queue.try_send(Arc::clone(message)).is_ok() {
            return Given::Taken;
        }
        self.waiting.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let first = !self.waiting.dropped.swap(true, Ordering::Relaxed);
        Given::Dropped { first }
    }
}

impl PeerReceiver {
    /// Whether the seat has an instance that takes messages.
    pub(super) fn set_listens(&self, listens: bool) {
        self.waiting.listens.store(listens, Ordering::Relaxed);
    }

    /// The same, read back.
    pub(super) fn listens(&self) -> bool {
        self.waiting.listens.load(Ordering::Relaxed)
    }

    /// The next message that waits.
    pub(super) fn try_next(&mut self) -> Option<Arc<PeerMessage>> {
        if self.queue.is_empty() {
            return None;
        }
        let message = self.queue.try_recv().ok()?;
        self.took(&message);
        Some(message)
    }

    /// The next message; pending where none will come. Cancel safe.
    pub(super) async fn next(&mut self) -> Arc<PeerMessage> {
        let Some(message) = self.queue.recv().await else {
            return std::future::pending().await;
        };
        self.took(&message);
        message
    }

    fn took(&self, message: &PeerMessage) {
        let waiting = &self.waiting;
        waiting.bytes.fetch_sub(weight(message), Ordering::Relaxed);
        if self.queue.is_empty() {
            waiting.dropped.store(false, Ordering::Relaxed);
        }
    }
}

fn weight(message: &PeerMessage) -> usize {
    MESSAGE_BYTES + message.topic.len() + message.payload.len()
}

#[cfg(test)]
mod tests {
    use tidegate_wire::peers::InstanceId;

    use super::*;

    fn message(bytes: usize) -> Arc<PeerMessage> {
        Arc::new(PeerMessage {
            from: InstanceId(1),
            topic: "t".into(),
            payload: vec![0; bytes].into(),
        })
    }

    fn fill(sender: &PeerSender, message: &Arc<PeerMessage>) -> usize {
        let taken = (0..).take_while(|_| sender.give(message) == Given::Taken);
        taken.count()
    }

    #[test]
    fn so_many_messages_and_so_many_bytes_wait_and_no_more() {
        for (bytes, most) in [(0, MESSAGES_MAX), (64 << 10, BYTES_MAX / (64 << 10) - 1)] {
            let (sender, mut receiver) = channel();
            receiver.set_listens(true);
            let message = message(bytes);
            assert_eq!(fill(&sender, &message), most);
            // All are taken, and there is room for as many again.
            assert_eq!(std::iter::from_fn(|| receiver.try_next()).count(), most);
            assert_eq!(fill(&sender, &message), most);
        }
    }

    #[test]
    fn only_the_first_that_is_dropped_is_worth_a_word_until_all_that_waited_is_taken() {
        let (sender, mut receiver) = channel();
        receiver.set_listens(true);
        let message = message(0);
        let (first, again) = (
            Given::Dropped { first: true },
            Given::Dropped { first: false },
        );
        while sender.give(&message) == Given::Taken {}
        assert_eq!(sender.give(&message), again);
        receiver.try_next().unwrap();
        assert_eq!(sender.give(&message), Given::Taken);
        assert_eq!(sender.give(&message), again);
        while receiver.try_next().is_some() {}
        fill(&sender, &message);
        while receiver.try_next().is_some() {}
        for _ in 0..MESSAGES_MAX {
            assert_eq!(sender.give(&message), Given::Taken);
        }
        assert_eq!(sender.give(&message), first);
    }

    #[test]
    fn nothing_waits_for_a_seat_that_takes_no_messages() {
        let (sender, mut receiver) = channel();
        assert_eq!(sender.give(&message(1)), Given::Unheard);
        assert!(receiver.try_next().is_none());
    }
}
