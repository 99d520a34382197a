//! Effects for other gateways: numbered streams, kept until acknowledged. Pure.
//!
//! Each shard has one stream to each other gateway. A forward gets its number when it is sent; it
//! is sent again on a new link until it is acknowledged, and the receiver remembers one number per
//! stream and takes each forward once. Of what waits only a window is under way, however much must
//! be sent again on a new link. Tenants share what is kept, and take turns before it is sent: what
//! one of them sends to a gateway that is slow neither takes the others' room nor goes before all
//! of theirs. The forwards of one tenant keep their order.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use tidegate_fair::{Shares, Turns};
use tidegate_wire::Name;
use tidegate_wire::effect::Effect;
use tidegate_wire::frame::Forward;
use tidegate_wire::id::{CloseId, Incarnation};

use tidegate_wire::weight;

/// What may be under way to one gateway, over all shards, that it has not acknowledged.
const WINDOW_BYTES: usize = 4 << 20;

/// What each of so many shards may have under way, on links with such queues.
#[must_use]
pub fn window(shards: usize, queue_bytes_max: usize) -> usize {
    (WINDOW_BYTES.min(queue_bytes_max / 4) / shards.max(1)).max(1)
}

/// The stream to one gateway.
#[derive(Debug)]
pub struct Stream {
    shard: u16,
    /// The number of the last that was sent.
    last: u64,
    /// Those that were sent once, on any link.
    unacknowledged: VecDeque<(Forward, Mark)>,
    /// Those that were not.
    waiting: Turns<Name, WaitingForward>,
    bytes: Shares<Name>,
    /// Tenants of which something has not arrived.
    tenants: FxHashMap<Name, Progress>,
    /// Counts what was pushed.
    pushed: u64,
    /// How many of the first of `unacknowledged` were sent on the link that there is, and their
    /// bytes.
    sent: usize,
    sent_bytes: usize,
}

#[derive(Debug)]
struct WaitingForward {
    effects: Vec<Effect>,
    close: Option<CloseId>,
    mark: Mark,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Its number among all that were pushed.
    pushed: u64,
    bytes: usize,
    /// What of the bytes counts against the tenant's share.
    counted: usize,
}

/// How far the forwards of a tenant are, by the numbers with which they were pushed.
#[derive(Debug)]
struct Progress {
    last: u64,
    /// Everything up to this one has arrived.
    arrived: u64,
}

/// The gateway does not acknowledge and the tenant's room is full; the forward is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Stream {
    /// An empty stream of this shard, of which so many tenants share so many bytes.
    #[must_use]
    pub fn new(shard: u16, bytes_max: usize, tenants: usize) -> Self {
        Self {
            shard,
            last: 0,
            unacknowledged: VecDeque::new(),
            waiting: Turns::default(),
            bytes: Shares::new(bytes_max, tenants),
            tenants: FxHashMap::default(),
            pushed: 0,
            sent: 0,
            sent_bytes: 0,
        }
    }

    /// Keeps a forward; see [`Self::next`]. One that is larger than its tenant's room is taken if
    /// the tenant has nothing else here, and counts as that room.
    ///
    /// # Errors
    /// [`Full`]
    pub fn push(
        &mut self,
        tenant: &Name,
        effects: Vec<Effect>,
        close: Option<CloseId>,
    ) -> Result<(), Full> {
        let bytes = weight::effects(&effects);
        let room = self.bytes.room(tenant);
        if room == 0 || (bytes > room && self.tenants.contains_key(tenant)) {
            return Err(Full);
        }
        let counted = bytes.min(room);
        self.bytes.take(tenant, counted);
        self.pushed += 1;
        let pushed = self.pushed;
        match self.tenants.get_mut(tenant) {
            Some(progress) => progress.last = pushed,
            None => {
                let progress = Progress {
                    last: pushed,
                    arrived: pushed - 1,
                };
                self.tenants.insert(tenant.clone(), progress);
            }
        }
        let waiting = WaitingForward {
            effects,
            close,
            mark: Mark {
                pushed,
                bytes,
                counted,
            },
        };
        self.waiting.push(tenant.clone(), waiting);
        Ok(())
    }

    /// The next forward to be sent, if the window has room; see [`window`].
    pub fn next(&mut self, window: usize) -> Option<Forward> {
        if self.sent_bytes >= window {
            return None;
        }
        if self.sent == self.unacknowledged.len() {
            let next = self.waiting.next(|_, _| true)?;
            self.number(next);
        }
        let (forward, mark) = self.unacknowledged.get(self.sent)?;
        self.sent += 1;
        self.sent_bytes += mark.bytes;
        Some(forward.clone())
    }

    fn number(&mut self, (tenant, waiting): (Name, WaitingForward)) {
        self.last += 1;
        let forward = Forward {
            shard: self.shard,
            sequence: self.last,
            tenant,
            effects: waiting.effects,
            close: waiting.close,
        };
        self.unacknowledged.push_back((forward, waiting.mark));
    }

    /// There is a new link, on which nothing was sent.
    pub const fn restart(&mut self) {
        self.sent = 0;
        self.sent_bytes = 0;
    }

    /// Forgets what has arrived, and tells whose it was.
    pub fn acknowledge(&mut self, sequence: u64, mut arrived: impl FnMut(&Name)) {
        while let Some((forward, mark)) = self.unacknowledged.front() {
            if forward.sequence > sequence {
                break;
            }
            let tenant = &forward.tenant;
            self.bytes.give(tenant, mark.counted);
            if let Some(progress) = self.tenants.get_mut(tenant) {
                progress.arrived = mark.pushed;
                if progress.last == mark.pushed {
                    self.tenants.remove(tenant);
                }
            }
            arrived(tenant);
            // What an earlier link brought may not have been sent on this one.
            if self.sent > 0 {
                self.sent -= 1;
                self.sent_bytes -= mark.bytes;
            }
            self.unacknowledged.pop_front();
        }
    }

    /// Whether everything has arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty() && self.waiting.is_empty()
    }

    /// The last of this tenant that has not arrived, as far as is known; see [`Self::has_arrived`].
    #[must_use]
    pub fn last_unacknowledged(&self, tenant: &Name) -> Option<u64> {
        self.tenants.get(tenant).map(|progress| progress.last)
    }

    /// Whether everything of this tenant up to this one has arrived.
    #[must_use]
    pub fn has_arrived(&self, tenant: &Name, pushed: u64) -> bool {
        let progress = self.tenants.get(tenant);
        progress.is_none_or(|progress| progress.arrived >= pushed)
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
            let (mut stream, mut received) = (Stream::new(0, usize::MAX, 1), Received::default());
            let (mut pushed, mut seen) = (0u64, Vec::new());
            for (arrive, acknowledge) in losses {
                for _ in 0..3 {
                    pushed += 1;
                    stream.push(&"t".into(), vec![], None).unwrap();
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
                    stream.acknowledge(*sequence, |_| {});
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
        let mut stream = Stream::new(0, 64 << 20, 1);
        for _ in 0..500 {
            let pushed = stream.push(&"t".into(), vec![effect()], None);
            assert_eq!(pushed, Ok(()));
        }
        let mut arrived = 0;
        while !stream.is_empty() {
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
            stream.acknowledge(arrived, |_| {});
        }
        assert_eq!((arrived, stream.under_way()), (500, 0));
    }

    fn ungroup() -> Vec<Effect> {
        vec![Effect::Ungroup { group: "g".into() }]
    }

    #[test]
    fn a_stream_without_answer_is_bounded() {
        let mut stream = Stream::new(0, 200, 1);
        let tenant = "t".into();
        stream.push(&tenant, ungroup(), None).unwrap();
        assert_eq!(stream.push(&tenant, ungroup(), None), Err(Full));
        assert!(stream.next(1 << 20).is_some());
        stream.acknowledge(1, |_| {});
        assert!(stream.push(&tenant, ungroup(), None).is_ok());
    }

    #[test]
    fn what_one_tenant_sends_to_a_slow_gateway_leaves_the_others_their_room_and_their_turns() {
        let (greedy, other): (Name, Name) = ("greedy".into(), "other".into());
        let mut stream = Stream::new(0, 1 << 20, 2);
        let mut kept = 0;
        while stream.push(&greedy, ungroup(), None).is_ok() {
            kept += 1;
        }
        assert!(kept > 100);
        assert_eq!(stream.next(1).map(|it| it.tenant), Some(greedy.clone()));
        for _ in 0..3 {
            assert_eq!(stream.push(&other, ungroup(), None), Ok(()));
        }
        let until = (&other, stream.last_unacknowledged(&other).unwrap());
        assert_eq!(stream.push(&other, ungroup(), None), Ok(()));
        // The gateway takes one at a time.
        let mut turns = 1;
        while !stream.has_arrived(until.0, until.1) {
            stream.acknowledge(turns, |_| {});
            assert!(stream.next(1).is_some());
            turns += 1;
        }
        assert!(turns <= 8, "{turns} turns for three");
        assert!(stream.last_unacknowledged(&other) > Some(until.1));
        assert!(stream.last_unacknowledged(&greedy).is_some());
    }

    proptest! {
        /// Whatever links break: all arrives once, each tenant's in order, and what is said to have
        /// arrived has.
        #[test]
        fn tenants_of_a_stream_arrive_each_in_order(
            steps in proptest::collection::vec((0..4usize, 0..3usize, 0..6u64), 1..200)
        ) {
            let tenants = ["a", "b", "c"].map(Name::from);
            let mut stream = Stream::new(0, usize::MAX, 3);
            let mut received = Received::default();
            // The numbers with which they were pushed stand in their closes.
            let (mut pushed, mut last) = (0u32, 0u64);
            let mut expected: FxHashMap<Name, VecDeque<u32>> = FxHashMap::default();
            for (step, tenant, amount) in steps {
                let tenant = &tenants[tenant];
                match step {
                    0 | 1 => {
                        pushed += 1;
                        let client = ClientId { ip: 1, port: 1, connection: pushed };
                        let close = CloseId { home: Incarnation(1), client };
                        stream.push(tenant, vec![], Some(close)).unwrap();
                        expected.entry(tenant.clone()).or_default().push_back(pushed);
                    }
                    2 => {
                        for _ in 0..amount {
                            let Some(forward) = stream.next(usize::MAX) else { break };
                            if received.is_new(Incarnation(1), 0, forward.sequence) {
                                let first = expected.get_mut(&forward.tenant).unwrap().pop_front();
                                let close = forward.close.unwrap().client.connection;
                                prop_assert_eq!(first, Some(close));
                                last = last.max(forward.sequence);
                            }
                        }
                    }
                    _ => {
                        stream.acknowledge(last.saturating_sub(amount), |_| {});
                        if amount > 3 {
                            stream.restart();
                        }
                    }
                }
                for tenant in &tenants {
                    let first = expected.get(tenant).and_then(|it| it.front());
                    if let Some(first) = first {
                        prop_assert!(!stream.has_arrived(tenant, u64::from(*first)));
                        prop_assert!(stream.last_unacknowledged(tenant).is_some());
                    }
                }
            }
            stream.restart();
            while stream.next(usize::MAX).is_some() {}
            stream.acknowledge(u64::MAX, |_| {});
            prop_assert!(stream.is_empty() && stream.tenants.is_empty());
            prop_assert_eq!(stream.bytes.total(), 0);
        }
    }
}
