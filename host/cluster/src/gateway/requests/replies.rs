//! Requests with an idempotency key that this gateway remembers, and their replies. Pure; bounded in
//! number, in time and in bytes, of which each tenant has its share: beyond the first two the
//! tenant's oldest is forgotten, and its repetition is a new request; beyond the bytes only its
//! oldest replies are, and a repetition is told so.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Instant;

use tidegate_fair::Shares;
use tidegate_hub::idempotency::{KEPT, KEYS_MAX};
use tidegate_wire::Name;
use tokio::sync::watch;

use super::Replied;
use tidegate_wire::query::RequestError;

/// Replies of so many bytes are kept.
const BYTES_MAX: usize = 16 << 20;

/// Whose key.
type Key = (Name, [u8; 32]);

/// The requests.
#[derive(Debug)]
pub(super) struct Replies {
    tenants: BTreeMap<Name, Own>,
    number: Shares<Name>,
    bytes: Shares<Name>,
    last: u64,
    /// The tenant whose keys were looked at last for those whose time is over.
    looked_at: Option<Name>,
}

/// The requests of one tenant.
#[derive(Debug, Default)]
struct Own {
    entries: HashMap<[u8; 32], UsedKey>,
    /// From the oldest on, with the number of each.
    order: VecDeque<(Instant, [u8; 32], u64)>,
    /// So many of the oldest have no reply any more, or will keep none.
    without: usize,
}

#[derive(Debug)]
struct UsedKey {
    number: u64,
    request: [u8; 32],
    state: ReplyState,
}

#[derive(Debug)]
enum ReplyState {
    UnderWay {
        tell: watch::Sender<Option<Replied>>,
        keep: bool,
    },
    Done(Replied),
    Forgotten,
}

/// What is known of a key.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing: the request is made by whoever asked.
    First(First, Reply),
    /// It is being handled.
    UnderWay(Reply),
    /// It was handled, or the key is that of another one.
    Known(Replied),
}

/// The right to end a request.
#[derive(Clone, Debug)]
pub(super) struct First {
    key: Key,
    number: u64,
}

/// A reply that will come.
#[derive(Debug)]
pub(super) struct Reply(watch::Receiver<Option<Replied>>);

impl Reply {
    pub(super) async fn wait(mut self) -> Replied {
        match self.0.wait_for(Option::is_some).await {
            Ok(replied) => replied.clone().unwrap_or(Err(RequestError::Ending)),
            Err(_) => Err(RequestError::Ending),
        }
    }
}

impl Replies {
    /// No requests yet; so many tenants share what is remembered.
    pub(super) fn new(tenants: usize) -> Self {
        Self::with(KEYS_MAX, BYTES_MAX, tenants)
    }

    fn with(keys_max: usize, bytes_max: usize, tenants: usize) -> Self {
        Self {
            tenants: BTreeMap::new(),
            number: Shares::new(keys_max.max(1), tenants),
            bytes: Shares::new(bytes_max, tenants),
            last: 0,
            looked_at: None,
        }
    }

    /// Whether no key is known.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.values().all(|own| own.entries.is_empty())
    }

    /// Remembers a key with the hash of its request, or says what is known of it.
    pub(super) fn see(
        &mut self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        now: Instant,
    ) -> Seen {
        self.forget_over(tenant, now);
        self.look_at_next(now);
        let own = self.tenants.entry(tenant.clone()).or_default();
        match own.entries.get(&key) {
            None => {}
            Some(entry) if entry.request != request => {
                return Seen::Known(Err(RequestError::Reused));
            }
            Some(entry) => {
                return match &entry.state {
                    ReplyState::UnderWay { tell, .. } => Seen::UnderWay(Reply(tell.subscribe())),
                    ReplyState::Done(replied) => Seen::Known(replied.clone()),
                    ReplyState::Forgotten => Seen::Known(Err(RequestError::Forgotten)),
                };
            }
        }
        while !self.number.has_room(tenant)
            && let Some(bytes) = own.forget_oldest()
        {
            self.number.give(tenant, 1);
            self.bytes.give(tenant, bytes);
        }
        self.number.take(tenant, 1);
        self.last += 1;
        let number = self.last;
        let (tell, reply) = watch::channel(None);
        let state = ReplyState::UnderWay { tell, keep: true };
        let entry = UsedKey {
            number,
            request,
            state,
        };
        own.entries.insert(key, entry);
        own.order.push_back((now, key, number));
        let key = (tenant.clone(), key);
        Seen::First(First { key, number }, Reply(reply))
    }

    /// Tells everybody who waits. What was not done may be asked for again under its key.
    pub(super) fn end(&mut self, first: &First, replied: Replied) {
        let (tenant, key) = &first.key;
        let Some(own) = self.tenants.get_mut(tenant) else {
            return;
        };
        let entry = own.entries.get_mut(key);
        let Some(entry) = entry.filter(|entry| entry.number == first.number) else {
            return;
        };
        let ReplyState::UnderWay { tell, keep } = &entry.state else {
            return;
        };
        // Nobody may wait any more.
        let _ = tell.send(Some(replied.clone()));
        if !is_final(&replied) {
            // Its place in the order goes with time.
            own.entries.remove(key);
        } else if *keep {
            // Older replies make room for it, and it goes itself if that is not enough.
            let mut beyond = size(&replied).saturating_sub(self.bytes.room(tenant));
            self.bytes.take(tenant, size(&replied));
            entry.state = ReplyState::Done(replied);
            while beyond > 0
                && let Some(bytes) = own.forget_reply()
            {
                self.bytes.give(tenant, bytes);
                beyond = beyond.saturating_sub(bytes);
            }
        } else {
            entry.state = ReplyState::Forgotten;
        }
    }

    /// One more tenant at each call, so that what is over goes although its tenant does not call.
    fn look_at_next(&mut self, now: Instant) {
        let after = self.looked_at.take();
        let mut rest = match &after {
            Some(after) => self.tenants.range::<Name, _>((Excluded(after), Unbounded)),
            None => self.tenants.range::<Name, _>(..),
        };
        if let Some(next) = rest.next().map(|(name, _)| name.clone()) {
            self.forget_over(&next, now);
            self.looked_at = Some(next);
        }
    }

    fn forget_over(&mut self, tenant: &Name, now: Instant) {
        let Some(own) = self.tenants.get_mut(tenant) else {
            return;
        };
        while own.is_oldest_over(now)
            && let Some(bytes) = own.forget_oldest()
        {
            self.number.give(tenant, 1);
            self.bytes.give(tenant, bytes);
        }
        if own.order.is_empty() {
            self.tenants.remove(tenant);
        }
    }
}

impl Own {
    fn is_oldest_over(&self, now: Instant) -> bool {
        let oldest = self.order.front();
        oldest.is_some_and(|(since, ..)| now.saturating_duration_since(*since) >= KEPT)
    }

    /// The bytes of its reply.
    fn forget_oldest(&mut self) -> Option<usize> {
        let (_, key, number) = self.order.pop_front()?;
        self.without = self.without.saturating_sub(1);
        if self.entries.get(&key).is_none_or(|it| it.number != number) {
            return Some(0);
        }
        let entry = self.entries.remove(&key)?;
        let ReplyState::Done(replied) = entry.state else {
            return Some(0);
        };
        Some(size(&replied))
    }

    /// Forgets the oldest reply and gives its bytes; nothing once there is none to forget.
    fn forget_reply(&mut self) -> Option<usize> {
        let (_, key, number) = self.order.get(self.without)?;
        self.without += 1;
        let entry = self.entries.get_mut(key);
        let Some(entry) = entry.filter(|entry| entry.number == *number) else {
            return Some(0);
        };
        match &mut entry.state {
            ReplyState::UnderWay { keep, .. } => *keep = false,
            ReplyState::Done(replied) => {
                let bytes = size(replied);
                entry.state = ReplyState::Forgotten;
                return Some(bytes);
            }
            ReplyState::Forgotten => {}
        }
        Some(0)
    }
}

/// Whether the handler has said its last word.
const fn is_final(replied: &Replied) -> bool {
    !matches!(
        replied,
        Err(RequestError::Overloaded(_) | RequestError::Ending | RequestError::Timeout)
    )
}

fn size(replied: &Replied) -> usize {
    match replied {
        Ok(bytes) => bytes.len(),
        Err(RequestError::Failed(text) | RequestError::Overloaded(text)) => text.len(),
        Err(
            RequestError::Unhandled
            | RequestError::DeadLettered
            | RequestError::Timeout
            | RequestError::Ending
            | RequestError::Reused
            | RequestError::Forgotten,
        ) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn see(replies: &mut Replies, key: u8, now: Instant) -> Seen {
        replies.see(&"t".into(), [key; 32], [0; 32], now)
    }

    fn first(replies: &mut Replies, key: u8, now: Instant) -> First {
        let seen = see(replies, key, now);
        let Seen::First(first, _) = seen else {
            panic!("{key}: {seen:?}")
        };
        first
    }

    fn known(seen: Seen) -> Replied {
        let Seen::Known(replied) = seen else {
            panic!("{seen:?}")
        };
        replied
    }

    fn own(replies: &Replies) -> &Own {
        &replies.tenants["t"]
    }

    #[test]
    fn a_tenant_with_many_keys_or_long_replies_forgets_its_own() {
        let (mut replies, now) = (Replies::with(100, 1_000, 2), Instant::now());
        let other = first(&mut replies, 1, now);
        replies.end(&other, Ok("kept".into()));
        let greedy: Name = "greedy".into();
        let mut last = None;
        for key in 0..200 {
            let Seen::First(one, _) = replies.see(&greedy, [key; 32], [0; 32], now) else {
                panic!("not the first")
            };
            replies.end(&one, Ok("x".repeat(100).into()));
            assert!(replies.number.total() <= 100 && replies.bytes.total() <= 1_000);
            last = Some(replies.see(&greedy, [key; 32], [0; 32], now));
        }
        assert!(known(last.unwrap()).is_ok());
        assert_eq!(known(see(&mut replies, 1, now)), Ok("kept".into()));
        let early = replies.see(&greedy, [0; 32], [0; 32], now);
        assert!(matches!(early, Seen::First(..)));
        // Whoever calls, what is over goes.
        for _ in 0..3 {
            let _ = see(&mut replies, 2, now + KEPT);
        }
        assert_eq!((replies.number.total(), replies.bytes.total()), (1, 0));
    }

    #[tokio::test]
    async fn a_repetition_waits_for_the_first_or_gets_its_reply() {
        let (mut replies, now) = (Replies::new(1), Instant::now());
        let one = first(&mut replies, 1, now);
        let Seen::UnderWay(reply) = see(&mut replies, 1, now) else {
            panic!("not under way")
        };
        replies.end(&one, Ok("yes".into()));
        assert_eq!(reply.wait().await, Ok("yes".into()));
        assert_eq!(known(see(&mut replies, 1, now)), Ok("yes".into()));
        let other = replies.see(&"t".into(), [1; 32], [9; 32], now);
        assert_eq!(known(other), Err(RequestError::Reused));
        // Keys of tenants are their own.
        let other = replies.see(&"u".into(), [1; 32], [9; 32], now);
        assert!(matches!(other, Seen::First(..)));
        let refused = first(&mut replies, 2, now);
        replies.end(&refused, Err(RequestError::Failed("no".into())));
        let failed = Err(RequestError::Failed("no".into()));
        assert_eq!(known(see(&mut replies, 2, now)), failed);
    }

    #[tokio::test]
    async fn a_key_is_free_again_when_nothing_was_done() {
        let (mut replies, now) = (Replies::new(1), Instant::now());
        for error in [
            RequestError::Overloaded(String::new()),
            RequestError::Ending,
            RequestError::Timeout,
        ] {
            let one = first(&mut replies, 1, now);
            replies.end(&one, Err(error));
        }
        let one = first(&mut replies, 1, now);
        replies.end(&one, Ok("yes".into()));
        assert_eq!(known(see(&mut replies, 1, now)), Ok("yes".into()));
    }

    #[test]
    fn keys_are_bounded_in_number_and_time() {
        let (mut replies, start) = (Replies::with(3, 100, 1), Instant::now());
        for key in 0..100 {
            let one = first(&mut replies, key, start);
            replies.end(&one, Ok("12345".into()));
            assert!(replies.number.total() <= 3 && own(&replies).entries.len() <= 3);
            assert!(replies.bytes.total() <= 15);
        }
        assert!(known(see(&mut replies, 98, start)).is_ok());
        let _ = first(&mut replies, 98, start + KEPT);
        assert_eq!((own(&replies).entries.len(), replies.bytes.total()), (1, 0));
    }

    #[test]
    fn of_many_bytes_the_oldest_replies_are_forgotten_and_their_keys_are_not() {
        let (mut replies, now) = (Replies::with(1000, 100, 1), Instant::now());
        let slow = first(&mut replies, 0, now);
        for key in 1..=50 {
            let one = first(&mut replies, key, now);
            replies.end(&one, Ok("1234567890".into()));
            assert!(replies.bytes.total() <= 100);
        }
        assert_eq!(
            known(see(&mut replies, 1, now)),
            Err(RequestError::Forgotten)
        );
        assert_eq!(known(see(&mut replies, 50, now)), Ok("1234567890".into()));
        // It was passed over while it ran: whoever waits gets the reply, later callers do not.
        replies.end(&slow, Ok("late".into()));
        assert_eq!(
            known(see(&mut replies, 0, now)),
            Err(RequestError::Forgotten)
        );
        // One that is too long alone.
        let long = first(&mut replies, 51, now);
        replies.end(&long, Ok("x".repeat(101).into()));
        assert_eq!(
            known(see(&mut replies, 51, now)),
            Err(RequestError::Forgotten)
        );
        let later = now + KEPT + Duration::from_secs(1);
        let _ = first(&mut replies, 52, later);
        assert_eq!((replies.bytes.total(), own(&replies).without), (0, 0));
    }
}
