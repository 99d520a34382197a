//! Requests with an idempotency key that this gateway remembers, and their replies. Pure; bounded in
//! number, in time and in bytes: beyond the first two the oldest is forgotten, and its repetition is
//! a new request; beyond the bytes only the oldest replies are, and a repetition is told so.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tidegate_wire::Name;
use tokio::sync::watch;

use super::Replied;
use crate::gateway::access::RequestError;
use crate::gateway::once::{KEPT, KEYS_MAX};

/// Replies of so many bytes are kept.
const BYTES_MAX: usize = 16 << 20;

/// Whose key.
type Key = (Name, [u8; 32]);

/// The requests.
#[derive(Debug)]
pub(super) struct Replies {
    entries: HashMap<Key, Entry>,
    /// From the oldest on, with the number of each.
    order: VecDeque<(Instant, Key, u64)>,
    /// So many of the oldest have no reply any more, or will keep none.
    without: usize,
    bytes: usize,
    last: u64,
    keys_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    request: [u8; 32],
    state: State,
}

#[derive(Debug)]
enum State {
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

impl Default for Replies {
    fn default() -> Self {
        Self::new(KEYS_MAX, BYTES_MAX)
    }
}

impl Replies {
    fn new(keys_max: usize, bytes_max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: VecDeque::new(),
            without: 0,
            bytes: 0,
            last: 0,
            keys_max: keys_max.max(1),
            bytes_max,
        }
    }

    /// Whether no key is known.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Remembers a key with the hash of its request, or says what is known of it.
    pub(super) fn see(
        &mut self,
        tenant: &Name,
        key: [u8; 32],
        request: [u8; 32],
        now: Instant,
    ) -> Seen {
        self.forget_old(now);
        let key = (tenant.clone(), key);
        match self.entries.get(&key) {
            None => {}
            Some(entry) if entry.request != request => {
                return Seen::Known(Err(RequestError::Reused));
            }
            Some(entry) => {
                return match &entry.state {
                    State::UnderWay { tell, .. } => Seen::UnderWay(Reply(tell.subscribe())),
                    State::Done(replied) => Seen::Known(replied.clone()),
                    State::Forgotten => Seen::Known(Err(RequestError::Forgotten)),
                };
            }
        }
        self.last += 1;
        let number = self.last;
        let (tell, reply) = watch::channel(None);
        let state = State::UnderWay { tell, keep: true };
        let entry = Entry {
            number,
            request,
            state,
        };
        self.entries.insert(key.clone(), entry);
        self.order.push_back((now, key.clone(), number));
        Seen::First(First { key, number }, Reply(reply))
    }

    /// Tells everybody who waits. What was not done may be asked for again under its key.
    pub(super) fn end(&mut self, first: &First, replied: Replied) {
        let entry = self.entries.get_mut(&first.key);
        let Some(entry) = entry.filter(|entry| entry.number == first.number) else {
            return;
        };
        let State::UnderWay { tell, keep } = &entry.state else {
            return;
        };
        // Nobody may wait any more.
        let _ = tell.send(Some(replied.clone()));
        if !is_final(&replied) {
            // Its place in the order goes with time.
            self.entries.remove(&first.key);
        } else if *keep {
            self.bytes += size(&replied);
            entry.state = State::Done(replied);
            self.forget_replies();
        } else {
            entry.state = State::Forgotten;
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((since, _, _)) = self.order.front() {
            let old = now.saturating_duration_since(*since) >= KEPT;
            if !old && self.order.len() < self.keys_max {
                return;
            }
            if let Some((_, key, number)) = self.order.pop_front()
                && self.entries.get(&key).is_some_and(|it| it.number == number)
                && let Some(entry) = self.entries.remove(&key)
                && let State::Done(replied) = entry.state
            {
                self.bytes -= size(&replied);
            }
            self.without = self.without.saturating_sub(1);
        }
    }

    fn forget_replies(&mut self) {
        while self.bytes > self.bytes_max
            && let Some((_, key, number)) = self.order.get(self.without)
        {
            self.without += 1;
            let entry = self.entries.get_mut(key);
            let Some(entry) = entry.filter(|entry| entry.number == *number) else {
                continue;
            };
            match &mut entry.state {
                State::UnderWay { keep, .. } => *keep = false,
                State::Done(replied) => {
                    self.bytes -= size(replied);
                    entry.state = State::Forgotten;
                }
                State::Forgotten => {}
            }
        }
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

    #[tokio::test]
    async fn a_repetition_waits_for_the_first_or_gets_its_reply() {
        let (mut replies, now) = (Replies::default(), Instant::now());
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
        let (mut replies, now) = (Replies::default(), Instant::now());
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
        let (mut replies, start) = (Replies::new(3, 100), Instant::now());
        for key in 0..100 {
            let one = first(&mut replies, key, start);
            replies.end(&one, Ok("12345".into()));
            assert!(replies.entries.len() <= 3 && replies.order.len() <= 3);
            assert!(replies.bytes <= 15);
        }
        assert!(known(see(&mut replies, 98, start)).is_ok());
        let _ = first(&mut replies, 98, start + KEPT);
        assert_eq!((replies.entries.len(), replies.bytes), (1, 0));
    }

    #[test]
    fn of_many_bytes_the_oldest_replies_are_forgotten_and_their_keys_are_not() {
        let (mut replies, now) = (Replies::new(1000, 100), Instant::now());
        let slow = first(&mut replies, 0, now);
        for key in 1..=50 {
            let one = first(&mut replies, key, now);
            replies.end(&one, Ok("1234567890".into()));
            assert!(replies.bytes <= 100);
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
        assert_eq!((replies.bytes, replies.without), (0, 0));
    }
}
