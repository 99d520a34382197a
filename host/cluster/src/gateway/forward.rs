//! Effects for other gateways: numbered streams, kept until acknowledged. Pure.
//!
//! Each shard has one stream to each other gateway. A forward is sent again on a new link until it
//! is acknowledged; the receiver remembers one number per stream and takes each forward once. Of what
//! waits only a window is under way, however much must be sent again on a new link.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::Forward;
use tidegate_wire::id::{CloseId, Incarnation};

use crate::link::weight;

/// What may be under way to one gateway, over all shards, that it has not acknowledged.
const WINDOW_BYTES: usize = 4 << 20;

/// What each of so many shards may have under way, on links with such queues.
#[must_use]
pub fn window(shards: usize, queue_bytes_max: usize) -> usize {
    (WINDOW_BYTES.min(queue_bytes_max / 4) / shards.max(1)).max(1)
}

/// The stream to one gateway.
#[derive(Debug, Default)]
pub struct Stream {
    last: u64,
    unacknowledged: VecDeque<(Forward, usize)>,
    bytes: usize,
    /// How many of them were sent on the link that there is, and their bytes.
    sent: usize,
    sent_bytes: usize,
}

/// The gateway does not acknowledge and its stream is full; the forward is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Stream {
    /// Numbers and keeps a forward; see [`Self::next`].
    ///
    /// # Errors
    /// [`Full`]
    pub fn push(
        &mut self,
        shard: u16,
        tenant: Name,
        effects: Vec<Effect>,
        close: Option<CloseId>,
        bytes_max: usize,
    ) -> Result<(), Full> {
        let bytes = weight::effects(&effects);
        if self.bytes > 0 && self.bytes + bytes > bytes_max {
            return Err(Full);
        }
        self.last += 1;
        let forward = Forward {
            shard,
            sequence: self.last,
            tenant,
            effects,
            close,
        };
        self.bytes += bytes;
        self.unacknowledged.push_back((forward, bytes));
        Ok(())
    }

    /// The next forward to be sent, if the window has room; see [`window`].
    pub fn next(&mut self, window: usize) -> Option<Forward> {
        if self.sent_bytes >= window {
            return None;
        }
        let (forward, bytes) = self.unacknowledged.get(self.sent)?;
        self.sent += 1;
        self.sent_bytes += bytes;
        Some(forward.clone())
    }

    /// There is a new link, on which nothing was sent.
    pub const fn restart(&mut self) {
        self.sent = 0;
        self.sent_bytes = 0;
    }

    /// Forgets what has arrived.
    pub fn acknowledge(&mut self, sequence: u64) {
        while let Some((forward, bytes)) = self.unacknowledged.front() {
            if forward.sequence > sequence {
                break;
            }
            self.bytes -= bytes;
            // What an earlier link brought may not have been sent on this one.
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_bytes -= bytes;
            }
            self.unacknowledged.pop_front();
        }
    }

    /// The last that has not arrived, as far as is known.
    #[must_use]
    pub fn last_unacknowledged(&self) -> Option<u64> {
        let (forward, _) = self.unacknowledged.back()?;
        Some(forward.sequence)
    }

    /// Whether everything up to this number has arrived.
    #[must_use]
    pub fn has_arrived(&self, sequence: u64) -> bool {
        let first = self.unacknowledged.front();
        first.is_none_or(|(forward, _)| forward.sequence > sequence)
    }

    /// Bytes that are under way.
    #[must_use]
    pub const fn under_way(&self) -> usize {
        self.sent_bytes
    }
}

/// The receiver's memory: the last forward of each stream.
#[derive(Debug, Default)]
pub struct Received {
    last: FxHashMap<(Incarnation, u16), u64>,
}

impl Received {
    /// Whether this forward is new. It counts as received from then on.
    pub fn is_new(&mut self, from: Incarnation, shard: u16, sequence: u64) -> bool {
        let last = self.last.entry((from, shard)).or_default();
        let new = sequence > *last;
        *last = sequence.max(*last);
        new
    }

    /// Takes nothing more from gateways that were declared lost: one that lives on sends again what
    /// was not acknowledged. An entry stays as long as its gateway is known as lost; a gateway that
    /// leaves the view is lost, so that what is kept is bounded by those that live and those that are
    /// remembered as lost.
    pub fn refuse(&mut self, is_lost: impl Fn(Incarnation) -> bool) {
        self.last.retain(|(from, _), last| {
            let refused = *last == u64::MAX;
            if is_lost(*from) {
                *last = u64::MAX;
                return true;
            }
            !refused
        });
        self.last.shrink_to(self.last.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_wire::effect::SessionChange;
    use tidegate_wire::id::ClientId;

    use super::*;

    proptest! {
        /// Links break at any point: what is resent is taken once, and in order.
        #[test]
        fn a_stream_arrives_once_and_in_order(
            losses in proptest::collection::vec((0..8usize, 0..8usize), 1..40)
        ) {
            let (mut stream, mut received) = (Stream::default(), Received::default());
            let (mut pushed, mut seen) = (0u64, Vec::new());
            for (arrive, acknowledge) in losses {
                for _ in 0..3 {
                    pushed += 1;
                    stream.push(0, "t".into(), vec![], None, usize::MAX).unwrap();
                }
                // A new link: everything is sent again, and it breaks after `arrive` forwards.
                stream.restart();
                let sent = std::iter::from_fn(|| stream.next(usize::MAX));
                let sent: Vec<u64> = sent.map(|forward| forward.sequence).collect();
                let arrived = &sent[..arrive.min(sent.len())];
                for sequence in arrived {
                    if received.is_new(Incarnation(1), 0, *sequence) {
                        seen.push(*sequence);
                    }
                }
                if let Some(sequence) = arrived.get(acknowledge) {
                    stream.acknowledge(*sequence);
                }
            }
            let expected: Vec<u64> = (1..=seen.len() as u64).collect();
            prop_assert_eq!(&seen, &expected);
            prop_assert!(seen.len() as u64 <= pushed);
        }
    }

    #[test]
    fn what_is_remembered_of_gateways_goes_with_the_memory_of_their_loss() {
        const REMEMBERED: u64 = 10;
        let mut received = Received::default();
        // Gateways come and go, as in a cluster that is deployed a thousand times.
        for life in 1..=1000_u64 {
            for shard in 0..4 {
                assert!(received.is_new(Incarnation(life), shard, 1));
            }
            let lost = |it: Incarnation| it.0 < life && it.0 + REMEMBERED >= life;
            received.refuse(lost);
            if life > 1 {
                assert!(!received.is_new(Incarnation(life - 1), 0, 2), "lost");
            }
            assert!(!received.is_new(Incarnation(life), 0, 1), "known");
            assert!(received.last.len() <= 4 * (REMEMBERED as usize + 1));
            assert!(received.last.capacity() <= 256);
        }
    }

    #[test]
    fn what_is_sent_again_goes_in_a_window_and_in_order() {
        let value = "v".repeat(60 << 10);
        let effect = || Effect::Session {
            client: ClientId {
                ip: 1,
                port: 1,
                connection: 1,
            },
            change: SessionChange::Set {
                key: "k".into(),
                value: value.clone(),
            },
        };
        let mut stream = Stream::default();
        for _ in 0..500 {
            let pushed = stream.push(0, "t".into(), vec![effect()], None, 64 << 20);
            assert_eq!(pushed, Ok(()));
        }
        let mut arrived = 0;
        while stream.last_unacknowledged().is_some() {
            if arrived == 100 {
                stream.restart();
            }
            let mut last = None;
            while let Some(forward) = stream.next(window(2, 64 << 20)) {
                last = Some(forward.sequence);
            }
            assert!(stream.under_way() < WINDOW_BYTES / 2 + (64 << 10));
            assert!(last.is_some() || stream.under_way() > 0, "it goes on");
            arrived += 1;
            stream.acknowledge(arrived);
        }
        assert_eq!((arrived, stream.under_way()), (500, 0));
    }

    #[test]
    fn a_stream_without_answer_is_bounded() {
        let effect = || Effect::Ungroup { group: "g".into() };
        let mut stream = Stream::default();
        stream
            .push(0, "t".into(), vec![effect()], None, 200)
            .unwrap();
        assert_eq!(
            stream.push(0, "t".into(), vec![effect()], None, 200),
            Err(Full)
        );
        stream.acknowledge(1);
        assert!(
            stream
                .push(0, "t".into(), vec![effect()], None, 200)
                .is_ok()
        );
    }
}
